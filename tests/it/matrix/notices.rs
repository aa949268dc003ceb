//! Row 31 and crash point K10: receivers of webhooks that redirect, hang, flood, want no more or turn into somebody else, and a
//! worker that dies between the answer and the mark.

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use aftercheck::{
    domain::{Event, Message, Notice, Severity},
    sinks::{
        destination::{Destination, Told},
        guard::Lookup,
        webhook::{Webhook, WebhookConfig},
    },
};
use async_trait::async_trait;
use uuid::Uuid;

use super::{
    crashes::{finish, spawn},
    ledger::{Line, Row},
    servers::Postgres,
    stops::good_calls,
    within,
};
use crate::{
    notify::{
        SECRET,
        receiver::{Heard, Receiver, Says},
    },
    service::Parts,
};

/// A service that tells every review to a receiver.
fn parts(url: &str, more: &str) -> Parts {
    let config = format!(
        "[source]\nlease_secs = 1\n[notify.routes.hook]\nto = {{ kind = \"webhook\", url = {url:?}, \
         secrets_env = \"HOOK_SECRETS\", allow_http = true, timeout_ms = 1000{more} }}\n"
    );
    let variables = vec![("HOOK_SECRETS".to_owned(), SECRET.to_owned())];
    Parts { config: Some(config), variables, ..Parts::default() }
}

/// Notices that were written for the route.
fn written(row: &Row) -> BTreeSet<String> {
    let ids = row.service.tables.texts("SELECT CAST(notice_id AS text) FROM notices WHERE route = 'hook'");
    ids.unwrap().into_iter().collect()
}

/// Waits until every notice is told, and holds the receiver's log against them.
fn check(row: &mut Row, receiver: &Receiver) {
    let open = "SELECT count(*) FROM notices WHERE told_ms IS NULL";
    let told = within(row.patience, || (row.service.tables.number(open).ok()? == 0).then_some(()));
    row.expect(told.is_some(), "L: notices are left over and nobody tells them");
    let written = written(row);
    row.expect(!written.is_empty(), "no notice was written");
    for wrong in Heard::of(&receiver.requests()).wrong(&written) {
        row.wrong(wrong);
    }
}

/// Lets leases of workers that were killed run out, and routes rest no more.
fn hurry(row: &Row) {
    row.service
        .tables
        .execute("UPDATE notices SET due_ms = 0; UPDATE notice_routes SET rest_ms = 0")
        .unwrap();
}

/// Row 1, K10: the receiver has answered, and the worker dies before the mark, again and again.
fn dies_at_k10(name: &'static str, build: &str, deaths: usize, postgres: Option<String>) -> Line {
    let receiver = Receiver::says(Says::status(200));
    let store = if postgres.is_some() { "postgres store" } else { "sqlite" };
    let parts = Parts { postgres, ..parts(&receiver.url("/"), ", allow_private = true") };
    let mut row = Row::new(name, format!("kill -9 at K10, {store}, build {build}"), parts);
    row.patience = Duration::from_secs(60);
    row.send_payloads(good_calls(1..20));
    let broken = ("AFTERCHECK_BROKEN", build);
    for _ in 0..deaths {
        let mut worker = spawn(&row, &[broken, ("AFTERCHECK_CRASH", "K10:3")]);
        let died = within(Duration::from_secs(60), || worker.try_wait().unwrap());
        drop(worker.kill());
        drop(worker.wait());
        row.expect(died.is_some_and(|status| status.code().is_none()), "K10 was not passed three times");
        hurry(&row);
    }
    row.fault_over();
    let worker = row.worker(&[broken]);
    row.await_all();
    check(&mut row, &receiver);
    let repeats = receiver.requests().len().saturating_sub(written(&row).len());
    row.expect(repeats >= deaths, &format!("{repeats} repeats of {deaths} deaths: nothing came twice"));
    row.stop(vec![worker]);
    row.close()
}

#[test]
fn row_01_sqlite_a_notice_is_told_under_one_id_whenever_the_worker_dies() {
    dies_at_k10("1", "none", 3, None).must_hold();
}

#[test]
fn w_a_notice_under_another_id_each_time_is_found() {
    let line = dies_at_k10("broken", "random_webhook_id", 1, None);
    assert!(line.finds("W"), "{line:?}");
}

/// Row 31: the receiver fails in every way, one after the other, while calls come.
#[test]
fn row_31_a_receiver_that_fails_in_every_way_hears_of_everything() {
    let trap = Receiver::says(Says::status(200));
    let receiver = Receiver::says(Says::status(500));
    let more = ", allow_private = true";
    let mut row = Row::new(
        "31",
        "webhook: 500, 301, 429, silence, slow headers, endless body",
        parts(&receiver.url("/"), more),
    );
    let worker = row.worker(&[]);
    let away = || vec![("location", trap.url("/latest/meta-data"))];
    let faults = [
        Says::status(500),
        Says::Status(301, away(), String::new()),
        Says::Status(307, away(), String::new()),
        Says::Status(429, vec![("retry-after", "1".into())], String::new()),
        Says::Nothing,
        Says::Drips,
    ];
    for (number, says) in faults.into_iter().enumerate() {
        let before = receiver.requests().len();
        receiver.answers(says);
        row.send_payloads(good_calls(number * 10 + 1..number * 10 + 3));
        hurry(&row);
        let asked = || (receiver.requests().len() > before).then_some(());
        let asked = within(Duration::from_secs(30), || {
            hurry(&row);
            sleep(Duration::from_millis(200));
            asked()
        });
        row.expect(asked.is_some(), &format!("L: fault {number}: the receiver is not asked"));
    }
    // An endless body says nothing that matters: the status was good.
    receiver.answers(Says::Floods);
    row.fault_over();
    row.await_all();
    hurry(&row);
    sleep(Duration::from_secs(2));
    receiver.answers(Says::status(204));
    let told = within(Duration::from_secs(60), || {
        hurry(&row);
        sleep(Duration::from_millis(500));
        (row.service.tables.number("SELECT count(*) FROM notices WHERE told_ms IS NULL").ok()? == 0)
            .then_some(())
    });
    row.expect(told.is_some(), "L: the receiver answers and is not told");
    check(&mut row, &receiver);
    row.expect(trap.connections() == 0, "a redirect was followed");
    row.expect(receiver.written() < 64 << 20, "B: the endless body was read");
    row.stop(vec![worker]);
    row.close().must_hold();
}

/// Row 31: a receiver wants no more; it is left alone.
fn wants_no_more(name: &'static str, build: &str) -> Line {
    let receiver = Receiver::says(Says::status(410));
    let url = receiver.url("/");
    let mut row = Row::new(name, format!("webhook: 410, {build}"), parts(&url, ", allow_private = true"));
    row.send_payloads(good_calls(1..10));
    let worker = row.worker(&[("AFTERCHECK_BROKEN", build)]);
    row.await_all();
    within(Duration::from_secs(20), || (!receiver.requests().is_empty()).then_some(()))
        .expect("it is asked once");
    for _ in 0..10 {
        sleep(Duration::from_millis(300));
        hurry(&row);
    }
    let asked = receiver.requests().len();
    row.expect(asked == 1, &format!("410: it was asked {asked} times"));
    let off = row.service.tables.texts("SELECT off FROM notice_routes").unwrap();
    row.expect(off.iter().any(|reason| reason.contains("410")), "410: nothing says that the route is off");
    row.stop(vec![worker]);
    row.close()
}

#[test]
fn row_31_a_receiver_that_wants_no_more_is_left_alone() {
    wants_no_more("31", "none").must_hold();
}

#[test]
fn a_410_that_is_not_heard_is_found() {
    assert!(wants_no_more("broken", "deaf_to_410").finds("410"));
}

/// Row 31: a webhook that leads inside, by a name; whether its address was connected to.
fn leads_inside(name: &'static str, build: &str) -> Line {
    let trap = Receiver::says(Says::status(200));
    let port = trap.address.port();
    let url = format!("http://localhost:{port}/");
    let mut row = Row::new(
        name,
        format!("webhook: a name that leads inside, {build}"),
        parts(&url, &format!(", ports = [{port}]")),
    );
    row.send_payloads(good_calls(1..4));
    let worker = row.worker(&[("AFTERCHECK_BROKEN", build)]);
    row.await_all();
    for _ in 0..10 {
        sleep(Duration::from_millis(300));
        hurry(&row);
    }
    row.expect(trap.connections() == 0, "SSRF: a blocked address was connected to");
    let refused = row.service.tables.texts("SELECT last_error FROM notice_routes").unwrap();
    row.expect(
        refused.iter().any(|error| error.contains("no address of the public internet")),
        "SSRF: it is not said",
    );
    row.stop(vec![worker]);
    row.close()
}

#[test]
fn row_31_a_name_that_leads_inside_is_never_connected_to() {
    leads_inside("31", "none").must_hold();
}

#[test]
fn a_guard_that_lets_everything_through_is_found() {
    assert!(leads_inside("broken", "open_guard").finds("SSRF"));
}

/// Does something while no row runs.
fn alone(work: impl Future<Output = ()>) {
    super::with(|| tokio::runtime::Runtime::new().unwrap().block_on(work));
}

/// A name that has another address each time.
struct Rebinds {
    addresses: Vec<Vec<IpAddr>>,
    asked: AtomicUsize,
}

#[async_trait]
impl Lookup for Rebinds {
    async fn addresses(&self, _: &str) -> std::io::Result<Vec<IpAddr>> {
        let turn = self.asked.fetch_add(1, Ordering::SeqCst);
        Ok(self.addresses[turn.min(self.addresses.len() - 1)].clone())
    }
}

fn message() -> Message {
    let notice = Notice {
        notice_id: Uuid::from_u128(1),
        event: Event::ReviewCreated,
        severity: Severity::Info,
        condition: None,
        resolved: false,
        occurred_at: "2026-11-20T10:15:31Z".parse().unwrap(),
        tenant_id: None,
        feature: None,
        request_id: None,
        evaluation_id: None,
        dimensions: Vec::new(),
        summary: "s".into(),
        details: serde_json::Map::new(),
        link: None,
    };
    Message::of("r", vec![notice])
}

/// A webhook to a name at this port, which may lead to 127.0.0.2 and nowhere else inside.
fn rebinding(port: u16, addresses: &[&[&str]]) -> (Webhook, Arc<Rebinds>, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let secrets_file = folder.path().join("secrets");
    std::fs::write(&secrets_file, SECRET).unwrap();
    let parse = |addresses: &&[&str]| addresses.iter().map(|address| address.parse().unwrap()).collect();
    let lookup =
        Arc::new(Rebinds { addresses: addresses.iter().map(parse).collect(), asked: AtomicUsize::new(0) });
    let config = WebhookConfig {
        url: Some(format!("http://hook.example:{port}/")),
        secrets_file: Some(secrets_file),
        allow_networks: vec!["127.0.0.2/32".into()],
        allow_http: true,
        timeout_ms: 800,
        ..WebhookConfig::default()
    };
    (Webhook::with_lookup(&config, Arc::clone(&lookup) as Arc<dyn Lookup>).unwrap(), lookup, folder)
}

#[test]
fn row_31_a_name_that_changes_its_mind_leads_nowhere() {
    alone(async {
        let good = Receiver::at("127.0.0.2:0", Says::status(200));
        let port = good.address.port();
        // The same port of another address: as a metadata service would be.
        let trap = Receiver::at(&format!("127.0.0.1:{port}"), Says::status(200));
        let inside: [&[&str]; 5] = [
            &["127.0.0.1"],
            &["127.0.0.2", "127.0.0.1"],
            &["::ffff:127.0.0.1"],
            &["64:ff9b::7f00:1"],
            &["169.254.169.254"],
        ];
        for addresses in inside {
            let (webhook, lookup, _folder) = rebinding(port, &[&["127.0.0.2"], addresses]);
            assert_eq!(webhook.tell(&message()).await, Told::delivered(), "the address that was checked");
            let told = webhook.tell(&message()).await;
            assert!(
                matches!(told, Told::Again { reason, .. } if reason.contains("public internet")),
                "{addresses:?}"
            );
            assert!(webhook.check().await.is_err());
            assert!(lookup.asked.load(Ordering::SeqCst) >= 3, "each time anew");
        }
        assert_eq!((good.requests().len(), trap.connections()), (5, 0));
        println!("row 31 · webhook: DNS rebinding, 5 ways · 10 · 5 · 0 · 0 · 0 · – · yes");
    });
}

#[test]
fn row_31_an_answer_takes_no_longer_and_no_more_than_it_may() {
    alone(async {
        let receiver = Receiver::at("127.0.0.2:0", Says::status(200));
        let (webhook, _, _folder) = rebinding(receiver.address.port(), &[&["127.0.0.2"]]);
        for slow in [Says::Drips, Says::Nothing] {
            receiver.answers(slow);
            let begun = Instant::now();
            let told = webhook.tell(&message()).await;
            assert!(matches!(told, Told::Again { .. }), "{told:?}");
            assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
        }
        receiver.answers(Says::Floods);
        assert_eq!(webhook.tell(&message()).await, Told::delivered());
        sleep(Duration::from_millis(500));
        assert!(receiver.written() < 32 << 20, "{} bytes", receiver.written());
        for (asked, capped) in [("7", 7), ("999999999", 3600)] {
            receiver.answers(Says::Status(429, vec![("retry-after", asked.into())], String::new()));
            let told = webhook.tell(&message()).await;
            assert!(
                matches!(told, Told::Again { after: Some(after), .. } if after.as_secs() == capped),
                "{told:?}"
            );
        }
        println!(
            "row 31 · webhook: slow headers, silence, endless body, Retry-After · 5 · 1 · 0 · 0 · 0 · – · yes"
        );
    });
}

#[test]
fn row_01_postgres_a_notice_is_told_under_one_id_whenever_the_worker_dies() {
    let Some(postgres) = super::with(Postgres::start) else { return };
    dies_at_k10("1", "none", 2, Some(Postgres::url(postgres.port))).must_hold();
}

/// What is left of a row whose worker was killed is told by the next.
#[test]
fn row_31_what_a_drain_finds_it_tells() {
    let receiver = Receiver::says(Says::status(200));
    let row = Row::new("31", "webhook: told by a drain", parts(&receiver.url("/"), ", allow_private = true"));
    row.send_payloads(good_calls(1..6));
    assert!(super::ledger::drain(&row, 1, &[]), "it ends by itself");
    let told = receiver.requests().len();
    let mut row = row;
    row.expect(told == written(&row).len(), &format!("{told} were told"));
    finish(row).must_hold();
}
