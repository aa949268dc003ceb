//! `POST {url}/messages`, as Anthropic has it: the verdict is what a tool is called with, which every version can be made to do.

use jiff::Timestamp;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    JudgeError,
    answer::read_object,
    config::ModelConfig,
    model::{Answered, SCHEMA, Spent, is_json, system},
    openai::of_status,
    waits::{Remaining, anthropic_remaining},
};
use crate::outbound::Answer;

/// Name of the tool.
const TOOL: &str = "record_verdict";
/// Codes of errors with status 429 that mean that there is no money.
const NO_MONEY: [&str; 2] = ["contract_spend_limit_reached", "enforced_spend_limit_reached"];

/// The body of a request.
pub(super) fn request(config: &ModelConfig, question: &str) -> Value {
    let mut body = json!({
        "model": config.model,
        "max_tokens": config.max_output_tokens,
        "system": system(config.datamark),
        "messages": [{"role": "user", "content": question}],
        "tools": [{"name": TOOL, "description": "Records the verdict.", "strict": true, "input_schema": *SCHEMA}],
        "tool_choice": {"type": "tool", "name": TOOL, "disable_parallel_tool_use": true},
    });
    if let Value::Object(fields) = &mut body {
        fields.extend(config.extra.clone());
    }
    body
}

/// Reads an answer about so many claims.
///
/// # Errors
/// [`JudgeError`].
pub(super) fn reply(answer: &Answer, claims: usize) -> Result<Answered, JudgeError> {
    if answer.status != StatusCode::OK {
        return Err(failure(answer));
    }
    // With status 200 it is paid for, whatever it is.
    let unread = |what| Ok(Answered::unread(answer, JudgeError::Invalid(what)));
    if !is_json(&answer.headers) {
        return unread("not of type application/json");
    }
    let Ok(message) = serde_json::from_slice::<Message>(&answer.body) else {
        return unread("not a message");
    };
    let spent = message.usage.and_then(|usage| {
        let (written, read) = (usage.cache_creation_input_tokens, usage.cache_read_input_tokens);
        Some(Spent {
            // The opposite of OpenAI's: what was cached is not among the input tokens.
            tokens_in: usage.input_tokens? + written.unwrap_or(0) + read.unwrap_or(0),
            tokens_cached: read.unwrap_or(0),
            tokens_out: usage.output_tokens?,
        })
    });
    let verdicts = match message.stop_reason.as_deref() {
        Some("refusal") => Err(JudgeError::Declined),
        Some("max_tokens" | "model_context_window_exceeded") => Err(JudgeError::CutOff),
        Some("tool_use" | "end_turn") => {
            called(&message.content).and_then(|input| read_object(input, claims))
        }
        _ => Err(JudgeError::Invalid("it did not come to its end")),
    };
    let text = written(&message.content);
    let model = message.model.as_str().unwrap_or_default().to_owned();
    Ok(Answered { verdicts, text, spent, model })
}

/// What the tool was called with: once. Other blocks, such as thinking, may stand before it.
fn called(blocks: &[Map<String, Value>]) -> Result<&Map<String, Value>, JudgeError> {
    let mut calls = blocks.iter().filter(|block| word(block, "type") == Some("tool_use"));
    let (Some(call), None) = (calls.next(), calls.next()) else {
        return Err(JudgeError::Invalid("not one call of the tool"));
    };
    match (word(call, "name"), call.get("input")) {
        (Some(TOOL), Some(Value::Object(input))) => Ok(input),
        _ => Err(JudgeError::Invalid("not a call of the tool")),
    }
}

/// What was written: what tools were called with, or words.
fn written(blocks: &[Map<String, Value>]) -> String {
    let text = |block: &Map<String, Value>| match block.get("input") {
        Some(input) => Some(input.to_string()),
        None => word(block, "text").map(str::to_owned),
    };
    blocks.iter().filter_map(text).collect::<Vec<_>>().join("\n")
}

/// A field of a block that is text.
fn word<'a>(block: &'a Map<String, Value>, field: &str) -> Option<&'a str> {
    block.get(field).and_then(Value::as_str)
}

/// What is left of requests and tokens, where headers tell.
pub(super) fn remaining(answer: &Answer) -> [Option<Remaining>; 2] {
    ["requests", "tokens"].map(|what| anthropic_remaining(&answer.headers, what, Timestamp::now()))
}

/// What an answer means that has another status than 200.
fn failure(answer: &Answer) -> JudgeError {
    let failure = serde_json::from_slice::<Failure>(&answer.body).ok();
    let error = failure.map(|failure| failure.error);
    let code = error.as_ref().and_then(|error| error.details.as_ref()?.error_code.as_deref());
    if code.is_some_and(|code| NO_MONEY.contains(&code)) {
        return JudgeError::NoMoney;
    }
    match error.as_ref().map(|error| error.kind.as_str()) {
        Some("billing_error") => JudgeError::NoMoney,
        _ => of_status(answer),
    }
}

/// A message, as far as it is read.
#[derive(Deserialize)]
struct Message {
    /// A name, where the server has one.
    #[serde(default)]
    model: Value,
    content: Vec<Map<String, Value>>,
    stop_reason: Option<String>,
    usage: Option<Usage>,
}

#[derive(Deserialize)]
struct Usage {
    input_tokens: Option<u64>,
    output_tokens: Option<u64>,
    cache_creation_input_tokens: Option<u64>,
    cache_read_input_tokens: Option<u64>,
}

#[derive(Deserialize)]
struct Failure {
    error: Fault,
}

#[derive(Deserialize)]
struct Fault {
    #[serde(rename = "type")]
    kind: String,
    details: Option<Details>,
}

#[derive(Deserialize)]
struct Details {
    error_code: Option<String>,
}
