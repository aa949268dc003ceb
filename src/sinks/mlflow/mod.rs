//! MLflow: scores are assessments of a trace, calls for a person go on a review queue, golden rows are records of a data set.
//!
//! MLflow has no upsert. An assessment that is written again breaks a constraint and is answered with 500, like anything else
//! that goes wrong: whether it is there is asked before the answer is believed. Queue items and records are merged by MLflow.

mod assessments;
mod config;
mod goldens;
mod reviews;

use std::{sync::atomic::AtomicBool, time::Duration};

use async_trait::async_trait;
use futures_util::future::{join_all, try_join_all};
use reqwest::{Method, RequestBuilder, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use self::assessments::{Target, Written};
pub use self::config::MlflowConfig;
use super::{
    Content, Item, Labelled, Outcome, Retraction, Scored, Sink, SinkError,
    scores::{self, Score},
    wire::{self, Wire},
};
use crate::{
    domain::Verdict,
    outbound::{self, Answer},
};

/// Items of one batch: each has a request for every score.
const BATCH: u32 = 20;
/// Requests that a call needs, about: a look and a write for each score.
const REQUESTS: u32 = 20;
/// Longest id of a trace, in characters (`trace_info.request_id` of MLflow's tables).
const MAX_TRACE_CHARS: usize = 50;
/// Hex digits of a trace's id in OpenTelemetry.
const TRACE_DIGITS: usize = 32;

/// Writes to one tracking server.
pub struct MlflowSink {
    wire: Wire,
    experiment: String,
    queue: Option<String>,
    /// Whether it was said that the server has no queues.
    has_warned: AtomicBool,
    trace_wait: Duration,
}

/// How a delivery is found again.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Receipt {
    /// The trace that has the assessments.
    Trace(String),
    /// Data set and the row's own id.
    Golden(String, Uuid),
}

impl Receipt {
    /// That it arrived, and what is needed to take it back.
    fn delivered(&self) -> Outcome {
        Outcome::Delivered { receipt: serde_json::to_string(self).ok() }
    }
}

impl MlflowSink {
    /// A sink of this configuration. Nothing is connected yet.
    ///
    /// # Errors
    /// The key, and what to write there.
    pub fn new(config: &MlflowConfig) -> Result<Self, String> {
        config.check()?;
        Ok(Self {
            wire: Wire::new(&config.wire, config.authorization()?)?,
            experiment: config.experiment.clone(),
            queue: config.queue.clone(),
            has_warned: AtomicBool::new(false),
            trace_wait: wire::trace_wait(config.trace_wait_secs)?,
        })
    }

    /// A request to a path of version 3, its parts each for itself.
    fn request(&self, method: Method, parts: &[&str]) -> RequestBuilder {
        let parts = ["api", "3.0", "mlflow"].iter().chain(parts).copied();
        self.wire.request_to(method, outbound::below_segments(self.wire.base(), parts))
    }

    /// The same with a query.
    fn query(&self, parts: &[&str], query: &[(&str, &str)]) -> RequestBuilder {
        let mut url = outbound::below_segments(self.wire.base(), parts.iter().copied());
        url.query_pairs_mut().extend_pairs(query);
        self.wire.request_to(Method::GET, url)
    }

    /// Writes one item; again it changes nothing.
    async fn item(&self, item: &Item) -> Result<Outcome, SinkError> {
        match &item.content {
            Content::Evaluation(scored) => self.evaluation(scored).await,
            Content::Label(said) => self.label(said).await,
            Content::Golden(golden) => self.golden(golden).await,
        }
    }

    /// The scores of an evaluation, then its place on the queue: who looks there finds the scores.
    async fn evaluation(&self, scored: &Scored) -> Result<Outcome, SinkError> {
        let evaluation = &scored.evaluation;
        let target = Target {
            trace: match trace(&evaluation.trace_id) {
                Ok(trace) => trace,
                Err(reason) => return Ok(Outcome::unfit(reason)),
            },
            span: evaluation.span_id.as_deref(),
            evaluation_id: evaluation.evaluation_id,
            request_id: &evaluation.request_id,
            who: &evaluation.evaluator_version,
            at: evaluation.evaluated_at,
        };
        let outcome = self.scores(&target, &scores::scores(scored)).await?;
        match (&self.queue, &outcome) {
            (Some(queue), Outcome::Delivered { .. }) if evaluation.verdict == Verdict::Review => {
                Ok(self.queue_trace(queue, &target).await?.unwrap_or(outcome))
            }
            _ => Ok(outcome),
        }
    }

    /// What a person said, as a score.
    async fn label(&self, said: &Labelled) -> Result<Outcome, SinkError> {
        let label = &said.label;
        let target = Target {
            trace: match trace(&label.trace_id) {
                Ok(trace) => trace,
                Err(reason) => return Ok(Outcome::unfit(reason)),
            },
            span: label.span_id.as_deref(),
            evaluation_id: label.evaluation_id,
            request_id: &label.request_id,
            who: &label.reviewer,
            at: label.labelled_at,
        };
        self.scores(&target, &[scores::review(said)]).await
    }

    /// Writes scores one after the other: where MLflow is down, one request of an item learns it. One that is refused does not
    /// keep the others away.
    async fn scores(&self, target: &Target<'_>, scores: &[Score]) -> Result<Outcome, SinkError> {
        let mut refused = None;
        for score in scores {
            match self.write(target, score).await {
                Ok(Written::There) => {}
                Ok(Written::NoTrace) => return Ok(self.wire.no_trace("trace", target.at, self.trace_wait)),
                Err(SinkError::Refused(reason)) => refused = Some(format!("{}: {reason}", score.name)),
                Err(error) => return Err(error),
            }
        }
        Ok(match refused {
            Some(reason) => Outcome::Never { reason },
            None => Receipt::Trace(target.trace.clone()).delivered(),
        })
    }

    /// Deletes what one delivery left; says whether it was known.
    async fn take_back(&self, retraction: &Retraction) -> Result<bool, SinkError> {
        match retraction.receipt.as_deref().and_then(|text| serde_json::from_str(text).ok()) {
            Some(Receipt::Trace(trace)) => {
                self.delete_assessments(&trace, retraction.evaluation_id).await?;
                if let Some(queue) = &self.queue {
                    self.unqueue(queue, &trace).await?;
                }
            }
            Some(Receipt::Golden(dataset, id)) => drop(self.delete_record(&dataset, id).await?),
            None => return self.take_back_unsaid(retraction).await,
        }
        Ok(true)
    }

    /// The same of a delivery of which nobody knows whether it arrived: a row of the golden set is found by its own id; without the
    /// trace nothing else can be.
    async fn take_back_unsaid(&self, retraction: &Retraction) -> Result<bool, SinkError> {
        let Some(golden) = &retraction.golden else { return Ok(false) };
        match self.dataset(&golden.dataset).await? {
            Some(dataset) => self.delete_record(&dataset, golden.golden_id).await,
            None => Ok(false),
        }
    }
}

/// MLflow's id of a trace.
///
/// # Errors
/// Why it can have none.
fn trace(id: &str) -> Result<String, String> {
    let is_hex = id.len() == TRACE_DIGITS && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    match id {
        id if is_hex => Ok(format!("tr-{}", id.to_ascii_lowercase())),
        id if !id.is_empty() && id.len() <= MAX_TRACE_CHARS && id.bytes().all(is_word) => Ok(id.to_owned()),
        _ => Err(format!(
            "trace_id is no trace of OpenTelemetry ({TRACE_DIGITS} hex digits) and no id of MLflow"
        )),
    }
}

#[async_trait]
impl Sink for MlflowSink {
    fn batch(&self) -> u32 {
        self.wire.batch(BATCH, REQUESTS)
    }

    async fn deliver(&self, items: &[Item]) -> Result<Vec<Outcome>, SinkError> {
        super::each(join_all(items.iter().map(|item| self.item(item))).await)
    }

    async fn retract(&self, retractions: &[Retraction]) -> Result<Vec<Uuid>, SinkError> {
        let known = try_join_all(retractions.iter().map(|retraction| self.take_back(retraction))).await?;
        Ok(super::unknown(retractions, &known))
    }

    async fn check(&self) -> Result<String, SinkError> {
        let query = [("experiment_id", self.experiment.as_str())];
        let request = self.query(&["api", "2.0", "mlflow", "experiments", "get"], &query);
        let answer = self.wire.send(request).await?;
        if answer.status == StatusCode::NOT_FOUND && is_missing(&answer) {
            let reason = format!("experiment {:?}: MLflow has none of this id", self.experiment);
            return Err(SinkError::Denied(reason));
        }
        let found = json_of(&accepted(answer)?)?;
        // A trace that cannot be there: a server with this path says so by its own word.
        let request = self.request(Method::GET, &["traces", "tr-aftercheck"]);
        let answer = self.wire.send(request).await?;
        if !is_missing(&answer) {
            accepted(answer)?;
        }
        let name = found["experiment"]["name"].as_str().unwrap_or_default();
        let found = format!("experiment {} is {name:?}", self.experiment);
        let Some(queue) = &self.queue else { return Ok(found) };
        let query = [("queue_id", queue.as_str())];
        let request = self.query(&["api", "3.0", "mlflow", "review-queues", "get"], &query);
        let answer = self.wire.send(request).await?;
        match answer.status {
            StatusCode::NOT_FOUND if is_missing(&answer) => {
                Err(SinkError::Denied(format!("queue {queue:?}: MLflow has no such review queue")))
            }
            StatusCode::NOT_FOUND => {
                Ok(format!("{found}; this MLflow has no review queues, queue does nothing"))
            }
            _ => accepted(answer).map(|_| format!("{found}, and the review queue is there")),
        }
    }
}

/// MLflow's own word for an error; empty where it is not MLflow's.
fn code(answer: &Answer) -> String {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    body["error_code"].as_str().unwrap_or_default().to_owned()
}

/// Whether what was asked for is not there, and the path is.
fn is_missing(answer: &Answer) -> bool {
    answer.status == StatusCode::NOT_FOUND && code(answer) == "RESOURCE_DOES_NOT_EXIST"
}

/// An answer with a status of success; what any other means.
///
/// # Errors
/// As [`wire::fault`] says, but for what MLflow means otherwise.
fn accepted(answer: Answer) -> Result<Answer, SinkError> {
    let denied = |what: &str| Err(SinkError::Denied(format!("status {}: {what}", answer.status)));
    match (answer.status, code(&answer).as_str()) {
        (StatusCode::FORBIDDEN, "") => denied(
            "MLflow does not know the name by which url calls it, this is not about permissions: add it to its --allowed-hosts",
        ),
        (StatusCode::NOT_IMPLEMENTED, _) => denied("MLflow's store takes no traces, it needs a SQL store"),
        (StatusCode::NOT_FOUND, "" | "ENDPOINT_NOT_FOUND") => {
            denied("there is no MLflow 3 with traces here, look at url and at the server's version")
        }
        (StatusCode::CONFLICT, "ABORTED") => {
            Err(SinkError::Again { reason: format!("status {}: aborted", answer.status), after: None })
        }
        _ => wire::accepted(answer),
    }
}

/// The body of an answer.
///
/// # Errors
/// [`SinkError::Again`] where it is no JSON.
fn json_of(answer: &Answer) -> Result<Value, SinkError> {
    serde_json::from_slice(&answer.body).map_err(|_| SinkError::Again {
        reason: "the answer is no JSON: is this MLflow?".into(),
        after: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_has_the_id_that_mlflow_gives_it() {
        let hex = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(trace(hex).unwrap(), format!("tr-{hex}"));
        assert_eq!(trace(&hex.to_uppercase()).unwrap(), format!("tr-{hex}"));
        assert_eq!(trace(&format!("tr-{hex}")).unwrap(), format!("tr-{hex}"));
        for wrong in ["", "..", "a/b", "a?b", &"a".repeat(51)] {
            assert!(trace(wrong).is_err(), "{wrong}");
        }
    }
}
