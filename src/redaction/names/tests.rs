//! Configuration, and where names are found in texts.

use serde_json::json;

use super::client::Span;
use super::texts::Form;
use super::*;
use crate::redaction::Kind;

fn config(value: serde_json::Value) -> NamesConfig {
    serde_json::from_value(value).unwrap()
}

fn span(entity: &str, start: i64, end: i64) -> Span {
    Span { entity_type: entity.into(), start, end, score: 0.85 }
}

/// A call with this answer and one context.
fn call(answer: &str, context: &str) -> Call {
    serde_json::from_value(json!({
        "version": 1, "request_id": "r", "trace_id": "t", "occurred_at": "2026-11-02T10:00:00Z", "feature": "f",
        "tenant_id": "acme", "prompt_version": "1", "model_requested": "m", "model_resolved": "m", "provider": "p",
        "tokens_in": 1, "tokens_out": 1, "latency_ms": {"total": 1.0}, "finish_reason": "stop", "messages_hash": "h",
        "content": {"answer": answer, "contexts": [{"id": "doc-Paris", "text": context}]},
    }))
    .unwrap()
}

/// The answer and the context after these values were found in another text.
fn without(found: &[(&str, &str)], answer: &str, context: &str) -> (String, String) {
    let kinds: Vec<Arc<str>> = vec!["person".into(), "location".into()];
    let values = found
        .iter()
        .map(|(kind, name)| (format!("{name} "), vec![Value { place: 0..name.len(), kind: (*kind).into() }]));
    let found = FoundNames::new(values, &kinds).unwrap();
    let mut call = call(answer, context);
    let mut instead = |kind: &Kind, name: &str| Some(format!("{{{} {name}}}", &kind.name()[..1]));
    found.replace(&mut call, &["card", "person", "location"], &mut instead);
    (call.content.answer, call.content.contexts.remove(0).text)
}

#[test]
fn what_cannot_be_asked_is_refused_with_its_key_and_without_its_value() {
    let off = NamesConfig::default();
    assert!(Names::new(&off).unwrap().is_none());
    for (value, key) in [
        (json!({"url": "ftp://h"}), "url"),
        (json!({"url": "127.0.0.1:5002"}), "url"),
        (json!({"url": "http://user:s3cret@h"}), "url"),
        (json!({"url": "http://s3cret@h"}), "url"),
        (json!({"url": "http://h/?token=s3cret"}), "url"),
        (json!({"language": ""}), "language"),
        (json!({"language": "en us"}), "language"),
        (json!({"entities": []}), "entities"),
        (json!({"entities": ["person"]}), "entities"),
        (json!({"entities": ["PERSON_2"]}), "entities"),
        (json!({"entities": ["PERSON", "PERSON"]}), "entities"),
        (json!({"threshold": 1.5}), "threshold"),
        (json!({"deadline_secs": 0}), "deadline_secs"),
        (json!({"batch_bytes": 10}), "batch_bytes"),
        (json!({"allow_list": ["AI", " "]}), "allow_list"),
    ] {
        let error = Names::new(&config(value.clone())).unwrap_err();
        let told = format!("{error} {error:?}");
        assert!(error.to_string().contains(&format!("[redaction.names] {key}:")), "{value} {error}");
        assert!(!told.contains("s3cret"), "{told}");
    }
    for (url, endpoint) in [
        ("http://127.0.0.1:5002", "http://127.0.0.1:5002/analyze"),
        ("http://h/presidio/", "http://h/presidio/analyze"),
    ] {
        assert_eq!(config(json!({"url": url})).endpoint().unwrap().unwrap().as_str(), endpoint);
    }
}

#[test]
fn the_policy_is_what_may_change_a_call() {
    let on = config(json!({"url": "http://a"}));
    let same = config(json!({"url": "http://b", "deadline_secs": 3}));
    assert_eq!(on.policy(), same.policy());
    assert_eq!(
        config(json!({"threshold": 0.9})).policy(),
        NamesConfig::default().policy(),
        "nobody is asked"
    );
    for other in [
        json!({}),
        json!({"url": "http://a", "threshold": 0.9}),
        json!({"url": "http://a", "language": "de"}),
        json!({"url": "http://a", "entities": ["PERSON"]}),
        json!({"url": "http://a", "when_down": "local_only"}),
        json!({"url": "http://a", "batch_bytes": 2000}),
    ] {
        assert_ne!(config(other.clone()).policy(), on.policy(), "{other}");
    }
}

#[test]
fn spans_are_characters_and_what_stays_is_cut_out_of_them() {
    // Four bytes, and one character.
    let text = "𝒳 Jané Doe’s <CARD> in\nRome, A.";
    let placeholder = text.find("<CARD>").unwrap();
    let protected = vec![placeholder..placeholder + 6; 1];
    let found = |start: i64, end: i64| -> Vec<&str> {
        let spans = [span("PERSON", start, end)];
        let values = values(text, &(0..text.len()), spans.iter(), &protected);
        values.into_iter().map(|value| &text[value.place]).collect()
    };
    assert_eq!(found(2, 10), ["Jané Doe"]);
    assert_eq!(found(2, 12), ["Jané Doe"], "what an analyzer counts in");
    assert_eq!(found(0, 16), ["𝒳 Jané Doe"], "no half of a placeholder");
    assert_eq!(found(13, 19), [""; 0]);
    assert_eq!(found(14, 18), [""; 0]);
    assert_eq!(found(13, 27), ["in", "Rome"], "line by line");
    assert_eq!(found(29, 31), [""; 0], "a letter stands everywhere");
    for (start, end) in [(-1, 3), (2, 99), (9, 9), (12, 2), (i64::MAX, i64::MAX), (i64::MIN, 2)] {
        assert_eq!(found(start, end), [""; 0], "{start}..{end}");
    }
    let numbers = "Larksong 2 for 4,50 Euro at 221B Baker Street 12";
    let spans = [span("PERSON", 0, 10), span("PERSON", 15, 24), span("LOCATION", 28, 48)];
    let names: Vec<&str> = values(numbers, &(0..numbers.len()), spans.iter(), &[])
        .into_iter()
        .map(|value| &numbers[value.place])
        .collect();
    assert_eq!(names, ["Larksong", "Euro", "221B Baker Street"], "numbers stay");
    let part = text.find("Rome").unwrap()..text.len();
    let spans = [span("LOCATION", 0, 4)];
    let values = values(text, &part, spans.iter(), &protected);
    assert_eq!(&text[values[0].place.clone()], "Rome", "offsets count from the part");
}

#[test]
fn a_name_is_taken_out_everywhere_as_a_whole_word() {
    let found = [("person", "Jane Doe"), ("person", "Jane"), ("location", "Paris"), ("person", "田中")];
    let check = |text: &str, expected: &str| assert_eq!(without(&found, text, "").0, expected);
    check("Jane Doe, Jane.", "{p Jane Doe}, {p Jane}.");
    check("Jane Doeller, Janet, jane, xJane", "{p Jane} Doeller, Janet, jane, xJane");
    check("_Jane_ **Jane**'s a_Jane Paris-based", "_{p Jane}_ **{p Jane}**'s a_Jane {l Paris}-based");
    check("田中さん、田中", "{p 田中}さん、{p 田中}");
    check("Jane\u{301}, Jane2", "Jane\u{301}, Jane2");
    check("as [doc-Paris] says of Paris", "as [doc-Paris] says of {l Paris}");
    check(
        r#"{"Paris": "Paris", "n" : [1.50, "Jane \"Doe\" \\", "{\"Jane\": \"Paris\"}"]}"#,
        r#"{"Paris": "{l Paris}", "n" : [1.50, "{p Jane} \"Doe\" \\", "{\"Jane\": \"{l Paris}\"}"]}"#,
    );
    let found =
        [("person", "CARD"), ("person", "Anna Maria"), ("person", "Maria Lopez"), ("location", "Rome")];
    let (answer, context) = without(&found, "Anna Maria Lopez, <CARD>, CARD", "none here");
    assert_eq!(answer, "{p Anna Maria Lopez}, <CARD>, {p CARD}", "nothing of either is left");
    assert_eq!(context, "none here");
    let two = [("location", "Paris"), ("person", "PARIS"), ("person", "Paris")];
    assert_eq!(without(&two, "Paris", "PARIS").0, "{p Paris}", "a value is what it was found as most often");
}

#[test]
fn codes_are_no_texts() {
    for (text, is_asked) in
        [("en-US", false), ("gpt_4", false), ("jane", false), ("2026", false), ("", false)]
    {
        assert_eq!(texts::is_worth_asking(text, Form::Field), is_asked, "{text}");
    }
    for text in ["Paris", "jane doe", "東京", "O'Neil"] {
        assert!(texts::is_worth_asking(text, Form::Field), "{text}");
    }
    assert!(texts::is_worth_asking("jane", Form::Prose));
    assert!(!texts::is_worth_asking(" 12:30 ", Form::Prose));
}

#[test]
fn time_is_linear_in_the_text() {
    let found: Vec<(&str, String)> = (1..100).map(|n| ("person", vec!["aa"; n].join("-"))).collect();
    let found: Vec<(&str, &str)> = found.iter().map(|(kind, name)| (*kind, name.as_str())).collect();
    for text in ["aa-", "aa-aab", "aa ", "[", "<", "[doc-Paris", "田", "é"] {
        let begun = std::time::Instant::now();
        without(&found, &text.repeat((1 << 20) / text.len()), "");
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(10), "{text}: {took:?}");
    }
}
