//! What a judge answered, read strictly: everything that is not what was asked for is an error, and an error is no verdict.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{JudgeError, question::visible};
use crate::domain::ClaimLabel;

/// Longest reason that is kept, in characters.
const REASON_CHARS: usize = 400;
/// How far the score may be from the claim that is worst.
const MAX_APART: f64 = 0.3;
/// Longest answer that is read, in bytes: twenty claims with reasons take a tenth of it.
const MAX_ANSWER_BYTES: usize = 64 << 10;

/// What a judge said of one claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClaimVerdict {
    /// What the evidence says about it.
    pub label: ClaimLabel,
    /// How probable it is that the evidence supports it, 0..1.
    pub support: f64,
    /// Why; untrusted text. Empty where it was not kept.
    #[serde(default)]
    pub reason: String,
}

impl ClaimVerdict {
    /// What it counts as, 0..1: what the judge is unsure of neither passes nor fails.
    pub fn value(&self) -> f64 {
        value(self.label, self.support)
    }
}

/// What a label with this support counts as.
fn value(label: ClaimLabel, support: f64) -> f64 {
    if label == ClaimLabel::Unsure { 0.5 } else { support }
}

/// What a judge said.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdicts {
    /// Of each claim, in the order in which they were asked.
    pub claims: Vec<ClaimVerdict>,
    /// How probable it is that all of them are supported, 0..1.
    pub score: f64,
}

/// Where the verdicts stand in an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AnswerForm {
    /// The server keeps to the schema: the answer is the object.
    Schema,
    /// The server writes JSON: the answer is the object.
    Json,
    /// The server writes anything: the answer is the object, or holds it in its only fenced block.
    Block,
}

/// Reads an answer about so many claims.
///
/// # Errors
/// [`JudgeError::Invalid`] naming what is wrong, without quoting it; [`JudgeError::Contradictory`] where score and labels
/// say different things.
pub fn read(text: &str, form: AnswerForm, claims: usize) -> Result<Verdicts, JudgeError> {
    if text.len() > MAX_ANSWER_BYTES {
        return Err(JudgeError::Invalid("longer than any answer"));
    }
    let object = match form {
        AnswerForm::Schema | AnswerForm::Json => text.trim(),
        AnswerForm::Block => block(text)?,
    };
    let answer: Answer =
        serde_json::from_str(object).map_err(|_| JudgeError::Invalid("not one object of the schema"))?;
    checked(answer, claims)
}

/// Reads an answer that a tool was called with.
///
/// # Errors
/// As [`read`].
pub fn read_object(object: &Map<String, Value>, claims: usize) -> Result<Verdicts, JudgeError> {
    let answer =
        Answer::deserialize(object).map_err(|_| JudgeError::Invalid("not one object of the schema"))?;
    checked(answer, claims)
}

/// An answer as the schema has it. A field twice, one too many and a number as text are errors.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    claims: Vec<Judged>,
    score: f64,
}

/// A claim in it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Judged {
    id: u64,
    reason: String,
    label: ClaimLabel,
    support: f64,
}

/// The object of an answer in prose: all of it, or its only fenced block.
fn block(text: &str) -> Result<&str, JudgeError> {
    let text = text.trim();
    if text.starts_with('{') {
        return Ok(text);
    }
    let mut parts = text.split("```");
    let (Some(_), Some(inner), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(JudgeError::Invalid("not one fenced block"));
    };
    Ok(inner.strip_prefix("json").unwrap_or(inner).trim())
}

/// Verdicts whose claims are those that were asked about, whose numbers are in their range, and whose parts agree.
fn checked(answer: Answer, claims: usize) -> Result<Verdicts, JudgeError> {
    let Answer { claims: mut judged, score } = answer;
    judged.sort_by_key(|one| one.id);
    let asked = (1..).zip(&judged).all(|(id, one)| one.id == id);
    if judged.len() != claims || !asked {
        return Err(JudgeError::Invalid("not the claims that were asked about"));
    }
    let in_range = |number: f64| (0.0..=1.0).contains(&number);
    if !in_range(score) || !judged.iter().all(|one| in_range(one.support)) {
        return Err(JudgeError::Invalid("a number is not from 0 to 1"));
    }
    let agrees = |label, support| match label {
        ClaimLabel::Supported => support >= 0.5,
        ClaimLabel::Contradicted | ClaimLabel::NotFound => support <= 0.5,
        ClaimLabel::Unsure => (0.2..=0.8).contains(&support),
    };
    if !judged.iter().all(|one| agrees(one.label, one.support)) {
        return Err(JudgeError::Contradictory);
    }
    let lacks = judged.iter().any(|one| matches!(one.label, ClaimLabel::Contradicted | ClaimLabel::NotFound));
    let holds = judged.iter().all(|one| one.label == ClaimLabel::Supported);
    let worst = judged.iter().map(|one| value(one.label, one.support)).fold(1.0, f64::min);
    if (lacks && score > 0.5) || (holds && score < 0.5) || (score - worst).abs() > MAX_APART {
        return Err(JudgeError::Contradictory);
    }
    if judged.iter().any(|one| one.reason.trim().is_empty()) {
        return Err(JudgeError::Invalid("a claim without a reason"));
    }
    if !judged.iter().all(|one| fits(&one.reason, one.label)) {
        return Err(JudgeError::Contradictory);
    }
    let verdict = |one: Judged| ClaimVerdict {
        label: one.label,
        support: one.support,
        reason: visible(one.reason.trim()).chars().take(REASON_CHARS).collect(),
    };
    Ok(Verdicts { claims: judged.into_iter().map(verdict).collect(), score })
}

/// Whether a reason does not say in so many words that the label is another: words for an answer that was talked into a number.
/// Reasons in other words, or other languages, are taken as they are.
fn fits(reason: &str, label: ClaimLabel) -> bool {
    let mut reason = reason.to_lowercase().replace('_', " ");
    for harmless in ["not contradict", "no contradiction", "nothing contradicts"] {
        reason = reason.replace(harmless, "");
    }
    let denied = ["not supported", "unsupported", "not support", "contradict", "not found in"];
    let is_denied = denied.iter().any(|word| reason.contains(word));
    match label {
        ClaimLabel::Supported => !is_denied,
        ClaimLabel::Contradicted | ClaimLabel::NotFound => is_denied || !reason.contains("fully supported"),
        ClaimLabel::Unsure => true,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn one(label: &str, support: f64) -> Value {
        json!({"id": 1, "reason": "It says so.", "label": label, "support": support})
    }

    fn read_json(answer: &Value) -> Result<Verdicts, JudgeError> {
        read(&answer.to_string(), AnswerForm::Schema, answer["claims"].as_array().map_or(1, Vec::len))
    }

    #[test]
    fn a_reason_that_says_otherwise_is_no_reason() {
        let with = |label: &str, support: f64, reason: &str| {
            let mut one = one(label, support);
            one["reason"] = reason.into();
            read_json(&json!({"claims": [one], "score": support}))
        };
        for (label, support, reason, agrees) in [
            ("supported", 0.9, "The evidence says 4 m: the claim is not supported.", false),
            ("supported", 0.9, "E1 contradicts it.", false),
            ("supported", 0.9, "E1 says so and E2 does not contradict it.", true),
            ("not_found", 0.1, "It is fully supported.", false),
            ("not_found", 0.1, "Only its first half is fully supported, the rest is not supported.", true),
            ("contradicted", 0.1, "E1 says 4 m.", true),
        ] {
            let read = with(label, support, reason);
            assert_eq!(read.is_ok(), agrees, "{label}: {reason}");
            assert!(agrees || read == Err(JudgeError::Contradictory));
        }
    }

    #[test]
    fn a_good_answer_is_read_in_the_order_of_the_questions() {
        let mut second = one("not_found", 0.1);
        second["id"] = 2.into();
        let read = read_json(&json!({"claims": [second, one("supported", 0.9)], "score": 0.1})).unwrap();
        assert_eq!(read.score, 0.1);
        assert_eq!(read.claims[0].label, ClaimLabel::Supported);
        assert_eq!(
            read.claims[1],
            ClaimVerdict { label: ClaimLabel::NotFound, support: 0.1, reason: "It says so.".into() }
        );
    }

    #[test]
    fn everything_else_is_an_error() {
        let good = json!({"claims": [one("supported", 0.9)], "score": 0.9}).to_string();
        let fenced = format!("```json\n{good}\n```");
        let wrong = [
            String::new(),
            "It is supported.".into(),
            fenced.clone(),
            format!("{good} {good}"),
            format!("[{good}]"),
            good[..good.len() - 2].to_owned(),
            good.replace("0.9}", "7}"),
            good.replace("0.9}", "NaN}"),
            good.replace("0.9}", "\"0.9\"}"),
            good.replace("0.9}", "null}"),
            good.replace("0.9}", "-0.1}"),
            good.replace("\"supported\"", "\"Supported\""),
            good.replace("\"id\":1", "\"id\":2"),
            good.replace("\"id\":1", "\"id\":1,\"id\":1"),
            good.replace("\"id\":1", "\"id\":1,\"note\":\"x\""),
            good.replace("It says so.", " "),
            good.replace("\"score\"", "\"Score\""),
            json!({"claims": [one("supported", 0.9), one("supported", 0.9)], "score": 0.9}).to_string(),
            json!({"claims": [], "score": 0.9}).to_string(),
            json!({"score": 1.0}).to_string(),
            format!("{good}{}", " ".repeat(MAX_ANSWER_BYTES)),
        ];
        for answer in wrong {
            let read = read(&answer, AnswerForm::Schema, 1);
            assert!(matches!(read, Err(JudgeError::Invalid(_))), "{answer}: {read:?}");
        }
        assert!(read(&fenced, AnswerForm::Block, 1).is_ok());
        assert!(read(&format!("Here it is:\n{fenced}\nDone."), AnswerForm::Block, 1).is_ok());
        assert!(read(&good, AnswerForm::Block, 1).is_ok());
        for answer in [format!("{fenced}\n{fenced}"), format!("It is {good}"), "```json".into()] {
            assert!(read(&answer, AnswerForm::Block, 1).is_err(), "{answer}");
        }
    }

    #[test]
    fn an_answer_that_contradicts_itself_is_no_verdict() {
        for (label, support, score) in [
            ("supported", 0.4, 0.9),
            ("supported", 0.9, 0.4),
            ("contradicted", 0.6, 0.1),
            ("contradicted", 0.1, 0.6),
            ("not_found", 0.1, 1.0),
        ] {
            let read = read_json(&json!({"claims": [one(label, support)], "score": score}));
            assert!(matches!(read, Err(JudgeError::Contradictory)), "{label} {support} {score}");
        }
        for (label, support, score) in
            [("unsure", 0.9, 0.5), ("unsure", 0.05, 1.0), ("unsure", 0.5, 1.0), ("supported", 0.5, 1.0)]
        {
            let read = read_json(&json!({"claims": [one(label, support)], "score": score}));
            assert!(matches!(read, Err(JudgeError::Contradictory)), "{label} {support} {score}");
        }
        let read = read_json(&json!({"claims": [one("unsure", 0.7)], "score": 0.6})).unwrap();
        assert_eq!(read.claims[0].value(), 0.5, "what it is unsure of is no pass, whatever it says besides");
    }
}
