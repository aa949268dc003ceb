//! Bytes to a call, or a dead letter that names the field and the remedy. Never a panic, never a retry.
//!
//! The JSON schema of [`Call`] is what is enforced; what a schema cannot say (size, encoding, depth) comes first.

use std::sync::LazyLock;

use jsonschema::{Validator, error::ValidationErrorKind};
use serde_json::{Map, Value};

use crate::domain::{
    Call, DeadClass, DeadLetter,
    call::{MAX_DEPTH, MAX_MESSAGE_BYTES, MAX_METADATA_BYTES},
    id::response_hash,
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

/// Decodes one message.
///
/// # Errors
/// A [`DeadLetter`] without ids where the message could not be read that far.
pub fn decode(bytes: &[u8]) -> Result<Decoded, Box<DeadLetter>> {
    let text = readable(bytes)?;
    let mut value: Value = serde_json::from_str(text).map_err(syntax)?;
    let ids = Ids::of(&value);
    let nuls_replaced = replace_nuls(&mut value);
    check_version(&value).and_then(|()| finish(value, nuls_replaced)).map_err(|letter| ids.on(letter))
}

/// Tenant and request id of a message, where they can be read; it may be bad otherwise.
pub fn ids(bytes: &[u8]) -> (Option<String>, Option<String>) {
    let value = readable(bytes).ok().and_then(|text| serde_json::from_str(text).ok());
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
    let mut call: Call = serde_json::from_value(value).map_err(|error| {
        letter(DeadClass::BadValue, "", error.to_string(), "see `aftercheck schema call`")
    })?;
    if call.response_hash.is_none() {
        call.response_hash = Some(response_hash(&call.content.answer));
    }
    Ok(Decoded { call, nuls_replaced, unknown_fields })
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

/// `metadata` is bounded as a whole; its types are the schema's business.
fn check_metadata(message: &Map<String, Value>) -> Result<(), Box<DeadLetter>> {
    let bytes = message.get("metadata").map_or(0, |metadata| metadata.to_string().len());
    if bytes <= MAX_METADATA_BYTES {
        return Ok(());
    }
    let detail = format!("{bytes} bytes, at most {MAX_METADATA_BYTES} are accepted");
    Err(letter(DeadClass::BadValue, "/metadata", detail, "send fewer or shorter entries"))
}

/// Moves unknown top-level fields under `metadata.extra` and counts them.
fn keep_unknown(message: &mut Map<String, Value>) -> usize {
    let known = SCHEMA.0.get("properties").and_then(Value::as_object);
    let unknown: Vec<String> =
        message.keys().filter(|key| known.is_some_and(|known| !known.contains_key(*key))).cloned().collect();
    let mut extra = Map::new();
    for key in &unknown {
        if let Some(value) = message.shift_remove(key) {
            extra.insert(key.clone(), value);
        }
    }
    if !extra.is_empty() {
        let metadata = message.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(metadata) = metadata {
            match metadata.get_mut("extra") {
                Some(Value::Object(there)) => there.extend(extra),
                _ => drop(metadata.insert("extra".into(), Value::Object(extra))),
            }
        }
    }
    unknown.len()
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
            format!("another type than {kind:?}"),
            "send the type of `aftercheck schema call`",
        ),
        _ => {
            // The masked form names the limit without quoting what stands in the message.
            let detail = error.masked_with("the value").to_string();
            letter(DeadClass::BadValue, &at, detail, "send a value that `aftercheck schema call` allows")
        }
    }
}

/// Replaces U+0000 in every string and key; returns how many there were.
fn replace_nuls(value: &mut Value) -> usize {
    let clean = |text: &mut String| {
        let nuls = text.matches('\0').count();
        if nuls > 0 {
            *text = text.replace('\0', "\u{fffd}");
        }
        nuls
    };
    match value {
        Value::String(text) => clean(text),
        Value::Array(items) => items.iter_mut().map(replace_nuls).sum(),
        Value::Object(fields) => {
            let mut nuls = 0;
            if fields.keys().any(|key| key.contains('\0')) {
                *fields = std::mem::take(fields)
                    .into_iter()
                    .map(|(mut key, value)| {
                        nuls += clean(&mut key);
                        (key, value)
                    })
                    .collect();
            }
            nuls + fields.values_mut().map(replace_nuls).sum::<usize>()
        }
        _ => 0,
    }
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
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn minimal() -> Value {
        json!({
            "version": 1, "request_id": "r1", "trace_id": "t", "occurred_at": "2026-11-02T10:00:00Z",
            "feature": "f", "tenant_id": "t1", "prompt_version": "v", "model_requested": "m",
            "model_resolved": "m", "provider": "p", "tokens_in": 1, "tokens_out": 2,
            "latency_ms": {"total": 3.0}, "finish_reason": "stop", "messages_hash": "h",
            "content": {"answer": "Paris."}
        })
    }

    fn with(pointer: &str, value: Value) -> Vec<u8> {
        let mut message = minimal();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        message.pointer_mut(parent).unwrap()[key] = value;
        message.to_string().into_bytes()
    }

    fn fault(bytes: &[u8]) -> (DeadClass, String) {
        let letter = decode(bytes).unwrap_err();
        assert!(!letter.remedy.is_empty());
        (letter.class, letter.pointer)
    }

    #[test]
    fn a_minimal_message_is_a_call() {
        let decoded = decode(minimal().to_string().as_bytes()).unwrap();
        assert_eq!(decoded.call.environment, "production");
        assert_eq!(decoded.call.sampling.probability, 1.0);
        assert_eq!(decoded.call.response_hash.unwrap().len(), 16);
    }

    #[test]
    fn each_fault_names_class_and_field() {
        let table: Vec<(Vec<u8>, DeadClass, &str)> = vec![
            (b"".to_vec(), DeadClass::Empty, ""),
            (b" \n".to_vec(), DeadClass::Empty, ""),
            (vec![b' '; MAX_MESSAGE_BYTES + 1], DeadClass::TooLarge, ""),
            (b"\xef\xbb\xbf{}".to_vec(), DeadClass::Bom, ""),
            (b"{\"a\":\"\xff\"}".to_vec(), DeadClass::BadUtf8, ""),
            (b"{\"a\":\"\\ud800\"}".to_vec(), DeadClass::BadJson, ""),
            (b"{\"a\":NaN}".to_vec(), DeadClass::BadJson, ""),
            (b"{\"a\":1e999}".to_vec(), DeadClass::BadJson, ""),
            (b"{} {}".to_vec(), DeadClass::BadJson, ""),
            ("[".repeat(10_000).into_bytes(), DeadClass::TooDeep, ""),
            (b"[]".to_vec(), DeadClass::WrongType, ""),
            (with("/version", json!(2)), DeadClass::UnknownVersion, "/version"),
            (with("/version", json!("1")), DeadClass::WrongType, "/version"),
            (with("/tokens_in", json!("12")), DeadClass::WrongType, "/tokens_in"),
            (with("/tokens_in", json!(-1)), DeadClass::BadValue, "/tokens_in"),
            (with("/latency_ms/total", json!(-0.5)), DeadClass::BadValue, "/latency_ms/total"),
            (with("/request_id", json!("")), DeadClass::BadValue, "/request_id"),
            (with("/request_id", json!("x".repeat(201))), DeadClass::BadValue, "/request_id"),
            (with("/occurred_at", json!("yesterday")), DeadClass::BadValue, "/occurred_at"),
            (with("/sampling", json!({"probability": 0})), DeadClass::BadValue, "/sampling/probability"),
            (with("/metadata", json!({"a": [1]})), DeadClass::WrongType, "/metadata/a"),
            (with("/metadata", json!({"a": "x".repeat(17_000)})), DeadClass::BadValue, "/metadata"),
            (with("/content/answer", json!(7)), DeadClass::WrongType, "/content/answer"),
            (with("/content", json!({})), DeadClass::MissingField, "/content/answer"),
            (with("/feedback", json!({"thumbs": "sideways"})), DeadClass::BadValue, "/feedback/thumbs"),
            (
                with("/content/contexts", Value::Array(vec![json!({"id": "c", "text": ""}); 10_001])),
                DeadClass::BadValue,
                "/content/contexts",
            ),
        ];
        for (bytes, class, pointer) in table {
            let shown = String::from_utf8_lossy(&bytes).chars().take(300).collect::<String>();
            assert_eq!(fault(&bytes), (class, pointer.to_owned()), "{shown}");
        }
    }

    #[test]
    fn ids_are_kept_on_a_dead_letter() {
        let letter = decode(&with("/tokens_in", json!("12"))).unwrap_err();
        assert_eq!((letter.tenant_id.as_deref(), letter.request_id.as_deref()), (Some("t1"), Some("r1")));
    }

    #[test]
    fn nul_is_replaced_and_unknown_fields_are_kept() {
        let decoded = decode(&with("/content/answer", json!("a\0b"))).unwrap();
        assert_eq!((decoded.call.content.answer.as_str(), decoded.nuls_replaced), ("a\u{fffd}b", 1));
        let decoded = decode(&with("/colour", json!("blue"))).unwrap();
        assert_eq!(decoded.unknown_fields, 1);
        assert_eq!(decoded.call.metadata["extra"]["colour"], "blue");
        let again = decode(serde_json::to_string(&decoded.call).unwrap().as_bytes()).unwrap();
        assert_eq!(again.call, decoded.call);
    }

    proptest! {
        #[test]
        fn never_panics_on_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            drop(decode(&bytes));
        }

        #[test]
        fn never_panics_on_a_damaged_message(at in 0usize..400, byte in any::<u8>()) {
            let mut bytes = minimal().to_string().into_bytes();
            let at = at % bytes.len();
            bytes[at] = byte;
            drop(decode(&bytes));
        }
    }
}
