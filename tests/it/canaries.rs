//! Values that must not be seen again are sent through every field and every way of failing; then everything that the
//! service keeps, sends and says is searched for them.

use std::{fs, io::Write, process::Stdio};

use serde_json::{Value, json};

use super::{
    service::{Parts, Running, Service, eventually},
    store::place::server,
    tables::Tables,
};

/// What is looked for afterwards. Put together here, so that no scanner of sources takes it for real.
fn canaries() -> [String; 6] {
    let key = format!("sk-proj-{}", "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8");
    [
        "4111 1111 1111 1111",
        "536-90-4399",
        "canary.user@mail.example.com",
        "GB82 WEST 1234 5698 7654 32",
        &key,
        "hunter2canary",
    ]
    .map(str::to_owned)
}

/// All of them in one text.
fn text() -> String {
    let [card, ssn, email, iban, key, password] = canaries();
    format!("Card {card}, SSN {ssn}, {email}, IBAN {iban}, key {key}, https://u:{password}@host.example.com/")
}

/// What gives a canary away, however it is written.
fn traces() -> Vec<String> {
    let [card, ssn, email, iban, key, password] = canaries();
    let bare = |text: &str| text.replace([' ', '-'], "");
    vec![bare(&card), bare(&ssn), bare(&iban), card, ssn, email, iban, key[10..30].to_owned(), password]
}

/// A call with every field.
fn full(number: usize) -> Value {
    json!({
        "version": 1, "request_id": format!("full-{number}"), "trace_id": "t", "span_id": "s", "tenant_id": "acme",
        "occurred_at": "2026-11-02T10:00:00Z", "feature": "f", "prompt_version": "v", "environment": "production",
        "model_requested": "m", "model_resolved": "m", "provider": "p", "provider_request_id": "p1", "attempt": 1,
        "temperature": 0.5, "seed": 7, "tokens_in": 1, "tokens_out": 2, "cached_tokens": 0, "eval_judge_tokens": 0,
        "embedding_tokens": 0, "cost_usd": 0.1, "latency_ms": {"ttft": 1.0, "total": 3.0, "tools": 1.0},
        "finish_reason": "stop", "error_class": "timeout", "messages_hash": "h", "response_hash": "r",
        "retrieval_ids": ["c1"], "tool_calls": [{"name": "n", "args_hash": "a", "latency_ms": 1.0}],
        "guardrail_decisions": [{"stage": "input", "action": "allow", "dimension": "d"}],
        "feedback": {"thumbs": "up", "escalated": false, "csat": 5}, "metadata": {"locale": "en"},
        "content": {
            "input": "i", "answer": "The answer is yes.",
            "contexts": [{"id": "c1", "text": "The answer is yes.", "score": 0.5}], "output_schema": {"type": "string"}
        },
        "sampling": {"reason": "head", "probability": 0.5, "stratum": "s"}, "colour": "blue"
    })
}

/// JSON Pointers of every value.
fn pointers(value: &Value, place: &str, found: &mut Vec<String>) {
    let mut inner = |name: &str, value: &Value| {
        let place = format!("{place}/{name}");
        found.push(place.clone());
        pointers(value, &place, found);
    };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(name, value)| inner(name, value)),
        Value::Array(items) => items.iter().enumerate().for_each(|(at, value)| inner(&at.to_string(), value)),
        _ => {}
    }
}

/// One message for each place: a text there, a number there, a name there; and some that are no messages.
fn messages() -> Vec<String> {
    let mut places = Vec::new();
    pointers(&full(0), "", &mut places);
    let mut messages = Vec::new();
    for place in &places {
        for value in
            [json!(text()), json!(4_111_111_111_111_111_u64), json!({text(): text()}), json!([text()])]
        {
            // A measure is what its name says: a card number there is none.
            let is_measure = place == "/latency_ms" || full(0).pointer(place).is_some_and(Value::is_number);
            if value.is_number() && is_measure {
                continue;
            }
            let mut call = full(messages.len());
            *call.pointer_mut(place).unwrap() = value;
            messages.push(call.to_string());
        }
    }
    let mut panicking = full(messages.len());
    panicking["request_id"] = "panics".into();
    panicking["content"]["answer"] = text().into();
    messages.push(panicking.to_string());
    let twice = full(messages.len()).to_string();
    let twice_named = twice.replacen(
        "\"content\":{",
        &format!("\"content\":{{\"answer\":{}}},\"content\":{{", json!(text())),
        1,
    );
    assert_ne!(twice, twice_named);
    messages.push(twice_named);
    let [card, ssn, ..] = canaries();
    let mut by_name = full(messages.len());
    by_name["metadata"] = json!({"ssn": ssn.replace('-', ""), "card": card.replace(' ', "")});
    messages.push(by_name.to_string());
    let mut named = full(messages.len());
    named[text()] = json!(text());
    named["metadata"][text()] = json!(1);
    messages.extend([
        named.to_string(),
        format!("{{\"answer\": \"{}\"", text()),
        text(),
        format!("[\"{}\"]", text()),
    ]);
    messages
}

/// Searches a text; says where it found something, never what.
fn search(place: &str, bytes: &[u8], hits: &mut Vec<String>) {
    for (number, trace) in traces().iter().enumerate() {
        if memchr::memmem::find(bytes, trace.as_bytes()).is_some() {
            hits.push(format!("{place}: trace {number}"));
        }
    }
}

/// Sends all of them in, by HTTP and from a file, and waits for their end.
fn flood(service: &Service, running: &Running, treatment: &str, messages: &[String]) -> Vec<String> {
    let mut said = Vec::new();
    let mut accepted = 0;
    for message in messages {
        let (status, body) =
            running.request("POST", "/v1/calls", &["content-type: application/json"], message.as_bytes());
        accepted += usize::from(status == 202);
        said.push(body);
    }
    assert!(accepted > messages.len() / 8, "{accepted} of {} were accepted", messages.len());
    let mut enqueue = service
        .command(&["enqueue", "-"])
        .env("AFTERCHECK__REDACTION__TREATMENT", treatment)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = enqueue.stdin.take().unwrap();
    messages.iter().for_each(|message| writeln!(stdin, "{message}").unwrap());
    drop(stdin);
    assert!(enqueue.wait().unwrap().success());
    let empty = || (service.tables.number("SELECT count(*) FROM queue").unwrap() == 0).then_some(());
    eventually(empty).expect("everything comes to its end");
    said
}

/// Everything that is kept, by the place where it is.
fn kept(service: &Service) -> Vec<(String, Vec<u8>)> {
    let mut kept: Vec<(String, Vec<u8>)> = ["a.db", "a.db-wal", "a.db-shm", "out.jsonl"]
        .map(|name| (name.to_owned(), fs::read(service.path(name)).unwrap_or_default()))
        .into();
    if let Tables::Postgres(_) = service.tables {
        let tables = service.tables.texts("SELECT relname::text FROM pg_stat_user_tables").unwrap();
        assert!(tables.len() > 8, "{tables:?}");
        for table in tables {
            let rows = service.tables.texts(&format!("SELECT t::text FROM {table} t")).unwrap();
            kept.push((table, rows.join("\n").into_bytes()));
        }
    }
    kept
}

/// Floods a service with all of them, and says where a trace of one was found afterwards.
fn found(treatment: &str, parts: Parts) -> Vec<String> {
    let service = Service::of(parts);
    let mut hits = Vec::new();
    let running = service.start(&[
        ("AFTERCHECK__REDACTION__TREATMENT", treatment),
        ("AFTERCHECK_PANIC_ON", "panics"),
        ("AFTERCHECK_LOG", "debug"),
        ("AFTERCHECK__PIPELINE__MAX_ATTEMPTS", "2"),
    ]);
    for said in flood(&service, &running, treatment, &messages()) {
        search("an answer of /v1/calls", said.as_bytes(), &mut hits);
    }
    search("/metrics", running.get("/metrics").1.as_bytes(), &mut hits);
    running.signal("TERM");
    let log = running.log.lock().unwrap().join("\n");
    assert!(log.contains("panicked"), "the panic was provoked");
    search("the log", log.as_bytes(), &mut hits);
    drop(running);
    let count = |query| service.tables.number(query).unwrap();
    let (evaluations, letters) =
        (count("SELECT count(*) FROM evaluations"), count("SELECT count(*) FROM dead_letters"));
    assert!(evaluations > 20 && letters > 20, "{evaluations} evaluations, {letters} dead letters");
    for (place, bytes) in kept(&service) {
        search(&place, &bytes, &mut hits);
    }
    hits.sort();
    hits.dedup();
    scan(&service, &log, treatment == "keep");
    hits
}

/// `aftercheck scan` says where something is, and nothing else.
fn scan(service: &Service, log: &str, is_there: bool) {
    fs::write(service.path("log"), log).unwrap();
    let log = service.path("log").display().to_string();
    let mut command = service.command(&["--format", "json", "scan", &log]);
    let canary = format!("[{:?}]", canaries()[5]);
    let output =
        command.env("AFTERCHECK__REDACTION__CANARIES", canary).stdout(Stdio::piped()).output().unwrap();
    let scanned: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(i32::from(is_there)), "{scanned}");
    assert_eq!(scanned["found"].as_u64().unwrap() > 0, is_there);
    assert!(scanned["texts"].as_u64().unwrap() > 100, "{scanned}");
    let told = scanned.to_string();
    assert!(traces().iter().all(|trace| !told.contains(trace.as_str())), "what was found is quoted");
    for expected in ["calls.body", "\"card\"", "\"ssn\"", "canary 1"] {
        assert!(!is_there || told.contains(expected), "no {expected} in {told}");
    }
}

#[test]
fn nothing_personal_is_kept_sent_or_said() {
    let hits = found("mask", Parts::default());
    assert!(hits.is_empty(), "{hits:#?}");
}

/// What is found in a Postgres database of its own, which is gone afterwards.
fn found_in_postgres(treatment: &str, server: &str) -> Vec<String> {
    let name = format!("aftercheck_test_{}", uuid::Uuid::now_v7().simple());
    let (head, _) = server.rsplit_once('/').unwrap();
    let admin = Tables::Postgres(server.to_owned());
    admin.execute(&format!("CREATE DATABASE {name}")).unwrap();
    // Bytes as text where they are text: what is searched for is in none of them in hex.
    admin.execute(&format!("ALTER DATABASE {name} SET bytea_output = 'escape'")).unwrap();
    let parts = Parts {
        postgres: Some(format!("{head}/{name}")),
        config: Some("[source]\nkind = \"postgres\"\nlease_secs = 1\n".to_owned()),
        ..Parts::default()
    };
    let outcome = std::panic::catch_unwind(|| found(treatment, parts));
    admin.execute(&format!("DROP DATABASE {name} WITH (FORCE)")).unwrap();
    outcome.unwrap()
}

#[test]
fn nothing_personal_is_kept_in_postgres() {
    let Some(server) = server() else { return };
    let hits = found_in_postgres("mask", &server);
    assert!(hits.is_empty(), "{hits:#?}");
    let hits = found_in_postgres("keep", &server);
    for table in ["calls", "dead_letters"] {
        assert!(hits.iter().any(|hit| hit.starts_with(table)), "the search finds what is there: {hits:#?}");
    }
}

#[test]
fn what_is_kept_on_purpose_is_found() {
    let hits = found("keep", Parts::default());
    let in_the_file = hits.iter().filter(|hit| hit.starts_with("a.db")).count();
    // Each as it is written in the text, and the card as a number.
    assert!(in_the_file > canaries().len(), "the search finds what is there: {hits:#?}");
}
