//! `aftercheck review`: the loop of people without pages.

use std::process::{Output, Stdio};

use serde_json::Value;

use super::service::{Parts, Service};

/// Runs a subcommand.
fn output(service: &Service, arguments: &[&str]) -> Output {
    service.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap()
}

/// Lines of JSON that a subcommand prints; it must succeed.
fn lines(service: &Service, arguments: &[&str]) -> Vec<Value> {
    let found = output(service, arguments);
    assert!(found.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&found.stderr));
    let text = String::from_utf8(found.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// A subcommand that is refused, and why.
fn refused(service: &Service, arguments: &[&str]) -> String {
    let found = output(service, arguments);
    assert_eq!(found.status.code(), Some(1), "{arguments:?}: {}", String::from_utf8_lossy(&found.stderr));
    String::from_utf8(found.stderr).unwrap()
}

#[test]
fn people_label_at_the_command_line_and_the_sinks_hear_of_it() {
    let config = "[source]\nlease_secs = 1\n[review]\nundo_secs = 0\n".to_owned();
    let mut service = Service::of(Parts { config: Some(config), ..Parts::default() });
    service.enqueue(3);
    assert!(service.drain(&[]).wait().unwrap().success());
    let waiting = lines(&service, &["review", "list"]);
    assert_eq!(waiting.len(), 2, "without a model a person looks at all: {waiting:?}");
    let ana = lines(&service, &["review", "next", "--reviewer", "ana"]).remove(0);
    let ben = lines(&service, &["review", "next", "--reviewer", "ben"]).remove(0);
    assert_ne!(ana["review"]["review_id"], ben["review"]["review_id"]);
    assert!(ana["content"]["answer"].is_string() && ana["evaluation"]["verdict"] == "review", "{ana}");
    assert!(refused(&service, &["review", "next", "--reviewer", "eve"]).contains("nothing waits for you"));
    let [id, token] = ["review_id", "token"].map(|key| ana["review"][key].as_str().unwrap().to_owned());
    let stale = ben["review"]["token"].as_str().unwrap();
    let said = refused(&service, &["review", "label", &id, "pass", "--reviewer", "ana", "--token", stale]);
    assert!(said.contains("ask for the next one"), "{said}");
    let label = ["review", "label", &id, "pass", "--reviewer", "ana", "--token", &token];
    assert_eq!(lines(&service, &label)[0]["decided"], "pass");
    assert!(refused(&service, &label).contains("undo that first"));
    let undone = lines(&service, &["review", "undo", "--reviewer", "ana"]).remove(0);
    assert_eq!((undone["state"].as_str(), undone["held_by"].as_str()), (Some("open"), Some("ana")));
    let again = lines(&service, &["review", "undo", &id, "--reviewer", "ana"]).remove(0);
    assert_eq!(again["review_id"], undone["review_id"], "taken back already");
    let other = ben["review"]["review_id"].as_str().unwrap();
    assert!(refused(&service, &["review", "undo", other, "--reviewer", "ana"]).contains("no such item"));
    let note = "wrong, ask ana.lopez@example.com";
    let label = ["review", "label", &id, "fail", "--reviewer", "ana", "--note", note, "--expected", "10 %"];
    assert_eq!(lines(&service, &label)[0]["decided"], "fail");
    assert!(service.drain(&[]).wait().unwrap().success());
    let sent = std::fs::read_to_string(service.path("out.jsonl")).unwrap();
    assert!(sent.contains("\"reviewer\":\"ana\"") && sent.contains("\"label\":\"fail\""), "{sent}");
    assert!(!sent.contains("ana.lopez"), "notes are redacted");
    let request = ana["review"]["request_id"].as_str().unwrap();
    let story = service.json(&["why", request])[0].clone();
    let kinds: Vec<&str> =
        story["labels"].as_array().unwrap().iter().map(|entry| entry["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["label", "undo", "label"]);
    assert_eq!(story["labels"][2]["expected"], "10 %");
    assert_eq!(service.json(&["report"])["audit"]["drawn"], 0);
    let nobody = output(&service, &["review", "next"]);
    assert_eq!(nobody.status.code(), Some(2), "a reviewer has a name");
}
