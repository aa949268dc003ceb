//! Row 32: messages that should have been something else.

use serde_json::json;

use super::{
    ledger::{Line, Row, call, id, letter_id},
    stops::good_calls,
};
use crate::service::Parts;

/// Every kind of poison by the class of dead letter that it must become; none where it is evaluated.
fn corpus() -> Vec<(Option<&'static str>, String, Vec<u8>)> {
    let named = |name: &str| {
        let mut call = call(1);
        call["request_id"] = name.into();
        call
    };
    let with_answer = |name: &str, answer: &str| {
        let call = named(name);
        let answer = format!("\"answer\":\"{answer}\"");
        call.to_string().replace("\"answer\":\"The answer is marker-5f2c9a.\"", &answer).into_bytes()
    };
    let mut version = named("version");
    version["version"] = json!(99);
    let mut text = named("text");
    text["latency_ms"] = json!("soon");
    let number = named("nan").to_string().replace("\"tokens_out\":2", "\"tokens_out\":NaN");
    let nested = format!("{{\"a\":{}1{}}}", "[".repeat(10_000), "]".repeat(10_000));
    let unnamed: [(&str, Vec<u8>); 9] = [
        ("bad_json", with_answer("lone", "a\\ud800b")),
        ("bad_json", number.into_bytes()),
        ("too_deep", nested.into_bytes()),
        ("bom", [b"\xef\xbb\xbf", named("bom").to_string().as_bytes()].concat()),
        ("bad_utf8", [b"{\"a\":\"\xff\xfe\"}".as_slice(), b""].concat()),
        ("too_large", vec![b' '; 20 << 20]),
        ("empty", Vec::new()),
        ("bad_json", b"{\"version\":1".to_vec()),
        ("wrong_type", b"[1,2,3]".to_vec()),
    ];
    let mut corpus: Vec<_> =
        unnamed.into_iter().map(|(class, payload)| (Some(class), letter_id(&payload), payload)).collect();
    corpus.push((Some("unknown_version"), "version".into(), version.to_string().into_bytes()));
    corpus.push((Some("wrong_type"), "text".into(), text.to_string().into_bytes()));
    corpus.push((None, "nul".into(), with_answer("nul", "a\\u0000b")));
    corpus
}

/// Row 32: poison among calls that are well, and one call that makes a rule panic.
pub fn is_poisoned(name: &'static str, parts: Parts, largest: usize) -> Line {
    let mut row = Row::new("32", format!("poison corpus, a call that panics, {name}"), parts);
    let mut payloads = good_calls(1..30);
    let (well, mut classes) = (payloads.len(), Vec::new());
    for (class, id, payload) in corpus() {
        if payload.len() > largest || (payload.is_empty() && largest < usize::MAX) {
            continue;
        }
        payloads.push((id.clone(), payload));
        classes.push((class, id));
    }
    payloads.push(("kill-31".into(), call(31).to_string().into_bytes()));
    classes.push((Some("attempts_exhausted"), id(31)));
    super::Chance(32).shuffle(&mut payloads);
    row.send_payloads(payloads);
    let armed = [("AFTERCHECK_PANIC_ON", "kill-31"), ("AFTERCHECK__PIPELINE__MAX_ATTEMPTS", "3")];
    let worker = row.worker(&armed);
    row.await_all();
    row.stop(vec![worker]);
    let letters = row
        .service
        .tables
        .pairs("SELECT coalesce(request_id, CAST(dead_letter_id AS text)), class FROM dead_letters");
    let letters = letters.unwrap();
    for (class, id) in &classes {
        let found = letters.iter().find(|(letter, _)| letter == id).map(|(_, class)| class.as_str());
        row.expect(found == *class, &format!("{id} became {found:?}, expected {class:?}"));
    }
    let line = row.close();
    let evaluated = well + classes.iter().filter(|(class, _)| class.is_none()).count();
    assert_eq!(line.evaluations, evaluated, "the neighbours are unharmed");
    line
}

#[test]
fn row_32_sqlite_is_poisoned() {
    is_poisoned("sqlite", Parts::default(), usize::MAX).must_hold();
}
