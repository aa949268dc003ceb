//! Backpressure: a worker whose permits are all in use goes on telling how much waits behind it.

use std::{io::Write, process::Stdio};

use super::postgres;
use crate::service::{Service, call, eventually};

/// The deliberately broken build in which the model's thread hangs: no permit comes free.
const STALLED: (&str, &str) = ("AFTERCHECK_BROKEN", "stalled_model");
/// Calls worked on at a time.
const IN_FLIGHT: (&str, &str) = ("AFTERCHECK__PIPELINE__IN_FLIGHT", "2");

/// Queues calls of the default configuration with these variables over it.
fn enqueue(service: &Service, variables: &[(&str, &str)], calls: std::ops::Range<usize>) {
    let mut command = service.command(&["enqueue", "-"]);
    let mut enqueue = command.envs(variables.iter().copied()).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = enqueue.stdin.take().unwrap();
    for number in calls {
        let mut call = call(number);
        call["tokens_in"] = 1.into();
        writeln!(stdin, "{call}").unwrap();
    }
    drop(stdin);
    assert!(enqueue.wait().unwrap().success());
}

/// Fills a stalled worker, queues more behind it, and waits until its metrics tell.
fn what_waits_is_shown(service: &Service, variables: &[(&str, &str)]) {
    enqueue(service, variables, 0..10);
    let running = service.start(&[variables, &[STALLED, IN_FLIGHT]].concat());
    let shows = |name: &str, value: &str| {
        let line = format!("{name} {value}");
        let seen = || running.get("/metrics").1.lines().any(|found| found == line).then_some(());
        eventually(seen).unwrap_or_else(|| panic!("{line}: {}", running.get("/metrics").1));
    };
    shows("aftercheck_in_flight", "2");
    shows("aftercheck_permits_free", "0");
    shows("aftercheck_queue_depth", "10");
    enqueue(service, variables, 10..30);
    shows("aftercheck_queue_depth", "30");
    let oldest = || {
        let metrics = running.get("/metrics").1;
        let line = metrics.lines().find_map(|line| line.strip_prefix("aftercheck_queue_oldest_seconds "))?;
        line.parse::<f64>().ok().filter(|&age| age > 0.0)
    };
    assert!(eventually(oldest).is_some(), "the oldest has waited for a while");
}

#[test]
fn a_saturated_worker_shows_what_waits_in_sqlite() {
    let service = Service::new();
    if !service.has_model {
        return println!("skipped: no tiny model, scripts/test makes it");
    }
    what_waits_is_shown(&service, &[]);
}

#[test]
fn a_saturated_worker_shows_what_waits_in_postgres() {
    let service = Service::new();
    if !service.has_model {
        return println!("skipped: no tiny model, scripts/test makes it");
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let Some(queue) = runtime.block_on(postgres::open()) else { return };
    let variables =
        [("AFTERCHECK__SOURCE__KIND", "postgres"), ("AFTERCHECK__POSTGRES__URL", queue.url.as_str())];
    what_waits_is_shown(&service, &variables);
}
