//! `POST {url}/chat/completions`, as OpenAI has it and many servers speak it (OpenAPI 2.3.0, `CreateChatCompletionRequest`).

use jiff::Timestamp;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    JudgeError,
    answer::{AnswerForm, read},
    config::{ModelConfig, OutputLimit},
    model::{Answered, SCHEMA, Spent, is_json, system},
    waits::{Remaining, openai_remaining, retry_after, should_retry},
};
use crate::outbound::Answer;

/// Codes and types of errors that mean that there is no money, whatever their status is.
const NO_MONEY: [&str; 6] = [
    "insufficient_quota",
    "credit_balance_exhausted",
    "organization_spend_limit_exceeded",
    "project_spend_limit_exceeded",
    "organization_usage_limit_exceeded",
    "billing_hard_limit_reached",
];
/// Name of the schema.
const SCHEMA_NAME: &str = "verdict";

/// The body of a request.
pub(super) fn request(config: &ModelConfig, form: AnswerForm, question: &str) -> Value {
    let mut body = json!({
        "model": config.model,
        "messages": [
            {"role": config.system_role, "content": system(config.datamark)},
            {"role": "user", "content": question},
        ],
    });
    let format = match form {
        AnswerForm::Schema => {
            json!({"type": "json_schema", "json_schema": {"name": SCHEMA_NAME, "strict": true, "schema": *SCHEMA}})
        }
        AnswerForm::Json => json!({"type": "json_object"}),
        AnswerForm::Block => Value::Null,
    };
    if let Value::Object(fields) = &mut body {
        if !format.is_null() {
            fields.insert("response_format".into(), format);
        }
        let limit = match config.output_limit_field {
            OutputLimit::MaxCompletionTokens => "max_completion_tokens",
            OutputLimit::MaxTokens => "max_tokens",
        };
        fields.insert(limit.into(), config.max_output_tokens.into());
        fields.extend(config.extra.clone());
    }
    body
}

/// Reads an answer about so many claims.
///
/// # Errors
/// [`JudgeError`].
pub(super) fn reply(answer: &Answer, form: AnswerForm, claims: usize) -> Result<Answered, JudgeError> {
    if answer.status != StatusCode::OK {
        return Err(failure(answer));
    }
    // With status 200 it is paid for, whatever it is.
    let unread = |what| Ok(Answered::unread(answer, JudgeError::Invalid(what)));
    if !is_json(&answer.headers) {
        return unread("not of type application/json");
    }
    let Ok(completion) = serde_json::from_slice::<Completion>(&answer.body) else {
        return unread("not a chat completion");
    };
    let spent = completion.usage.and_then(|usage| {
        let details = usage.prompt_tokens_details;
        Some(Spent {
            tokens_in: usage.prompt_tokens?,
            tokens_cached: details.and_then(|details| details.cached_tokens).unwrap_or(0),
            tokens_out: usage.completion_tokens?,
        })
    });
    let Ok([choice]) = <[Choice; 1]>::try_from(completion.choices) else { return unread("not one choice") };
    let refusal = choice.message.refusal.filter(|refusal| !refusal.is_empty());
    let declines = refusal.is_some();
    let text = refusal.or(choice.message.content).unwrap_or_default();
    let verdicts = match (declines, choice.finish_reason.as_deref()) {
        (true, _) | (_, Some("content_filter")) => Err(JudgeError::Declined),
        (_, Some("length")) => Err(JudgeError::CutOff),
        (_, Some("stop") | None) => read(&text, form, claims),
        _ => Err(JudgeError::Invalid("it did not come to its end")),
    };
    let model = completion.model.as_str().unwrap_or_default().to_owned();
    Ok(Answered { verdicts, text, spent, model })
}

/// What is left of requests and tokens, where headers tell.
pub(super) fn remaining(answer: &Answer) -> [Option<Remaining>; 2] {
    ["requests", "tokens"].map(|what| openai_remaining(&answer.headers, what))
}

/// What an answer means that has another status than 200.
pub(super) fn failure(answer: &Answer) -> JudgeError {
    let error = serde_json::from_slice::<Failure>(&answer.body).ok().map(|failure| failure.error);
    let word = |field: &str| {
        let word = error.as_ref()?.get(field)?.as_str()?;
        Some(word.to_owned())
    };
    let (code, kind) = (word("code").unwrap_or_default(), word("type").unwrap_or_default());
    if NO_MONEY.contains(&code.as_str()) || NO_MONEY.contains(&kind.as_str()) {
        return JudgeError::NoMoney;
    }
    if code == "context_length_exceeded" {
        return JudgeError::TooLong;
    }
    of_status(answer)
}

/// What a status means with both providers.
pub(super) fn of_status(answer: &Answer) -> JudgeError {
    let status = answer.status.as_u16();
    let wait = retry_after(&answer.headers, Timestamp::now());
    match (status, should_retry(&answer.headers)) {
        (401 | 403, _) => JudgeError::Unauthorised(status),
        (402, _) => JudgeError::NoMoney,
        (404, _) => JudgeError::NotFound,
        (413, _) => JudgeError::TooLong,
        (_, Some(false)) => JudgeError::Refused(status),
        (429, _) => JudgeError::Limited(wait),
        (408 | 409 | 500.., _) | (_, Some(true)) => JudgeError::Down { status, wait },
        _ => JudgeError::Refused(status),
    }
}

/// Whether a refusal is about the form of the answer: then another form is tried.
pub(super) fn is_about_form(answer: &Answer) -> bool {
    let names_it = |field: &[u8]| memchr::memmem::find(&answer.body, field).is_some();
    matches!(answer.status.as_u16(), 400 | 422)
        && [&b"response_format"[..], b"json_schema", b"json_object"].into_iter().any(names_it)
}

/// The forms of an answer, the one that promises most first.
pub(super) const FORMS: [AnswerForm; 3] = [AnswerForm::Schema, AnswerForm::Json, AnswerForm::Block];

/// A completion, as far as it is read.
#[derive(Deserialize)]
struct Completion {
    /// A name, where the server has one.
    #[serde(default)]
    model: Value,
    choices: Vec<Choice>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Choice {
    message: Message,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Message {
    content: Option<String>,
    refusal: Option<String>,
}

/// `prompt_tokens` includes cached ones.
#[derive(Deserialize)]
struct Usage {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    cached_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Failure {
    error: Map<String, Value>,
}
