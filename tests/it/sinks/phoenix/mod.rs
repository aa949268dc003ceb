//! Annotations and datasets of Phoenix, against a fake that keeps to its contract and, in `live`, against Phoenix itself.

#[cfg(feature = "faults")]
mod live;
mod schema;
mod server;

use std::collections::BTreeMap;

use aftercheck::{
    domain::Retraction,
    sinks::{Content, Item, Outcome, Sink, SinkError},
};
use serde_json::{Value, json};
use uuid::Uuid;

use self::server::Server;
use super::{
    faults::Plan,
    items::{
        batch, deliver, evaluation, expected, golden, label, retractions, scored, sink, span, trace,
        try_sink, verdict,
    },
};

/// A sink that writes to a server.
async fn writes_to(server: &Server, more: &str) -> std::sync::Arc<dyn Sink> {
    let url = server.serve().await;
    sink(&format!("kind = 'phoenix'\nurl = '{url}'\ntimeout_ms = 2000\n{more}"))
}

/// Names and values of the annotations of a span or trace with an identifier, as [`expected`] has them.
fn annotations(server: &Server, kind: &str, id: &str, identifier: &str) -> BTreeMap<String, Value> {
    let inner = server.inner();
    let of =
        inner.annotations.iter().filter(|((of, at, _, by), _)| of == kind && at == id && by == identifier);
    let value = |one: &Value| match &one["result"] {
        result if one["name"].as_str().unwrap().starts_with("rule.") => {
            assert_eq!(result["label"], if result["score"] == 1.0 { "pass" } else { "fail" });
            json!(result["score"] == 1.0)
        }
        result if result["score"].is_null() => result["label"].clone(),
        result => result["score"].clone(),
    };
    of.map(|((_, _, name, _), one)| (name.clone(), value(one))).collect()
}

fn identifier(number: u128) -> String {
    format!("aftercheck:{}", Uuid::from_u128(0xe000 + number))
}

#[tokio::test]
async fn each_span_has_each_annotation_once_whatever_fails_on_the_way() {
    let server = Server::new();
    let sink = writes_to(&server, "").await;
    server.has("p", (0..120).map(span));
    server.inner().faults = Plan::mixed(3);
    let items = batch(120);
    let (outcomes, rounds) = deliver(sink.as_ref(), &items).await;
    assert!(rounds > 3, "nothing failed");
    assert_eq!(server.inner().faults.left(), 0);
    assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Delivered { receipt: Some(_) })));
    for number in 0..120 {
        let found = annotations(&server, "span_annotations", &span(number), &identifier(number));
        assert_eq!(found, expected(number, verdict(number)), "{number}");
    }
    let all = server.inner().annotations.clone();
    assert_eq!(all.len(), 120 * 5);
    // All of it once more, and what a person said.
    server.inner().faults = Plan::default();
    deliver(sink.as_ref(), &items).await;
    assert_eq!(server.inner().annotations, all);
    deliver(sink.as_ref(), &[label(3, "fail"), label(3, "pass")]).await;
    let key = ("span_annotations".to_owned(), span(3), "review".to_owned(), identifier(3));
    let review = server.inner().annotations[&key].clone();
    assert_eq!((&review["annotator_kind"], &review["result"]["label"]), (&json!("HUMAN"), &json!("pass")));
    let kinds: BTreeMap<&str, &Value> =
        all.iter().map(|((.., name, _), one)| (name.as_str(), &one["annotator_kind"])).collect();
    assert_eq!(
        (kinds["judge"], kinds["verdict"], kinds["rule.format.json"]),
        (&json!("LLM"), &json!("CODE"), &json!("CODE"))
    );
    let why = all.values().next().unwrap()["result"]["explanation"].as_str().unwrap().to_owned();
    assert!(why.contains("It is free."), "{why}");
    server.sound();
}

#[tokio::test]
async fn a_call_without_a_span_is_annotated_at_its_trace() {
    let server = Server::new();
    let mut without = evaluation(1, "fail");
    without.as_object_mut().unwrap().remove("span_id");
    let sink = writes_to(&server, "").await;
    server.has("p", [trace(1), span(1), trace(2), span(2)]);
    deliver(sink.as_ref(), &[scored(without), scored(evaluation(2, "pass"))]).await;
    assert_eq!(annotations(&server, "trace_annotations", &trace(1), &identifier(1)), expected(1, "fail"));
    assert_eq!(annotations(&server, "span_annotations", &span(2), &identifier(2)), expected(2, "pass"));
    // Two calls of one trace, and two versions of the evaluator, do not overwrite each other.
    let traces = writes_to(&server, "annotate = 'trace'").await;
    let mut other = evaluation(3, "pass");
    other["trace_id"] = json!(trace(2));
    deliver(traces.as_ref(), &[scored(evaluation(2, "review")), scored(other)]).await;
    assert_eq!(annotations(&server, "trace_annotations", &trace(2), &identifier(2)), expected(2, "review"));
    assert_eq!(annotations(&server, "trace_annotations", &trace(2), &identifier(3)), expected(3, "pass"));
    server.sound();
}

#[tokio::test]
async fn a_trace_that_is_on_its_way_holds_up_no_other() {
    for is_terse in [false, true] {
        let server = Server::new();
        let sink = writes_to(&server, "").await;
        server.inner().is_terse = is_terse;
        server.has("p", (0..20).filter(|number| number % 5 != 0).map(span));
        let items = batch(20);
        let outcomes = sink.deliver(&items).await.unwrap();
        for (number, outcome) in (0..20u128).zip(&outcomes) {
            match number % 5 {
                0 => assert!(
                    matches!(outcome, Outcome::Again { reason, .. } if reason.contains("span")),
                    "{number}"
                ),
                _ => assert!(matches!(outcome, Outcome::Delivered { .. }), "{number}: {outcome:?}"),
            }
        }
        assert_eq!(server.inner().posts.len(), if is_terse { 21 } else { 2 });
        server.has("p", (0..20).map(span));
        assert!(
            deliver(sink.as_ref(), &items).await.0.iter().all(|one| matches!(one, Outcome::Delivered { .. }))
        );
        assert_eq!(server.inner().annotations.len(), 100);
        server.sound();
    }
}

#[tokio::test]
async fn a_span_that_never_comes_is_given_up_after_a_while() {
    let server = Server::new();
    let sink = writes_to(&server, "trace_wait_secs = 60").await;
    server.has("p", [span(1)]);
    let mut old = evaluation(2, "fail");
    old["evaluated_at"] = json!(jiff::Timestamp::now() - jiff::SignedDuration::from_secs(61));
    let items = [scored(evaluation(1, "fail")), scored(old), scored(evaluation(3, "fail"))];
    let outcomes = sink.deliver(&items).await.unwrap();
    assert!(matches!(outcomes[0], Outcome::Delivered { .. }));
    let Outcome::Never { reason } = &outcomes[1] else { panic!("{outcomes:?}") };
    assert!(reason.contains("no such span, 6") && reason.contains("trace_wait_secs"), "{reason}");
    assert!(
        matches!(&outcomes[2], Outcome::Again { reason, .. } if reason == "no such span yet"),
        "{outcomes:?}"
    );
    let wrong =
        try_sink("kind = 'phoenix'\nurl = 'http://127.0.0.1:1'\ntrace_wait_secs = 100000").err().unwrap();
    assert!(wrong.contains("trace_wait_secs"), "{wrong}");
}

#[tokio::test]
async fn a_404_of_something_else_is_no_trace_on_its_way() {
    let server = Server::new();
    let sink = writes_to(&server, "").await;
    for elsewhere in [
        ("text/plain; charset=utf-8", "404 page not found"),
        ("text/plain", ""),
        ("text/html", "<h1>Spans with IDs do not exist</h1>"),
        ("application/json", r#"{"detail":"Not Found"}"#),
    ] {
        server.inner().elsewhere = Some(elsewhere);
        for count in [1, 3] {
            let denied = sink.deliver(&batch(count)).await;
            assert!(
                matches!(&denied, Err(SinkError::Denied(said)) if said.contains("write in url")),
                "{elsewhere:?}: {denied:?}"
            );
        }
        assert!(matches!(sink.check().await, Err(SinkError::Denied(_))), "{elsewhere:?}");
    }
    server.inner().elsewhere = None;
    assert!(
        matches!(sink.deliver(&batch(1)).await.unwrap()[0], Outcome::Again { .. }),
        "that is Phoenix's own"
    );
}

#[tokio::test]
async fn what_can_never_be_linked_is_dead_with_a_reason_and_not_sent() {
    let server = Server::new();
    let sink = writes_to(&server, "").await;
    server.has("p", [span(1)]);
    let with = |key: &str, value: &str| {
        let mut evaluation = evaluation(2, "pass");
        evaluation[key] = json!(value);
        scored(evaluation)
    };
    let items = [with("trace_id", "trace-1"), scored(evaluation(1, "pass")), with("span_id", "00F067AA")];
    let outcomes = sink.deliver(&items).await.unwrap();
    let reason = |outcome: &Outcome| match outcome {
        Outcome::Never { reason } | Outcome::Unsent { reason: Some(reason) } => reason.clone(),
        other => panic!("{other:?}"),
    };
    assert!(reason(&outcomes[0]).contains("trace_id: not 32 hex"), "{outcomes:?}");
    assert!(matches!(outcomes[1], Outcome::Delivered { .. }));
    assert!(reason(&outcomes[2]).contains("span_id: not 16 hex"), "{outcomes:?}");
    // One that is refused for what it is takes no other with it.
    server.inner().refuses.insert("rule.odd".into());
    server.has("p", [span(3)]);
    let mut odd = evaluation(3, "pass");
    odd["rules"][0]["rule"] = json!("odd");
    let outcomes = sink.deliver(&[scored(odd), scored(evaluation(1, "pass"))]).await.unwrap();
    assert_eq!(reason(&outcomes[0]), "status 422 Unprocessable Entity");
    assert!(matches!(outcomes[1], Outcome::Delivered { .. }));
}

#[tokio::test]
async fn it_says_what_to_fix() {
    let server = Server::new();
    server.inner().needs_key = true;
    let url = server.serve().await;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, server::KEY).unwrap();
    let without = sink(&format!("kind = 'phoenix'\nurl = '{url}'"));
    let with = sink(&format!("kind = 'phoenix'\nurl = '{url}'\nkey_file = '{}'", file.display()));
    assert!(matches!(without.check().await, Err(SinkError::Denied(said)) if said.contains("401")));
    assert_eq!(with.check().await.unwrap(), "Phoenix 20.3.0 takes annotations");
    server.inner().read_only = true;
    assert!(matches!(with.check().await, Err(SinkError::Denied(said)) if said.contains("403")));
    assert!(matches!(with.deliver(&batch(2)).await, Err(SinkError::Denied(_))));
    server.inner().read_only = false;
    server.inner().faults = Plan::only(super::faults::Fault::Says(507), 1);
    let full = with.deliver(&batch(2)).await;
    assert!(
        matches!(full, Err(SinkError::Again { after: Some(after), .. }) if after.as_secs() >= 600),
        "{full:?}"
    );
    let elsewhere = sink(&format!("kind = 'phoenix'\nurl = '{url}/v1'\nkey_file = '{}'", file.display()));
    assert!(matches!(elsewhere.check().await, Err(SinkError::Denied(said)) if said.contains("url")));
    assert!(matches!(elsewhere.deliver(&batch(2)).await, Err(SinkError::Denied(_))));
    assert!(
        try_sink("kind = 'phoenix'\nurl = 'http://phoenix.example'").err().unwrap().contains("allow_http")
    );
    assert!(
        try_sink("kind = 'phoenix'\nurl = 'http://127.0.0.1:1'\nproject = 'p'")
            .err()
            .unwrap()
            .contains("project")
    );
}

#[tokio::test]
async fn a_retraction_deletes_what_was_written_and_nothing_else() {
    let server = Server::new();
    let sink = writes_to(&server, "").await;
    server.has("p", (0..6).map(span));
    server.has("q", (6..8).map(span));
    server.has("r", [trace(8)]);
    let mut without = evaluation(8, "fail");
    without.as_object_mut().unwrap().remove("span_id");
    let mut items: Vec<Item> = batch(8);
    items.extend([scored(without), label(2, "fail"), label(7, "pass")]);
    let (outcomes, _) = deliver(sink.as_ref(), &items).await;
    let others = (
        ("span_annotations".to_owned(), span(7), "verdict".to_owned(), String::new()),
        json!({"span_id": span(7), "name": "verdict", "annotator_kind": "CODE"}),
    );
    server.inner().annotations.extend([others.clone()]);
    // What is taken back: evaluations 5 to 8, of three projects, one of them without a receipt; and a review without its scores.
    let mut taken = retractions(&items, &outcomes).split_off(5);
    taken[1].receipt = None;
    assert_eq!(taken.len(), 6);
    taken.remove(5);
    assert_eq!(sink.retract(&taken).await.unwrap(), Vec::<Uuid>::new());
    let left = |number| annotations(&server, "span_annotations", &span(number), &identifier(number));
    assert!((5..8).all(|number| left(number).is_empty()));
    assert_eq!(left(2), expected(2, "not_applicable"), "its review is gone, its scores are there");
    assert_eq!(server.inner().annotations.len(), 5 * 5 + 1);
    assert_eq!(server.inner().annotations[&others.0], others.1);
    assert_eq!(sink.retract(&taken).await.unwrap(), Vec::<Uuid>::new(), "a repeat changes nothing");
    // A key that may not delete what it is asked to.
    server.inner().keeps = true;
    let kept = sink.retract(&retractions(&items[..1], &outcomes[..1])).await;
    assert!(matches!(kept, Err(SinkError::Denied(said)) if said.contains("administrator")));
    server.sound();
}

#[tokio::test]
async fn rows_of_the_golden_set_are_appended_by_their_id() {
    let server = Server::new();
    let sink = writes_to(&server, "").await;
    let rows: Vec<Item> = (0..4).map(|number| golden(number, "set", Some("42"))).collect();
    server.inner().faults = Plan::mixed(2);
    deliver(sink.as_ref(), &rows).await;
    let mut again = golden(3, "set", Some("43"));
    again.delivery_id = Uuid::from_u128(1);
    let more = [golden(3, "set", Some("42")), golden(4, "other", None), again];
    let (outcomes, _) = deliver(sink.as_ref(), &more).await;
    let datasets = server.inner().datasets.clone();
    let (set, other) = (&datasets["set"], &datasets["other"]);
    assert_eq!((set.len(), other.len()), (4, 1));
    let example = &set[&Uuid::from_u128(0x901d + 3).to_string()];
    assert_eq!(
        (&example["output"], &example["input"]["input"]),
        (&json!({"answer": "43"}), &json!("What is 3?"))
    );
    assert_eq!(example["span_id"], span(3));
    // Nobody says what the answer should be: the wrong one is no answer.
    let example = other.values().next().unwrap();
    assert_eq!((&example["output"], &example["metadata"]["actual"]), (&json!({}), &json!("Nothing.")));
    assert_eq!(example["metadata"]["policy"], "Say the number.");
    // One that is refused takes no other with it.
    server.inner().faults = Plan::default();
    server.inner().refuses.insert("What is 6?".into());
    let outcomes_of = sink.deliver(&[golden(5, "set", None), golden(6, "set", None)]).await.unwrap();
    assert!(matches!(outcomes_of[..], [Outcome::Delivered { .. }, Outcome::Never { .. }]), "{outcomes_of:?}");
    // Phoenix deletes no example: it is emptied, and whoever asked is told.
    let taken: Vec<Retraction> = retractions(&more, &outcomes).split_off(1);
    let refused = sink.retract(&taken[..1]).await;
    assert!(matches!(refused, Err(SinkError::Refused(said)) if said.contains("earlier versions")));
    assert!(!json!(server.inner().datasets["other"]).to_string().contains("What is 4?"));
    let Content::Golden(row) = &more[1].content else { panic!("{more:?}") };
    assert_eq!(server.inner().datasets["other"].keys().collect::<Vec<_>>(), [&row.golden_id.to_string()]);
    // One of which nobody knows whether it arrived is emptied as well, and that is said.
    let mut unsaid = taken[0].clone();
    unsaid.receipt = None;
    let refused = sink.retract(&[unsaid]).await;
    assert!(matches!(refused, Err(SinkError::Refused(said)) if said.contains("nobody knows")));
    assert_eq!(
        server.inner().datasets["other"][&row.golden_id.to_string()]["metadata"],
        json!({"erased": true})
    );
    server.sound();
}

#[tokio::test]
async fn long_comments_are_cut() {
    let server = Server::new();
    let sink = writes_to(&server, "").await;
    server.has("p", [span(1)]);
    let mut long = evaluation(1, "fail");
    long["rules"][0]["detail"] = json!("ä".repeat(1 << 16));
    deliver(sink.as_ref(), &[scored(long)]).await;
    let inner = server.inner();
    let longest =
        inner.annotations.values().map(|one| one["result"]["explanation"].as_str().unwrap().len()).max();
    assert!((3900..=4000).contains(&longest.unwrap()), "{longest:?}");
}
