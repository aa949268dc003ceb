//! Calls that a person has to look at, on a review queue. MLflow keeps one item of each trace.

use std::sync::atomic::Ordering;

use reqwest::{Method, StatusCode};
use serde_json::json;

use super::{MlflowSink, accepted, assessments::Target, is_missing};
use crate::sinks::{Outcome, SinkError};

impl MlflowSink {
    /// Puts a trace on the queue. Says what is wrong, if anything is.
    ///
    /// # Errors
    /// [`SinkError`].
    pub(super) async fn queue_trace(
        &self,
        queue: &str,
        target: &Target<'_>,
    ) -> Result<Option<Outcome>, SinkError> {
        let body = json!({"queue_id": queue, "item_type": "TRACE", "item_ids": [target.trace]});
        let request = self.request(Method::POST, &["review-queues", "items", "add"]).json(&body);
        let answer = self.wire.send(request).await?;
        match answer.status {
            StatusCode::NOT_FOUND if is_missing(&answer) => Ok(Some(self.wire.no_trace(
                "trace or review queue in the experiment",
                target.at,
                self.trace_wait,
            ))),
            StatusCode::NOT_FOUND => {
                if !self.has_warned.swap(true, Ordering::Relaxed) {
                    tracing::warn!("this MLflow has no review queues: calls for a person are not put on one");
                }
                Ok(None)
            }
            _ => accepted(answer).map(|_| None),
        }
    }

    /// Takes a trace off the queue; nothing where it is gone.
    ///
    /// # Errors
    /// [`SinkError`].
    pub(super) async fn unqueue(&self, queue: &str, trace: &str) -> Result<(), SinkError> {
        let body = json!({"queue_id": queue, "item_ids": [trace]});
        let request = self.request(Method::POST, &["review-queues", "items", "remove"]).json(&body);
        let answer = self.wire.send(request).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        accepted(answer).map(drop)
    }
}
