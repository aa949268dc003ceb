//! Slack, PagerDuty and Alertmanager by their contracts: receivers that refuse what the real ones refuse, and remember what the
//! real ones remember.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    process::Command,
    sync::{Arc, Mutex},
};

use aftercheck::{
    domain::{Event, Notice},
    sinks::{
        alertmanager::{Alertmanager, AlertmanagerConfig},
        destination::{Destination, Told},
        pagerduty::{PagerDuty, PagerDutyConfig},
        slack::{Slack, SlackConfig},
    },
};
use serde_json::{Value, json};

use super::{
    super::sinks::openapi,
    condition, message, notice,
    receiver::{Receiver, Request, Says},
};

/// An answer with a text.
fn text(status: u16, text: &str) -> Says {
    Says::Status(status, Vec::new(), text.to_owned())
}

/// A file with a secret.
fn file(folder: &tempfile::TempDir, secret: &str) -> PathBuf {
    let path = folder.path().join("secret");
    std::fs::write(&path, secret).unwrap();
    path
}

// Slack.

/// Whether `mrkdwn` calls somebody, or links to where we did not lead.
fn pings(text: &str) -> bool {
    let links = text.split('<').skip(1);
    links.into_iter().any(|link| !link.starts_with("https://aftercheck.example/"))
}

/// What Slack says of a message.
fn slack(request: &Request) -> Says {
    let Ok(body) = serde_json::from_slice::<Value>(&request.body) else {
        return text(400, "invalid_payload");
    };
    if request.header("content-type") != "application/json" {
        return text(400, "invalid_payload");
    }
    let Some(fallback) = body["text"].as_str().filter(|text| !text.is_empty()) else {
        return text(400, "no_text");
    };
    let blocks = body["blocks"].as_array().cloned().unwrap_or_default();
    let length = |value: &Value| value.as_str().map_or(0, |text| text.chars().count());
    let fits = |block: &Value| match block["type"].as_str() {
        Some("header") => {
            block["text"]["type"] == "plain_text" && (1..=150).contains(&length(&block["text"]["text"]))
        }
        Some("section") => (1..=3000).contains(&length(&block["text"]["text"])),
        Some("context") => block["elements"].as_array().is_some_and(|elements| elements.len() <= 10),
        _ => false,
    };
    if blocks.len() > 50
        || !blocks.iter().all(fits)
        || ["channel", "username", "icon_emoji"].iter().any(|key| body.get(key).is_some())
    {
        return text(400, "invalid_blocks");
    }
    let mrkdwn: Vec<&Value> =
        blocks.iter().map(|block| &block["text"]).filter(|text| text["type"] == "mrkdwn").collect();
    // Slack makes links of what is not verbatim.
    let links = mrkdwn.iter().any(|text| text["verbatim"] != true) || body["unfurl_links"] != false;
    if links || pings(fallback) || mrkdwn.iter().any(|text| pings(text["text"].as_str().unwrap())) {
        return text(400, "the whole channel was called");
    }
    text(200, "ok")
}

fn to_slack(receiver: &Receiver, folder: &tempfile::TempDir) -> Slack {
    let url_file = Some(file(folder, &receiver.url("/services/T0/B0/s3cret")));
    Slack::new(&SlackConfig { url_file, timeout_ms: 2000, ..SlackConfig::default() }).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_takes_what_we_send_and_nobody_is_called() {
    let (receiver, folder) = (Receiver::keeps(slack), tempfile::tempdir().unwrap());
    let slack = to_slack(&receiver, &folder);
    let long = Notice { tenant_id: Some("<@U1>&".repeat(900)), summary: "<!here>".repeat(900), ..notice(2) };
    let many: Vec<Notice> =
        (0..300).map(|n| Notice { feature: Some(format!("f{n}")), ..notice(n) }).collect();
    for notices in [&[notice(1)][..], &[long], &[condition(false), condition(true)], &many] {
        assert_eq!(slack.tell(&message(notices)).await, Told::delivered());
    }
    let first = &receiver.requests()[0];
    let id = message(&[notice(1)]).message_id.to_string();
    assert!(first.json()["text"].as_str().unwrap().contains(&id), "so that people can tell a repeat");
}

#[tokio::test(flavor = "multi_thread")]
async fn slack_says_what_comes_of_it() {
    let (receiver, folder) = (Receiver::says(text(200, "ok")), tempfile::tempdir().unwrap());
    let slack = to_slack(&receiver, &folder);
    let told = async |says| {
        receiver.answers(says);
        slack.tell(&message(&[notice(1)])).await
    };
    assert!(matches!(told(text(404, "no_service")).await, Told::Gone { .. }));
    assert!(matches!(told(text(400, "invalid_payload")).await, Told::Never { .. }));
    let limited = Says::Status(429, vec![("retry-after", "30".into())], String::new());
    assert!(matches!(told(limited).await, Told::Again { after: Some(after), .. } if after.as_secs() == 30));
    assert!(matches!(told(text(500, "rollup_error")).await, Told::Again { .. }));
    // A page of something that stands before it, with what it was sent in it.
    let Told::Again { reason, .. } = told(text(200, "<html>s3cret</html>")).await else { panic!() };
    assert!(!reason.contains("s3cret"), "{reason}");
    let before = receiver.requests().len();
    assert!(slack.check().await.unwrap().contains("notify test"));
    let checked = &receiver.requests()[before];
    assert_eq!(checked.line, "HEAD / HTTP/1.1", "a check posts nothing, and does not show the webhook");
}

// PagerDuty.

/// The alerts of a service: which are open.
#[derive(Default)]
struct Alerts {
    open: BTreeSet<String>,
    opened: usize,
}

/// What PagerDuty says of an event.
fn pagerduty(alerts: &Mutex<Alerts>, request: &Request) -> Says {
    let refused = |what: &str| {
        text(
            400,
            &json!({"status": "invalid event", "message": "Event object is invalid", "errors": [what]})
                .to_string(),
        )
    };
    let Ok(event) = serde_json::from_slice::<Value>(&request.body) else { return refused("not JSON") };
    if request.body.len() > 512_000 || event["routing_key"].as_str().is_none_or(|key| key.len() != 32) {
        return refused("'routing_key' is invalid");
    }
    let Some(key) = event["dedup_key"].as_str().filter(|key| key.chars().count() <= 255) else {
        return refused("'dedup_key' is missing");
    };
    let mut alerts = alerts.lock().unwrap();
    match event["event_action"].as_str() {
        Some("trigger") => {
            let payload = &event["payload"];
            if payload["summary"].as_str().is_none_or(|text| text.is_empty() || text.chars().count() > 1024) {
                return refused("'payload.summary' is invalid");
            }
            if !payload["severity"]
                .as_str()
                .is_some_and(|word| ["critical", "error", "warning", "info"].contains(&word))
            {
                return refused("'payload.severity' is invalid");
            }
            if payload["source"].as_str().is_none_or(str::is_empty) {
                return refused("'payload.source' is missing");
            }
            alerts.opened += usize::from(alerts.open.insert(key.to_owned()));
        }
        Some("resolve") => drop(alerts.open.remove(key)),
        _ => return refused("'event_action' is invalid"),
    }
    text(202, &json!({"status": "success", "message": "Event processed", "dedup_key": key}).to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn pagerduty_opens_one_alert_for_a_condition_and_ends_it() {
    let alerts = Arc::<Mutex<Alerts>>::default();
    let kept = Arc::clone(&alerts);
    let (receiver, folder) =
        (Receiver::keeps(move |request| pagerduty(&kept, request)), tempfile::tempdir().unwrap());
    let key_file = Some(file(&folder, "0123456789abcdef0123456789abcdef"));
    let config =
        PagerDutyConfig { url: Some(receiver.url("/v2/enqueue")), key_file, ..PagerDutyConfig::default() };
    let pagerduty = PagerDuty::new(&config).unwrap();
    let count = || {
        let alerts = alerts.lock().unwrap();
        (alerts.open.len(), alerts.opened)
    };
    for _ in 0..3 {
        assert_eq!(pagerduty.tell(&message(&[condition(false)])).await, Told::delivered());
    }
    assert_eq!(count(), (1, 1), "a repeat is the same alert");
    assert_eq!(pagerduty.tell(&message(&[condition(true)])).await, Told::delivered());
    assert_eq!(count(), (0, 1));
    let long = Notice { feature: Some("ä".repeat(4000)), summary: "s".repeat(4000), ..notice(1) };
    assert_eq!(pagerduty.tell(&message(&[long, notice(2), notice(3)])).await, Told::delivered());
    assert_eq!(count(), (2, 3), "calls of one feature are one alert");
    let test = Notice { event: Event::Test, ..notice(4) };
    assert_eq!(pagerduty.tell(&message(&[test])).await, Told::delivered());
    assert_eq!(count(), (2, 4), "a test ends what it opened");
    assert!(pagerduty.check().await.unwrap().contains("no way to check a key"));
    if let Some(document) = openapi::document("pagerduty-events-v2-openapi.json") {
        let wrong = |event: &Value| document.wrong("POST", "/enqueue", Some(event));
        // A check opens a connection and sends no event.
        for request in receiver.requests().into_iter().filter(|request| !request.body.is_empty()) {
            assert_eq!(wrong(&request.json()), None);
        }
        assert!(wrong(&json!({"routing_key": "k", "event_action": "open"})).is_some(), "it bites");
    }
    receiver.answers(Says::status(429));
    assert!(matches!(pagerduty.tell(&message(&[notice(1)])).await, Told::Again { .. }));
}

// Alertmanager.

/// The member of a cluster: its alerts by their labels, and until when they last.
type Stored = Arc<Mutex<BTreeMap<String, String>>>;

/// What a member says of alerts: what is valid is stored, also where it says 400 for the rest.
fn alertmanager(stored: &Stored, request: &Request) -> Says {
    if request.line.starts_with("GET /api/v2/status ") {
        return text(200, "{}");
    }
    if !request.line.starts_with("POST /api/v2/alerts ") {
        return text(404, "");
    }
    let Ok(alerts) = serde_json::from_slice::<Vec<Value>>(&request.body) else {
        return text(400, "not an array");
    };
    let mut wrong = false;
    for alert in alerts {
        let labels = alert["labels"].as_object().cloned().unwrap_or_default();
        let valid = !labels.is_empty()
            && labels.values().all(|value| value.as_str().is_some_and(|text| !text.is_empty()))
            && alert["startsAt"].as_str() <= alert["endsAt"].as_str()
            && labels.get("feature").is_none_or(|feature| feature != "refused");
        wrong |= !valid;
        if valid {
            let ends = alert["endsAt"].as_str().unwrap().to_owned();
            stored.lock().unwrap().insert(json!(labels).to_string(), ends);
        }
    }
    text(if wrong { 400 } else { 200 }, if wrong { "start time must be before end time" } else { "" })
}

fn member() -> (Receiver, Stored) {
    let stored = Stored::default();
    let kept = Arc::clone(&stored);
    (Receiver::keeps(move |request| alertmanager(&kept, request)), stored)
}

fn cluster(members: &[&Receiver]) -> Alertmanager {
    let urls = members.iter().map(|member| member.url("")).collect();
    let labels = BTreeMap::from([("team".to_owned(), "llm".to_owned())]);
    Alertmanager::new(&AlertmanagerConfig { urls, labels, timeout_ms: 1000, ..AlertmanagerConfig::default() })
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_member_of_alertmanager_hears_and_one_is_enough() {
    let ((one, stored), (other, also)) = (member(), member());
    let alertmanager = cluster(&[&one, &other]);
    assert_eq!(
        alertmanager.tell(&message(&[notice(1), notice(2), condition(false)])).await,
        Told::delivered()
    );
    assert_eq!((stored.lock().unwrap().len(), also.lock().unwrap().len()), (2, 2));
    assert_eq!(alertmanager.tell(&message(&[condition(true)])).await, Told::delivered());
    assert_eq!(stored.lock().unwrap().len(), 2, "its end has the same labels");
    let now = jiff::Timestamp::now().to_string();
    let over = |(labels, ends): (&String, &String)| labels.contains("sink.dead") && *ends <= now;
    assert!(stored.lock().unwrap().iter().any(over), "and is now");
    assert_eq!(alertmanager.check().await.unwrap(), "2 members answer");
    other.answers(Says::Nothing);
    let told = alertmanager.tell(&message(&[notice(1)])).await;
    assert!(matches!(told, Told::Delivered { note } if note.contains("1 of 2 members did not hear")));
    assert!(alertmanager.check().await.is_err());
    one.answers(Says::status(500));
    assert!(matches!(alertmanager.tell(&message(&[notice(1)])).await, Told::Again { .. }));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_400_of_alertmanager_may_be_a_part() {
    let (one, stored) = member();
    let refused = Notice { feature: Some("refused".into()), ..notice(1) };
    let alertmanager = cluster(&[&one]);
    let told = alertmanager.tell(&message(&[refused.clone(), notice(2)])).await;
    assert!(matches!(told, Told::Delivered { note } if note.contains("refused")), "the rest has arrived");
    assert_eq!(stored.lock().unwrap().len(), 1);
    assert!(matches!(alertmanager.tell(&message(&[refused])).await, Told::Never { .. }));
}

/// Alertmanager's own document, with its references pointing into it; says so where it is not there.
fn document() -> Option<Value> {
    let folder = std::env::var("AFTERCHECK_TEST_CONTRACTS").map(PathBuf::from);
    let beside = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/contracts/openapi");
    let path = folder.unwrap_or_else(|_| beside.into()).join("alertmanager-v2-openapi.yaml");
    let python = concat!(env!("CARGO_MANIFEST_DIR"), "/.runtime/venv/bin/python");
    let program = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1])), default=str))";
    let read = Command::new(python).args(["-c", program]).arg(path).output();
    let document = read.ok().and_then(|read| serde_json::from_slice(&read.stdout).ok());
    if document.is_none() {
        println!(
            "skipped: AFTERCHECK_TEST_CONTRACTS names no folder with alertmanager-v2-openapi.yaml, or there is no .runtime/venv"
        );
    }
    document
}

#[tokio::test(flavor = "multi_thread")]
async fn alertmanagers_own_document_takes_our_requests() {
    let Some(document) = document() else { return };
    let (one, _) = member();
    let test = Notice { event: Event::Test, ..notice(4) };
    let alertmanager = cluster(&[&one]);
    for notices in [&[notice(1), condition(false)][..], &[condition(true)], &[test]] {
        assert_eq!(alertmanager.tell(&message(notices)).await, Told::delivered());
    }
    let schema = json!({
        "$schema": "http://json-schema.org/draft-04/schema#",
        "definitions": document["definitions"],
        "$ref": "#/definitions/postableAlerts",
    });
    let validator = jsonschema::options().should_validate_formats(true).build(&schema).unwrap();
    for request in one.requests() {
        let errors: Vec<String> =
            validator.iter_errors(&request.json()).map(|error| error.to_string()).collect();
        assert!(errors.is_empty(), "{errors:?}");
    }
    // It bites.
    for wrong in [
        json!([{"annotations": {}}]),
        json!([{"labels": {"a": 1}}]),
        json!([{"labels": {"a": "b"}, "endsAt": "soon"}]),
    ] {
        assert!(!validator.is_valid(&wrong), "{wrong}");
    }
}
