//! What an operator does by hand: dead letters put back or dropped, a sink that was down, `validate`, `report`.

use std::{net::TcpListener, process::Stdio};

use super::service::{Parts, Service, ended};

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
fn a_paused_sink_is_told_of_and_gets_everything_once_it_is_resumed() {
    let mut service = Service::new();
    exits(&service, &["migrate"], 0);
    exits(&service, &["sinks", "pause", "nobody"], 2);
    exits(&service, &["sinks", "pause", "archive"], 0);
    exits(&service, &["sinks", "pause", "archive"], 1);
    service.enqueue(6);
    drain(&service);
    let state = service.json(&["sinks", "list"]);
    assert_eq!(
        (&state["sink"], &state["pending"], &state["dead"]),
        (&"archive".into(), &5.into(), &0.into())
    );
    assert!(state["paused_ms"].as_i64().is_some() && state["oldest_ms"].as_i64().is_some(), "{state}");
    assert!(!service.path("out.jsonl").exists(), "it was sent nothing");
    exits(&service, &["sinks", "resume", "archive"], 0);
    exits(&service, &["sinks", "resume", "archive"], 1);
    exits(&service, &["run", "--drain"], 0);
    assert_eq!(std::fs::read_to_string(service.path("out.jsonl")).unwrap().lines().count(), 5);
}

#[test]
fn a_dead_delivery_is_listed_shown_requeued_and_dropped() {
    let mut service = Service::new();
    service.enqueue(3);
    exits(&service, &["run", "--drain"], 0);
    let kill = || {
        service.database(async |database| {
            let mut tx = database.write().await.unwrap();
            let dead = "UPDATE outbox SET delivered_ms = NULL, dead_reason = 'status 422'
                 WHERE delivery_id = (SELECT min(delivery_id) FROM outbox)";
            sqlx::query(dead).execute(&mut *tx).await.unwrap();
            tx.commit().await.unwrap();
        });
    };
    kill();
    let listed = service.json(&["dead", "list", "--sink", "archive"]);
    assert_eq!((&listed["class"], &listed["reason"]), (&"delivery".into(), &"status 422".into()));
    let id = listed["delivery_id"].as_str().unwrap();
    let shown = service.json(&["dead", "show", id]);
    assert!(shown["request_id"].as_str().unwrap().starts_with("kill-"), "{shown}");
    exits(&service, &["dead", "requeue", id], 0);
    exits(&service, &["dead", "requeue", id], 1);
    exits(&service, &["run", "--drain"], 0);
    let lines = std::fs::read_to_string(service.path("out.jsonl")).unwrap();
    assert_eq!(lines.lines().filter(|line| line.contains(id)).count(), 2, "it was sent again");
    kill();
    exits(&service, &["dead", "drop", id], 0);
    exits(&service, &["dead", "drop", id], 1);
    exits(&service, &["dead", "show", id], 1);
}

#[test]
fn all_dead_deliveries_of_a_sink_are_requeued_with_one_command() {
    let mut service = Service::new();
    service.enqueue(3);
    exits(&service, &["run", "--drain"], 0);
    service.tables.execute("UPDATE outbox SET delivered_ms = NULL, dead_reason = 'status 422'").unwrap();
    let before = std::fs::read_to_string(service.path("out.jsonl")).unwrap().lines().count();
    exits(&service, &["dead", "requeue"], 2);
    exits(&service, &["dead", "requeue", "--sink", "archive", &uuid::Uuid::nil().to_string()], 2);
    exits(&service, &["dead", "requeue", "--sink", "archiv"], 1);
    let mut requeue = service.command(&["dead", "requeue", "--sink", "archive"]);
    let told = requeue.stdout(std::process::Stdio::piped()).output().unwrap();
    assert_eq!(String::from_utf8(told.stdout).unwrap(), format!("{before} deliveries of archive requeued\n"));
    exits(&service, &["dead", "requeue", "--sink", "archive"], 1);
    exits(&service, &["run", "--drain"], 0);
    let lines = std::fs::read_to_string(service.path("out.jsonl")).unwrap();
    assert_eq!(lines.lines().count(), 2 * before, "all were sent again");
}

#[test]
fn validate_asks_the_sinks_only_where_it_is_to() {
    let service = Service::new();
    exits(&service, &["migrate"], 0);
    exits(&service, &["validate", "--connect"], 0);
    std::fs::create_dir(service.path("out.jsonl")).unwrap();
    exits(&service, &["validate"], 0);
    let told = service.json(&["validate", "--connect"]);
    let faults: Vec<&str> =
        told["checks"].as_array().unwrap().iter().filter_map(|check| check["fault"].as_str()).collect();
    assert!(matches!(faults[..], [fault] if fault.contains("name a file")), "{faults:?}");
    exits(&service, &["validate", "--connect"], 3);
}

#[test]
fn validate_asks_the_sinks_that_can_be_built_beside_one_that_cannot() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    drop(silent);
    let service = Service::of(Parts {
        config: Some(format!(
            "[source]\nlease_secs = 1\n[sinks.keyless]\nkind = \"langsmith\"\nurl = {url:?}\nproject = \"p\"\nkey_env = \"NO_SUCH_KEY\"\n\
             [sinks.away]\nkind = \"phoenix\"\nurl = {url:?}\n"
        )),
        ..Parts::default()
    });
    exits(&service, &["migrate"], 0);
    let told = service.json(&["validate", "--connect"]).to_string();
    assert!(told.contains("sink keyless can be built") && told.contains("NO_SUCH_KEY"), "{told}");
    assert!(told.contains("sink away is there") && told.contains("sink archive: can write"), "{told}");
}

#[test]
fn exit_codes_tell_usage_from_findings() {
    let service = Service::new();
    exits(&service, &["report"], 2);
    assert!(!service.path("a.db").exists(), "what only reads creates no database");
    exits(&service, &["migrate"], 0);
    exits(&service, &["validate"], 0);
    let mut unknown = service.command(&["why", "nobody"]);
    let unknown = unknown.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    assert_eq!((unknown.status.code(), unknown.stdout.as_slice()), (Some(1), b"[]\n".as_slice()));
    let told = String::from_utf8(unknown.stderr).unwrap();
    assert!(
        told.contains("nobody: never received here"),
        "what reads a pipe is told why there is nothing: {told}"
    );
    exits(&service, &["dead", "show", "not-an-id"], 2);
    std::fs::write(service.path("c.toml"), "[sqlite]\npaht = \"a.db\"\n").unwrap();
    exits(&service, &["report"], 2);
    std::fs::write(service.path("c.toml"), "[sqlite]\npath = \"/proc/nowhere/a.db\"\n").unwrap();
    exits(&service, &["migrate"], 3);
}
