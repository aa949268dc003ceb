//! Calls that a person has to look at, on an annotation queue.

use jiff::Timestamp;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use uuid::Uuid;

use super::{LangsmithSink, accepted, json_of};
use crate::sinks::SinkError;

/// What became of a run that belongs on the queue.
pub(super) enum Queued {
    /// It is on it, since now or before; its item, where we have just made it.
    There(Option<Uuid>),
    /// LangSmith does not have the run, or the queue.
    NoRun,
}

impl LangsmithSink {
    /// Puts a run on a queue, unless it is there: whether LangSmith would put it there twice it does not say, so it is asked first.
    ///
    /// # Errors
    /// [`SinkError`].
    pub(super) async fn queue_run(
        &self,
        queue: Uuid,
        run: Uuid,
        project: Uuid,
        started: Timestamp,
    ) -> Result<Queued, SinkError> {
        if self.is_queued(queue, run).await? {
            return Ok(Queued::There(None));
        }
        let path = format!("api/v1/platform/annotation-queues/{queue}/items");
        let url = self.url(&path, &[("extend_trace_retention", "false")]);
        let item = json!({"item_type": "RUN", "run_id": run, "project_id": project, "start_time": started});
        let request = self.wire.request_to(Method::POST, url).json(&json!({"items": [item]}));
        let answer = self.wire.send(request).await?;
        match answer.status {
            StatusCode::CONFLICT => return Ok(Queued::There(None)),
            StatusCode::NOT_FOUND => return Ok(Queued::NoRun),
            _ => {}
        }
        let answer = accepted(answer)?;
        // It is there, whatever the answer says; the item is needed to take it back only.
        let items = serde_json::from_slice::<Value>(&answer.body).unwrap_or_default();
        let item = items["items"][0]["id"].as_str().and_then(|id| Uuid::try_parse(id).ok());
        Ok(Queued::There(item))
    }

    /// Whether a run is on a queue.
    async fn is_queued(&self, queue: Uuid, run: Uuid) -> Result<bool, SinkError> {
        let request = self.wire.request(Method::GET, &format!("api/v1/annotation-queues/{run}/queues"));
        let answer = self.wire.send(request).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        let queues = json_of(&accepted(answer)?)?;
        let is_ours = |one: &Value| one["id"].as_str().and_then(|id| Uuid::try_parse(id).ok()) == Some(queue);
        Ok(queues.as_array().is_some_and(|queues| queues.iter().any(is_ours)))
    }

    /// Takes an item off the queue; nothing where it is gone.
    ///
    /// # Errors
    /// [`SinkError`].
    pub(super) async fn unqueue(&self, queue: Uuid, item: Uuid) -> Result<(), SinkError> {
        let path = format!("api/v1/platform/annotation-queues/{queue}/items/delete");
        let request = self.wire.request(Method::POST, &path).json(&json!({"item_ids": [item]}));
        let answer = self.wire.send(request).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        accepted(answer).map(drop)
    }
}
