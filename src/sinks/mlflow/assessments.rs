//! Scores as assessments of a trace.

use jiff::Timestamp;
use reqwest::{Method, StatusCode};
use serde_json::{Value as Json, json};
use uuid::Uuid;

use super::{MlflowSink, accepted, code, is_missing, json_of};
use crate::{
    outbound::Answer,
    sinks::{
        SinkError, cut,
        scores::{Annotator, Score, Value, score_id},
    },
};

/// Longest rationale, in bytes. MLflow's tables take 65,535.
const MAX_RATIONALE_BYTES: usize = 4000;
/// Longest name of an assessment and of its source, in characters (`assessments.proto`).
const MAX_NAME_CHARS: usize = 250;
/// Under which key of its metadata an assessment has its own name: MLflow's has no dots.
const NAME: &str = "aftercheck.score";

/// Where assessments go, and on whose behalf.
pub(super) struct Target<'a> {
    /// MLflow's id of the trace.
    pub trace: String,
    /// Span within the trace.
    pub span: Option<&'a str>,
    /// The evaluation that says it.
    pub evaluation_id: Uuid,
    /// The producer's id of the call.
    pub request_id: &'a str,
    /// Version that evaluated, or the person that looked.
    pub who: &'a str,
    /// When it was said.
    pub at: Timestamp,
}

/// What became of an assessment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// It is there.
    There,
    /// MLflow does not have the trace.
    NoTrace,
}

impl MlflowSink {
    /// Writes one score. What was written before is changed.
    ///
    /// # Errors
    /// [`SinkError`].
    pub(super) async fn write(&self, target: &Target<'_>, score: &Score) -> Result<Written, SinkError> {
        let assessment = assessment(target, score);
        let request = self.request(Method::POST, &["traces", &target.trace, "assessments"]);
        let answer = self.wire.send(request.json(&json!({"assessment": assessment}))).await?;
        match answer.status {
            StatusCode::NOT_FOUND if is_missing(&answer) => Ok(Written::NoTrace),
            _ if !may_be_there(&answer) => accepted(answer).map(|_| Written::There),
            _ => match self.read(&target.trace, score.id).await? {
                None => accepted(answer).map(|_| Written::There),
                Some(there) if says_the_same(&there, &assessment) => Ok(Written::There),
                Some(_) => self.change(target, score.id, &assessment).await,
            },
        }
    }

    /// An assessment that is there.
    async fn read(&self, trace: &str, score: Uuid) -> Result<Option<Json>, SinkError> {
        let request = self.request(Method::GET, &["traces", trace, "assessments", &assessment_id(score)]);
        let answer = self.wire.send(request).await?;
        if is_missing(&answer) {
            return Ok(None);
        }
        Ok(Some(json_of(&accepted(answer)?)?["assessment"].take()))
    }

    /// Changes an assessment that is there.
    async fn change(
        &self,
        target: &Target<'_>,
        score: Uuid,
        assessment: &Json,
    ) -> Result<Written, SinkError> {
        let request =
            self.request(Method::PATCH, &["traces", &target.trace, "assessments", &assessment_id(score)]);
        let body = json!({"assessment": assessment, "update_mask": "feedback,rationale,metadata"});
        let answer = self.wire.send(request.json(&body)).await?;
        match is_missing(&answer) {
            true => Ok(Written::NoTrace),
            false => accepted(answer).map(|_| Written::There),
        }
    }

    /// Deletes the assessments of an evaluation from a trace, and no others.
    ///
    /// # Errors
    /// [`SinkError`].
    pub(super) async fn delete_assessments(&self, trace: &str, evaluation_id: Uuid) -> Result<(), SinkError> {
        let answer = self.wire.send(self.request(Method::GET, &["traces", trace])).await?;
        if is_missing(&answer) {
            return Ok(());
        }
        let mut found = json_of(&accepted(answer)?)?;
        let assessments = found["trace"]["trace_info"]["assessments"].take();
        let ours = |one: &Json| {
            let (id, name) = (one["assessment_id"].as_str()?, one["metadata"][NAME].as_str()?);
            (id == assessment_id(score_id(evaluation_id, name))).then(|| id.to_owned())
        };
        for id in assessments.as_array().into_iter().flatten().filter_map(ours) {
            let answer =
                self.wire.send(self.request(Method::DELETE, &["traces", trace, "assessments", &id])).await?;
            if !is_missing(&answer) {
                accepted(answer)?;
            }
        }
        Ok(())
    }
}

/// MLflow's id of a score; at most 50 characters.
fn assessment_id(score: Uuid) -> String {
    format!("a-{}", score.simple())
}

/// Whether this may be the answer to what was written before.
fn may_be_there(answer: &Answer) -> bool {
    let conflict =
        matches!(code(answer).as_str(), "RESOURCE_ALREADY_EXISTS" | "ALREADY_EXISTS" | "RESOURCE_CONFLICT");
    conflict || answer.status == StatusCode::INTERNAL_SERVER_ERROR
}

/// Whether an assessment that is there needs no change.
fn says_the_same(there: &Json, assessment: &Json) -> bool {
    let value = |one: &Json| one["feedback"]["value"].clone();
    let is_same = match (value(there).as_f64(), value(assessment).as_f64()) {
        (Some(there), Some(ours)) => there == ours,
        _ => value(there) == value(assessment),
    };
    is_same && there["rationale"].as_str().unwrap_or_default() == assessment["rationale"]
}

/// At most so many characters.
fn short(text: &str) -> String {
    text.chars().take(MAX_NAME_CHARS).collect()
}

/// A score as MLflow takes it.
fn assessment(target: &Target<'_>, score: &Score) -> Json {
    let (kind, by) = match score.by {
        Annotator::Code => ("CODE", format!("aftercheck/{}", target.who)),
        Annotator::Model => ("LLM_JUDGE", format!("aftercheck/{}", target.who)),
        Annotator::Human => ("HUMAN", target.who.to_owned()),
    };
    let value = match &score.value {
        Value::Number(number) => json!(number),
        Value::Flag(flag) => json!(flag),
        Value::Label(label) => json!(label),
    };
    let mut assessment = json!({
        "assessment_id": assessment_id(score.id),
        "assessment_name": short(&score.name.replace('.', "/")),
        "trace_id": target.trace,
        "source": {"source_type": kind, "source_id": short(&by)},
        "create_time": target.at, "last_update_time": target.at,
        "feedback": {"value": value},
        "rationale": cut(&score.comment, MAX_RATIONALE_BYTES),
        // Strings only: others are dropped without a word.
        "metadata": {
            NAME: score.name, "evaluation_id": target.evaluation_id.to_string(), "request_id": target.request_id,
            "who": target.who,
        },
    });
    let is_span = |span: &&str| span.len() == 16 && span.bytes().all(|byte| byte.is_ascii_hexdigit());
    if let (Some(assessment), Some(span)) = (assessment.as_object_mut(), target.span.filter(is_span)) {
        assessment.insert("span_id".into(), json!(span.to_ascii_lowercase()));
    }
    assessment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_assessment_keeps_to_its_limits() {
        let who = "ä".repeat(400);
        let target = Target {
            trace: "tr-1".into(),
            span: Some("not a span"),
            evaluation_id: Uuid::from_u128(1),
            request_id: "r",
            who: &who,
            at: Timestamp::UNIX_EPOCH,
        };
        let name = format!("rule.a.{}", "b".repeat(300));
        let score = Score {
            id: Uuid::from_u128(2),
            name,
            value: Value::Flag(false),
            label: None,
            by: Annotator::Human,
            comment: "ä".repeat(5000),
        };
        let written = assessment(&target, &score);
        let chars = |value: &Json| value.as_str().unwrap().chars().count();
        assert_eq!((chars(&written["assessment_name"]), chars(&written["source"]["source_id"])), (250, 250));
        assert!(written["assessment_name"].as_str().unwrap().starts_with("rule/a/b"));
        assert_eq!(written["assessment_id"], "a-00000000000000000000000000000002");
        assert!(written["rationale"].as_str().unwrap().len() <= MAX_RATIONALE_BYTES);
        assert!(written["metadata"].as_object().unwrap().values().all(Json::is_string));
        assert!(written.get("span_id").is_none());
        assert_eq!(written["create_time"], "1970-01-01T00:00:00Z");
    }

    #[test]
    fn what_is_there_is_changed_only_where_it_says_something_else() {
        let ours = json!({"feedback": {"value": 1.0}, "rationale": "r"});
        assert!(says_the_same(&json!({"feedback": {"value": 1}, "rationale": "r"}), &ours));
        assert!(!says_the_same(&json!({"feedback": {"value": 0.5}, "rationale": "r"}), &ours));
        assert!(!says_the_same(&json!({"feedback": {"value": true}, "rationale": "r"}), &ours));
        assert!(!says_the_same(&json!({"feedback": {"value": 1}, "rationale": "s"}), &ours));
        let label = json!({"feedback": {"value": "pass"}, "rationale": ""});
        assert!(says_the_same(&json!({"feedback": {"value": "pass"}}), &label));
    }
}
