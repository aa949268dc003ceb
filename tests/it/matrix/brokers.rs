//! Rows 1 to 11 with RabbitMQ in front: a node of the tests' own that is killed, frozen, cut off and out of memory.

use std::{
    thread::sleep,
    time::{Duration, Instant},
};

use super::{
    crashes::{dies_at_every_point, dies_at_random, one_call_kills},
    ledger::Row,
    proxy::{Proxy, Toxic},
    servers::{Postgres, Rabbit},
    stops::{good_calls, is_told_to_stop},
    within,
};
use crate::service::Parts;

/// The queue of these tests.
const QUEUE: &str = "faults";

/// A service whose calls come from the broker at this port.
fn parts(rabbit: &Rabbit, port: u16) -> Parts {
    let config = format!(
        "[source]\nkind = \"rabbitmq\"\nlease_secs = 5\n[source.rabbitmq]\nurl = {:?}\npassword_file = {:?}\nqueue = \"{QUEUE}\"\n\
         declare = true\nheartbeat_secs = 5\n",
        Rabbit::url(port),
        rabbit.password_file()
    );
    Parts { config: Some(config), ..Parts::default() }
}

/// What the consumers of the queue may have unacked, as the broker sees it.
fn prefetch(rabbit: &Rabbit) -> Vec<String> {
    let listed = rabbit.ctl(&["list_consumers", "queue_name", "prefetch_count"]);
    listed.lines().filter(|line| line.starts_with(QUEUE)).map(str::to_owned).collect()
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn row_01_rabbitmq_sqlite_dies_at_every_point() {
    let broker = super::with(Rabbit::start);
    let Some(rabbit) = broker else { return };
    dies_at_every_point("rabbitmq, sqlite", parts(&rabbit, rabbit.port)).must_hold();
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn row_01_rabbitmq_postgres_dies_at_every_point() {
    let (Some(rabbit), Some(postgres)) = super::with(|| (Rabbit::start(), Postgres::start())) else { return };
    let parts = Parts { postgres: Some(Postgres::url(postgres.port)), ..parts(&rabbit, rabbit.port) };
    dies_at_every_point("rabbitmq, postgres", parts).must_hold();
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn row_02_rabbitmq_postgres_dies_at_random() {
    let (Some(rabbit), Some(postgres)) = super::with(|| (Rabbit::start(), Postgres::start())) else { return };
    let parts = Parts { postgres: Some(Postgres::url(postgres.port)), ..parts(&rabbit, rabbit.port) };
    dies_at_random("rabbitmq, postgres", parts, 20, 800).must_hold();
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn row_03_rabbitmq_is_told_to_stop() {
    let Some(rabbit) = super::with(Rabbit::start) else { return };
    is_told_to_stop("rabbitmq", parts(&rabbit, rabbit.port)).must_hold();
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn row_33_rabbitmq_one_call_kills() {
    let Some(rabbit) = super::with(Rabbit::start) else { return };
    one_call_kills("rabbitmq", parts(&rabbit, rabbit.port)).must_hold();
}

/// Rows 4 and 5: the node dies and stays away for so long.
fn broker_is_away(name: &'static str, away: Duration) {
    let Some(mut rabbit) = super::with(Rabbit::start) else { return };
    let fault = format!("broker killed, back after {} s", away.as_secs());
    let mut row = Row::new(name, fault, parts(&rabbit, rabbit.port));
    let workers = vec![row.worker(&[]), row.worker(&[])];
    let flow = row.flow(5, Duration::from_millis(100));
    row.await_more(20);
    let before = prefetch(&rabbit);
    rabbit.save_queues();
    rabbit.kill();
    sleep(away);
    rabbit.start_again();
    row.fault_over();
    row.await_more(20);
    let again = within(Duration::from_secs(30), || (prefetch(&rabbit) == before).then_some(()));
    row.expect(
        again.is_some() && before.len() >= 2,
        &format!("B: prefetch was {before:?}, is {:?}", prefetch(&rabbit)),
    );
    flow.stop();
    row.await_all();
    row.stop(workers);
    row.close().must_hold();
}

#[test]
fn row_04_rabbitmq_broker_is_killed() {
    broker_is_away("4", Duration::from_secs(3));
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn row_04_rabbitmq_broker_is_killed_long() {
    broker_is_away("4", Duration::from_secs(20));
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn row_05_rabbitmq_broker_is_away_for_long() {
    broker_is_away("5", Duration::from_secs(720));
}

/// Row 6: every connection is closed, again and again.
fn connections_are_closed(times: usize) {
    let Some(rabbit) = super::with(Rabbit::start) else { return };
    let mut row = Row::new("6", format!("all connections closed {times} times"), parts(&rabbit, rabbit.port));
    let workers = vec![row.worker(&[]), row.worker(&[])];
    let flow = row.flow(5, Duration::from_millis(100));
    row.await_more(20);
    for _ in 0..times {
        rabbit.ctl(&["close_all_connections", "fault matrix"]);
        sleep(Duration::from_millis(500));
    }
    let open = rabbit.ctl(&["list_connections", "pid"]).lines().count();
    row.expect(open <= 8, &format!("B: {open} connections"));
    row.settle(flow, workers).must_hold();
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn row_06_rabbitmq_connections_are_closed() {
    connections_are_closed(5);
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn row_06_rabbitmq_connections_are_closed_long() {
    connections_are_closed(30);
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn row_07_rabbitmq_queue_is_deleted() {
    let Some(rabbit) = super::with(Rabbit::start) else { return };
    let mut row = Row::new("7", "queue deleted while it is consumed", parts(&rabbit, rabbit.port));
    let workers = vec![row.worker(&[]), row.worker(&[])];
    row.send(40);
    // What is in a queue that is deleted is gone with it: nothing may be in it.
    row.await_all();
    let empty =
        || rabbit.ctl(&["list_queues", "name", "messages"]).contains(&format!("{QUEUE}\t0")).then_some(());
    within(Duration::from_secs(30), empty).expect("all is acked");
    rabbit.ctl(&["delete_queue", QUEUE]);
    row.fault_over();
    let back = || rabbit.ctl(&["list_queues", "name"]).lines().any(|line| line == QUEUE).then_some(());
    let again = within(Duration::from_secs(60), back).is_some();
    row.expect(again, "L: the queue was not declared again");
    row.send(40);
    row.await_all();
    row.stop(workers);
    row.close().must_hold();
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn row_08_rabbitmq_channel_is_closed_for_taking_too_long() {
    let Some(rabbit) = super::with(Rabbit::start) else { return };
    // The node looks once a minute and the least that it advises is five; here a second, and three.
    rabbit.ctl(&["eval", "application:set_env(rabbit, channel_tick_interval, 1000)."]);
    rabbit.ctl(&["eval", "application:set_env(rabbit, consumer_timeout, 3000)."]);
    let mut row = Row::new("8", "channel error: consumer timeout", parts(&rabbit, rabbit.port));
    let slow = [("AFTERCHECK_SLOW_MS", "6000"), ("AFTERCHECK__PIPELINE__IN_FLIGHT", "8")];
    let workers = vec![row.worker(&slow)];
    row.send_payloads(good_calls(1..20));
    sleep(Duration::from_secs(8));
    let closed = std::fs::read_dir(rabbit.logs())
        .unwrap()
        .any(|file| std::fs::read_to_string(file.unwrap().path()).is_ok_and(|log| log.contains("timeout")));
    row.expect(closed, "the broker closed no channel, this shows nothing");
    rabbit.ctl(&["eval", "application:set_env(rabbit, consumer_timeout, 1800000)."]);
    row.fault_over();
    let quick = row.worker(&[]);
    row.send(20);
    row.await_all();
    row.stop(vec![quick]);
    row.stop(workers);
    row.close().must_hold();
}

/// Row 9: the broker says nothing any more, and its connections stay open.
fn broker_is_silent(name: &str, silence: Duration, frozen: bool) {
    let Some(rabbit) = super::with(Rabbit::start) else { return };
    let proxy = Proxy::before(rabbit.port);
    let mut row = Row::new("9", format!("{name} for {} s", silence.as_secs()), parts(&rabbit, proxy.port()));
    let worker = row.worker(&[("AFTERCHECK__HTTP__STALL_SECS", "10")]);
    let flow = row.flow(5, Duration::from_millis(100));
    row.await_more(20);
    let begun = Instant::now();
    match frozen {
        true => rabbit.freeze(true),
        false => proxy.set(Toxic::BlackHole),
    }
    let unready =
        within(Duration::from_secs(30), || (worker.get("/readyz").0 == 503).then(|| begun.elapsed()));
    row.expect(unready.is_some(), "L: ready while the broker is silent");
    sleep(silence.saturating_sub(begun.elapsed()));
    match frozen {
        true => rabbit.freeze(false),
        false => proxy.set(Toxic::None),
    }
    row.settle(flow, vec![worker]).must_hold();
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn row_09_rabbitmq_broker_is_frozen() {
    broker_is_silent("broker stopped", Duration::from_secs(20), true);
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn row_09_rabbitmq_black_hole() {
    broker_is_silent("black hole before the broker", Duration::from_secs(20), false);
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn row_09_rabbitmq_broker_is_frozen_long() {
    broker_is_silent("broker stopped", Duration::from_secs(90), true);
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn row_10_rabbitmq_alarms() {
    let Some(rabbit) = super::with(Rabbit::start) else { return };
    for (alarm, over) in [
        (["set_vm_memory_high_watermark", "0.0000001"], ["set_vm_memory_high_watermark", "0.4"]),
        (["set_disk_free_limit", "99999GB"], ["set_disk_free_limit", "10MB"]),
    ] {
        let mut row = Row::new("10", format!("alarm: {}", alarm[0]), parts(&rabbit, rabbit.port));
        row.send(60);
        let worker = row.worker(&[("AFTERCHECK_SLOW_MS", "300"), ("AFTERCHECK__PIPELINE__IN_FLIGHT", "4")]);
        row.await_more(4);
        // It has published too: that connection is the one that is stopped.
        let body = super::ledger::call(9001).to_string();
        row.note_accepted(std::iter::once(super::ledger::id(9001)));
        let published =
            worker.request("POST", "/v1/calls", &["content-type: application/json"], body.as_bytes());
        assert_eq!(published.0, 202, "{}", published.1);
        rabbit.ctl(&alarm);
        // Acks flow on a connection of their own.
        row.await_all();
        let left = || {
            rabbit.ctl(&["list_queues", "name", "messages"]).contains(&format!("{QUEUE}\t0")).then_some(())
        };
        let acked = within(Duration::from_secs(30), left).is_some();
        row.expect(acked, "L: acks did not flow during the alarm");
        let flow = row.flow(5, Duration::from_millis(100));
        sleep(Duration::from_secs(4));
        rabbit.ctl(&over);
        row.settle(flow, vec![worker]).must_hold();
    }
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn row_11_rabbitmq_resets_slow_and_sliced() {
    let Some(rabbit) = super::with(Rabbit::start) else { return };
    let proxy = Proxy::before(rabbit.port);
    let row = Row::new(
        "11",
        "resets each 20 kB, 20 kB/s, bytes alone, refused, latency",
        parts(&rabbit, proxy.port()),
    );
    let workers = vec![row.worker(&[]), row.worker(&[])];
    let flow = row.flow(5, Duration::from_millis(100));
    row.await_more(20);
    for toxic in [
        Toxic::ResetAfter(20_000),
        Toxic::Bandwidth(20_000),
        Toxic::Slice,
        Toxic::Down,
        Toxic::Limit(10_000),
        Toxic::Reset,
        Toxic::Latency(Duration::from_millis(100)),
    ] {
        proxy.set(toxic);
        sleep(Duration::from_secs(3));
    }
    proxy.set(Toxic::None);
    row.settle(flow, workers).must_hold();
}

#[test]
#[ignore = "long: scripts/faults --all"]
fn l_a_worker_that_stays_idle_after_a_disconnect_is_found() {
    let Some(rabbit) = super::with(Rabbit::start) else { return };
    let mut row = Row::new("broken", "idle_after_error, rabbitmq", parts(&rabbit, rabbit.port));
    row.patience = Duration::from_secs(20);
    let worker = row.worker(&[("AFTERCHECK_BROKEN", "idle_after_error")]);
    row.send(20);
    row.await_all();
    rabbit.ctl(&["close_all_connections", "fault matrix"]);
    row.fault_over();
    sleep(Duration::from_secs(3));
    row.send(20);
    row.await_all();
    row.stop(vec![worker]);
    assert!(row.close().finds("L"), "up but idle must be found");
}
