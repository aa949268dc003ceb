//! The whole process against a server of Langfuse: requests fail in part and are not answered, and the process dies when the server
//! has answered and nothing is marked. Every score is there once all the same, and a build that makes up ids is found.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    process::Stdio,
};

use super::{
    PUBLIC, Plan, SECRET,
    server::{Server, Version},
};
use crate::service::{Parts, Service, call, ended, eventually};

/// Calls whose scores are sent, and how often the process dies meanwhile.
const CALLS: usize = 12;
const DEATHS: usize = 3;
/// Deliveries that neither arrived nor were given up.
const OPEN: &str = "SELECT count(*) FROM outbox WHERE delivered_ms IS NULL AND dead_reason IS NULL";

/// The trace of a call.
fn trace(number: usize) -> String {
    format!("{number:032x}")
}

/// A service that has decided all calls and told nobody.
fn decided(url: &str) -> Service {
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    let config = format!(
        "[source]\nlease_secs = 1\n[sinks.traces]\nkind = 'langfuse'\nurl = '{url}'\ntimeout_ms = 500\n\
         public_key = '{PUBLIC}'\nsecret_key_file = '{}'\n",
        secret.display()
    );
    let service = Service::of(Parts { folder: Some(folder), config: Some(config), ..Parts::default() });
    for arguments in [&["migrate"][..], &["sinks", "pause", "traces"]] {
        assert!(service.command(arguments).status().unwrap().success(), "{arguments:?}");
    }
    let mut enqueue = service.command(&["enqueue", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = enqueue.stdin.take().unwrap();
    // Every tenth would be malformed.
    for number in (1_usize..).filter(|number| !number.is_multiple_of(10)).take(CALLS) {
        let mut call = call(number);
        call["trace_id"] = trace(number).into();
        writeln!(stdin, "{call}").unwrap();
    }
    drop(stdin);
    assert!(enqueue.wait().unwrap().success());
    assert!(ended(&mut service.drain(&[])).is_some_and(|status| status.success()));
    assert!(service.command(&["sinks", "resume", "traces"]).status().unwrap().success());
    service
}

/// Traces of which the server has scores, though nobody has marked that.
fn answered_and_not_marked(service: &Service, server: &Server) -> usize {
    let query = "SELECT c.body ->> 'trace_id' FROM outbox o JOIN evaluations e USING (evaluation_id)
                 JOIN calls c USING (tenant_id, request_id) WHERE o.sink = 'traces' AND o.delivered_ms IS NULL";
    let open: BTreeSet<String> = service.tables.texts(query).unwrap().into_iter().collect();
    let state = server.state();
    let there: BTreeSet<&str> = state.scores.values().filter_map(|score| score["traceId"].as_str()).collect();
    open.iter().filter(|trace| there.contains(trace.as_str())).count()
}

/// Delivers everything with a build, however often it dies; gives how many deliveries were answered and not marked.
fn until_told(service: &Service, server: &Server, build: &str) -> usize {
    let broken = ("AFTERCHECK_BROKEN", build);
    let mut unmarked = 0;
    for _ in 0..DEATHS {
        let status = ended(&mut service.drain(&[broken, ("AFTERCHECK_CRASH", "K9:1")]));
        assert!(status.is_some_and(|status| status.code().is_none()), "it did not die: {status:?}");
        unmarked += answered_and_not_marked(service, server);
        service.let_outbox_leases_end();
    }
    // What is taken is not answered at first, and then it is taken in part.
    {
        let mut state = server.state();
        (state.plan, state.stumbles) = (Plan::mixed(1), 20);
    }
    let running = service.start(&[broken]);
    let told = eventually(|| (service.tables.number(OPEN).unwrap() == 0).then_some(()));
    told.expect("everything is delivered in the end");
    drop(running);
    let state = server.state();
    assert_eq!((state.plan.left(), state.stumbles), (0, 0), "all the faults came");
    unmarked
}

/// How many scores each trace has of each name.
fn scores(server: &Server) -> BTreeMap<(String, String), usize> {
    let mut scores = BTreeMap::new();
    for score in server.state().scores.values() {
        let of = |key: &str| score[key].as_str().unwrap().to_owned();
        *scores.entry((of("traceId"), of("name"))).or_default() += 1;
    }
    scores
}

/// Runs a build; gives what is at the server in the end, and how many deliveries were answered and not marked.
async fn run(build: &'static str) -> (BTreeMap<(String, String), usize>, usize) {
    let server = Server::of(Version::V416);
    let url = server.serve().await;
    let work = move || {
        let service = decided(&url);
        let unmarked = until_told(&service, &server, build);
        (scores(&server), unmarked)
    };
    tokio::task::spawn_blocking(work).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn k9_and_row_29_each_score_is_there_once() {
    let (scores, unmarked) = run("none").await;
    assert!(unmarked > 0, "no delivery was answered and not marked: the kills prove nothing");
    let verdicts = scores.keys().filter(|(_, name)| name == "verdict").count();
    assert_eq!(verdicts, CALLS, "each trace has its verdict");
    assert!(scores.values().all(|count| *count == 1), "{scores:?}");
    println!("K9, 29 · langfuse · {CALLS} calls · {DEATHS} deaths · {} scores · doubled 0", scores.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn k9_a_build_that_makes_up_ids_is_found() {
    let (scores, _) = run("random_score_id").await;
    assert!(scores.values().any(|count| *count > 1), "{scores:?}");
}
