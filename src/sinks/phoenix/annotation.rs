//! Scores as annotations of spans and traces.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use crate::sinks::{
    Content, Item, cut,
    ids::Place,
    scores::{self, Annotator, Score, Value},
};

/// Longest explanation, in bytes. Phoenix has no limit of its own; the page shows the first lines.
const MAX_EXPLANATION: usize = 4000;

/// What is annotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Target {
    /// One span.
    Span,
    /// A whole trace.
    Trace,
}

impl Target {
    /// Both, in the order in which they are written.
    pub(super) const ALL: [Self; 2] = [Self::Span, Self::Trace];

    /// Its word in receipts.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Span => "span",
            Self::Trace => "trace",
        }
    }

    /// What Phoenix calls its annotations in a path.
    pub(super) fn annotations(self) -> &'static str {
        match self {
            Self::Span => "span_annotations",
            Self::Trace => "trace_annotations",
        }
    }
}

/// One annotation.
#[derive(Debug, Serialize)]
pub(super) struct Annotation {
    #[serde(skip_serializing_if = "Option::is_none")]
    span_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    name: String,
    annotator_kind: &'static str,
    identifier: String,
    result: Found,
    metadata: Json,
}

/// What was found out.
#[derive(Debug, Serialize)]
struct Found {
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    score: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    explanation: Option<String>,
}

/// The annotations of an item and what they are about.
#[derive(Debug)]
pub(super) struct Annotations {
    /// Whether they are of a span or of a trace.
    pub(super) target: Target,
    /// Id of the span or of the trace, as Phoenix writes it.
    pub(super) id: String,
    /// Since when it is waited for: when the call was evaluated, or when somebody said it.
    pub(super) since: Timestamp,
    /// The annotations.
    pub(super) all: Vec<Annotation>,
}

/// Part of the key by which Phoenix overwrites: one for each evaluation, and so for each version of the evaluator. Another
/// writer, another version, and another call in the same trace have their own.
pub(super) fn identifier(evaluation_id: Uuid) -> String {
    format!("aftercheck:{evaluation_id}")
}

impl Annotations {
    /// Those of an item, at its span where it has one and `traces` does not say otherwise; none of a row of a golden set.
    ///
    /// # Errors
    /// Why there can be none.
    pub(super) fn of(item: &Item, traces: bool) -> Result<Option<Self>, String> {
        let Some(place) = Place::of(&item.content)? else { return Ok(None) };
        let (evaluation_id, since, about, scores) = match &item.content {
            Content::Evaluation(scored) => {
                let evaluation = &scored.evaluation;
                let about = json!({
                    "tenant_id": evaluation.tenant_id, "request_id": evaluation.request_id, "feature": evaluation.feature,
                    "evaluator_version": evaluation.evaluator_version, "evaluated_at": evaluation.evaluated_at,
                });
                (evaluation.evaluation_id, evaluation.evaluated_at, about, scores::scores(scored))
            }
            Content::Label(said) => {
                let label = &said.label;
                let about = json!({
                    "tenant_id": label.tenant_id, "request_id": label.request_id, "label_id": label.label_id,
                    "reviewer": label.reviewer, "labelled_at": label.labelled_at,
                });
                (label.evaluation_id, label.labelled_at, about, vec![scores::review(said)])
            }
            Content::Golden(_) => return Ok(None),
        };
        let span = place.span_hex().filter(|_| !traces);
        let (target, id) = match &span {
            Some(span) => (Target::Span, span.clone()),
            None => (Target::Trace, place.trace_hex()),
        };
        let annotation = |score: Score| Annotation {
            span_id: span.clone(),
            trace_id: span.is_none().then(|| id.clone()),
            annotator_kind: kind(score.by),
            identifier: identifier(evaluation_id),
            metadata: with_score(&about, score.id),
            result: found(&score),
            name: score.name,
        };
        Ok(Some(Self { target, since, all: scores.into_iter().map(annotation).collect(), id }))
    }
}

/// The metadata of one of several scores.
fn with_score(about: &Json, id: Uuid) -> Json {
    let mut metadata: Map<String, Json> = about.as_object().cloned().unwrap_or_default();
    metadata.insert("score_id".to_owned(), json!(id));
    Json::Object(metadata)
}

/// What Phoenix calls who says it.
fn kind(by: Annotator) -> &'static str {
    match by {
        Annotator::Code => "CODE",
        Annotator::Model => "LLM",
        Annotator::Human => "HUMAN",
    }
}

/// A score as label, number and explanation.
fn found(score: &Score) -> Found {
    let (label, number) = match &score.value {
        Value::Number(value) => (score.label.map(str::to_owned), Some(*value)),
        Value::Flag(holds) => (score.label.map(str::to_owned), Some(f64::from(*holds))),
        Value::Label(word) => (Some(word.clone()), None),
    };
    let explanation = (!score.comment.is_empty()).then(|| cut(&score.comment, MAX_EXPLANATION).into_owned());
    Found { label, score: number, explanation }
}
