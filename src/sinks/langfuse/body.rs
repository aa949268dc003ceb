//! A score as Langfuse takes it.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{
    config::{LangfuseConfig, Target},
    configs::Configs,
};
use crate::{
    domain::{Evaluation, id},
    sinks::{
        Labelled, Scored, cut,
        scores::{self, Annotator, Score, Value},
    },
};

/// Most bytes of a comment. Langfuse documents no limit of its own; ours keeps the requests small.
pub(super) const MAX_COMMENT_BYTES: usize = 4000;

/// A score that is sent. Two of the same id are one.
#[derive(Debug, Clone)]
pub(super) struct Sent {
    /// Id of the score.
    pub id: Uuid,
    /// When the call happened, to the millisecond: its day is part of the score's identity.
    pub at: String,
    /// What is sent.
    pub body: Body,
}

/// The body of a score.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Body {
    id: Uuid,
    trace_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    observation_id: Option<String>,
    pub name: String,
    pub value: Json,
    pub data_type: DataType,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub comment: String,
    metadata: Json,
    #[serde(skip_serializing_if = "Option::is_none")]
    environment: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub config_id: Option<String>,
}

/// Types of scores, as far as ours go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub(super) enum DataType {
    Numeric,
    Boolean,
    Categorical,
}

impl DataType {
    /// The word in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Numeric => "NUMERIC",
            Self::Boolean => "BOOLEAN",
            Self::Categorical => "CATEGORICAL",
        }
    }
}

/// What a score belongs to.
struct About<'a> {
    trace_id: &'a str,
    span_id: Option<&'a str>,
    occurred_at: Timestamp,
    metadata: Json,
}

/// The scores of an evaluation.
pub(super) fn of_evaluation(scored: &Scored, config: &LangfuseConfig, configs: &Configs) -> Vec<Sent> {
    let Evaluation { evaluation_id, evaluator_version, trace_id, span_id, occurred_at, .. } =
        &scored.evaluation;
    let about = |by| About {
        trace_id,
        span_id: span_id.as_deref(),
        occurred_at: *occurred_at,
        metadata: json!({"evaluation_id": evaluation_id, "evaluator": evaluator_version, "by": by}),
    };
    let scores = scores::scores(scored).into_iter();
    scores.map(|score| sent(about(by(score.by)), score, config, configs)).collect()
}

/// What a person said.
pub(super) fn of_label(said: &Labelled, config: &LangfuseConfig, configs: &Configs) -> Sent {
    let label = &said.label;
    let about = About {
        trace_id: &label.trace_id,
        span_id: label.span_id.as_deref(),
        occurred_at: label.occurred_at,
        metadata: json!({"evaluation_id": label.evaluation_id, "by": by(Annotator::Human)}),
    };
    sent(about, scores::review(said), config, configs)
}

/// Who says a score, in a word: Langfuse has no place of its own for it.
fn by(annotator: Annotator) -> &'static str {
    match annotator {
        Annotator::Code => "code",
        Annotator::Model => "model",
        Annotator::Human => "human",
    }
}

/// An id as Langfuse knows it: those of OpenTelemetry are in lower case there, whatever the producer writes; any other stays.
pub(super) fn known(id: &str) -> String {
    let is_of_telemetry = matches!(id.len(), 16 | 32) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_of_telemetry { id.to_ascii_lowercase() } else { id.to_owned() }
}

/// The observation that something of a call is attached to; none where it is the trace.
pub(super) fn observation(target: Target, span_id: Option<&str>) -> Option<&str> {
    span_id.filter(|_| target == Target::Observation)
}

/// A score about something as it is sent.
fn sent(about: About<'_>, score: Score, config: &LangfuseConfig, configs: &Configs) -> Sent {
    let (data_type, value) = match score.value {
        Value::Number(number) => (DataType::Numeric, json!(number)),
        // A JSON `true` would be refused, and a number without its type be one of the numeric scores.
        Value::Flag(flag) => (DataType::Boolean, json!(u8::from(flag))),
        Value::Label(word) => (DataType::Categorical, json!(word)),
    };
    let mut body = Body {
        id: score.id,
        trace_id: known(about.trace_id),
        observation_id: observation(config.target, about.span_id).map(known),
        name: score.name,
        value,
        data_type,
        comment: cut(&score.comment, MAX_COMMENT_BYTES).into_owned(),
        metadata: about.metadata,
        environment: config.environment.clone(),
        config_id: None,
    };
    body.config_id = configs.allows(&body).map(str::to_owned);
    Sent { id: score.id, at: time(about.occurred_at), body }
}

/// A time to the millisecond, never rounded up into another day.
pub(super) fn time(at: Timestamp) -> String {
    let ms = Timestamp::from_millisecond(at.as_millisecond()).unwrap_or(at);
    format!("{ms:.3}")
}

impl Sent {
    /// The score in an envelope of `POST /ingestion`. Langfuse keeps one event of an envelope's id: what is sent again is the same,
    /// what was changed is another.
    pub fn envelope(&self) -> (Uuid, Json) {
        let said = serde_json::to_string(&self.body).unwrap_or_default();
        let id = id::derived("langfuse-event", &[&self.id.to_string(), &self.at, &said]);
        (id, json!({"id": id, "type": "score-create", "timestamp": self.at, "body": self.body}))
    }

    /// The score for `POST /scores`: newer servers take its time, older ones pay no heed to it.
    pub fn plain(&self) -> Json {
        let mut body = json!(self.body);
        body["timestamp"] = json!(self.at);
        body
    }

    /// What of it nobody but the receiver may read.
    pub fn text(&self) -> &str {
        &self.body.comment
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_telemetry_are_in_lower_case() {
        assert_eq!(known("0AF7651916CD43DD8448EB211C80319C"), "0af7651916cd43dd8448eb211c80319c");
        assert_eq!(known("00F067AA0BA902B7"), "00f067aa0ba902b7");
        assert_eq!(known("Order-4711"), "Order-4711");
        assert_eq!(known("0AF7"), "0AF7");
    }

    #[test]
    fn a_time_keeps_its_day() {
        let at = |text: &str| time(text.parse().unwrap());
        assert_eq!(at("2026-11-02T23:59:59.9999999Z"), "2026-11-02T23:59:59.999Z");
        assert_eq!(at("2026-11-03T01:00:00+02:00"), "2026-11-02T23:00:00.000Z");
    }
}
