//! Scores as log records: events `gen_ai.evaluation.result` of OpenTelemetry's GenAI conventions, each linked to the trace
//! and span that it is about.

use jiff::Timestamp;
use opentelemetry_proto::tonic::{
    collector::logs::v1::ExportLogsServiceRequest,
    common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value},
    logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber},
    resource::v1::Resource,
};
use uuid::Uuid;

use crate::{
    domain::{Evaluation, Label, StageOutcome},
    sinks::{
        Content, Item, cut,
        ids::Place,
        scores::{self, Annotator, Score, VERDICT, Value},
    },
};

/// Name of the event.
const EVENT: &str = "gen_ai.evaluation.result";
/// Longest explanation, in bytes: receivers cut or refuse long attributes, many of them at 4 kB.
const MAX_EXPLANATION: usize = 4000;
/// What `error.type` says where nobody knows more.
const OTHER: &str = "_OTHER";

/// Whom the records are of.
pub(super) fn resource(service: &str, instance: Uuid) -> Resource {
    Resource {
        attributes: vec![
            text("service.name", service),
            text("service.version", env!("CARGO_PKG_VERSION")),
            text("service.instance.id", &instance.to_string()),
        ],
        ..Resource::default()
    }
}

/// What wrote them.
pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope {
        name: "aftercheck".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        ..InstrumentationScope::default()
    }
}

/// A request with these records.
pub(super) fn request(resource: &Resource, records: Vec<LogRecord>) -> ExportLogsServiceRequest {
    let scope_logs = ScopeLogs { scope: Some(scope()), log_records: records, ..ScopeLogs::default() };
    let logs = ResourceLogs {
        resource: Some(resource.clone()),
        scope_logs: vec![scope_logs],
        ..ResourceLogs::default()
    };
    ExportLogsServiceRequest { resource_logs: vec![logs] }
}

/// The records of an item: one for each score; none of a row of a golden set, for which there is no event. A repeat has the
/// same records, byte for byte.
///
/// # Errors
/// Why they cannot be linked to a trace.
pub(super) fn records(item: &Item) -> Result<Vec<LogRecord>, String> {
    let Some(place) = Place::of(&item.content)? else { return Ok(Vec::new()) };
    Ok(match &item.content {
        Content::Evaluation(scored) => {
            let about = of_evaluation(item.delivery_id, &scored.evaluation);
            let record = |score: Score| {
                let error = (score.name == VERDICT).then(|| failed(&scored.evaluation)).flatten();
                record(place, scored.evaluation.evaluated_at, score, &about, error)
            };
            scores::scores(scored).into_iter().map(record).collect()
        }
        Content::Label(said) => {
            let about = of_label(item.delivery_id, &said.label);
            vec![record(place, said.label.labelled_at, scores::review(said), &about, None)]
        }
        Content::Golden(_) => Vec::new(),
    })
}

/// One score.
fn record(place: Place, at: Timestamp, score: Score, about: &[KeyValue], error: Option<String>) -> LogRecord {
    let at = u64::try_from(at.as_nanosecond()).unwrap_or(0);
    let mut attributes = vec![
        text("gen_ai.evaluation.name", &score.name),
        // What the log conventions call it: records of one uid are one record, and all but one of them may be dropped.
        text("log.record.uid", &score.id.to_string()),
    ];
    let number = match &score.value {
        Value::Number(value) => Some(*value),
        Value::Flag(holds) => Some(f64::from(*holds)),
        Value::Label(_) => None,
    };
    let label = match &score.value {
        Value::Label(word) => Some(word.as_str()),
        Value::Number(_) | Value::Flag(_) => score.label,
    };
    attributes.extend(number.map(|value| {
        let value = Some(AnyValue { value: Some(any_value::Value::DoubleValue(value)) });
        KeyValue { key: "gen_ai.evaluation.score.value".into(), value, ..KeyValue::default() }
    }));
    attributes.extend(label.map(|label| text("gen_ai.evaluation.score.label", label)));
    if !score.comment.is_empty() {
        attributes.push(text("gen_ai.evaluation.explanation", &cut(&score.comment, MAX_EXPLANATION)));
    }
    attributes.extend(error.map(|class| text("error.type", &class)));
    attributes.push(text("aftercheck.annotator", annotator(score.by)));
    attributes.extend_from_slice(about);
    LogRecord {
        time_unix_nano: at,
        observed_time_unix_nano: at,
        severity_number: SeverityNumber::Info.into(),
        attributes,
        trace_id: place.trace.to_be_bytes().to_vec(),
        span_id: place.span.map(|span| span.to_be_bytes().to_vec()).unwrap_or_default(),
        event_name: EVENT.to_owned(),
        ..LogRecord::default()
    }
}

/// What each record of an evaluation says of it.
fn of_evaluation(delivery_id: Uuid, evaluation: &Evaluation) -> Vec<KeyValue> {
    vec![
        text("aftercheck.delivery.id", &delivery_id.to_string()),
        text("aftercheck.evaluation.id", &evaluation.evaluation_id.to_string()),
        text("aftercheck.evaluator.version", &evaluation.evaluator_version),
        text("aftercheck.tenant.id", &evaluation.tenant_id),
        text("aftercheck.request.id", &evaluation.request_id),
        text("aftercheck.feature", &evaluation.feature),
    ]
}

/// What the record of a label says of it.
fn of_label(delivery_id: Uuid, label: &Label) -> Vec<KeyValue> {
    vec![
        text("aftercheck.delivery.id", &delivery_id.to_string()),
        text("aftercheck.evaluation.id", &label.evaluation_id.to_string()),
        text("aftercheck.label.id", &label.label_id.to_string()),
        text("aftercheck.tenant.id", &label.tenant_id),
        text("aftercheck.request.id", &label.request_id),
    ]
}

/// Class of the first stage that could not run, in the conventions' word for an evaluation that failed.
fn failed(evaluation: &Evaluation) -> Option<String> {
    let stage = evaluation.stages.iter().find(|stage| stage.outcome == StageOutcome::Error)?;
    Some(if stage.detail.is_empty() { OTHER.to_owned() } else { stage.detail.clone() })
}

/// Who says a score, in a word.
fn annotator(by: Annotator) -> &'static str {
    match by {
        Annotator::Code => "code",
        Annotator::Model => "llm",
        Annotator::Human => "human",
    }
}

/// An attribute that is a text.
pub(super) fn text(key: &str, value: &str) -> KeyValue {
    let value = Some(AnyValue { value: Some(any_value::Value::StringValue(value.to_owned())) });
    KeyValue { key: key.to_owned(), value, ..KeyValue::default() }
}
