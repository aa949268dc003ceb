//! What decoding accepts and what it says to the rest.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::store::CallKey;

static REDACTOR: LazyLock<Redactor> = LazyLock::new(Redactor::shipped);

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
    let letter = decode(bytes, &REDACTOR).unwrap_err();
    assert!(!letter.remedy.is_empty());
    (letter.class, letter.pointer)
}

#[test]
fn a_minimal_message_is_a_call() {
    let decoded = decode(minimal().to_string().as_bytes(), &REDACTOR).unwrap();
    assert_eq!(decoded.call.environment, "production");
    assert_eq!(decoded.call.sampling.probability, 1.0);
    assert_eq!(decoded.call.response_hash.unwrap().len(), 16);
}

#[test]
fn a_whole_number_with_a_decimal_point_is_as_whole_as_one_without() {
    let digits = |message: &[u8]| CallKey::of(&decode(message, &REDACTOR).unwrap().call).unwrap();
    assert_eq!(digits(&with("/tokens_in", json!(1.0))), digits(&minimal().to_string().into_bytes()));
    assert_eq!(decode(&with("/attempt", json!(2.0)), &REDACTOR).unwrap().call.attempt, Some(2));
    assert_eq!(
        decode(&with("/seed", json!(-1e18)), &REDACTOR).unwrap().call.seed,
        Some(-1_000_000_000_000_000_000)
    );
    let below = minimal().to_string().replacen('{', "{\"seed\": -9223372036854775809,", 1);
    assert_eq!(fault(below.as_bytes()).1, "/seed", "beyond 64 bits");
    assert_eq!(fault(&with("/attempt", json!(2.5))).1, "/attempt");
    assert_eq!(fault(&with("/attempt", json!(-2.0))).1, "/attempt");
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
        (with("/attempt", json!(5_000_000_000u64)), DeadClass::BadValue, "/attempt"),
        (with("/seed", json!(1e19)), DeadClass::BadValue, "/seed"),
        (with("/occurred_at", json!("0001-01-01T00:00:00Z")), DeadClass::BadValue, "/occurred_at"),
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
    let letter = decode(&with("/tokens_in", json!("12")), &REDACTOR).unwrap_err();
    assert_eq!((letter.tenant_id.as_deref(), letter.request_id.as_deref()), (Some("t1"), Some("r1")));
}

#[test]
fn what_is_personal_is_gone_from_call_and_letter() {
    let answer = decode(&with("/content/answer", json!("Card 4111 1111 1111 1111.")), &REDACTOR).unwrap();
    assert_eq!(answer.call.content.answer, "Card <CARD>.");
    let mut bad = minimal();
    bad["request_id"] = json!("jane@example.com");
    bad["tokens_in"] = json!("jane@example.com");
    let letter = decode(bad.to_string().as_bytes(), &REDACTOR).unwrap_err();
    let told = serde_json::to_string(&letter).unwrap();
    assert!(told.contains("<EMAIL:") && !told.contains("jane"), "{told}");
}

#[test]
fn nul_is_replaced_and_unknown_fields_are_kept() {
    let decoded = decode(&with("/content/answer", json!("a\0b")), &REDACTOR).unwrap();
    assert_eq!((decoded.call.content.answer.as_str(), decoded.nuls_replaced), ("a\u{fffd}b", 1));
    let decoded = decode(&with("/colour", json!("blue")), &REDACTOR).unwrap();
    assert_eq!(decoded.unknown_fields, 1);
    assert_eq!(decoded.call.metadata["extra"]["colour"], "blue");
    let again = decode(serde_json::to_string(&decoded.call).unwrap().as_bytes(), &REDACTOR).unwrap();
    assert_eq!(again.call, decoded.call);
}

#[test]
fn whole_numbers_are_integers_and_the_order_of_keys_says_nothing() {
    assert_eq!(decode(&with("/tokens_in", json!(12.0)), &REDACTOR).unwrap().call.tokens_in, 12);
    let metadata = |text: &str| with("/metadata", serde_json::from_str(text).unwrap());
    let stored = |bytes: Vec<u8>| serde_json::to_string(&decode(&bytes, &REDACTOR).unwrap().call).unwrap();
    assert_eq!(stored(metadata(r#"{"a": 1, "b": 2.0}"#)), stored(metadata(r#"{"b": 2, "a": 1}"#)));
}

#[test]
fn unknown_fields_are_kept_however_large_or_many() {
    let decoded = decode(&with("/notes", json!("x".repeat(20_000))), &REDACTOR).unwrap();
    assert_eq!(decoded.unknown_fields, 1);
    // Quadratic work on these took minutes.
    let many: String = (0..80_000).map(|key| format!("\"k{key}\":0,")).collect();
    let message = format!("{{{many}{}", &minimal().to_string()[1..]);
    assert_eq!(decode(message.as_bytes(), &REDACTOR).unwrap().unknown_fields, 80_000);
}

proptest! {
    #[test]
    fn never_panics_on_bytes(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        drop(decode(&bytes, &REDACTOR));
    }

    #[test]
    fn never_panics_on_a_damaged_message(at in 0usize..400, byte in any::<u8>()) {
        let mut bytes = minimal().to_string().into_bytes();
        let at = at % bytes.len();
        bytes[at] = byte;
        drop(decode(&bytes, &REDACTOR));
    }
}
