//! What becomes of a message.

use serde_json::{Map, json};

use super::*;

const CARD: &str = "4111 1111 1111 1111";
const OTHER_CARD: &str = "5500-0000-0000-0004";

fn redactor(config: Value) -> Result<Redactor, RedactionError> {
    Redactor::new(&serde_json::from_value(config).unwrap())
}

fn redacted(redactor: &Redactor, mut message: Value) -> Value {
    redactor.message(&mut message);
    message
}

#[test]
fn the_same_value_has_the_same_placeholder_wherever_and_however_it_is_written() {
    let message = json!({
        "tenant_id": "acme", "messages_hash": "0f1e2d3c4b5a6978",
        "metadata": {"card 4111111111111111": true, "number": 4111111111111111_u64, "count": 12},
        "content": {
            "input": format!("Is {CARD} mine? Not {OTHER_CARD}!"),
            "answer": format!("Yes, 4111-1111-1111-1111; write to Jane@Example.com."),
            "contexts": [{"id": "a", "text": format!("{OTHER_CARD}, jane@example.com")}],
        },
    });
    let redactor = Redactor::shipped();
    let once = redacted(&redactor, message);
    assert_eq!(
        once,
        json!({
            "tenant_id": "acme", "messages_hash": "0f1e2d3c4b5a6978",
            "metadata": {"card <CARD>": true, "number": "<CARD>", "count": 12},
            "content": {
                "input": "Is <CARD> mine? Not <CARD_2>!",
                "answer": "Yes, <CARD>; write to <EMAIL>.",
                "contexts": [{"id": "a", "text": "<CARD_2>, <EMAIL>"}],
            },
        })
    );
    assert_eq!(redacted(&redactor, once.clone()), once, "what is redacted stays as it is");
    let named = redacted(&redactor, json!({"metadata": {"customer_ssn": "536904399", "order": "536904399"}}));
    assert_eq!(
        named,
        json!({"metadata": {"customer_ssn": "<SSN>", "order": "536904399"}}),
        "names say what it is"
    );
    let late = json!({"a": "<CARD> and <CARD_7>", "b": CARD});
    assert_eq!(redacted(&redactor, late)["b"], "<CARD_8>", "a number that is taken is not given again");
}

#[test]
fn identities_stay_apart_and_are_found_again() {
    let redactor = Redactor::shipped();
    let message = |id: &str| redacted(&redactor, json!({"request_id": id, "tenant_id": "acme"}));
    let (one, other) = (message("chat jane@example.com 1"), message("chat joe@example.com 1"));
    assert_ne!(one, other);
    let one = one["request_id"].as_str().unwrap();
    assert_ne!(message("chat Jane@example.com 1")["request_id"], one, "another spelling is another id");
    assert_eq!(redactor.identity(one), one);
    assert!(one.starts_with("chat <EMAIL:") && one.ends_with("> 1"), "{one}");
    assert_eq!(redactor.identity("chat jane@example.com 1"), one);
    assert_eq!(redactor.identity("req_1c210a076610645a"), "req_1c210a076610645a");
}

#[test]
fn measures_stay_and_json_stays_json() {
    let redactor = Redactor::shipped();
    let message = json!({
        "latency_ms": {"total": 4532.719000001634, "ttft": 4111111111111111_u64}, "seed": 4111111111111111_u64,
        "occurred_at": "2026-11-02T10:00:00Z", "content": {"contexts": [{"id": "a", "text": "", "score": 0.5}]},
    });
    assert_eq!(redacted(&redactor, message.clone()), message);
    let answer = json!({"answer": "{\"card\": 4111111111111111, \"to\": \"jane@example.com\"}"});
    assert_eq!(redacted(&redactor, answer)["answer"], "{\"card\":\"<CARD>\",\"to\":\"<EMAIL>\"}");
}

#[test]
fn many_names_that_are_alike_stay_apart() {
    let names: Map<String, Value> = (0..3)
        .map(|n| (["jane@example.com", "Jane@example.com", "JANE@example.com"][n].into(), json!(n)))
        .collect();
    let metadata = redacted(&Redactor::shipped(), json!({"metadata": names}));
    assert_eq!(metadata, json!({"metadata": {"<EMAIL>": 0, "<EMAIL> 2": 1, "<EMAIL> 3": 2}}));
}

#[test]
fn what_was_redacted_is_not_redacted_again() {
    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("key");
    fs::write(&key_file, "0123456789abcdef0123456789abcdef").unwrap();
    let texts = [
        "+12125550155, 9894121695",
        "SSN 536-90-4399, 219 09 9998",
        "password hunter2x! and token a8F3kd92LmQz7x",
        "postgres://app:h4rb0ur-x@db.example.com/app?token=a8F3kd92LmQz7x",
        "token for jane@example.com",
        "411111111111111½223003122003222",
        "key: sk-proj-a1B2c3D4e5F6g7H8i9J0k1L2m3N4 key: 4111 1111 1111 1111",
    ];
    for treatment in ["mask", "pseudonym", "drop"] {
        let redactor = redactor(json!({"treatment": treatment, "key_file": key_file})).unwrap();
        for text in texts {
            let once = redacted(&redactor, json!({"a": text, "request_id": text}));
            assert_eq!(redacted(&redactor, once.clone()), once, "{treatment}: {text}");
        }
    }
}

#[test]
fn the_default_environment_has_its_exceptions_and_what_cannot_be_read_is_masked() {
    let redactor = redactor(json!({
        "kinds": {"email": "keep"}, "exceptions": [{"environment": "production", "kinds": {"email": "mask"}}],
    }))
    .unwrap();
    assert_eq!(redacted(&redactor, json!({"text": "jane@example.com"}))["text"], "<EMAIL>");
    assert_eq!(redactor.payload(b"jane@example.com {"), b"<EMAIL> {");
    let twice = br#"{"text": "4111 1111 1111 1111", "text": "nothing"}"#;
    assert_eq!(
        redactor.payload(twice),
        br#"{"text":"nothing"}"#,
        "a field that is there twice hides nothing"
    );
}

#[test]
fn a_policy_says_what_becomes_of_which() {
    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("key");
    fs::write(&key_file, "0123456789abcdef0123456789abcdef\n").unwrap();
    let config = json!({
        "kinds": {"email": "pseudonym", "phone": "drop", "badge": "mask"},
        "exceptions": [{"environment": "staging", "kinds": {"card": "keep"}}],
        "key_file": key_file,
        "recognisers": {"patterns": [{"name": "badge", "regex": r"\bB-\d{6}\b"}]},
    });
    let redactor = redactor(config).unwrap();
    let text = format!("{CARD} jane@example.com B-123456 call +44 20 7946 0958");
    let message = |environment: &str| redacted(&redactor, json!({"environment": environment, "text": text}));
    let production = message("production")["text"].as_str().unwrap().to_owned();
    let email = placeholder::find(&production, "email")[0].text.to_owned();
    assert_eq!(production, format!("<CARD> {email} <BADGE> call "));
    assert_eq!(email.len(), "<EMAIL:>".len() + PSEUDONYM_DIGITS);
    assert_eq!(message("staging")["text"], format!("{CARD} {email} <BADGE> call "));
    let shipped = Redactor::shipped();
    assert_ne!(shipped.identity("jane@example.com"), email, "another key makes other pseudonyms");
    assert_ne!(shipped.digest(), redactor.digest());
}

#[test]
fn a_policy_that_cannot_be_kept_is_refused_with_a_remedy() {
    let error = |config| redactor(config).unwrap_err().to_string();
    assert!(error(json!({"treatment": "pseudonym"})).contains("openssl rand"));
    assert!(
        error(json!({"kinds": {"crad": "mask"}})).contains("nothing is called \"crad\"; the kinds are card")
    );
    assert!(error(json!({"key_file": "/nowhere/key"})).contains("/nowhere/key"));
    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("key");
    fs::write(&key_file, "short\n").unwrap();
    assert!(error(json!({"key_file": key_file})).contains("5 bytes"));
    assert!(error(json!({"recognisers": {"patterns": [{"name": "x", "regex": "("}]}})).contains("\"x\""));
}

#[test]
fn what_cannot_be_read_is_redacted_as_text() {
    let redactor = Redactor::shipped();
    let payload = |bytes: &[u8]| String::from_utf8(redactor.payload(bytes)).unwrap();
    assert_eq!(payload(br#"{"a": "4111 1111 1111 1111", "b":"#), r#"{"a": "<CARD>", "b":"#);
    assert_eq!(payload(br#"{"a":"\u0034111 1111 1111 1111"}"#), r#"{"a":"<CARD>"}"#, "escapes hide nothing");
    assert_eq!(payload(b"\"jane@example.com\""), "\"<EMAIL>\"");
    assert_eq!(payload(b"  {\"kept\":  1} "), "  {\"kept\":  1} ");
    assert_eq!(redactor.payload(b"\xff\xfe"), b"\xff\xfe", "what holds nothing keeps its bytes");
    assert_eq!(payload(b"\xff jane@example.com"), "\u{fffd} <EMAIL>");
}

#[test]
fn a_destination_gets_no_more_than_it_may_have() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "k".repeat(32)).unwrap();
    let config: RedactionConfig = serde_json::from_value(json!({
        "kinds": {"email": "keep", "card": "pseudonym"},
        "key_file": key,
        "exceptions": [
            {"destination": "archive", "tenant_id": "acme", "kinds": {"email": "mask", "card": "mask", "ssn": "drop"}},
        ],
    }))
    .unwrap();
    let redactor = Redactor::new(&config).unwrap();
    let sent = |destination, tenant| {
        let mut one = "ana@mail.example.com <CARD:a123456789abcdef> <SSN>".to_owned();
        let mut other = "<CARD:fedcba9876543210>, ANA@mail.example.com, <CARD:a123456789abcdef>".to_owned();
        redactor.sent(destination, tenant, &mut [&mut one, &mut other]);
        format!("{one} | {other}")
    };
    assert_eq!(sent("archive", "acme"), "<EMAIL> <CARD>  | <CARD_2>, <EMAIL>, <CARD>");
    let kept = "ana@mail.example.com <CARD:a123456789abcdef> <SSN> | \
                <CARD:fedcba9876543210>, ANA@mail.example.com, <CARD:a123456789abcdef>";
    assert_eq!((sent("other", "acme").as_str(), sent("archive", "other").as_str()), (kept, kept));
    // What is sent elsewhere changes no verdict.
    let without = RedactionConfig { exceptions: Vec::new(), ..config };
    assert_eq!(redactor.digest(), Redactor::new(&without).unwrap().digest());
}

#[test]
fn a_customers_name_stays_one_that_is_found_again() {
    let redactor = Redactor::shipped();
    let key = |user: Value| {
        let mut message = json!({"metadata": {"user_id": user, "mail": "ana@mail.example.com"}});
        redactor.message(&mut message);
        assert_eq!(message["metadata"]["mail"], "<EMAIL>");
        let again = message.clone();
        redactor.message(&mut message);
        assert_eq!(message, again);
        redactor.user_key(message["metadata"].as_object().unwrap())
    };
    assert_eq!(key(json!("u-4711")).as_deref(), Some("u-4711"));
    assert_eq!(key(json!(4711)).as_deref(), Some("4711"));
    let ana = key(json!("ana@mail.example.com")).unwrap();
    assert!(ana.starts_with("<EMAIL:") && ana == redactor.identity("ana@mail.example.com"), "{ana}");
    assert_ne!(key(json!("bob@mail.example.com")).unwrap(), ana);
    assert_eq!(key(json!("")), None);
    assert_eq!(key(json!(["u-4711"])), None);
}

#[test]
fn json_in_a_text_hides_nothing_and_stays_json() {
    let redactor = Redactor::shipped();
    let answer = |text: &str| {
        let message = json!({"tenant_id": "acme", "content": {"answer": text}});
        let once = redacted(&redactor, message);
        assert_eq!(redacted(&redactor, once.clone()), once, "what is redacted stays as it is");
        once["content"]["answer"].as_str().unwrap().to_owned()
    };
    let twice = answer(&format!(r#"{{"n":"{CARD}","n":"ok"}}"#));
    assert_eq!(twice, r#"{"n":"ok"}"#, "a field that is there twice");
    assert_eq!(answer(r#"{"card": 4111111111111111.0}"#), r#"{"card":"<CARD>"}"#);
    let apart = answer(r#"{"name":"ssn","value":"536904399"}"#);
    assert_eq!(apart, r#"{"name":"ssn","value":"<SSN>"}"#);
    let measure = r#"{"total": 4111111111111111}"#;
    assert_eq!(answer(measure), measure, "a measure is none, and stays a number");
    let mut deep = json!({"card": CARD}).to_string();
    for _ in 0..12 {
        deep = json!([deep]).to_string();
    }
    assert!(!answer(&deep).contains("4111 1111"), "however deep it lies");
}

#[test]
fn what_only_looks_like_a_placeholder_is_read() {
    let redactor = Redactor::shipped();
    let message = json!({"content": {"answer": "<CARD:4111111111111111>"}});
    assert_eq!(redacted(&redactor, message)["content"]["answer"], "<CARD:<CARD>>");
}

#[test]
fn payloads_of_other_encodings_are_read() {
    let redactor = Redactor::shipped();
    let wide: Vec<u8> = format!("{{ card {CARD}").bytes().flat_map(|byte| [byte, 0]).collect();
    assert!(!String::from_utf8(redactor.payload(&wide)).unwrap().contains("4111"));
    let marked = format!("\u{feff}{}", json!({"metadata": {"note": format!("\u{a0}{CARD}")}}));
    let read: Value = serde_json::from_slice(&redactor.payload(marked.as_bytes())).unwrap();
    assert_eq!(read["metadata"]["note"], "\u{a0}<CARD>");
}
