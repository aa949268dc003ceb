//! Notices of a service as a process: from the verdict to whoever hears of it, and what the command line says.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use serde_json::{Value, json};

use super::{
    SECRET,
    receiver::{Heard, Receiver, Says},
};
use crate::service::{Parts, Service, call, eventually};

/// A route to a receiver, as TOML, with more keys of it.
pub fn route(name: &str, receiver: &Receiver, more: &str) -> String {
    format!(
        "[notify.routes.{name}]\n{more}\nto = {{ kind = \"webhook\", url = {:?}, secrets_env = \"HOOK_SECRETS\", \
         allow_private = true, allow_http = true, timeout_ms = 3000 }}\n",
        receiver.url("/hook")
    )
}

/// A service with these routes and more configuration, that judges by rules.
fn service(more: &str) -> Service {
    let config = format!("[source]\nlease_secs = 1\n{more}");
    let variables = vec![("HOOK_SECRETS".to_owned(), SECRET.to_owned())];
    Service::of(Parts { config: Some(config), variables, ..Parts::default() })
}

/// Puts calls with these answers on the queue, numbered from so many on.
fn enqueue(service: &Service, from: usize, answers: &[&str]) {
    use std::io::Write;
    let mut child = service.command(&["enqueue", "-"]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for (number, answer) in answers.iter().enumerate() {
        // Not one whose number makes it malformed.
        let mut call = call(10 * (from + number) + 1);
        call["content"]["answer"] = (*answer).into();
        call["trace_id"] = format!("{:032x}", from + number + 1).into();
        writeln!(stdin, "{call}").unwrap();
    }
    drop(stdin);
    assert!(child.wait().unwrap().success());
}

/// What a receiver has heard, once these are so many.
fn heard(receiver: &Receiver, messages: usize) -> Vec<Value> {
    eventually(|| (receiver.requests().len() >= messages).then_some(())).expect("messages arrive");
    receiver.requests().iter().map(super::receiver::Request::json).collect()
}

#[test]
fn findings_go_to_who_asks_for_them_and_reviews_to_the_others() {
    let (general, security) = (Receiver::says(Says::status(200)), Receiver::says(Says::status(200)));
    let routes = route("general", &general, "events = [\"review.created\"]")
        + &route("security", &security, "dimensions = [\"injection\", \"personal_data\"]");
    let service = service(&format!("{routes}[http]\npublic_url = \"https://aftercheck.example\"\n"));
    enqueue(
        &service,
        0,
        &["The answer is yes.", "Lorem ipsum is the answer.", "Your card is 4111 1111 1111 1111."],
    );
    let worker = service.start(&[]);
    let told = heard(&general, 1);
    let findings = heard(&security, 2);
    eventually(|| (worker.metric("aftercheck_notices_total", &["told"])? >= 3.0).then_some(())).unwrap();
    drop(worker);
    assert_eq!((told.len(), findings.len()), (1, 2), "{told:?} {findings:?}");
    assert_eq!(told[0]["type"], "review.created");
    assert_eq!(told[0]["data"]["request_id"], "kill-1");
    assert_eq!(told[0]["data"]["link"], "https://aftercheck.example/calls/acme/kill-1");
    let dimensions: BTreeSet<String> =
        findings.iter().map(|one| one["data"]["dimensions"][0].as_str().unwrap().into()).collect();
    assert_eq!(dimensions, BTreeSet::from(["injection".to_owned(), "personal_data".to_owned()]));
    for text in told.iter().chain(&findings).map(Value::to_string) {
        assert!(
            !text.contains("4111") && !text.contains("ipsum") && !text.contains("answer is yes"),
            "{text}"
        );
    }
}

#[test]
fn a_digest_sums_up_what_came_meanwhile_and_a_night_is_quiet() {
    let (digest, night) = (Receiver::says(Says::status(200)), Receiver::says(Says::status(200)));
    // Quiet at every time of day but one minute of it, which is not now.
    let hour = jiff::Timestamp::now().strftime("%H").to_string().parse::<u32>().unwrap();
    let quiet = (hour + 12) % 24;
    let quiet = format!(
        "dimensions = [\"general\", \"personal_data\"]\nquiet = {{ from = \"{quiet:02}:01\", to = \"{quiet:02}:00\", zone = \"UTC\" }}"
    );
    let routes = route("digest", &digest, "digest_minutes = 1") + &route("night", &night, &quiet);
    let service = service(&routes);
    let answers: Vec<String> = (0..6).map(|number| format!("The answer is {number}.")).collect();
    enqueue(&service, 0, &answers.iter().map(String::as_str).collect::<Vec<_>>());
    let worker = service.start(&[]);
    heard(&digest, 1);
    let waiting = "SELECT count(*) FROM notices WHERE route = 'digest' AND message_id IS NULL";
    let written = "SELECT count(*) FROM notices WHERE route = 'digest'";
    eventually(|| (service.tables.number(written).ok()? == 6).then_some(())).expect("all are written");
    // What marks the first also says when the next is due.
    let marked = "SELECT count(*) FROM notices WHERE route = 'digest' AND told_ms IS NOT NULL";
    eventually(|| (service.tables.number(marked).ok()? > 0).then_some(())).expect("the first is marked");
    let rest = service.tables.number(waiting).unwrap();
    if rest > 0 {
        assert_eq!(digest.requests().len(), 1, "the next is due in a minute");
        service.tables.execute("UPDATE notice_routes SET next_ms = 0").unwrap();
        let summed = &heard(&digest, 2)[1];
        let told = if rest == 1 { json!("review.created") } else { json!("notices.digest") };
        assert_eq!(summed["type"], told, "{summed}");
        if rest > 1 {
            assert_eq!(summed["data"]["count"], rest);
        }
    }
    assert_eq!(night.connections(), 0, "nothing of it is critical");
    enqueue(&service, 100, &["Your card is 4111 1111 1111 1111."]);
    let critical = &heard(&night, 1)[0];
    assert_eq!(critical["data"]["severity"], "critical", "that wakes people");
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(night.requests().len(), 1);
    drop(worker);
}

#[test]
fn what_is_wrong_with_the_service_is_told_once_and_its_end_too() {
    let receiver = Receiver::says(Says::status(200));
    let config = route("oncall", &receiver, "severity = \"error\"")
        + "[notify.watch]\nevery_secs = 1\ndead_letters = 3\n";
    let mut service = service(&config);
    service.enqueue(31);
    let workers = [service.start(&[]), service.start(&[])];
    let began = &heard(&receiver, 1)[0];
    assert_eq!(began["type"], "dead_letters.spike");
    assert_eq!(began["data"]["resolved"], false);
    // Longer than some looks of both.
    std::thread::sleep(std::time::Duration::from_secs(4));
    assert_eq!(receiver.requests().len(), 1, "it is told once, however many look");
    service.tables.execute("UPDATE dead_letters SET created_ms = 0").unwrap();
    let over = &heard(&receiver, 2)[1];
    assert_eq!(
        (&over["data"]["resolved"], &over["data"]["condition"]),
        (&json!(true), &began["data"]["condition"])
    );
    std::thread::sleep(std::time::Duration::from_secs(3));
    drop(workers);
    assert_eq!(receiver.requests().len(), 2);
    assert_eq!(Heard::of(&receiver.requests()).ids.len(), 2);
}

#[test]
fn a_sink_that_takes_nothing_is_told_and_that_it_takes_again() {
    let (receiver, backend) = (Receiver::says(Says::status(200)), Receiver::says(Says::status(503)));
    let service = service(
        &(route("oncall", &receiver, "events = [\"sink.dead\"]")
            + &format!(
                "[notify.watch]\nevery_secs = 1\n[sinks.telemetry]\nkind = \"otlp\"\nurl = {:?}\nmetrics = false\n",
                backend.url("")
            )),
    );
    enqueue(&service, 0, &["The answer is yes."]);
    let worker = service.start(&[]);
    let tried = "SELECT count(*) FROM outbox WHERE sink = 'telemetry' AND attempts > 0";
    eventually(|| (service.tables.number(tried).ok()? == 1).then_some(())).expect("it is tried");
    assert_eq!(receiver.requests().len(), 0, "one failure is no news");
    // What waits for longer than `sink_minutes`.
    service.tables.execute("UPDATE outbox SET created_ms = created_ms - 3600000").unwrap();
    let began = &heard(&receiver, 1)[0];
    assert_eq!((&began["type"], &began["data"]["resolved"]), (&json!("sink.dead"), &json!(false)), "{began}");
    assert!(began["data"].to_string().contains("telemetry"), "{began}");
    backend.answers(Says::status(200));
    service.tables.execute("UPDATE outbox SET due_ms = 0 WHERE sink = 'telemetry'").unwrap();
    let over = &heard(&receiver, 2)[1];
    assert_eq!(over["data"]["resolved"], true, "{over}");
    drop(worker);
}

/// A Phoenix that has none of the traces that it is asked about, or the first of them, as the switch says.
fn phoenix(has_first: &Arc<AtomicBool>) -> Receiver {
    let has_first = Arc::clone(has_first);
    Receiver::keeps(move |request| {
        let asked = request.json()["data"].as_array().cloned().unwrap_or_default();
        let known = has_first.load(Ordering::SeqCst).then(|| format!("{:032x}", 1));
        let ids = asked.iter().filter_map(|one| one["trace_id"].as_str());
        let missing: Vec<&str> = ids.filter(|id| Some(*id) != known.as_deref()).collect();
        if missing.is_empty() {
            return Says::Status(200, Vec::new(), json!({"data": asked}).to_string());
        }
        let plain = vec![("content-type", "text/plain".to_owned())];
        Says::Status(404, plain, format!("Traces with IDs {} do not exist.", missing.join(", ")))
    })
}

#[test]
fn a_sink_that_fails_item_by_item_is_told_and_one_that_takes_others_is_not() {
    let has_first = Arc::new(AtomicBool::new(false));
    let (receiver, backend) = (Receiver::says(Says::status(200)), phoenix(&has_first));
    let service = service(
        &(route("oncall", &receiver, "events = [\"sink.dead\"]")
            + &format!(
                "[notify.watch]\nevery_secs = 1\n[sinks.traces]\nkind = \"phoenix\"\nurl = {:?}\n\
                 trace_wait_secs = 86400\n",
                backend.url("")
            )),
    );
    enqueue(&service, 0, &["The answer is yes.", "The answer is no."]);
    let worker = service.start(&[]);
    // Both have used up attempts of their own: no sink that is down does that.
    let tried = "SELECT count(*) FROM outbox WHERE sink = 'traces' AND attempts > 1";
    eventually(|| (service.tables.number(tried).ok()? == 2).then_some(())).expect("both are tried");
    assert_eq!(receiver.requests().len(), 0, "what failed for some seconds is no news");
    service.tables.execute("UPDATE outbox SET created_ms = created_ms - 3600000").unwrap();
    let began = &heard(&receiver, 1)[0];
    assert_eq!((&began["type"], &began["data"]["resolved"]), (&json!("sink.dead"), &json!(false)), "{began}");
    assert!(began["data"].to_string().contains("traces"), "{began}");
    // It takes one, and the other goes on failing: that is no matter of the sink.
    has_first.store(true, Ordering::SeqCst);
    service.tables.execute("UPDATE outbox SET due_ms = 0 WHERE sink = 'traces'").unwrap();
    let over = &heard(&receiver, 2)[1];
    assert_eq!(over["data"]["resolved"], true, "{over}");
    let open = "SELECT count(*) FROM outbox WHERE sink = 'traces' AND delivered_ms IS NULL AND attempts > 1";
    assert_eq!(service.tables.number(open).unwrap(), 1);
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(receiver.requests().len(), 2);
    drop(worker);
}

#[test]
fn a_row_of_the_golden_set_is_told_without_a_text_of_it() {
    let receiver = Receiver::says(Says::status(200));
    let service = service(&route("team", &receiver, "events = [\"gold.promoted\"]"));
    enqueue(&service, 0, &["The answer is yes."]);
    let worker = service.start(&[]);
    // Where nothing waits, `review next` prints nothing: it is asked once the verdict is there.
    let waiting = "SELECT count(*) FROM review_items";
    eventually(|| (service.tables.number(waiting).ok()? > 0).then_some(())).expect("it comes to review");
    let next = service.json(&["review", "next", "--reviewer", "ana"]);
    let review = next["review"]["review_id"].as_str().unwrap().to_owned();
    let run =
        |arguments: &[&str]| assert!(service.command(arguments).status().unwrap().success(), "{arguments:?}");
    run(&["review", "label", &review, "fail", "--reviewer", "ana", "--expected", "The answer is no."]);
    for _ in 0..2 {
        run(&["gold", "promote", &review, "--review", "--by", "ana"]);
    }
    let told = &heard(&receiver, 1)[0];
    assert_eq!(
        (&told["type"], &told["data"]["request_id"]),
        (&json!("gold.promoted"), &json!("kill-1")),
        "{told}"
    );
    assert!(!told.to_string().contains("The answer"), "{told}");
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(receiver.requests().len(), 1, "promoted again, nothing is new");
    drop(worker);
}

#[test]
fn the_command_line_tests_a_route_and_shows_how_routes_are() {
    let receiver = Receiver::says(Says::status(200));
    let service = service(&route("hook", &receiver, ""));
    assert!(service.command(&["migrate"]).status().unwrap().success());
    let told = service.json(&["notify", "test", "hook"]);
    assert_eq!((&told["told"], receiver.requests().len()), (&json!(true), 1), "{told}");
    assert_eq!(receiver.requests()[0].json()["type"], "notify.test");
    receiver.answers(Says::status(410));
    assert_eq!(service.command(&["notify", "test", "hook"]).status().unwrap().code(), Some(1));
    let told = service.json(&["notify", "test", "hook"]);
    assert!(told["result"].as_str().unwrap().contains("410"), "{told}");
    assert_eq!(service.command(&["notify", "test", "hok"]).status().unwrap().code(), Some(2));
    // A real message switches the route off.
    enqueue(&service, 0, &["The answer is yes."]);
    let worker = service.start(&[]);
    let off = || service.json(&["notify", "list"])["off"].as_str().map(str::to_owned);
    let reason = eventually(off).expect("410 switches it off");
    assert!(reason.contains("410"));
    assert_eq!(service.json(&["notify", "list"])["waiting"], 1, "what it was to be told stays");
    receiver.answers(Says::status(200));
    assert!(service.command(&["notify", "on", "hook"]).status().unwrap().success());
    let told = || (service.json(&["notify", "list"])["told"] == 1).then_some(());
    eventually(told).expect("it is told then");
    drop(worker);
    let before = receiver.requests().len();
    let checked = service.json(&["validate", "--connect"]).to_string();
    assert!(checked.contains("route hook: its host answers"), "{checked}");
    assert!(checked.contains("no route asks for dimension injection"), "{checked}");
    assert!(checked.contains("\"faults\":0") && checked.contains("\"warnings\":3"), "{checked}");
    let asked = &receiver.requests()[before..];
    assert!(
        asked.iter().all(|request| request.line == "HEAD / HTTP/1.1"),
        "nobody is sent a message: {asked:?}"
    );
    assert_eq!(service.command(&["notify", "on", "hook"]).status().unwrap().code(), Some(1), "it is on");
}
