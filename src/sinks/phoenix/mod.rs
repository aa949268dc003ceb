//! Arize Phoenix: scores as annotations of spans, or of traces where the call has no span; rows of the golden set as
//! examples of datasets.
//!
//! Everything is written with `sync=true`: Phoenix answers once it is stored, and says where a trace is not there. Without
//! it, it takes everything, and forgets what belongs to a trace that does not come, or what it had not stored when it
//! ended. Annotations overwrite by name, target and identifier, examples by their id: a repeat changes nothing.
//!
//! * `annotation`: what is written of a call.
//! * `dataset`: what is written of a row of the golden set.
//! * `receipt`, `erase`: how it is deleted again.

mod annotation;
mod dataset;
mod erase;
mod receipt;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use async_trait::async_trait;
use futures_util::future::join_all;
use reqwest::{
    Method, StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use self::{
    annotation::{Annotation, Annotations, Target},
    dataset::MAX_NAME_BYTES,
    receipt::Receipt,
};
use super::{
    Content, Item, Outcome, Retraction, Sink, SinkError, each,
    wire::{self, Wire, WireConfig, accepted},
};
use crate::{
    domain::Golden,
    outbound::{Answer, below_segments},
};

/// Items of one delivery: some hundred annotations, and as many identifiers as fit into the address of a retraction.
const BATCH: u32 = 50;
/// How long to leave a server alone whose database is full.
const FULL: Duration = Duration::from_secs(900);

/// `kind = "phoenix"`: Arize Phoenix, of version 20 or later.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PhoenixConfig {
    /// Where, how fast, how long.
    #[serde(flatten)]
    pub wire: WireConfig,
    /// What is annotated: `span`, where the call has one, or always its `trace`.
    #[serde(default)]
    pub annotate: Annotate,
    /// File with the API key; neither file nor variable where Phoenix runs without authentication.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// Environment variable with the API key.
    #[serde(default)]
    pub key_env: Option<String>,
    /// How long after its evaluation a span or trace may be missing before its scores are given up, in seconds; 0 to 86,400.
    #[serde(default = "wire::default_trace_wait_secs")]
    pub trace_wait_secs: u64,
}

/// What is annotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Annotate {
    /// The call's span; its trace where the call has no span.
    #[default]
    Span,
    /// The call's trace.
    Trace,
}

/// Writes to a Phoenix server.
pub struct Phoenix {
    wire: Wire,
    annotate: Annotate,
    trace_wait: Duration,
}

/// What became of items, by their place in the batch.
type Answers = Vec<(usize, Result<Outcome, SinkError>)>;

/// An item with its annotations.
struct Entry<'a> {
    at: usize,
    item: &'a Item,
    annotations: Annotations,
}

/// What became of a request with annotations.
enum Written {
    /// All of them are stored.
    Stored,
    /// None is, because some spans or traces are not there; their ids stand in this text.
    Missing(String),
}

impl Phoenix {
    /// A server of this configuration. Nothing is connected yet.
    ///
    /// # Errors
    /// The key, and what to write there.
    pub fn new(config: &PhoenixConfig) -> Result<Self, String> {
        let key = wire::secret("key", config.key_file.as_deref(), config.key_env.as_deref())?;
        let key = key.map(|key| wire::secret_header(AUTHORIZATION, "Bearer ", &key)).transpose()?;
        Ok(Self {
            wire: Wire::new(&config.wire, HeaderMap::from_iter(key))?,
            annotate: config.annotate,
            trace_wait: wire::trace_wait(config.trace_wait_secs)?,
        })
    }

    /// Writes the annotations of items in one request. What Phoenix has no span or trace for, or refuses, holds up all others of
    /// a request: those are written without it.
    async fn annotate(&self, target: Target, mut entries: Vec<Entry<'_>>) -> Answers {
        let mut answers = Answers::new();
        while entries.len() > 1 {
            match self.write(target, &entries).await {
                Ok(Written::Stored) => {
                    answers.extend(entries.iter().map(|entry| (entry.at, Ok(stored(entry.item, target)))));
                    return answers;
                }
                Ok(Written::Missing(ids)) => {
                    let (gone, rest): (Vec<_>, Vec<_>) =
                        entries.into_iter().partition(|entry| ids.contains(&entry.annotations.id));
                    answers.extend(gone.iter().map(|entry| (entry.at, Ok(self.missing(entry)))));
                    entries = rest;
                    // It says in other words what is missing.
                    if gone.is_empty() {
                        break;
                    }
                }
                Err(SinkError::Refused(_)) => break,
                Err(error) => {
                    answers.extend(entries.iter().map(|entry| (entry.at, Err(error.clone()))));
                    return answers;
                }
            }
        }
        let alone = entries.iter().map(async |entry| {
            let written = self.write(target, std::slice::from_ref(entry)).await;
            let outcome = written.map(|written| match written {
                Written::Stored => stored(entry.item, target),
                Written::Missing(_) => self.missing(entry),
            });
            (entry.at, outcome)
        });
        answers.extend(join_all(alone).await);
        answers
    }

    /// One request with annotations: all of them are stored, or none.
    async fn write(&self, target: Target, entries: &[Entry<'_>]) -> Result<Written, SinkError> {
        let all: Vec<&Annotation> = entries.iter().flat_map(|entry| &entry.annotations.all).collect();
        let answer = self.post(&["v1", target.annotations()], &json!({"data": all})).await?;
        match answer.status {
            // Any other 404 is that of a proxy, or of something else that listens there.
            StatusCode::NOT_FOUND => {
                said_missing(&answer, entries).map(Written::Missing).ok_or_else(not_phoenix)
            }
            _ => {
                let answer = taken(answer)?;
                let body: Value = serde_json::from_slice(&answer.body).map_err(|_| not_phoenix())?;
                match body["data"].as_array().map(Vec::len) {
                    Some(stored) if stored == all.len() => Ok(Written::Stored),
                    _ => Err(not_phoenix()),
                }
            }
        }
    }

    /// What it means that Phoenix does not have the span or the trace of an entry: it is on its way, perhaps.
    fn missing(&self, Entry { annotations, .. }: &Entry<'_>) -> Outcome {
        self.wire.no_trace(annotations.target.as_str(), annotations.since, self.trace_wait)
    }

    /// Appends rows of the golden set to one dataset. Where Phoenix refuses them together, each has a request of its own.
    async fn append(&self, name: &str, rows: &[(usize, &Golden)]) -> Answers {
        // Twice the same id in one request is refused; the later row is the newer one.
        let newest: BTreeMap<Uuid, &Golden> = rows.iter().map(|(_, row)| (row.golden_id, *row)).collect();
        let newest: Vec<&Golden> = newest.into_values().collect();
        match self.upload(&dataset::append(name, &newest)).await {
            Err(SinkError::Refused(_)) if newest.len() > 1 => {}
            answer => {
                let outcome = |(at, row): &(usize, &Golden)| (*at, answer.clone().map(|()| kept(row)));
                return rows.iter().map(outcome).collect();
            }
        }
        let mut answers = Answers::new();
        for (at, row) in rows {
            let answer = self.upload(&dataset::append(name, &[row])).await;
            answers.push((*at, answer.map(|()| kept(row))));
        }
        answers
    }

    /// Uploads rows to a dataset.
    async fn upload(&self, body: &Value) -> Result<(), SinkError> {
        taken(self.post(&["v1", "datasets", "upload"], body).await?).map(|_| ())
    }

    /// A request that is answered once it is stored.
    async fn post(&self, path: &[&str], body: &Value) -> Result<Answer, SinkError> {
        let mut url = self.url(path);
        url.query_pairs_mut().append_pair("sync", "true");
        self.wire.send(self.wire.request_to(Method::POST, url).json(body)).await
    }

    /// The address of a path, part by part.
    fn url(&self, path: &[&str]) -> Url {
        below_segments(self.wire.base(), path.iter().copied())
    }
}

#[async_trait]
impl Sink for Phoenix {
    fn batch(&self) -> u32 {
        BATCH
    }

    async fn deliver(&self, items: &[Item]) -> Result<Vec<Outcome>, SinkError> {
        let (mut outcomes, mut entries) = (vec![None; items.len()], BTreeMap::<Target, Vec<Entry>>::new());
        let mut rows = BTreeMap::<&str, Vec<(usize, &Golden)>>::new();
        for (at, item) in items.iter().enumerate() {
            match (&item.content, Annotations::of(item, self.annotate == Annotate::Trace)) {
                (Content::Golden(row), _) if row.dataset.len() > MAX_NAME_BYTES => {
                    let reason = format!("dataset: a name of more than {MAX_NAME_BYTES} bytes");
                    outcomes[at] = Some(Outcome::unfit(reason));
                }
                (Content::Golden(row), _) => rows.entry(&row.dataset).or_default().push((at, row)),
                (_, Ok(Some(annotations))) => {
                    entries.entry(annotations.target).or_default().push(Entry { at, item, annotations });
                }
                (_, Ok(None)) => outcomes[at] = Some(Outcome::NO_PLACE),
                (_, Err(reason)) => outcomes[at] = Some(Outcome::unfit(reason)),
            }
        }
        let mut answers = Answers::new();
        for (target, entries) in entries {
            answers.extend(self.annotate(target, entries).await);
        }
        for (name, rows) in rows {
            answers.extend(self.append(name, &rows).await);
        }
        let (places, answers): (Vec<usize>, Vec<_>) = answers.into_iter().unzip();
        for (at, outcome) in places.into_iter().zip(each(answers)?) {
            outcomes[at] = Some(outcome);
        }
        let unsaid = Outcome::Again { reason: "it was not sent".into(), after: None };
        Ok(outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|| unsaid.clone())).collect())
    }

    async fn retract(&self, retractions: &[Retraction]) -> Result<Vec<Uuid>, SinkError> {
        let receipts = retractions.iter().map(|one| (one, Receipt::of(one)));
        let (examples, annotations): (Vec<_>, Vec<_>) =
            receipts.partition(|(_, receipt)| matches!(receipt, Some(Receipt::Example { .. })));
        let annotations: Vec<&Retraction> = annotations.into_iter().map(|(one, _)| one).collect();
        self.erase_annotations(&annotations).await?;
        let mut refused = Ok(Vec::new());
        for (one, receipt) in examples {
            let Some(receipt) = receipt else { continue };
            match self.erase_example(&receipt, one.receipt.is_some()).await {
                Err(error @ SinkError::Refused(_)) => refused = Err(error),
                other => other?,
            }
        }
        refused
    }

    async fn check(&self) -> Result<String, SinkError> {
        // Nothing is in it, but who may not write is refused.
        let answer = taken(self.post(&["v1", Target::Span.annotations()], &json!({"data": []})).await?)?;
        let body: Value = serde_json::from_slice(&answer.body).map_err(|_| not_phoenix())?;
        if !body["data"].is_array() {
            return Err(not_phoenix());
        }
        let version = self.wire.request_to(Method::GET, self.url(&["arize_phoenix_version"]));
        let version = accepted(self.wire.send(version).await?).ok().map(|answer| answer.body);
        let version = String::from_utf8(version.unwrap_or_default()).unwrap_or_default();
        let is_version =
            |version: &&str| version.len() <= 20 && version.bytes().all(|byte| byte.is_ascii_graphic());
        let version = Some(version.trim()).filter(is_version).unwrap_or_default();
        Ok(format!("Phoenix {version} takes annotations"))
    }
}

/// An answer with a status of success; what any other means to Phoenix.
fn taken(answer: Answer) -> Result<Answer, SinkError> {
    match answer.status {
        StatusCode::INSUFFICIENT_STORAGE => Err(SinkError::Again {
            reason: "status 507: Phoenix's database is full".into(),
            after: Some(FULL),
        }),
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => Err(not_phoenix()),
        _ => accepted(answer),
    }
}

/// What answers is something else.
fn not_phoenix() -> SinkError {
    SinkError::Denied(
        "it does not answer as Phoenix 20 does: write in url where Phoenix's page is, without /v1".into(),
    )
}

/// What Phoenix itself says of spans or traces that are not there: plain text that names one of those that it was asked about, or
/// says in some words that a span or a trace does not exist. None where it is not Phoenix that says so.
fn said_missing(answer: &Answer, entries: &[Entry<'_>]) -> Option<String> {
    let content_type = answer.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    if !content_type.is_some_and(|content_type| content_type.starts_with("text/plain")) {
        return None;
    }
    let said = String::from_utf8_lossy(&answer.body).into_owned();
    let lower = said.to_lowercase();
    let is_about = |entry: &Entry<'_>| {
        let Annotations { target, id, .. } = &entry.annotations;
        lower.contains(id.as_str()) || (lower.contains(target.as_str()) && lower.contains("exist"))
    };
    entries.iter().any(is_about).then_some(said)
}

/// Annotations were written.
fn stored(item: &Item, target: Target) -> Outcome {
    let at = target.as_str().to_owned();
    let receipt = match item.content {
        Content::Label(_) => Receipt::Review { at },
        Content::Evaluation(_) | Content::Golden(_) => Receipt::Scores { at },
    };
    Outcome::Delivered { receipt: receipt.written() }
}

/// A row of the golden set was written.
fn kept(row: &Golden) -> Outcome {
    let receipt = Receipt::Example { dataset: row.dataset.clone(), id: row.golden_id };
    Outcome::Delivered { receipt: receipt.written() }
}
