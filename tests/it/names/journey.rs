//! Calls on their way through a service that asks an analyzer.

use serde_json::Value;

use super::analyzer::{Analyzer, Fault};
use crate::service::{Parts, Service, eventually};

/// A service that asks this analyzer.
fn service(url: &str, when_down: &str) -> Service {
    let config = format!(
        "[source]\nlease_secs = 1\n[redaction.names]\nurl = {url:?}\nwhen_down = {when_down:?}\ndeadline_secs = 2\n"
    );
    Service::of(Parts { config: Some(config), ..Parts::default() })
}

/// A call with a name in it, as the queue gets it.
fn queued(service: &Service) {
    let mut message = crate::service::call(1);
    message["content"]["answer"] = "Jane Doe says yes.".into();
    message["metadata"] = serde_json::json!({"user_id": "Jane Doe"});
    std::fs::write(service.path("calls.jsonl"), message.to_string()).unwrap();
    let file = service.path("calls.jsonl").display().to_string();
    assert!(service.command(&["enqueue", &file]).status().unwrap().success());
}

/// The stored answer, once there is one.
fn stored(service: &Service) -> Option<String> {
    let bodies = service.tables.texts("SELECT body FROM calls").unwrap();
    let call: Value = serde_json::from_str(bodies.first()?).unwrap();
    Some(call["content"]["answer"].as_str().unwrap().to_owned())
}

/// Asks until there is an answer, off the thread of the analyzer.
fn until<T>(ask: impl FnMut() -> Option<T>) -> T {
    tokio::task::block_in_place(|| eventually(ask)).expect("it comes to that")
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_wait_for_an_analyzer_that_is_down() {
    let analyzer = Analyzer::knows(&[("PERSON", "Jane Doe")]);
    analyzer.fails(Fault::Answers(503, "down".into()));
    let service = service(&analyzer.serve().await, "hold");
    let (ok, _) = validated(&service);
    assert!(!ok, "validate says that it is down");
    queued(&service);
    let running = service.start(&[]);
    until(|| (analyzer.asked().len() >= 3).then_some(()));
    assert_eq!(
        tokio::task::block_in_place(|| stored(&service)),
        None,
        "asked again and again, and nothing is stored meanwhile"
    );
    analyzer.inner().fault = None;
    assert_eq!(until(|| stored(&service)), "<PERSON> says yes.");
    let attempts = || service.tables.number("SELECT count(*) FROM attempts").unwrap();
    until(|| (attempts() == 0).then_some(()));
    let story = service.json(&["why", "kill-1"]).to_string();
    assert!(!story.contains("Jane") && !story.contains("retried"), "waiting is no attempt: {story}");
    drop(running);
    assert!(validated(&service).0);
}

#[tokio::test(flavor = "multi_thread")]
async fn or_go_on_with_their_names_and_say_so() {
    let analyzer = Analyzer::knows(&[("PERSON", "Jane Doe")]);
    analyzer.fails(Fault::Answers(503, "down".into()));
    let service = service(&analyzer.serve().await, "local_only");
    queued(&service);
    let running = service.start(&[]);
    assert_eq!(until(|| stored(&service)), "Jane Doe says yes.");
    let ledger = service.json(&["why", "kill-1"])[0]["ledger"].to_string();
    assert!(ledger.contains("names_left") && ledger.contains("unavailable"), "{ledger}");
    assert_eq!(running.metric("aftercheck_names_left_total", &["reason=\"unavailable\""]), Some(1.0));
    // The same call again, with the analyzer back: it is known, and no conflict.
    analyzer.inner().fault = None;
    queued(&service);
    until(|| (running.metric("aftercheck_duplicates_total", &["same"]) == Some(1.0)).then_some(()));
    let ledger = service.json(&["why", "kill-1"])[0]["ledger"].to_string();
    assert!(!ledger.contains("conflict"), "{ledger}");
}

/// Whether `validate` finds nothing wrong, and what it says.
fn validated(service: &Service) -> (bool, String) {
    let mut command = service.command(&["--format", "json", "validate"]);
    let output =
        tokio::task::block_in_place(|| command.stdout(std::process::Stdio::piped()).output().unwrap());
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("[redaction.names]"), "{said}");
    (output.status.success(), said)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_breaks_the_analyzer_holds_up_no_other() {
    let analyzer = Analyzer::knows(&[("PERSON", "Jane Doe")]);
    analyzer.fails(Fault::BreaksOn("poison"));
    let service = service(&analyzer.serve().await, "hold");
    let mut messages = String::new();
    for number in [1, 2, 3] {
        let mut message = crate::service::call(number);
        let answer = if number == 1 { "It is poison." } else { "Jane Doe says yes." };
        message["content"]["answer"] = answer.into();
        messages += &format!("{message}\n");
    }
    std::fs::write(service.path("calls.jsonl"), messages).unwrap();
    let file = service.path("calls.jsonl").display().to_string();
    assert!(service.command(&["enqueue", &file]).status().unwrap().success());
    let _running = service.start(&[("AFTERCHECK__PIPELINE__MAX_ATTEMPTS", "2")]);
    let count = |query: &str| service.tables.number(query).unwrap();
    until(|| (count("SELECT count(*) FROM evaluations") == 2).then_some(()));
    // Its attempts are its own fault: the analyzer answers what else it is asked.
    until(|| (count("SELECT count(*) FROM dead_letters") == 1).then_some(()));
    let ledger = service.json(&["why", "kill-1"])[0]["ledger"].to_string();
    assert!(ledger.contains("ended with: names") && ledger.contains("names_left"), "{ledger}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_that_can_be_read_has_no_names() {
    let analyzer = Analyzer::knows(&[("PERSON", "Jane Doe")]);
    // On the two attempts that are allowed, and not on the burial.
    analyzer.fails(Fault::BreaksFor("says yes", 2));
    let service = service(&analyzer.serve().await, "hold");
    queued(&service);
    let _running = service.start(&[("AFTERCHECK__PIPELINE__MAX_ATTEMPTS", "2")]);
    let letter = "SELECT CAST(payload AS TEXT) FROM dead_letters";
    let letters = until(|| service.tables.texts(letter).ok().filter(|letters| !letters.is_empty()));
    assert!(
        letters[0].contains("<PERSON> says yes.") && !letters[0].contains("Jane Doe says"),
        "{}",
        letters[0]
    );
    assert!(letters[0].contains("\"user_id\":\"Jane Doe\""), "whose it is stays: {}", letters[0]);
    let ledger = service.json(&["why", "kill-1"])[0]["ledger"].to_string();
    assert!(ledger.contains("attempt 2 ended with: names") && !ledger.contains("names_left"), "{ledger}");
}
