//! Sinks: where scores go, and where they are deleted again. A sink never sleeps and never retries: it says what became of
//! each item, and the dispatcher does the rest. Nothing that a sink sends is harmed by being sent again: all ids are derived
//! from what they are about.
//!
//! * [`scores`]: what is written of an evaluation, in one place for all backends.
//! * [`wire`]: what sinks that speak HTTP share.
//! * [`ids`]: ids of traces and spans as OpenTelemetry has them.
//! * One file per backend.
//! * [`destination`]: where notices go, which are for people: [`webhook`], [`slack`], [`pagerduty`], [`alertmanager`].

pub mod alertmanager;
pub mod destination;
pub mod guard;
pub mod helicone;
pub mod ids;
pub mod jsonl;
pub mod langfuse;
pub mod langsmith;
pub mod mlflow;
pub mod otlp;
pub mod pagerduty;
pub mod phoenix;
pub mod said;
pub mod scores;
mod signature;
pub mod slack;
pub mod webhook;
pub mod wire;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::{Evaluation, Golden, Label, Retraction};

/// What a text that was cut ends with.
const ELLIPSIS: &str = "…";

/// `[sinks.NAME]`: one destination, by the name that outbox, metrics and `why` show.
///
/// A backend is one variant here, one arm in each of [`SinkConfig::quotes`], [`SinkConfig::file`] and `build_one`, and a file.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum SinkConfig {
    /// Appends one JSON line per evaluation to a file.
    Jsonl {
        /// The file, created when absent.
        path: PathBuf,
    },
    /// Scores and properties of Helicone's requests.
    Helicone(Box<helicone::HeliconeConfig>),
    /// Scores, annotation queue and datasets of Langfuse.
    Langfuse(Box<langfuse::LangfuseConfig>),
    /// Feedback of runs in LangSmith.
    Langsmith(Box<langsmith::LangsmithConfig>),
    /// Assessments of traces in MLflow.
    Mlflow(Box<mlflow::MlflowConfig>),
    /// Log events and metrics over OTLP, to any receiver of OpenTelemetry.
    Otlp(Box<otlp::OtlpConfig>),
    /// Annotations and datasets of Arize Phoenix.
    Phoenix(Box<phoenix::PhoenixConfig>),
}

impl SinkConfig {
    /// Whether comments may quote the call: its worst claim and the chunk that this was compared with.
    pub fn quotes(&self) -> bool {
        match self {
            Self::Jsonl { .. } => false,
            Self::Helicone(config) => config.wire.quotes,
            Self::Langfuse(config) => config.wire.quotes,
            Self::Langsmith(config) => config.wire.quotes,
            Self::Mlflow(config) => config.wire.quotes,
            Self::Otlp(config) => config.wire.quotes,
            Self::Phoenix(config) => config.wire.quotes,
        }
    }

    /// The file that it writes to; none where it writes to no file.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::Jsonl { path } => Some(path),
            Self::Helicone(_)
            | Self::Langfuse(_)
            | Self::Otlp(_)
            | Self::Phoenix(_)
            | Self::Langsmith(_)
            | Self::Mlflow(_) => None,
        }
    }
}

/// One thing to be delivered.
#[derive(Debug, Clone)]
pub struct Item {
    /// The receiver's idempotency key: the same on every repeat.
    pub delivery_id: Uuid,
    /// What is delivered.
    pub content: Content,
}

/// What is delivered.
#[derive(Debug, Clone)]
pub enum Content {
    /// An evaluation: the scores of one call.
    Evaluation(Box<Scored>),
    /// What a person said of one.
    Label(Box<Labelled>),
    /// A row of a golden set.
    Golden(Box<Golden>),
}

/// An evaluation with what its comments quote.
#[derive(Debug, Clone)]
pub struct Scored {
    /// The evaluation, as far as this destination may have it.
    pub evaluation: Evaluation,
    /// The worst claim; none where the sink takes none, all claims are supported, or the text is not kept.
    pub quote: Option<Quote>,
    /// Our page about the call; none without `[http] public_url`.
    pub link: Option<String>,
}

/// What a person said of an evaluation, with where it can be looked at.
#[derive(Debug, Clone)]
pub struct Labelled {
    /// What was said, as far as this destination may have it.
    pub label: Label,
    /// Our page about the call; none without `[http] public_url`.
    pub link: Option<String>,
}

/// The worst claim and the chunk that it was compared with, redacted for this destination. Untrusted text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quote {
    /// The claim, as it stands in the answer.
    pub claim: String,
    /// The part of the context that is its best evidence.
    pub chunk: String,
}

/// What became of one item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It arrived, perhaps again.
    Delivered {
        /// What [`Sink::retract`] needs to delete it again; opaque, at most 2,000 bytes, no text of the call.
        receipt: Option<String>,
    },
    /// It may work later: no answer, too many requests, an error of the backend, a trace that is not stored yet.
    Again {
        /// Why; no text of the call, no secret.
        reason: String,
        /// Not before so long, where the backend says so.
        after: Option<Duration>,
    },
    /// It was refused in words that do not say whether it will ever work: it is tried a few times, not as long as [`Outcome::Again`].
    Unclear {
        /// Why; no text of the call, no secret.
        reason: String,
    },
    /// It will never work: what is sent is refused for what it is.
    Never {
        /// Why; no text of the call, no secret.
        reason: String,
    },
    /// The backend was not asked: it can have nothing of this, so that the answer of nobody says how it stands.
    Unsent {
        /// Why it will never work; none where it has no place there and nothing is amiss. No text of the call.
        reason: Option<String>,
    },
}

impl Outcome {
    /// It arrived, and nothing is needed to delete it.
    pub const DELIVERED: Self = Self::Delivered { receipt: None };
    /// It has no place there.
    pub const NO_PLACE: Self = Self::Unsent { reason: None };

    /// It cannot be sent, for this reason.
    pub fn unfit(reason: impl Into<String>) -> Self {
        Self::Unsent { reason: Some(reason.into()) }
    }

    /// Whether the backend was asked.
    pub fn was_asked(&self) -> bool {
        !matches!(self, Self::Unsent { .. })
    }
}

/// Why nothing of a batch is known to have arrived.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// The backend is down or wants to be left alone: the sink as a whole rests. It uses up no attempts.
    #[error("{reason}")]
    Again {
        /// Why; no text of the call, no secret.
        reason: String,
        /// Not before so long, where the backend says so.
        after: Option<Duration>,
    },
    /// The backend does not let us in. It rests long and uses up no attempts; the text says what to fix.
    #[error("{0}")]
    Denied(String),
    /// The request was refused for what is in it, or for its size: the batch is sent in halves, and an item that is alone is
    /// dead with this reason.
    #[error("{0}")]
    Refused(String),
}

impl From<std::io::Error> for SinkError {
    fn from(error: std::io::Error) -> Self {
        Self::Again { reason: error.to_string(), after: None }
    }
}

/// Why a sink cannot be built from its configuration.
#[derive(Debug, thiserror::Error)]
#[error("[sinks.{name}] {remedy}")]
pub struct BadSink {
    /// The sink.
    pub name: String,
    /// The key, and what to write there.
    pub remedy: String,
}

/// A destination of scores. It may be asked to deliver several batches at a time.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Most items of one [`Sink::deliver`].
    fn batch(&self) -> u32;

    /// Delivers a batch; says what became of each item, in their order. What a sink has no place for, it takes and forgets.
    ///
    /// # Errors
    /// [`SinkError`] where nothing is known to have arrived. A repeat does no harm.
    async fn deliver(&self, items: &[Item]) -> Result<Vec<Outcome>, SinkError>;

    /// Deletes what was delivered, because its calls were erased, and gives back the deliveries that it does not know: perhaps
    /// they never arrived, perhaps they are kept where another worker can reach them. All others are deleted. A repeat changes
    /// nothing.
    ///
    /// # Errors
    /// [`SinkError`] where not all of them are known to be deleted.
    async fn retract(&self, retractions: &[Retraction]) -> Result<Vec<Uuid>, SinkError>;

    /// Whether the backend is there and lets us in; says what it found. It changes nothing.
    ///
    /// # Errors
    /// [`SinkError`], which says what to fix.
    async fn check(&self) -> Result<String, SinkError>;
}

/// A sink by its name.
pub type Named = (String, Arc<dyn Sink>);

/// The deliveries of which a sink says that it does not know them, in their order.
fn unknown(retractions: &[Retraction], known: &[bool]) -> Vec<Uuid> {
    let unknown = retractions.iter().zip(known).filter(|(_, known)| !**known);
    unknown.map(|(retraction, _)| retraction.delivery_id).collect()
}

/// Builds the configured sinks, in the order of their names. Nothing is connected yet.
///
/// # Errors
/// [`BadSink`] naming the key and what to write there.
pub fn build(configs: &BTreeMap<String, SinkConfig>) -> Result<Vec<Named>, BadSink> {
    build_each(configs).collect()
}

/// The same, each by itself.
pub fn build_each(
    configs: &BTreeMap<String, SinkConfig>,
) -> impl Iterator<Item = Result<Named, BadSink>> + '_ {
    configs.iter().map(|(name, config)| {
        let sink = build_one(config).map_err(|remedy| BadSink { name: name.clone(), remedy })?;
        Ok((name.clone(), sink))
    })
}

/// Builds one sink; the error is the key and what to write there.
fn build_one(config: &SinkConfig) -> Result<Arc<dyn Sink>, String> {
    Ok(match config {
        SinkConfig::Jsonl { path } => Arc::new(jsonl::JsonlSink::new(path.clone())),
        SinkConfig::Helicone(config) => Arc::new(helicone::HeliconeSink::new(config)?),
        SinkConfig::Langfuse(config) => Arc::new(langfuse::LangfuseSink::new(config)?),
        SinkConfig::Langsmith(config) => Arc::new(langsmith::LangsmithSink::new(config)?),
        SinkConfig::Mlflow(config) => Arc::new(mlflow::MlflowSink::new(config)?),
        SinkConfig::Otlp(config) => Arc::new(otlp::OtlpSink::new(config)?),
        SinkConfig::Phoenix(config) => Arc::new(phoenix::Phoenix::new(config)?),
    })
}

/// What became of items that each had a request of their own. Where all that were sent failed because the backend is down, or lets
/// nobody in, that is an error of the sink; otherwise each item has its own outcome.
///
/// # Errors
/// The [`SinkError`] that all of them have in common, [`SinkError::Denied`] first, with the longest wait.
pub fn each(answers: Vec<Result<Outcome, SinkError>>) -> Result<Vec<Outcome>, SinkError> {
    let is_down = |answer: &Result<Outcome, SinkError>| {
        matches!(answer, Err(SinkError::Again { .. } | SinkError::Denied(_)))
    };
    let mut asked =
        answers.iter().filter(|answer| answer.as_ref().map_or(true, Outcome::was_asked)).peekable();
    if asked.peek().is_some() && asked.all(is_down) {
        let errors = answers.into_iter().filter_map(Result::err);
        let urgency = |error: &SinkError| match error {
            SinkError::Denied(_) => (1, None),
            SinkError::Again { after, .. } => (0, *after),
            SinkError::Refused(_) => (0, None),
        };
        return errors.max_by_key(urgency).map_or(Ok(Vec::new()), Err);
    }
    let outcome = |answer: Result<Outcome, SinkError>| match answer {
        Ok(outcome) => outcome,
        Err(SinkError::Again { reason, after }) => Outcome::Again { reason, after },
        Err(SinkError::Denied(reason)) => Outcome::Again { reason, after: None },
        Err(SinkError::Refused(reason)) => Outcome::Never { reason },
    };
    Ok(answers.into_iter().map(outcome).collect())
}

/// A text of at most `max` bytes: cut between two characters, with `…` at its end, where it has more.
pub fn cut(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max {
        return Cow::Borrowed(text);
    }
    match max.checked_sub(ELLIPSIS.len()) {
        Some(room) => Cow::Owned(format!("{}{ELLIPSIS}", &text[..text.floor_char_boundary(room)])),
        None => Cow::Borrowed(&text[..text.floor_char_boundary(max)]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again(secs: Option<u64>) -> SinkError {
        SinkError::Again { reason: "down".into(), after: secs.map(Duration::from_secs) }
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("abcdef", 6), "abcdef");
        assert_eq!(cut("abcdefg", 6), "abc…");
        assert_eq!(cut("ääää", 7), "ää…");
        assert_eq!(cut("ääää", 6), "ä…");
        assert_eq!(cut("ää", 2), "ä");
        for max in 0..12 {
            assert!(cut("a𝒳b𝒳c", max).len() <= max, "{max}");
        }
    }

    #[test]
    fn a_sink_is_down_where_none_of_its_items_came_through() {
        let denied = SinkError::Denied("key".into());
        assert_eq!(each(vec![]), Ok(vec![]));
        assert_eq!(
            each(vec![Err(again(None)), Err(again(Some(3))), Err(again(Some(1)))]),
            Err(again(Some(3)))
        );
        assert_eq!(each(vec![Err(again(Some(9))), Err(denied.clone())]), Err(denied.clone()));
        let mixed = each(vec![Ok(Outcome::DELIVERED), Err(again(Some(3))), Err(denied)]).unwrap();
        let waits = Outcome::Again { reason: "down".into(), after: Some(Duration::from_secs(3)) };
        assert_eq!(mixed[1], waits);
        assert_eq!(mixed[2], Outcome::Again { reason: "key".into(), after: None });
        // An item that was refused was seen: the backend is there.
        let refused = each(vec![Err(SinkError::Refused("bad".into())), Err(again(None))]).unwrap();
        assert_eq!(refused[0], Outcome::Never { reason: "bad".into() });
        // One of which it was not asked says nothing of it.
        let unsent = || Ok(Outcome::unfit("no trace id"));
        assert_eq!(each(vec![unsent(), Err(again(Some(3))), Ok(Outcome::NO_PLACE)]), Err(again(Some(3))));
        assert_eq!(each(vec![unsent()]), Ok(vec![Outcome::unfit("no trace id")]));
    }
}
