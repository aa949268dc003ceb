//! Scores as feedback.

use reqwest::{Method, StatusCode};
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::{LangsmithSink, accepted, json_of, runs::Run};
use crate::{
    outbound::Answer,
    sinks::{
        SinkError, cut,
        scores::{Annotator, Score, Value, score_id},
    },
};

/// Longest comment, in bytes. LangSmith names no limit; a page shows less.
const MAX_COMMENT_BYTES: usize = 4000;
/// LangSmith refuses scores with more decimals than four.
const DECIMALS: f64 = 10_000.0;
/// Rows of one page of feedback, the most that there are.
const PAGE: usize = 100;
/// Most pages that are read of one run.
const MAX_PAGES: usize = 100;

/// Where feedback goes, and on whose behalf.
pub(super) struct Target<'a> {
    /// The run.
    pub run: Run,
    /// Its project.
    pub project: Uuid,
    /// The evaluation that says it.
    pub evaluation_id: Uuid,
    /// Version that evaluated, or the person that looked.
    pub who: &'a str,
}

/// What became of feedback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// It is there.
    There,
    /// LangSmith does not have the run.
    NoRun,
}

/// What a 404 means: LangSmith says in an object what it does not have; anything else that finds nothing is not LangSmith.
fn no_run(answer: &Answer) -> Result<Written, SinkError> {
    match serde_json::from_slice::<Map<String, Json>>(&answer.body) {
        Ok(said) if said.contains_key("detail") => Ok(Written::NoRun),
        _ => Err(SinkError::Denied("status 404: no LangSmith answers there, check url".into())),
    }
}

impl LangsmithSink {
    /// Writes one score. What was written before is changed.
    ///
    /// # Errors
    /// [`SinkError`].
    pub(super) async fn write(&self, target: &Target<'_>, score: &Score) -> Result<Written, SinkError> {
        let said = said(score);
        let request = self.wire.request(Method::POST, "api/v1/feedback").json(&created(target, score, &said));
        let answer = self.wire.send(request).await?;
        match answer.status {
            StatusCode::CONFLICT => {}
            StatusCode::NOT_FOUND => return no_run(&answer),
            _ => return accepted(answer).map(|_| Written::There),
        }
        // It was there already: from a time when no answer came, or with what was said before.
        let request = self.wire.request(Method::PATCH, &format!("api/v1/feedback/{}", score.id)).json(&said);
        let answer = self.wire.send(request).await?;
        match answer.status {
            StatusCode::NOT_FOUND => no_run(&answer),
            _ => accepted(answer).map(|_| Written::There),
        }
    }

    /// Deletes feedback; says whether it was there.
    ///
    /// # Errors
    /// [`SinkError`].
    pub(super) async fn delete_feedback(&self, id: Uuid) -> Result<bool, SinkError> {
        self.delete(&format!("api/v1/feedback/{id}")).await
    }

    /// Names of the scores that an evaluation has left on a run.
    ///
    /// # Errors
    /// [`SinkError`].
    pub(super) async fn names_on(&self, run: Uuid, evaluation_id: Uuid) -> Result<Vec<String>, SinkError> {
        let (run, project) = (run.to_string(), self.project().await?.to_string());
        let mut names = Vec::new();
        for page in 0..MAX_PAGES {
            let (limit, offset) = (PAGE.to_string(), (page * PAGE).to_string());
            let query =
                [("run", run.as_str()), ("session", &project), ("limit", &limit), ("offset", &offset)];
            let url = self.url("api/v1/feedback", &query);
            let answer = accepted(self.wire.send(self.wire.request_to(Method::GET, url)).await?)?;
            let rows = json_of(&answer)?;
            let rows = rows.as_array().map_or(&[][..], Vec::as_slice);
            let ours = |row: &Json| {
                let (id, name) = (row["id"].as_str()?, row["key"].as_str()?);
                (Uuid::try_parse(id).ok()? == score_id(evaluation_id, name)).then(|| name.to_owned())
            };
            names.extend(rows.iter().filter_map(ours));
            if rows.len() < PAGE {
                break;
            }
        }
        Ok(names)
    }
}

/// What a score says: what can be changed of it later.
fn said(score: &Score) -> Json {
    let (number, value) = match &score.value {
        Value::Number(number) => (json!((number * DECIMALS).round() / DECIMALS), Json::Null),
        Value::Flag(flag) => (json!(flag), Json::Null),
        Value::Label(label) => (Json::Null, json!(label)),
    };
    json!({"score": number, "value": value, "comment": cut(&score.comment, MAX_COMMENT_BYTES)})
}

/// Feedback that is new.
fn created(target: &Target<'_>, score: &Score, said: &Json) -> Json {
    let (kind, by) = match score.by {
        Annotator::Code => ("api", "code"),
        Annotator::Model => ("model", "model"),
        Annotator::Human => ("api", "human"),
    };
    let mut body = json!({
        "id": score.id, "run_id": target.run.id, "session_id": target.project, "key": score.name,
        "feedback_source": {"type": kind, "metadata": {
            "by": by, "who": target.who, "evaluation_id": target.evaluation_id,
        }},
        // Otherwise each score would move its trace to the retention that costs more.
        "extend_trace_retention": false,
    });
    if let (Some(body), Some(said)) = (body.as_object_mut(), said.as_object()) {
        if let Some(root) = target.run.root {
            body.insert("trace_id".into(), json!(root));
        }
        body.extend(said.clone());
    }
    body
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_langsmith_says_that_there_is_no_run() {
        let answer = |body: &str| Answer {
            status: StatusCode::NOT_FOUND,
            headers: reqwest::header::HeaderMap::new(),
            body: body.into(),
        };
        assert_eq!(no_run(&answer(r#"{"detail":"Run not found"}"#)), Ok(Written::NoRun));
        for other in ["<html>Not Found</html>", "{}", "404 page not found", ""] {
            assert!(matches!(no_run(&answer(other)), Err(SinkError::Denied(_))), "{other}");
        }
    }

    fn score(value: Value) -> Score {
        let name = "faithfulness".to_owned();
        Score {
            id: Uuid::from_u128(1),
            name,
            value,
            label: None,
            by: Annotator::Code,
            comment: "ä".repeat(5000),
        }
    }

    #[test]
    fn what_is_said_keeps_to_four_decimals_and_labels_are_values() {
        for (number, text) in
            [(2.0 / 3.0, "0.6667"), (0.9, "0.9"), (1.0, "1.0"), (0.00004, "0.0"), (0.30005, "0.3001")]
        {
            assert_eq!(said(&score(Value::Number(number)))["score"].to_string(), text);
        }
        let flag = said(&score(Value::Flag(false)));
        assert_eq!((&flag["score"], &flag["value"]), (&json!(false), &Json::Null));
        let label = said(&score(Value::Label("fail".into())));
        assert_eq!((&label["score"], &label["value"]), (&Json::Null, &json!("fail")));
        let comment = label["comment"].as_str().unwrap();
        assert!(comment.len() <= MAX_COMMENT_BYTES && comment.ends_with('…'));
    }
}
