//! LangSmith: scores are feedback of a run, calls for a person go on an annotation queue, golden rows are examples of a data set.
//!
//! A repeat does no harm: feedback and examples have ids that are derived, and what is there already is changed; a run goes on
//! a queue only where it is on it not yet. A run that LangSmith does not have is waited for, for a while.

mod config;
mod examples;
mod feedback;
mod names;
mod reviews;
mod runs;

use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{join_all, try_join_all};
use jiff::Timestamp;
use reqwest::{Method, StatusCode, Url};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

pub use self::config::LangsmithConfig;
use self::{
    feedback::{Target, Written},
    names::Names,
    reviews::Queued,
};
use super::{
    Content, Item, Labelled, Outcome, Retraction, Scored, Sink, SinkError,
    scores::{self, FAITHFULNESS, JUDGE, REVIEW, Score, VERDICT, score_id},
    wire::{self, Wire},
};
use crate::{
    domain::{GoldenKey, Verdict},
    outbound::{self, Answer},
};

/// Items of one batch: each has a request for every score.
const BATCH: u32 = 20;
/// Requests that a call needs, about: one for each score.
const REQUESTS: u32 = 10;
/// Longest receipt, in bytes.
const MAX_RECEIPT_BYTES: usize = 2000;

/// Writes to one project.
pub struct LangsmithSink {
    wire: Wire,
    project: String,
    queue: Option<Uuid>,
    trace_wait: Duration,
    names: Names,
}

/// How a delivery is found again.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Receipt {
    /// The run that has the feedback.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    run: Option<Uuid>,
    /// Names of the scores; none where there are too many to be kept.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    names: Vec<String>,
    /// Item of the annotation queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    item: Option<Uuid>,
    /// Example of a data set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    example: Option<Uuid>,
}

impl Receipt {
    /// What there may be of a delivery of which nobody knows whether it arrived. A row of the golden set is found by its own id;
    /// the names of rules are not known any more.
    fn unsaid(golden: Option<&GoldenKey>) -> Self {
        match golden {
            Some(golden) => Self { example: Some(golden.golden_id), ..Self::default() },
            None => {
                let names = [VERDICT, FAITHFULNESS, JUDGE, REVIEW].map(str::to_owned).to_vec();
                Self { names, ..Self::default() }
            }
        }
    }

    /// As it is kept: without the names where they are too long.
    fn written(mut self) -> Option<String> {
        let written = serde_json::to_string(&self).ok()?;
        if written.len() <= MAX_RECEIPT_BYTES {
            return Some(written);
        }
        self.names.clear();
        serde_json::to_string(&self).ok()
    }
}

impl LangsmithSink {
    /// A sink of this configuration. Nothing is connected yet.
    ///
    /// # Errors
    /// The key, and what to write there.
    pub fn new(config: &LangsmithConfig) -> Result<Self, String> {
        Ok(Self {
            wire: Wire::new(&config.wire, config.headers()?)?,
            project: config.project.trim().to_owned(),
            queue: config.queue,
            trace_wait: wire::trace_wait(config.trace_wait_secs)?,
            names: Names::default(),
        })
    }

    /// An address with a query.
    fn url(&self, path: &str, query: &[(&str, &str)]) -> Url {
        let mut url = outbound::below(self.wire.base(), path);
        url.query_pairs_mut().extend_pairs(query);
        url
    }

    /// Deletes something; says whether it was there.
    async fn delete(&self, path: &str) -> Result<bool, SinkError> {
        let answer = self.wire.send(self.wire.request(Method::DELETE, path)).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(false);
        }
        accepted(answer).map(|_| true)
    }

    /// Delivers one item.
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
        let run = match runs::run(&evaluation.trace_id, evaluation.span_id.as_deref()) {
            Ok(run) => run,
            Err(reason) => return Ok(Outcome::unfit(reason)),
        };
        let (evaluation_id, project) = (evaluation.evaluation_id, self.project().await?);
        let target = Target { run, project, evaluation_id, who: &evaluation.evaluator_version };
        let scores = scores::scores(scored);
        let mut outcome = self.scores(&target, &scores, evaluation.evaluated_at).await?;
        let is_for_a_person = evaluation.verdict == Verdict::Review;
        if let (Some(queue), true, Outcome::Delivered { receipt }) =
            (self.queue, is_for_a_person, &mut outcome)
        {
            let item = match self.queue_run(queue, run.id, project, evaluation.occurred_at).await? {
                Queued::There(item) => item,
                Queued::NoRun => {
                    return Ok(self.no_run("run or annotation queue", evaluation.evaluated_at).await);
                }
            };
            *receipt = Receipt { item, ..receipt_of(&target, &scores) }.written();
        }
        Ok(outcome)
    }

    /// What a person said, as a score.
    async fn label(&self, said: &Labelled) -> Result<Outcome, SinkError> {
        let label = &said.label;
        let run = match runs::run(&label.trace_id, label.span_id.as_deref()) {
            Ok(run) => run,
            Err(reason) => return Ok(Outcome::unfit(reason)),
        };
        let project = self.project().await?;
        let target = Target { run, project, evaluation_id: label.evaluation_id, who: &label.reviewer };
        self.scores(&target, &[scores::review(said)], label.labelled_at).await
    }

    /// Writes scores one after the other: where LangSmith is down, one request of an item learns it. One that is refused does not
    /// keep the others away.
    async fn scores(
        &self,
        target: &Target<'_>,
        scores: &[Score],
        since: Timestamp,
    ) -> Result<Outcome, SinkError> {
        let mut refused = None;
        for score in scores {
            match self.write(target, score).await {
                Ok(Written::There) => {}
                Ok(Written::NoRun) => return Ok(self.no_run("run", since).await),
                Err(SinkError::Refused(reason)) => refused = Some(format!("{}: {reason}", score.name)),
                Err(error) => return Err(error),
            }
        }
        Ok(match refused {
            Some(reason) => Outcome::Never { reason },
            None => Outcome::Delivered { receipt: receipt_of(target, scores).written() },
        })
    }

    /// What it means that LangSmith does not have a run. The project may have been made again under its name.
    async fn no_run(&self, what: &str, since: Timestamp) -> Outcome {
        self.forget_project().await;
        self.wire.no_trace(what, since, self.trace_wait)
    }

    /// Deletes what one delivery left; says whether it was known.
    async fn take_back(&self, retraction: &Retraction) -> Result<bool, SinkError> {
        let receipt =
            retraction.receipt.as_deref().and_then(|text| serde_json::from_str::<Receipt>(text).ok());
        let mut known = receipt.is_some();
        let Receipt { run, mut names, item, example } =
            receipt.unwrap_or_else(|| Receipt::unsaid(retraction.golden.as_ref()));
        if let (Some(run), true) = (run, names.is_empty()) {
            names = self.names_on(run, retraction.evaluation_id).await?;
        }
        for name in names {
            self.delete_feedback(score_id(retraction.evaluation_id, &name)).await?;
        }
        if let (Some(queue), Some(item)) = (self.queue, item) {
            self.unqueue(queue, item).await?;
        }
        if let Some(example) = example {
            known |= self.delete_example(example).await?;
        }
        Ok(known)
    }
}

/// How scores that were written are found again.
fn receipt_of(target: &Target<'_>, scores: &[Score]) -> Receipt {
    let names = scores.iter().map(|score| score.name.clone()).collect();
    Receipt { run: Some(target.run.id), names, ..Receipt::default() }
}

#[async_trait]
impl Sink for LangsmithSink {
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
        self.forget_project().await;
        let project = self.project().await?;
        // One that is named by its id has not been asked for.
        if Uuid::try_parse(&self.project).is_ok() && !self.has_project(project).await? {
            return Err(SinkError::Denied(format!("project {project}: LangSmith has none of this id")));
        }
        let found = format!("project {:?} is {project}", self.project);
        let Some(queue) = self.queue else { return Ok(found) };
        let request = self.wire.request(Method::GET, &format!("api/v1/annotation-queues/{queue}"));
        let answer = self.wire.send(request).await?;
        if matches!(answer.status, StatusCode::NOT_FOUND | StatusCode::UNPROCESSABLE_ENTITY) {
            return Err(SinkError::Denied(format!("queue {queue}: LangSmith has no such annotation queue")));
        }
        accepted(answer).map(|_| format!("{found}, and the annotation queue is there"))
    }
}

/// An answer with a status of success; what any other means.
///
/// # Errors
/// As [`wire::fault`] says, and what to do about a key that leads to no workspace.
fn accepted(answer: Answer) -> Result<Answer, SinkError> {
    let body: Value = match answer.status {
        StatusCode::FORBIDDEN => serde_json::from_slice(&answer.body).unwrap_or_default(),
        _ => return wire::accepted(answer),
    };
    match body["error"].as_str() {
        Some("org_scoped_key_requires_workspace") => Err(SinkError::Denied(
            "status 403: the key is of an organisation, write the UUID of its workspace in workspace".into(),
        )),
        _ => wire::accepted(answer),
    }
}

/// The body of an answer.
///
/// # Errors
/// [`SinkError::Again`] where it is no JSON.
fn json_of(answer: &Answer) -> Result<Value, SinkError> {
    serde_json::from_slice(&answer.body).map_err(|_| SinkError::Again {
        reason: "the answer is no JSON: is this LangSmith?".into(),
        after: None,
    })
}
