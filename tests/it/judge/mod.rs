//! Judges: how they are asked on the wire, what is believed, and what becomes of those that fail (rows 25 to 28 of the fault
//! matrix, as far as one request goes).

#[cfg(feature = "faults")]
mod bites;
mod faults;
mod injection;
mod journey;
pub mod server;

use std::time::Duration;

use aftercheck::{
    domain::{Call, Claim, ClaimLabel},
    evaluators::{
        judge::{
            JudgeError,
            answer::ClaimVerdict,
            config::{ModelConfig, Provider},
            model::{Answered, Model, Spent},
            prompt_version,
            question::{self, Questions},
        },
        nli::{evidence::Passage, score::Faithfulness},
    },
};
use serde_json::{Value, json};

use self::server::{KEY, Server, document};

/// Where the marker of questions comes from in these tests.
const MARKER: &str = "00112233445566778899aabbccddeeff";

/// A judge at this address.
fn config(provider: Provider, url: &str) -> ModelConfig {
    // The key in a file that is there while it is read.
    let folder = tempfile::tempdir().unwrap().keep();
    let key_file = folder.join("key");
    std::fs::write(&key_file, format!("{KEY}\n")).unwrap();
    ModelConfig {
        name: "main".into(),
        provider,
        url: url.into(),
        model: "judge-1".into(),
        key_file: Some(key_file),
        deadline_secs: 2,
        concurrency: 1,
        ..ModelConfig::default()
    }
}

/// A call with this answer, input and context.
fn call(answer: &str, input: &str, context: &str, metadata: Value) -> Call {
    serde_json::from_value(json!({
        "version": 1, "request_id": "r", "trace_id": "t", "occurred_at": "2026-11-02T10:00:00Z", "feature": "f",
        "tenant_id": "acme", "prompt_version": "1", "model_requested": "m", "model_resolved": "m", "provider": "p",
        "tokens_in": 1, "tokens_out": 1, "latency_ms": {"total": 1.0}, "finish_reason": "stop", "messages_hash": "h",
        "content": {"input": input, "answer": answer, "contexts": [{"id": "a", "text": context}]},
        "metadata": metadata,
    }))
    .unwrap()
}

/// The whole answer as one claim that is not sure, held against the whole context.
fn unsure(call: &Call) -> Claim {
    Claim {
        start: 0,
        end: call.content.answer.chars().count(),
        entailment: 0.4,
        neutral: 0.4,
        contradiction: 0.2,
        chunk_id: "a".into(),
        chunk_start: 0,
        chunk_end: call.content.contexts[0].text.chars().count(),
        label: ClaimLabel::Unsure,
        doubt: None,
    }
}

/// The question about a call, its words marked or not; none where there is nothing to ask.
fn question(call: &Call, datamark: bool) -> Option<String> {
    let whole = Passage { context: 0, bytes: 0..call.content.contexts[0].text.len() };
    let found =
        Faithfulness { claims: vec![unsure(call)], passages: vec![vec![whole]], ..Faithfulness::default() };
    let questions = Questions::of(call, &found);
    (!questions.asked.is_empty()).then(|| question::between(&questions.document(datamark), MARKER))
}

/// Asks a judge, as soon as it lets the question in.
async fn ask(model: &Model, question: &str, claims: usize) -> Result<Answered, JudgeError> {
    let admitted = model.admit(question).await?;
    model.ask(admitted, question, claims).await
}

/// A question about one claim.
fn one() -> String {
    question(&call("The bridge is 9 m long.", "How long?", "The bridge is 4 m long.", json!({})), false)
        .unwrap()
}

#[tokio::test]
async fn both_providers_are_asked_as_their_contracts_say() {
    for provider in [Provider::Openai, Provider::Anthropic] {
        let server = Server::kind();
        let model = Model::new(&config(provider, &server.serve().await)).unwrap();
        let answered = ask(&model, &one(), 1).await.unwrap();
        let verdicts = answered.verdicts.unwrap();
        assert_eq!(verdicts.score, 0.9);
        assert_eq!(
            verdicts.claims,
            [ClaimVerdict {
                label: ClaimLabel::Supported,
                support: 0.9,
                reason: "The evidence says so.".into()
            }]
        );
        // What was cached is among the input tokens with one provider, and not with the other.
        assert_eq!(answered.spent, Some(Spent { tokens_in: 800, tokens_cached: 512, tokens_out: 60 }));
        let request = &server.requests()[0];
        let text = request["messages"].as_array().unwrap().last().unwrap()["content"].as_str().unwrap();
        assert_eq!(document(text)["claims"][0]["text"], "The bridge is 9 m long.");
        assert!(!request.to_string().contains(KEY));
    }
}

#[tokio::test]
async fn a_judge_that_wants_words_marked_is_told_what_the_mark_is() {
    for provider in [Provider::Openai, Provider::Anthropic] {
        for (datamark, told) in [(false, 0), (true, 1)] {
            let server = Server::kind();
            let model =
                Model::new(&ModelConfig { datamark, ..config(provider, &server.serve().await) }).unwrap();
            ask(&model, &one(), 1).await.unwrap();
            let request = server.requests()[0].to_string();
            assert_eq!(request.matches("every space is written as `^`").count(), told);
        }
    }
    assert_ne!(prompt_version(true), prompt_version(false));
}

#[tokio::test]
async fn a_server_without_schemas_is_asked_in_the_form_it_knows() {
    for (forms, tries) in [(&["json_object", "text"][..], 2), (&["text"], 3)] {
        let server = Server::kind();
        server.fails(server::Fault::Knows(forms));
        let model = Model::new(&config(Provider::Openai, &server.serve().await)).unwrap();
        assert!(ask(&model, &one(), 1).await.unwrap().verdicts.is_ok());
        assert_eq!(server.requests().len(), tries);
        assert!(ask(&model, &one(), 1).await.unwrap().verdicts.is_ok());
        assert_eq!(server.requests().len(), tries + 1, "the second time it is known");
    }
}

#[tokio::test]
async fn no_more_is_asked_in_a_minute_than_is_allowed() {
    let server = Server::kind();
    let url = server.serve().await;
    let allowed = |requests_per_minute, tokens_per_minute| ModelConfig {
        requests_per_minute,
        tokens_per_minute,
        ..config(Provider::Openai, &url)
    };
    let question = one();
    for config in [allowed(1, 0), allowed(0, 4000)] {
        let model = Model::new(&config).unwrap();
        assert!(ask(&model, &question, 1).await.unwrap().verdicts.is_ok());
        let before = server.requests().len();
        let again = tokio::time::timeout(Duration::from_millis(300), ask(&model, &question, 1)).await;
        assert!(again.is_err(), "the second has to wait for the next minute");
        assert_eq!(server.requests().len(), before);
    }
    let model = Model::new(&allowed(0, 0)).unwrap();
    for _ in 0..3 {
        assert!(ask(&model, &question, 1).await.is_ok(), "0 is no limit");
    }
}

#[test]
fn a_judge_that_cannot_be_asked_is_refused_with_a_remedy() {
    let good = config(Provider::Openai, "http://127.0.0.1:1/v1");
    let wrong = |change: &dyn Fn(&mut ModelConfig)| {
        let mut config = good.clone();
        change(&mut config);
        Model::new(&config).err().unwrap().to_string()
    };
    let two_lines = |config: &mut ModelConfig| {
        let key_file = config.key_file.as_ref().unwrap().with_file_name("two");
        std::fs::write(&key_file, "sk-one\nsk-two\n").unwrap();
        config.key_file = Some(key_file);
    };
    let nameless = |config: &mut ModelConfig| {
        config.url = "https://api.openai.com/v1".into();
        config.key_file = None;
    };
    for (said, told) in [
        (wrong(&|config| config.url = "http://judge.example/v1".into()), "plain http"),
        (wrong(&|config| config.url = "https://me:pw@judge.example".into()), "takes no user"),
        (wrong(&|config| config.model = " ".into()), "model: need"),
        (wrong(&|config| config.name = "a b".into()), "name: need"),
        (wrong(&|config| config.key_file = Some("/nowhere".into())), "key_file /nowhere"),
        (wrong(&|config| config.key_env = Some("X".into())), "only one"),
        (wrong(&two_lines), "one word of ASCII"),
        (wrong(&nameless), "answers nobody without a key"),
        (wrong(&|config| drop(config.extra.insert("model".into(), "x".into()))), "extra"),
    ] {
        assert!(said.contains(told), "{said}");
        assert!(!said.contains("pw"), "{said}");
    }
}
