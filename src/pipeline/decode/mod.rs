//! Bytes to a redacted call, or a dead letter that names the field and the remedy. Never a panic, never a retry.
//!
//! The JSON schema of [`Call`] is what is enforced; what a schema cannot say (size, encoding, depth) comes first.

use std::sync::LazyLock;

use jiff::Timestamp;
use jsonschema::{
    Validator,
    error::{TypeKind, ValidationErrorKind},
};
use serde::Deserialize;
use serde_json::{Map, Value};
use serde_path_to_error::Segment;

use crate::{
    domain::{
        Call, DeadClass, DeadLetter,
        call::{MAX_DEPTH, MAX_MESSAGE_BYTES, MAX_METADATA_BYTES},
        id::response_hash,
    },
    redaction::Redactor,
};

/// A decoded call and what was done to it on the way.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The call.
    pub call: Call,
    /// U+0000 replaced by U+FFFD: Postgres refuses them in text.
    pub nuls_replaced: usize,
    /// Unknown top-level fields kept under `metadata.extra`.
    pub unknown_fields: usize,
}

/// The schema of [`Call`] as JSON, and its compiled validator.
static SCHEMA: LazyLock<(Value, Option<Validator>)> = LazyLock::new(|| {
    let schema = schemars::schema_for!(Call).to_value();
    let validator = jsonschema::options().should_validate_formats(true).build(&schema).ok();
    (schema, validator)
});

/// Decodes one message. What is personal in it is gone before anything else looks at it: no call, letter or log has it.
///
/// # Errors
/// A [`DeadLetter`] without ids where the message could not be read that far.
pub fn decode(bytes: &[u8], redactor: &Redactor) -> Result<Decoded, Box<DeadLetter>> {
    let text = readable(bytes)?;
    let mut value: Value = serde_json::from_str(text).map_err(syntax)?;
    let nuls_replaced = clean(&mut value);
    // Placeholders are numbered in this order, whatever order the producer wrote.
    value.sort_all_objects();
    redactor.message(&mut value);
    let ids = Ids::of(&value);
    check_version(&value).and_then(|()| finish(value, nuls_replaced)).map_err(|letter| ids.on(letter))
}

/// Tenant and request id of a redacted message, where they can be read; it may be bad otherwise.
pub fn ids(redacted: &[u8]) -> (Option<String>, Option<String>) {
    let value = readable(redacted).ok().and_then(|text| serde_json::from_str(text).ok());
    let Ids { tenant_id, request_id } = Ids::of(&value.unwrap_or(Value::Null));
    (tenant_id, request_id)
}

/// The part of decoding where the ids of the message are known.
fn finish(mut value: Value, nuls_replaced: usize) -> Result<Decoded, Box<DeadLetter>> {
    let Value::Object(message) = &mut value else {
        return Err(letter(
            DeadClass::WrongType,
            "",
            "the message is not a JSON object",
            "send one object a message",
        ));
    };
    check_metadata(message)?;
    let unknown_fields = keep_unknown(message);
    if let Some(validator) = &SCHEMA.1
        && let Err(error) = validator.validate(&value)
    {
        return Err(schema_fault(&error));
    }
    // The order of keys says nothing: the same call has one stored form.
    value.sort_all_objects();
    let mut call = match Call::deserialize(&value) {
        Ok(call) => call,
        Err(_) => {
            write_whole(&mut value);
            Call::deserialize(&value).map_err(|_| type_fault(&value))?
        }
    };
    if call.occurred_at < Timestamp::UNIX_EPOCH {
        let detail = "before 1970";
        return Err(letter(DeadClass::BadValue, "/occurred_at", detail, "send when the call happened"));
    }
    if call.response_hash.is_none() {
        call.response_hash = Some(response_hash(&call.content.answer));
    }
    Ok(Decoded { call, nuls_replaced, unknown_fields })
}

/// Fields that hold whole numbers.
const WHOLE: [&str; 9] = [
    "/version",
    "/attempt",
    "/seed",
    "/tokens_in",
    "/tokens_out",
    "/cached_tokens",
    "/eval_judge_tokens",
    "/embedding_tokens",
    "/feedback/csat",
];

/// Writes whole numbers without a decimal point: in JSON Schema 4.0 is as whole as 4, and some languages know no other numbers.
fn write_whole(message: &mut Value) {
    const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
    const TWO_TO_64: f64 = 2.0 * TWO_TO_63;
    for pointer in WHOLE {
        let Some(field) = message.pointer_mut(pointer) else { continue };
        let float = field.as_f64().filter(|number| field.is_f64() && number.fract() == 0.0);
        // The bounds are left out: a whole number without a point that is beyond 64 bits is read as one of them.
        match float {
            Some(number) if (0.0..TWO_TO_64).contains(&number) => *field = (number as u64).into(),
            Some(number) if number < 0.0 && number > -TWO_TO_63 => *field = (number as i64).into(),
            _ => {}
        }
    }
}

/// Size, encoding and depth of the raw bytes.
fn readable(bytes: &[u8]) -> Result<&str, Box<DeadLetter>> {
    if bytes.len() > MAX_MESSAGE_BYTES {
        let detail = format!("{} bytes, at most {MAX_MESSAGE_BYTES} are accepted", bytes.len());
        return Err(letter(
            DeadClass::TooLarge,
            "",
            detail,
            "shorten content.contexts or send fewer of them",
        ));
    }
    if bytes.starts_with(b"\xef\xbb\xbf") {
        return Err(letter(DeadClass::Bom, "", "a byte order mark in front", "write UTF-8 without BOM"));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let detail = format!("not UTF-8 after {} bytes", error.valid_up_to());
        letter(DeadClass::BadUtf8, "", detail, "encode the message as UTF-8")
    })?;
    if text.trim().is_empty() {
        return Err(letter(DeadClass::Empty, "", "no content", "send one JSON object"));
    }
    let depth = depth(text);
    if depth > MAX_DEPTH {
        let detail = format!("nested {depth} deep, at most {MAX_DEPTH} are accepted");
        return Err(letter(DeadClass::TooDeep, "", detail, "flatten output_schema or unknown fields"));
    }
    Ok(text)
}

/// Deepest nesting of brackets outside strings; no recursion, so that depth cannot overflow the stack.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0usize, 0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// A dead letter for text that is not one JSON value.
fn syntax(error: serde_json::Error) -> Box<DeadLetter> {
    let detail = format!("line {} column {}: {error}", error.line(), error.column());
    let remedy = "write it with a JSON library: no NaN or Infinity, no lone surrogates, one value a message";
    letter(DeadClass::BadJson, "", detail, remedy)
}

/// Only version 1 is known; newer producers are told so before the rest is looked at.
fn check_version(value: &Value) -> Result<(), Box<DeadLetter>> {
    match value.get("version") {
        Some(Value::Number(version)) if version.as_u64() != Some(1) => {
            let detail = format!("message version {version}");
            Err(letter(DeadClass::UnknownVersion, "/version", detail, "send version 1, or update aftercheck"))
        }
        _ => Ok(()),
    }
}

/// `metadata` is bounded as a whole; its types are the schema's business. `extra` is bounded by the message: unknown
/// fields are no fault.
fn check_metadata(message: &Map<String, Value>) -> Result<(), Box<DeadLetter>> {
    let bytes: usize = match message.get("metadata") {
        Some(Value::Object(entries)) => entries
            .iter()
            .filter(|(key, _)| *key != "extra")
            .map(|(key, value)| key.len() + value.to_string().len())
            .sum(),
        _ => 0,
    };
    if bytes <= MAX_METADATA_BYTES {
        return Ok(());
    }
    let detail = format!("{bytes} bytes, at most {MAX_METADATA_BYTES} are accepted");
    Err(letter(DeadClass::BadValue, "/metadata", detail, "send fewer or shorter entries"))
}

/// Moves unknown top-level fields under `metadata.extra` and counts them.
fn keep_unknown(message: &mut Map<String, Value>) -> usize {
    let known = SCHEMA.0.get("properties").and_then(Value::as_object);
    let is_known = |key: &String| known.is_none_or(|known| known.contains_key(key));
    // One pass: taking the unknown ones out one by one is quadratic, and a message may hold a hundred thousand.
    let (kept, extra): (Map<String, Value>, Map<String, Value>) =
        std::mem::take(message).into_iter().partition(|(key, _)| is_known(key));
    *message = kept;
    let unknown = extra.len();
    if !extra.is_empty() {
        let metadata = message.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(metadata) = metadata {
            match metadata.get_mut("extra") {
                Some(Value::Object(there)) => there.extend(extra),
                _ => drop(metadata.insert("extra".into(), Value::Object(extra))),
            }
        }
    }
    unknown
}

/// A dead letter from the first violation of the schema.
fn schema_fault(error: &jsonschema::ValidationError<'_>) -> Box<DeadLetter> {
    let at = error.instance_path().to_string();
    match error.kind() {
        // An optional field is "this or null": what is wrong with "this" is what the producer wants to hear.
        ValidationErrorKind::AnyOf { context } => {
            let deeper =
                |inner: &&jsonschema::ValidationError<'_>| inner.instance_path().as_str().len() > at.len();
            match context.iter().flatten().find(deeper) {
                Some(inner) => schema_fault(inner),
                None => letter(
                    DeadClass::BadValue,
                    &at,
                    "not what the schema allows",
                    "see `aftercheck schema call`",
                ),
            }
        }
        ValidationErrorKind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            let pointer = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
            letter(
                DeadClass::MissingField,
                &pointer,
                "required field is absent",
                "add it; see `aftercheck schema call`",
            )
        }
        ValidationErrorKind::Type { kind } => letter(
            DeadClass::WrongType,
            &at,
            match kind {
                TypeKind::Single(expected) => format!("{expected} expected"),
                TypeKind::Multiple(_) => "a scalar expected".to_owned(),
            },
            "send the type of `aftercheck schema call`",
        ),
        _ => {
            // The masked form names the limit without quoting what stands in the message.
            let detail = error.masked_with("the value").to_string();
            letter(DeadClass::BadValue, &at, detail, "send a value that `aftercheck schema call` allows")
        }
    }
}

/// The fault of a value that satisfies the schema and still does not fit its field, such as a number beyond 64 bits.
fn type_fault(value: &Value) -> Box<DeadLetter> {
    let remedy = "send a value that `aftercheck schema call` allows";
    let error = match serde_path_to_error::deserialize::<_, Call>(value) {
        Ok(_) => return letter(DeadClass::BadValue, "", "not readable as a call", remedy),
        Err(error) => error,
    };
    let pointer: String = error
        .path()
        .iter()
        .map(|segment| match segment {
            Segment::Seq { index } => format!("/{index}"),
            other => format!("/{}", other.to_string().replace('~', "~0").replace('/', "~1")),
        })
        .collect();
    letter(DeadClass::BadValue, &pointer, "the value does not fit this field", remedy)
}

/// Replaces U+0000 in every string and key and returns how many there were; writes whole numbers such as `12.0` as
/// integers, which they are in JSON schema.
fn clean(value: &mut Value) -> usize {
    match value {
        Value::String(text) => replace_nuls(text),
        Value::Number(number) => {
            // Beyond 2^53 a double no longer holds every integer: what it stands for is not known.
            let whole =
                number.as_f64().filter(|n| number.is_f64() && n.fract() == 0.0 && n.abs() < 2f64.powi(53));
            if let Some(whole) = whole {
                *number = (whole as i64).into();
            }
            0
        }
        Value::Array(items) => items.iter_mut().map(clean).sum(),
        Value::Object(fields) => {
            let mut nuls = 0;
            if fields.keys().any(|key| key.contains('\0')) {
                *fields = std::mem::take(fields)
                    .into_iter()
                    .map(|(mut key, value)| {
                        nuls += replace_nuls(&mut key);
                        (key, value)
                    })
                    .collect();
            }
            nuls + fields.values_mut().map(clean).sum::<usize>()
        }
        _ => 0,
    }
}

/// Replaces U+0000 by U+FFFD.
fn replace_nuls(text: &mut String) -> usize {
    let nuls = text.matches('\0').count();
    if nuls > 0 {
        *text = text.replace('\0', "\u{fffd}");
    }
    nuls
}

/// Ids of a message that may be bad otherwise, so that its dead letter can be found by them.
struct Ids {
    tenant_id: Option<String>,
    request_id: Option<String>,
}

impl Ids {
    /// Reads the ids where they are short strings.
    fn of(value: &Value) -> Self {
        let short = |key: &str| {
            let text = value.get(key)?.as_str()?;
            (!text.is_empty() && text.len() <= 800).then(|| text.replace('\0', "\u{fffd}"))
        };
        Self { tenant_id: short("tenant_id"), request_id: short("request_id") }
    }

    /// Puts the ids on a dead letter.
    fn on(self, mut letter: Box<DeadLetter>) -> Box<DeadLetter> {
        letter.tenant_id = self.tenant_id;
        letter.request_id = self.request_id;
        letter
    }
}

/// A dead letter without ids.
fn letter(class: DeadClass, pointer: &str, detail: impl Into<String>, remedy: &str) -> Box<DeadLetter> {
    Box::new(DeadLetter {
        class,
        pointer: pointer.to_owned(),
        detail: detail.into(),
        remedy: remedy.to_owned(),
        tenant_id: None,
        request_id: None,
    })
}

#[cfg(test)]
mod tests;
