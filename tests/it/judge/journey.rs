//! A service with a judge: whom it asks, what it keeps, and what becomes of calls whose judge cannot be asked. With the tiny
//! model, where there is one; its band is everything, so that every call is unsure.

use std::{io::Write, process::Stdio};

use serde_json::{Value, json};

use super::server::{Fault, KEY, Server, document, verdicts};
use crate::{
    notify::{
        SECRET,
        journey::route,
        receiver::{Receiver, Request, Says},
    },
    service::{Parts, Running, Service, ended, eventually},
};

/// Asks until there is an answer, off the thread of the judge.
fn until<T>(ask: impl FnMut() -> Option<T>) -> T {
    tokio::task::block_in_place(|| eventually(ask)).expect("it comes to that")
}

/// A judge that finds nothing, as the tiny model does: it does not disagree.
pub fn judge() -> Server {
    Server::of(|text| verdicts(text, "not_found", 0.1))
}

/// A service that asks this judge, with more of `[judge]`; none without the tiny model.
pub async fn service(judge: &Server, more: &str) -> Option<Service> {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, KEY).unwrap();
    let url = judge.serve().await;
    let config = format!(
        "[source]\nlease_secs = 5\n[cascade]\ncalibrated = false\nlo = 0.0\nhi = 1.0\naudit_rate = 0.0\n\
         [judge]\nenabled = true\ndeadline_secs = 20\n{more}\n\
         [[judge.models]]\nname = \"main\"\nurl = {url:?}\nmodel = \"judge-1\"\nkey_file = {key:?}\ndeadline_secs = 2\n"
    );
    let service =
        Service::of(Parts { config: Some(config), model: true, folder: Some(folder), ..Parts::default() });
    if !service.has_model {
        println!("skipped: there is no tiny model");
        return None;
    }
    Some(service)
}

/// A call that the model is unsure of.
pub fn unsure(number: usize) -> Value {
    let mut call = crate::service::call(number);
    call["content"] = json!({
        "input": "How long is the bridge?",
        "answer": format!("The bridge over river number {number} is nine metres long."),
        "contexts": [{"id": "c1", "text": format!("The bridge over river number {number} is four metres long.")}],
    });
    call
}

/// Queues messages.
pub fn queue(service: &Service, messages: &[Value]) {
    let mut enqueue = service.command(&["enqueue", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = enqueue.stdin.take().unwrap();
    messages.iter().for_each(|message| writeln!(stdin, "{message}").unwrap());
    drop(stdin);
    assert!(tokio::task::block_in_place(|| enqueue.wait().unwrap()).success());
}

/// The evaluations of a call.
pub fn evaluations(service: &Service, id: &str) -> Vec<Value> {
    tokio::task::block_in_place(|| service.json(&["why", id]))[0]["evaluations"]
        .as_array()
        .cloned()
        .unwrap_or_default()
}

/// The evaluation of a call, once there is one.
fn evaluation(service: &Service, id: &str) -> Value {
    until(|| evaluations(service, id).into_iter().next())
}

/// What a query counts.
pub fn count(service: &Service, query: &str) -> i64 {
    tokio::task::block_in_place(|| service.tables.number(query).unwrap())
}

fn execute(service: &Service, statement: &str) {
    tokio::task::block_in_place(|| service.tables.execute(statement).unwrap());
}

/// A running worker with these variables.
pub fn started(service: &Service, variables: &[(&str, &str)]) -> Running {
    tokio::task::block_in_place(|| service.start(variables))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_model_is_unsure_of_is_judged_once() {
    let judge = judge();
    let Some(service) = service(&judge, "").await else { return };
    let mut nothing_to_compare = unsure(2);
    nothing_to_compare["content"]["contexts"] = json!([]);
    queue(&service, &[unsure(1), nothing_to_compare]);
    let valid = tokio::task::block_in_place(|| service.json(&["validate"]));
    let judges = valid["checks"]
        .as_array()
        .unwrap()
        .iter()
        .find(|check| check["check"].to_string().contains("judges"));
    assert!(judges.is_some_and(|check| check["fault"].is_null()), "{valid}");
    let running = started(&service, &[]);
    let judged = evaluation(&service, "kill-1");
    assert_eq!((&judged["verdict"], &judged["decided_by"]), (&json!("fail"), &json!("judge")), "{judged}");
    let said = &judged["judge"];
    assert_eq!(
        (&said["judge"], &said["score"], &said["cached"]),
        (&json!("main"), &json!(0.1), &json!(false))
    );
    assert_eq!(
        (&said["tokens_in"], &said["cost_usd"]),
        (&json!(800), &Value::Null),
        "nobody knows its price"
    );
    assert!(said["exchange"]["asked"].as_str().unwrap().contains("nine metres long"), "{said}");
    assert_eq!(said["claims"][0]["label"], "not_found");
    assert_eq!((&said["model"], &said["model_resolved"]), (&json!("judge-1"), &json!("judge-1-2026")));
    assert_eq!(said["answered_sha256"].as_str().unwrap().len(), 64);
    let stages = judged["stages"].to_string();
    assert!(stages.contains(r#""stage":"judge","outcome":"decided""#), "{stages}");
    assert_eq!(evaluation(&service, "kill-2")["judge"], Value::Null, "there is nothing to ask");
    // The sink gets the judgement, and not what was asked.
    let archive =
        || std::fs::read_to_string(service.path("out.jsonl")).ok().filter(|text| text.contains("kill-1"));
    let archive = until(archive);
    assert!(archive.contains("not_found") && !archive.contains("nine metres"), "{archive}");
    // The same call under another evaluator version: its claim is known.
    drop(running);
    queue(&service, &[unsure(1)]);
    let running = started(&service, &[("AFTERCHECK__CASCADE__AUDIT_RATE", "0.000001")]);
    let again = until(|| evaluations(&service, "kill-1").into_iter().nth(1));
    assert_eq!((&again["judge"]["cached"], &again["verdict"]), (&json!(true), &json!("fail")));
    assert_eq!(judge.requests().len(), 1, "a redelivery or another version never pays twice");
    drop(running);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_claims_that_are_known_in_part_the_rest_is_asked() {
    let judge = judge();
    let Some(service) = service(&judge, "").await else { return };
    let contexts = json!([{"id": "c1", "text": "The bridge over the river is four metres long."},
        {"id": "c2", "text": "The tower of the town has eleven floors."}]);
    let with = |number: usize, answer: &str| {
        let mut call = unsure(number);
        call["content"]["answer"] = answer.into();
        call["content"]["contexts"] = contexts.clone();
        call
    };
    let bridge = "The bridge over the river is nine metres long.";
    queue(&service, &[with(1, bridge)]);
    let _running = started(&service, &[]);
    assert_eq!(evaluation(&service, "kill-1")["judge"]["cached"], false);
    queue(&service, &[with(2, &format!("{bridge} The tower of the town has nine floors."))]);
    let said = evaluation(&service, "kill-2")["judge"].clone();
    let cached: Vec<&Value> =
        said["claims"].as_array().unwrap().iter().map(|claim| &claim["cached"]).collect();
    assert_eq!((cached, &said["cached"]), (vec![&json!(true), &json!(false)], &json!(false)), "{said}");
    let asked = judge.requests()[1]["messages"][1]["content"].as_str().map(document).unwrap();
    let claims = asked["claims"].as_array().unwrap();
    assert_eq!((claims.len(), &claims[0]["text"]), (1, &json!("The tower of the town has nine floors.")));
    assert_eq!(asked["evidence"].as_array().unwrap().len(), 2, "each claim is read against both passages");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_judge_reads_nothing_personal() {
    let judge = judge();
    let Some(service) = service(&judge, "").await else { return };
    let (card, ssn) = ("4111 1111 1111 1111", "SSN 536-90-4399");
    let mut call = unsure(1);
    call["content"] = json!({
        "input": format!("Is {card} mine?"),
        // In an answer it would be for a rule, and no judge would be asked.
        "answer": "The bridge over the river is nine metres long.",
        "contexts": [{"id": "c1", "text": format!("The bridge of jane@example.com ({ssn}) over the river is four metres long.")}],
    });
    queue(&service, &[call]);
    let _running = started(&service, &[]);
    let judged = evaluation(&service, "kill-1");
    assert!(!judged["judge"].is_null(), "{judged}");
    let asked = json!(judge.requests()).to_string();
    assert!(asked.contains("<CARD>") && asked.contains("<SSN>") && asked.contains("<EMAIL>"), "{asked}");
    for value in ["4111", "536-90", "jane@"] {
        assert!(!asked.contains(value), "{value} in {asked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_after_the_answer_pays_nothing_again() {
    let judge = judge();
    let Some(service) = service(&judge, "").await else { return };
    queue(&service, &[unsure(1)]);
    let mut crashing = tokio::task::block_in_place(|| service.drain(&[("AFTERCHECK_CRASH", "K5:1")]));
    assert!(tokio::task::block_in_place(|| ended(&mut crashing)).is_some_and(|status| !status.success()));
    assert_eq!(judge.requests().len(), 1);
    let _running = started(&service, &[]);
    assert_eq!(evaluation(&service, "kill-1")["judge"]["cached"], true);
    assert_eq!(judge.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spent_budget_is_told_once() {
    let (judge, receiver) = (judge(), Receiver::says(Says::status(200)));
    let watched = "[judge.budget]\ncalls_per_day = 1\n[notify.watch]\nevery_secs = 1\n".to_owned()
        + &route("oncall", &receiver, "events = [\"budget.spent\"]");
    let Some(mut service) = service(&judge, &watched).await else { return };
    service.variables.push(("HOOK_SECRETS".to_owned(), SECRET.to_owned()));
    queue(&service, &[unsure(1), unsure(2)]);
    let running = started(&service, &[]);
    until(|| (count(&service, "SELECT count(*) FROM deferred") == 1).then_some(()));
    let told = until(|| receiver.requests().first().map(Request::json));
    assert_eq!((&told["type"], &told["data"]["resolved"]), (&json!("budget.spent"), &json!(false)), "{told}");
    // Some looks later.
    tokio::time::sleep(std::time::Duration::from_secs(3)).await;
    assert_eq!(receiver.requests().len(), 1);
    drop(running);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_over_the_budget_waits_for_the_next_day_or_goes_to_review() {
    let judge = judge();
    let Some(service) = service(&judge, "[judge.budget]\ncalls_per_day = 1").await else { return };
    queue(&service, &[unsure(1), unsure(2)]);
    let running = started(&service, &[]);
    until(|| (count(&service, "SELECT count(*) FROM deferred") == 1).then_some(()));
    until(|| (count(&service, "SELECT count(*) FROM evaluations") == 1).then_some(()));
    assert_eq!(running.metric("aftercheck_deferred_total", &["why=\"budget\""]), Some(1.0));
    let (first, second) = match evaluations(&service, "kill-1").is_empty() {
        true => ("kill-2", "kill-1"),
        false => ("kill-1", "kill-2"),
    };
    let judged = evaluation(&service, first);
    assert_eq!(judged["decided_by"], "judge", "{judged}");
    let told = tokio::task::block_in_place(|| service.json(&["why", second])).to_string();
    assert!(told.contains("\"deferred\"") && told.contains("budget"), "why says so: {told}");
    assert_eq!(count(&service, "SELECT count(*) FROM queue"), 0, "the queue is free of it");
    assert_eq!(judge.requests().len(), 1, "nobody was asked in vain");
    // The next day.
    execute(&service, "DELETE FROM judge_spending; UPDATE deferred SET due_ms = 0");
    assert_eq!(evaluation(&service, second)["decided_by"], "judge");
    until(|| (count(&service, "SELECT count(*) FROM deferred") == 0).then_some(()));
    // One that has waited too long is for a person.
    queue(&service, &[unsure(3)]);
    until(|| (count(&service, "SELECT count(*) FROM deferred") == 1).then_some(()));
    execute(&service, "UPDATE deferred SET due_ms = 0, since_ms = 0");
    let late = evaluation(&service, "kill-3");
    assert_eq!((&late["verdict"], &late["reasons"][1]), (&json!("review"), &json!("judge_budget")), "{late}");
    drop(running);
    let variables = [("AFTERCHECK__JUDGE__WHEN_UNAVAILABLE", "review")];
    queue(&service, &[unsure(4)]);
    let _running = started(&service, &variables);
    assert_eq!(evaluation(&service, "kill-4")["reasons"][1], "judge_budget");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_wait_for_judges_that_are_out_and_others_go_on() {
    for fault in [Fault::Hangs, Fault::Says(503, vec![], json!({}))] {
        are_out(fault).await;
    }
}

/// Has a judge fail so for a while.
async fn are_out(fault: Fault) {
    let judge = judge();
    let Some(service) = service(&judge, "").await else { return };
    judge.fails(fault);
    let mut messages: Vec<Value> = (1..8).map(unsure).collect();
    messages.extend((11..18).map(|number| {
        let mut other = unsure(number);
        other["content"]["contexts"] = json!([]);
        other
    }));
    queue(&service, &messages);
    let running = started(&service, &[("AFTERCHECK__PIPELINE__IN_FLIGHT", "4")]);
    // None of those that need no judge waits for one.
    let others = "SELECT count(*) FROM evaluations WHERE request_id >= 'kill-11' AND request_id <= 'kill-17'";
    until(|| (count(&service, others) == 7).then_some(()));
    let ended = "SELECT (SELECT count(*) FROM evaluations) + (SELECT count(*) FROM deferred)";
    until(|| (count(&service, ended) == 14).then_some(()));
    assert!(count(&service, "SELECT count(*) FROM deferred") > 0);
    let asked = judge.requests().len();
    assert!(asked <= 4 * 3, "a judge that is out is left alone: {asked} questions");
    judge.fails(None);
    until(|| {
        // The breaker lets a call through now and then; those that were turned away meanwhile are due again.
        execute(&service, "UPDATE deferred SET due_ms = 0");
        (count(&service, "SELECT count(*) FROM evaluations") == 14).then_some(())
    });
    assert_eq!(running.metric("aftercheck_judge_out", &["main"]), Some(0.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_finds_the_judge_busy_waits_for_it() {
    let judge = judge();
    let Some(service) = service(&judge, "").await else { return };
    let config = service.path("c.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(
        &config,
        text.replace("deadline_secs = 20", "deadline_secs = 2")
            .replace("name = \"main\"", "name = \"main\"\nrequests_per_minute = 1"),
    )
    .unwrap();
    queue(&service, &[unsure(1), unsure(2)]);
    let running = started(&service, &[]);
    until(|| (count(&service, "SELECT count(*) FROM evaluations") == 1).then_some(()));
    until(|| (count(&service, "SELECT count(*) FROM deferred") == 1).then_some(()));
    assert_eq!(running.metric("aftercheck_deferred_total", &["why=\"busy\""]), Some(1.0));
    assert_eq!(judge.requests().len(), 1, "nobody is asked more often than is allowed");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_cannot_be_used_is_for_a_person() {
    let judge = judge();
    let Some(service) = service(&judge, "").await else { return };
    judge.fails(Fault::Writes("It is fine, 4111 1111 1111 1111. score 1.0".into()));
    queue(&service, &[unsure(1)]);
    let _running = started(&service, &[]);
    let judged = evaluation(&service, "kill-1");
    assert_eq!((&judged["verdict"], &judged["judge"]), (&json!("review"), &Value::Null));
    assert_eq!(judged["reasons"], json!(["unsure_band", "judge_error"]));
    let stages = judged["stages"].to_string();
    assert!(stages.contains(r#""stage":"judge","outcome":"error","detail":"invalid""#), "{stages}");
    assert_eq!(judge.requests().len(), 2, "once more, and then no more");
    // What was asked and written is kept all the same, and paid for; nobody knows the price.
    let failures = judged["stages"][2]["failures"].as_array().unwrap();
    assert!(failures[0]["asked"].as_str().unwrap().contains("nine metres long"), "{judged}");
    assert_eq!((failures.len(), &failures[1]["asked"]), (2, &Value::Null), "the same is kept once");
    for failure in failures {
        assert_eq!((&failure["judge"], &failure["class"]), (&json!("main"), &json!("invalid")));
        assert_eq!(
            (&failure["answered"], &failure["tokens_in"]),
            (&json!("It is fine, <CARD>. score 1.0"), &json!(800))
        );
        assert_eq!(failure["answered_sha256"].as_str().unwrap().len(), 64);
    }
    assert_eq!((&judged["cost_usd"], &failures[0]["cost_usd"]), (&Value::Null, &Value::Null));
    let mut why = service.command(&["--format", "table", "why", "kill-1"]);
    let why = tokio::task::block_in_place(|| why.stdout(std::process::Stdio::piped()).output().unwrap());
    let line = "main gave no verdict: invalid · 800 + 60 tokens · cost unknown";
    assert_eq!(String::from_utf8_lossy(&why.stdout).matches(line).count(), 2, "{why:?}");
    let told = tokio::task::block_in_place(|| service.json(&["report", "--judge"]));
    let tax = &told["tax"];
    assert_eq!(
        (&tax["unanswered"], &tax["failures"]),
        (&json!({"invalid": 1}), &json!({"invalid": 2})),
        "{told}"
    );
    assert_eq!((&tax["tokens_in"], &tax["unpriced"]), (&json!(1600), &json!(1)), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_judge_is_compared_with_people_and_a_candidate_with_what_is_stored() {
    // Right about one of the two.
    let judge = judge();
    let Some(service) = service(&judge, "").await else { return };
    let mut dear = unsure(2);
    dear["model_resolved"] = "gpt-5".into();
    queue(&service, &[unsure(1), dear]);
    let running = started(&service, &[]);
    until(|| (count(&service, "SELECT count(*) FROM evaluations") == 2).then_some(()));
    drop(running);
    let labels = service.path("labels.jsonl");
    let lines = [("kill-1", "unsupported"), ("kill-2", "supported"), ("kill-9", "supported")]
        .map(|(id, label)| json!({"request_id": id, "label": label}).to_string());
    std::fs::write(&labels, lines.join("\n")).unwrap();
    let labels = labels.to_str().unwrap();
    let json = |arguments: &[&str]| tokio::task::block_in_place(|| service.json(arguments));
    let told = json(&["report", "--judge", "--labels", labels]);
    let all = &told["agreement"][0];
    assert_eq!((&all["feature"], &all["judge"]), (&json!("all"), &json!("judge-1")), "{told}");
    assert_eq!(all["confusion"], json!({"both": 0, "only_first": 1, "only_second": 0, "neither": 1}));
    assert_eq!((&all["agreement"], &all["kappa"]["kappa"]), (&json!(0.5), &json!(0.0)));
    let tax = &told["tax"];
    assert_eq!((&tax["judged"], &tax["tokens_in"], &tax["unpriced"]), (&json!(2), &json!(1600), &json!(2)));
    assert_eq!(told["labels"], json!({"given": 3, "judged": 2}));
    assert_eq!((&tax["unanswered"], &tax["avoided_usd"]), (&json!({}), &json!({})));
    assert_eq!(json(&["report", "--judge"])["agreement"], json!([]));
    // A candidate that is sure of everything below a half: it asks nobody, and writes nothing.
    let before = count(&service, "SELECT count(*) FROM evaluations");
    let mut replay = service.command(&["--format", "json", "replay", "--labels", labels]);
    let replay = replay.env("AFTERCHECK__CASCADE__LO", "0.5").stdout(Stdio::piped());
    let replay = tokio::task::block_in_place(|| replay.output().unwrap());
    let told: Value = serde_json::from_slice(&replay.stdout).unwrap();
    assert_eq!(
        (&told["calls"], &told["judged"], &told["flips"]),
        (&json!(2), &json!(0), &json!(0)),
        "{told}"
    );
    assert_eq!(told["verdicts"]["fail"]["fail"], 2);
    assert_eq!(
        told["candidate"]["confusion"],
        json!({"both": 0, "only_first": 1, "only_second": 0, "neither": 1})
    );
    // What would be left to the judge, who is not asked, is no flip.
    let told = json(&["replay"]);
    assert_eq!((&told["left_to_judge"], &told["flips"]), (&json!(2), &json!(0)), "{told}");
    let told = json(&["replay", "--ask-judge"]);
    assert_eq!((&told["judged"], &told["flips"]), (&json!(2), &json!(0)), "{told}");
    assert_eq!((&told["cached"], &told["compared"]), (&json!(2), &json!(2)), "{told}");
    assert_eq!(json(&["replay", "--ask-judge", "--limit", "1"])["calls"], 1);
    // A candidate without a judge leaves both to people.
    let mut replay = service.command(&["--format", "json", "replay"]);
    let replay = replay.env("AFTERCHECK__JUDGE__ENABLED", "false").stdout(Stdio::piped());
    let replay = tokio::task::block_in_place(|| replay.output().unwrap());
    let told: Value = serde_json::from_slice(&replay.stdout).unwrap();
    assert_eq!((&told["flips"], &told["verdicts"]["fail"]["review"]), (&json!(2), &json!(2)), "{told}");
    // A candidate that is content with less: flips, with their reasons.
    let mut replay = service.command(&["--format", "json", "replay"]);
    let replay = replay.env("AFTERCHECK__CASCADE__HI", "0.01").stdout(Stdio::piped());
    let replay = tokio::task::block_in_place(|| replay.output().unwrap());
    let told: Value = serde_json::from_slice(&replay.stdout).unwrap();
    assert_eq!((&told["flips"], &told["verdicts"]["fail"]["pass"]), (&json!(2), &json!(2)), "{told}");
    assert_eq!(told["examples"][0]["reasons"], json!(["supported"]));
    assert_eq!(judge.requests().len(), 2, "its answers are known");
    assert_eq!(count(&service, "SELECT count(*) FROM evaluations"), before);
    assert_eq!(count(&service, "SELECT count(*) FROM deferred"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_judge_is_asked_where_the_first_one_hangs_and_pays_from_the_budget() {
    let (first, second) = (judge(), judge());
    first.fails(Fault::Hangs);
    let folder = tempfile::tempdir().unwrap();
    let prices = folder.path().join("prices.toml");
    let table = "as_of = '2026-01-01'\n[[price]]\nmodel = 'judge-1'\nfrom = '2020-01-01'\ninput = 1000.0\ncached = 1000.0\n\
                 output = 0.0\nbatch = 0.5\n";
    std::fs::write(&prices, table).unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, KEY).unwrap();
    let more = format!(
        "prices = {prices:?}\n[judge.budget]\nusd_per_day = 9.0\n\
         [[judge.models]]\nname = \"hangs\"\nurl = {:?}\nmodel = \"judge-1\"\nkey_file = {key:?}\ndeadline_secs = 1",
        first.serve().await
    );
    let Some(service) = service(&second, &more).await else { return };
    queue(&service, &[unsure(1)]);
    let _running = started(&service, &[]);
    let judged = evaluation(&service, "kill-1");
    let said = &judged["judge"];
    assert_eq!((&said["judge"], first.requests().len()), (&json!("main"), 1), "{judged}");
    // 800 tokens at a thousand dollars a million; the question that hung is taken for paid.
    let cost = said["cost_usd"].as_f64().unwrap();
    assert!(cost > 0.8 && judged["cost_usd"].as_f64() == Some(cost), "{judged}");
    let failure = &judged["stages"][2]["failures"][0];
    assert_eq!((&failure["judge"], &failure["class"]), (&json!("hangs"), &json!("timeout")), "{judged}");
    assert!(
        failure["tokens_in"].as_u64().unwrap() > 0 && failure["cost_usd"].as_f64().unwrap() > 0.0,
        "{failure}"
    );
    assert_eq!(count(&service, "SELECT calls FROM judge_spending WHERE tenant_id = ''"), 2);
    // The next one asks the first again, and then there is no money for another.
    execute(&service, "UPDATE judge_spending SET usd = 9.0");
    queue(&service, &[unsure(2)]);
    until(|| (count(&service, "SELECT count(*) FROM deferred") == 1).then_some(()));
    assert_eq!(second.requests().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deferred_call_that_cannot_be_judged_becomes_a_dead_letter() {
    let judge = judge();
    let Some(service) = service(&judge, "[judge.budget]\ncalls_per_day = 1").await else { return };
    queue(&service, &[unsure(1), unsure(2), unsure(3)]);
    let running = started(&service, &[]);
    until(|| (count(&service, "SELECT count(*) FROM deferred") == 2).then_some(()));
    drop(running);
    // One that no longer reads as a call, and one whose work has ended the process each time.
    execute(&service, "UPDATE deferred SET due_ms = 0, tries = 9");
    execute(
        &service,
        "UPDATE deferred SET call = '{}', tries = 0 WHERE rowid = (SELECT min(rowid) FROM deferred)",
    );
    let _running = started(&service, &[]);
    until(|| {
        (count(&service, "SELECT count(*) FROM dead_letters WHERE class = 'deferred'") == 2).then_some(())
    });
    until(|| (count(&service, "SELECT count(*) FROM deferred") == 0).then_some(()));
}

#[cfg(feature = "faults")]
#[tokio::test(flavor = "multi_thread")]
async fn a_deferred_call_that_ends_the_process_takes_no_other_with_it() {
    let judge = judge();
    let Some(service) = service(&judge, "[judge.budget]\ncalls_per_day = 1").await else { return };
    queue(&service, &(1..8).map(unsure).collect::<Vec<_>>());
    let running = started(&service, &[]);
    until(|| (count(&service, "SELECT count(*) FROM deferred") == 6).then_some(()));
    until(|| (count(&service, "SELECT count(*) FROM evaluations") == 1).then_some(()));
    drop(running);
    let judged =
        tokio::task::block_in_place(|| service.tables.texts("SELECT request_id FROM evaluations").unwrap());
    let deadly = if judged == ["kill-2"] { "kill-3" } else { "kill-2" };
    let armed = [
        ("AFTERCHECK_CRASH_ON", deadly),
        ("AFTERCHECK__JUDGE__BUDGET__CALLS_PER_DAY", "100"),
        ("AFTERCHECK__PIPELINE__MAX_ATTEMPTS", "2"),
    ];
    let mut deaths = 0;
    while count(&service, "SELECT count(*) FROM deferred") > 0 {
        // Their leases have ended.
        execute(&service, "UPDATE deferred SET due_ms = 0");
        let mut worker = service.command(&["run"]);
        let mut worker = worker.env("AFTERCHECK__HTTP__LISTEN", "127.0.0.1:0").envs(armed).spawn().unwrap();
        let died = until(|| {
            let died = worker.try_wait().unwrap().map(|_| true);
            died.or((count(&service, "SELECT count(*) FROM deferred") == 0).then_some(false))
        });
        deaths += u32::from(died);
        drop(worker.kill());
        worker.wait().unwrap();
        assert!(deaths <= 2, "two attempts are allowed");
    }
    assert_eq!(deaths, 2);
    assert_eq!(count(&service, "SELECT count(*) FROM evaluations"), 6, "its neighbours are judged");
    assert_eq!(count(&service, "SELECT count(*) FROM dead_letters WHERE class = 'deferred'"), 1);
}
