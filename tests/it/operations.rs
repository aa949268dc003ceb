//! What an operator does by hand: dead letters put back or dropped, a sink that was down, `validate`, `report`.

use super::service::{Service, ended};

/// Works the queue off.
fn drain(service: &Service) {
    assert!(ended(&mut service.drain(&[])).is_some_and(|status| status.success()));
}

/// Whether a subcommand ends with this exit code.
fn exits(service: &Service, arguments: &[&str], code: i32) {
    let status = ended(&mut service.command(arguments).spawn().unwrap());
    assert_eq!(status.and_then(|status| status.code()), Some(code), "{arguments:?}");
}

#[test]
fn a_dead_letter_is_shown_put_back_and_dropped() {
    let mut service = Service::new();
    service.enqueue(1);
    drain(&service);
    let letter = service.json(&["dead", "list"]);
    let id = letter["dead_letter_id"].as_str().unwrap();
    assert_eq!((&letter["class"], &letter["pointer"]), (&"wrong_type".into(), &"/tokens_in".into()));
    assert_eq!(service.json(&["dead", "show", id])["tokens_in"], "many", "the raw bytes are kept");
    exits(&service, &["dead", "requeue", id], 0);
    assert_eq!((service.count().dead_letters, service.count().queued), (0, 1));
    drain(&service);
    assert_eq!(service.count().dead_letters, 1, "it is as bad as before");
    exits(&service, &["dead", "drop", id], 0);
    exits(&service, &["dead", "drop", id], 1);
    assert_eq!((service.count().dead_letters, service.count().queued), (0, 0));
    let ledger = service.json(&["why", "kill-0"])[0]["ledger"].to_string();
    assert!(ledger.contains("requeued") && ledger.contains("dropped"), "{ledger}");
}

#[test]
fn a_sink_that_was_down_gets_everything_later_and_a_drain_does_not_wait_for_it() {
    let mut service = Service::new();
    service.enqueue(2);
    // A folder where the file should be.
    std::fs::create_dir(service.path("out.jsonl")).unwrap();
    drain(&service);
    let delivery = &service.json(&["why", "kill-1"])[0]["deliveries"][0];
    assert!(delivery["attempts"].as_u64() >= Some(1) && delivery["delivered_ms"].is_null(), "{delivery}");
    assert!(delivery["last_error"].as_str().is_some_and(|error| !error.is_empty()));
    std::fs::remove_dir(service.path("out.jsonl")).unwrap();
    service.let_outbox_leases_end();
    drain(&service);
    let delivery = &service.json(&["why", "kill-1"])[0]["deliveries"][0];
    assert!(delivery["delivered_ms"].is_number() && delivery["last_error"].is_null(), "{delivery}");
    assert_eq!(std::fs::read_to_string(service.path("out.jsonl")).unwrap().lines().count(), 1);
}

#[test]
fn the_report_counts_what_was_done() {
    let mut service = Service::new();
    service.enqueue(10);
    drain(&service);
    let report = service.json(&["report", "--worst", "1"]);
    let verdicts: u64 =
        report["verdicts"].as_object().unwrap().values().filter_map(serde_json::Value::as_u64).sum();
    assert_eq!((verdicts, &report["dead_letters"]["wrong_type"]), (9, &1.into()));
    let stages = report["stages"].as_array().unwrap();
    let all = stages.iter().find(|stage| stage["stage"] == "all").unwrap();
    assert_eq!(all["calls"], 9);
    let [p50, p95, max] = ["p50_ms", "p95_ms", "max_ms"].map(|key| all[key].as_f64().unwrap());
    assert!(0.0 < p50 && p50 <= p95 && p95 <= max, "{p50} {p95} {max}");
    assert_eq!(report["deliveries"]["archive"]["delivered"], 9);
}

#[test]
fn exit_codes_tell_usage_from_findings() {
    let service = Service::new();
    exits(&service, &["report"], 2);
    assert!(!service.path("a.db").exists(), "what only reads creates no database");
    exits(&service, &["migrate"], 0);
    exits(&service, &["validate"], 0);
    exits(&service, &["why", "nobody"], 1);
    exits(&service, &["dead", "show", "not-an-id"], 2);
    std::fs::write(service.path("c.toml"), "[sqlite]\npaht = \"a.db\"\n").unwrap();
    exits(&service, &["report"], 2);
    std::fs::write(service.path("c.toml"), "[sqlite]\npath = \"/proc/nowhere/a.db\"\n").unwrap();
    exits(&service, &["migrate"], 3);
}
