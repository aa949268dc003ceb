//! Names of people and places, found by an analyzer that keeps to Presidio's API or fails in one of its ways.

mod analyzer;
mod journey;

use std::time::{Duration, Instant};

use aftercheck::{
    domain::Call,
    evaluators::rules::Rules,
    pipeline::decode::decode,
    redaction::{Down, NamesError, RedactionConfig, Redactor, WhenDown},
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use self::analyzer::{Analyzer, Fault};

/// A redactor that asks this analyzer, with more of `[redaction]`.
fn redactor(url: &str, names: Value, more: Value) -> Redactor {
    let mut config = json!({"names": {"url": url, "deadline_secs": 1}});
    config["names"].as_object_mut().unwrap().extend(names.as_object().unwrap().clone());
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let config: RedactionConfig = serde_json::from_value(config).unwrap();
    Redactor::new(&config).unwrap()
}

/// A redacted call with this content and metadata.
fn call(redactor: &Redactor, content: Value, metadata: Value) -> Call {
    let message = json!({
        "version": 1, "request_id": "Jane Doe 1", "trace_id": "t", "occurred_at": "2026-11-02T10:00:00Z",
        "feature": "support", "tenant_id": "acme", "prompt_version": "1", "model_requested": "m",
        "model_resolved": "m", "provider": "p", "tokens_in": 1, "tokens_out": 1, "latency_ms": {"total": 1.0},
        "finish_reason": "stop", "messages_hash": "h", "content": content, "metadata": metadata,
    });
    decode(message.to_string().as_bytes(), redactor).unwrap().call
}

const KNOWN: [(&str, &str); 4] =
    [("PERSON", "Jane Doe"), ("PERSON", "Max Roe"), ("LOCATION", "Paris"), ("PERSON", "PERSON")];

#[tokio::test]
async fn a_name_has_the_same_placeholder_in_input_answer_contexts_and_metadata() {
    let analyzer = Analyzer::knows(&KNOWN);
    let redactor = redactor(&analyzer.serve().await, json!({}), json!({}));
    redactor.names().unwrap().try_out().await.unwrap();
    analyzer.inner().asked.clear();
    let content = json!({
        "input": "𝒳𝒳 is Max Roe, max@example.com, in Paris?",
        "answer": "No: Jane Doe is, and Max Roe is in <LOCATION_3>. [doc-Paris]",
        "contexts": [
            {"id": "doc-Paris", "text": "Jane Doe's flat is in Paris."},
            {"id": "b", "text": "Jane Doe's flat is in Paris."},
            {"id": "c", "text": " 12:30 \n"},
        ],
    });
    let metadata =
        json!({"locale": "en-US", "owner": "Jane Doe", "extra": {"notes": [{"who": "ask Max Roe"}], "n": 7}});
    let mut call = call(&redactor, content, metadata);
    let before = call.clone();
    redactor.take_out_names(&mut call).await.unwrap();
    let content = &call.content;
    assert_eq!(content.input.as_deref(), Some("𝒳𝒳 is <PERSON>, <EMAIL>, in <LOCATION_4>?"));
    assert_eq!(content.answer, "No: <PERSON_2> is, and <PERSON> is in <LOCATION_3>. [doc-Paris]");
    assert_eq!(content.contexts[0].text, "<PERSON_2>'s flat is in <LOCATION_4>.");
    assert_eq!(content.contexts[1].text, content.contexts[0].text);
    assert_eq!(
        Value::from(call.metadata.clone()),
        json!({"locale": "en-US", "owner": "<PERSON_2>", "extra": {"notes": [{"who": "ask <PERSON>"}], "n": 7}})
    );
    assert_eq!(
        (&call.request_id, &content.contexts[0].id),
        (&before.request_id, &before.content.contexts[0].id)
    );
    let asked = analyzer.asked();
    assert_eq!(asked.len(), 5, "{asked:?}");
    assert!(!asked.iter().any(|text| text.contains("max@") || text == "en-US" || text.trim().is_empty()));

    let once = call.clone();
    redactor.take_out_names(&mut call).await.unwrap();
    assert_eq!(call, once, "a placeholder is no name, whatever the analyzer says");
    let mut again = before.clone();
    redactor.take_out_names(&mut again).await.unwrap();
    assert_eq!(again, once);
}

#[tokio::test]
async fn rules_find_the_same_in_a_call_without_names() {
    let analyzer = Analyzer::knows(&[("PERSON", "Jane Doe"), ("LOCATION", "Paris"), ("LOCATION", "Nice")]);
    let redactor = redactor(&analyzer.serve().await, json!({}), json!({}));
    let contexts = json!([
        {"id": "kb-Paris-1", "text": "Jane Doe has run 3 shops in Paris since 2019."},
        {"id": "kb-Nice-2", "text": "The shop in Nice opened on 4 May 2021."},
    ]);
    let rules = Rules::shipped().unwrap();
    for answer in [
        "Jane Doe runs 3 shops in Paris [kb-Paris-1], and one in Nice since 4 May 2021 [kb-Nice-2].",
        "Jane Doe runs 5 shops in Paris [kb-Paris-1], one of them since 2012 [kb-Rome-3].",
    ] {
        let content = json!({"input": "What does Jane Doe run?", "answer": answer, "contexts": contexts});
        let before = call(&redactor, content, json!({}));
        let mut after = before.clone();
        redactor.take_out_names(&mut after).await.unwrap();
        assert!(!after.content.answer.contains("Jane") && !after.content.answer.contains("in Paris"));
        let outcomes = |call: &Call| -> Vec<(String, String)> {
            rules
                .check(call)
                .into_iter()
                .map(|result| (result.rule, result.outcome.as_str().into()))
                .collect()
        };
        assert_eq!(outcomes(&before), outcomes(&after), "{answer}");
        // Spans lie in the text as it is now.
        let length = after.content.answer.chars().count();
        assert!(rules.check(&after).iter().flat_map(|result| &result.spans).all(|span| span.end <= length));
    }
}

#[tokio::test]
async fn names_have_treatments_like_other_kinds() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "0123456789abcdef0123456789abcdef").unwrap();
    let analyzer = Analyzer::knows(&KNOWN);
    let url = analyzer.serve().await;
    let with = |more: Value| redactor(&url, json!({}), more);
    let answer = |redactor: Redactor, answer: &'static str| async move {
        let mut call = call(&redactor, json!({"answer": answer}), json!({}));
        redactor.take_out_names(&mut call).await.unwrap();
        call.content.answer
    };
    let text = "Jane Doe, Paris";
    let keeps = with(json!({"kinds": {"person": "drop", "location": "keep"}}));
    assert_eq!(answer(keeps, text).await, ", Paris");
    assert_eq!(analyzer.inner().entities, ["PERSON"], "what stays is not asked for");
    let pseudonyms = || with(json!({"kinds": {"person": "pseudonym"}, "key_file": key}));
    let (one, other) =
        (answer(pseudonyms(), text).await, answer(pseudonyms(), "Max Roe, jane: Jane Doe").await);
    let code = one.strip_prefix("<PERSON:").unwrap().split('>').next().unwrap();
    assert_eq!(code.len(), 16);
    assert!(other.ends_with(&format!("jane: <PERSON:{code}>")), "{other}");
    let none = json!({"kinds": {"person": "mask"}, "exceptions": [
        {"tenant_id": "acme", "kinds": {"person": "keep", "location": "keep"}}]});
    analyzer.inner().asked.clear();
    assert_eq!(answer(with(none), text).await, text);
    assert!(analyzer.asked().is_empty());

    let digest = |names: Value| redactor(&url, names, json!({})).digest();
    assert_ne!(digest(json!({})), Redactor::shipped().digest());
    assert_ne!(digest(json!({})), digest(json!({"threshold": 0.7})));
    assert_eq!(digest(json!({})), digest(json!({"url": "http://127.0.0.1:1"})));

    let off: RedactionConfig = serde_json::from_value(json!({"kinds": {"person": "mask"}})).unwrap();
    assert!(Redactor::new(&off).unwrap_err().to_string().contains("\"person\""), "nobody finds it");
    let taken = json!({"names": {"url": url, "entities": ["PERSON", "EMAIL"]}});
    let taken: RedactionConfig = serde_json::from_value(taken).unwrap();
    assert!(Redactor::new(&taken).unwrap_err().to_string().contains("EMAIL"));
}

#[tokio::test]
async fn an_analyzer_that_fails_is_told_by_how_and_leaves_the_call_alone() {
    let analyzer = Analyzer::knows(&KNOWN);
    let url = analyzer.serve().await;
    let asks = redactor(&url, json!({}), json!({}));
    assert_eq!(asks.names().unwrap().when_down(), WhenDown::Hold);
    let before = call(&asks, json!({"answer": "Jane Doe has s3cret plans"}), json!({}));
    let fails = async |redactor: &Redactor| {
        let mut call = before.clone();
        let begun = Instant::now();
        let error = redactor.take_out_names(&mut call).await.unwrap_err();
        assert_eq!(call, before);
        assert!(begun.elapsed() < Duration::from_secs(5));
        let told = format!("{error} {error:?}");
        assert!(!told.contains("Jane") && !told.contains("s3cret"), "{told}");
        error
    };
    let quoting = json!({"error": "cannot parse Jane Doe has s3cret plans"}).to_string();
    for status in [500, 502, 503, 429] {
        analyzer.fails(Fault::Answers(status, quoting.clone()));
        let error = fails(&asks).await;
        assert!(matches!(error, NamesError::Unavailable(Down::Status(told)) if told == status), "{error:?}");
    }
    for status in [400, 401, 404, 413, 204] {
        analyzer.fails(Fault::Answers(status, quoting.clone()));
        let error = fails(&asks).await;
        assert!(
            matches!(error, NamesError::Refused { status: told, said: None } if told == status),
            "{error:?}"
        );
    }
    let span = json!({"entity_type": "PERSON", "start": "Jane Doe", "end": 8, "score": 1});
    for garbage in [
        "Jane Doe".into(),
        "{\"error\": \"s3cret\"}".into(),
        "[]".into(),
        "[[], []]".into(),
        "[[], null]".into(),
        json!([[span]]).to_string(),
        format!("[[]{}]", " ".repeat(17 << 20)),
    ] {
        analyzer.fails(Fault::Answers(200, garbage));
        assert!(matches!(fails(&asks).await, NamesError::Unreadable(_)));
    }
    analyzer.fails(Fault::Late(Duration::from_secs(20)));
    assert!(matches!(fails(&asks).await, NamesError::Unavailable(Down::Late(_))));
    let other = Analyzer::knows(&KNOWN);
    analyzer.fails(Fault::Elsewhere(format!("{}/analyze", other.serve().await)));
    assert!(matches!(fails(&asks).await, NamesError::Refused { status: 307, .. }));
    assert!(other.asked().is_empty(), "no redirect is followed");

    let german = redactor(&url, json!({"language": "de", "when_down": "local_only"}), json!({}));
    let error = fails(&german).await;
    assert!(matches!(error, NamesError::Refused { status: 500, .. }));
    assert!(error.to_string().contains("No matching recognizers"), "{error}");
    assert_eq!(german.names().unwrap().when_down(), WhenDown::LocalOnly);
    assert!(german.names().unwrap().try_out().await.is_err());

    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let nowhere = redactor(&format!("http://{}", gone.local_addr().unwrap()), json!({}), json!({}));
    assert!(matches!(fails(&nowhere).await, NamesError::Unavailable(Down::Late(_))), "it accepts nothing");
    drop(gone);
    assert!(matches!(fails(&nowhere).await, NamesError::Unavailable(Down::Unreached(_))));
}

#[tokio::test]
async fn findings_that_make_no_sense_do_no_harm() {
    let analyzer = Analyzer::default();
    let redactor = redactor(&analyzer.serve().await, json!({}), json!({}));
    // What is no name by configuration.
    let text = "As an AI model, 𝒳";
    analyzer.fails(Fault::Finds(vec![("LOCATION", 6, 8), ("PERSON", 3, 8)]));
    let mut allowed = call(&redactor, json!({"answer": text}), json!({}));
    redactor.take_out_names(&mut allowed).await.unwrap();
    assert_eq!(allowed.content.answer, "As <PERSON> model, 𝒳");
    analyzer.fails(Fault::Finds(vec![("LOCATION", 6, 8)]));
    allowed.content.answer = text.into();
    redactor.take_out_names(&mut allowed).await.unwrap();
    assert_eq!(allowed.content.answer, text);
    // Characters: 𝒳 0, Jane 2-6, Doe 7-10, <EMAIL> 12-19, Rome 23-27.
    analyzer.fails(Fault::Finds(vec![
        ("PERSON", 2, 6),
        ("LOCATION", 7, 10),
        ("PERSON", 2, 10),
        ("PERSON", 7, 19),
        ("LOCATION", 13, 18),
        ("PERSON", -5, 3),
        ("PERSON", 20, 400),
        ("PERSON", 27, 23),
        ("LOCATION", 23, 27),
        ("ORGANIZATION", 23, 27),
        ("URL", 0, 30),
    ]));
    let mut call =
        call(&redactor, json!({"answer": "𝒳 Jane Doe, jane@example.com in Rome. Doe? Jane!"}), json!({}));
    redactor.take_out_names(&mut call).await.unwrap();
    assert_eq!(call.content.answer, "𝒳 <PERSON>, <EMAIL> in <LOCATION>. <PERSON_2>? <PERSON_3>!");
}

#[tokio::test]
async fn long_calls_are_asked_about_in_requests_of_bounded_size() {
    let analyzer = Analyzer::knows(&[("PERSON", "Ünal Çelik"), ("LOCATION", "Paris")]);
    let redactor = redactor(&analyzer.serve().await, json!({"batch_bytes": 1000}), json!({}));
    let long = "Ünal Çelik met 𝒳 in Paris.\n".repeat(100);
    let contexts: Vec<Value> = (0..50)
        .map(|n| json!({"id": format!("c{n}"), "text": format!("{n}. Paris at night, a walk")}))
        .collect();
    let mut call = call(&redactor, json!({"answer": long, "contexts": contexts}), json!({}));
    redactor.take_out_names(&mut call).await.unwrap();
    assert_eq!(call.content.answer, "<PERSON> met 𝒳 in <LOCATION>.\n".repeat(100));
    assert!(call.content.contexts.iter().all(|context| context.text.contains(". <LOCATION> at night")));
    let asked = analyzer.inner().asked.clone();
    assert!(asked.len() > 4, "{}", asked.len());
    assert!(asked.iter().all(|texts| texts.iter().map(String::len).sum::<usize>() <= 1000));
    // One that fails in the middle changes nothing.
    analyzer.fails(Fault::Answers(503, String::new()));
    let before = call.clone();
    redactor.take_out_names(&mut call).await.unwrap_err();
    assert_eq!(call, before);
}

/// AFTERCHECK_TEST_PRESIDIO names an analyzer with an English model; without it nothing is asked.
#[tokio::test]
async fn a_real_presidio_finds_names() {
    let Ok(url) = std::env::var("AFTERCHECK_TEST_PRESIDIO") else {
        eprintln!("skipped: AFTERCHECK_TEST_PRESIDIO is not set");
        return;
    };
    let redactor = redactor(&url, json!({"deadline_secs": 30}), json!({}));
    redactor.names().unwrap().try_out().await.unwrap();
    let content = json!({
        "input": "𝒳𝒳 My name is John Smith, card 4111 1111 1111 1111. Where does Mary Johnson live?",
        "answer": "Mary Johnson lives in Berlin, John Smith. [kb-1]",
        "contexts": [{"id": "kb-1", "text": "Mary Johnson’s address: Berlin, Germany.\nContact: John Smith"}],
    });
    let mut call = call(&redactor, content, json!({"locale": "en-US", "note": "Mary Johnson called"}));
    redactor.take_out_names(&mut call).await.unwrap();
    let told = serde_json::to_string_pretty(&(&call.content, &call.metadata)).unwrap();
    eprintln!("{told}");
    for name in ["Mary", "Johnson", "Berlin", "John Smith", "4111"] {
        assert!(!told.contains(name), "{name} in {told}");
    }
    assert!(told.contains("[kb-1]") && told.contains("<CARD>") && told.contains("en-US"));
    let once = call.clone();
    redactor.take_out_names(&mut call).await.unwrap();
    assert_eq!(call, once);
    let german = redactor_in("de", &url);
    let error = german.names().unwrap().try_out().await.unwrap_err();
    assert!(error.to_string().contains("No matching recognizers"), "{error}");
}

/// A redactor that asks for another language.
fn redactor_in(language: &str, url: &str) -> Redactor {
    redactor(url, json!({"language": language}), json!({}))
}

#[test]
fn what_is_sent_is_not_asked_about() {
    let exceptions = |treatment: &str| json!([{"destination": "archive", "kinds": {"person": treatment}}]);
    let config = |treatment| -> RedactionConfig {
        let names = json!({"url": "http://127.0.0.1:1"});
        serde_json::from_value(json!({"names": names, "exceptions": exceptions(treatment)})).unwrap()
    };
    let error = Redactor::new(&config("mask")).unwrap_err().to_string();
    assert!(error.contains("exceptions: person for a destination"), "{error}");
    Redactor::new(&config("keep")).unwrap();
}
