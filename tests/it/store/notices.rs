//! Notices: written with the verdict, told in an order, put together into messages that stay the same.

use aftercheck::{
    domain::{Addressed, DeadClass, Event, Notice, Severity},
    store::{
        JudgeLimits, Recorded, TooOld, Whose,
        notices::{Sending, Untold, Wanted, Watched},
    },
};
use uuid::Uuid;

use super::{burial, call, delivered, numbered, on_both, place::Place, record, records, undelivered};

on_both! {
    a_verdict_brings_its_notices_and_a_repeat_brings_none
    a_message_comes_again_until_it_is_told
    a_digest_stays_what_it_was
    what_is_critical_is_summed_up_first
    after_an_outage_digests_do_not_go_out_in_a_row
    a_digest_that_failed_waits_an_hour_at_most
    what_always_fails_keeps_no_other_back
    quiet_hours_let_through_what_is_critical
    a_condition_ends_after_it_began
    a_route_that_is_off_keeps_what_it_has
    what_is_wrong_can_be_seen
    what_is_given_up_counts_from_when_it_was
    a_sink_that_takes_nothing_is_late_and_one_that_takes_others_is_not
    what_waited_while_its_sink_was_paused_is_not_late
    a_notice_goes_with_its_call_and_with_age
}

fn notice(number: u128) -> Notice {
    Notice {
        notice_id: Uuid::from_u128(number),
        event: Event::ReviewCreated,
        severity: Severity::Warning,
        condition: None,
        resolved: false,
        occurred_at: "2026-11-20T10:15:31Z".parse().unwrap(),
        tenant_id: Some("acme\0".into()),
        feature: Some("f".into()),
        request_id: None,
        evaluation_id: None,
        dimensions: Vec::new(),
        summary: "s".into(),
        details: serde_json::Map::new(),
        link: None,
    }
}

fn to(route: &str, notice: Notice) -> Addressed {
    Addressed { route: route.into(), notice }
}

fn wanted(together: u32, spacing_ms: i64) -> Wanted {
    Wanted { route: "r".into(), together, spacing_ms, critical_only: false, lease_ms: 60_000 }
}

/// What the route sends next.
async fn next(place: &Place, wanted: &Wanted) -> Option<Sending> {
    place.store.next_message(wanted).await.unwrap()
}

fn ids(sending: &Sending) -> Vec<u128> {
    sending.message.notices.iter().map(|notice| notice.notice_id.as_u128()).collect()
}

fn untold(message_id: Uuid, after_ms: Option<i64>, rest_ms: i64) -> Untold<'static> {
    Untold { route: "r", message_id, after_ms, rest_ms, error: "down\0" }
}

async fn a_verdict_brings_its_notices_and_a_repeat_brings_none(place: Place) {
    let mut one = record(&call("Yes."), "v1").await;
    one.notices = vec![to("r", notice(1)), to("s", notice(1))];
    assert_eq!(place.store.record(&[one.clone()]).await.unwrap(), [Recorded::New]);
    one.notices.push(to("r", notice(2)));
    assert_eq!(place.store.record(&[one.clone(), one]).await.unwrap(), [Recorded::AlreadyThere; 2]);
    assert_eq!(place.count("SELECT count(*) FROM notices").await, 2);
    let again = [to("r", notice(1)), to("r", notice(3)), to("r", notice(3))];
    assert_eq!(place.store.notify(&again).await.unwrap(), 1, "what is there is not written again");
}

async fn a_message_comes_again_until_it_is_told(place: Place) {
    assert_eq!(next(&place, &wanted(1, 0)).await, None);
    place.store.notify(&[to("r", notice(1)), to("r", notice(2)), to("other", notice(3))]).await.unwrap();
    let first = next(&place, &wanted(1, 0)).await.unwrap();
    assert_eq!((ids(&first), first.message.message_id), (vec![1], Uuid::from_u128(1)));
    assert_eq!(ids(&next(&place, &wanted(1, 0)).await.unwrap()), [2]);
    assert_eq!(next(&place, &wanted(1, 0)).await, None, "both are leased");
    // A worker that was killed: its lease runs out.
    place.sql("UPDATE notices SET due_ms = 0").await;
    let again = next(&place, &wanted(1, 0)).await.unwrap();
    assert_eq!(again, first);
    place.store.untold(&untold(first.message.message_id, Some(0), 0)).await.unwrap();
    place.store.told("r", Uuid::from_u128(2), 0).await.unwrap();
    let third = next(&place, &wanted(1, 0)).await.unwrap();
    assert_eq!((ids(&third), third.attempts), (vec![1], 1));
    place.store.untold(&untold(first.message.message_id, None, 0)).await.unwrap();
    place.sql("UPDATE notices SET due_ms = 0").await;
    assert_eq!(next(&place, &wanted(1, 0)).await, None, "it was given up");
    let routes = place.store.routes().await.unwrap();
    let route = routes.iter().find(|route| route.route == "r").unwrap();
    assert_eq!((route.waiting, route.told, route.dead), (0, 1, 1));
    assert_eq!(route.last_error.as_deref().map(|error| &error[..4]), Some("down"));
    assert_eq!(place.store.notices_open(&["r".into(), "other".into()]).await.unwrap(), 1);
}

async fn a_digest_stays_what_it_was(place: Place) {
    place.store.notify(&[to("r", notice(1)), to("r", notice(2))]).await.unwrap();
    let digest = next(&place, &wanted(500, 60_000)).await.unwrap();
    assert_eq!(ids(&digest), [1, 2]);
    place.store.notify(&[to("r", notice(3))]).await.unwrap();
    assert_eq!(next(&place, &wanted(500, 60_000)).await, None, "the next is due in a minute");
    place.sql("UPDATE notices SET due_ms = 0 WHERE message_id IS NOT NULL").await;
    assert_eq!(next(&place, &wanted(500, 60_000)).await, None, "also where it is the same");
    place.sql("UPDATE notice_routes SET next_ms = 0").await;
    assert_eq!(next(&place, &wanted(500, 60_000)).await.unwrap(), digest, "the same id, the same notices");
    place.store.told("r", digest.message.message_id, 0).await.unwrap();
    place.sql("UPDATE notice_routes SET next_ms = 0").await;
    assert_eq!(ids(&next(&place, &wanted(500, 60_000)).await.unwrap()), [3]);
}

async fn what_is_critical_is_summed_up_first(place: Place) {
    let critical = Notice { severity: Severity::Critical, ..notice(3) };
    place.store.notify(&[to("r", notice(1)), to("r", notice(2)), to("r", critical)]).await.unwrap();
    let most_two = wanted(2, 60_000);
    let first = next(&place, &most_two).await.unwrap();
    assert_eq!(ids(&first), [3, 1], "a backlog keeps it waiting for nothing");
    place.store.untold(&untold(first.message.message_id, Some(0), 0)).await.unwrap();
    place.sql("UPDATE notice_routes SET next_ms = 0").await;
    assert_eq!(ids(&next(&place, &most_two).await.unwrap()), [3, 1], "and the repeat is the same message");
    place.store.told("r", first.message.message_id, 86_400_000).await.unwrap();
    assert_eq!(next(&place, &wanted(2, 86_400_000)).await, None);
    let shorter =
        next(&place, &most_two).await.expect("a digest that was made shorter waits for no longer one");
    assert_eq!(ids(&shorter), [2]);
}

async fn after_an_outage_digests_do_not_go_out_in_a_row(place: Place) {
    let digest = wanted(500, 600_000);
    let later = async || place.sql("UPDATE notice_routes SET next_ms = 0, rest_ms = 0").await;
    place.store.notify(&[to("r", notice(1))]).await.unwrap();
    let first = next(&place, &digest).await.unwrap();
    for attempts in 1..4 {
        place.store.untold(&untold(first.message.message_id, Some(0), 0)).await.unwrap();
        place.store.notify(&[to("r", notice(1 + u128::from(attempts)))]).await.unwrap();
        assert_eq!(next(&place, &digest).await, None, "an attempt counts, whatever becomes of it");
        later().await;
        let again = next(&place, &digest).await.unwrap();
        assert_eq!((ids(&again), again.attempts), (vec![1], attempts), "nothing new beside it");
    }
    later().await;
    assert_eq!(next(&place, &digest).await, None, "nor while somebody is at it");
    place.store.told("r", first.message.message_id, digest.spacing_ms).await.unwrap();
    assert_eq!(next(&place, &digest).await, None, "the destination is up again, and nothing follows at once");
    later().await;
    let rest = next(&place, &digest).await.unwrap();
    assert_eq!(ids(&rest), [2, 3, 4], "one message sums up what came meanwhile");
    place.store.untold(&untold(rest.message.message_id, None, 0)).await.unwrap();
    place.store.notify(&[to("r", notice(5))]).await.unwrap();
    later().await;
    assert_eq!(ids(&next(&place, &digest).await.unwrap()), [5], "one that is given up keeps no other back");
}

async fn a_digest_that_failed_waits_an_hour_at_most(place: Place) {
    let day = wanted(500, 86_400_000);
    let hours = async || {
        let next_ms = place.count("SELECT next_ms FROM notice_routes").await;
        (next_ms - jiff::Timestamp::now().as_millisecond()) as f64 / 3_600_000.0
    };
    place.store.notify(&[to("r", notice(1))]).await.unwrap();
    let first = next(&place, &day).await.unwrap();
    assert!((0.9..1.1).contains(&hours().await), "nobody has heard that it was told");
    place.store.told("r", first.message.message_id, day.spacing_ms).await.unwrap();
    assert!((23.9..24.1).contains(&hours().await), "it was, and is the only one of its day");
}

async fn what_always_fails_keeps_no_other_back(place: Place) {
    place.store.notify(&[to("r", notice(1))]).await.unwrap();
    let bad = next(&place, &wanted(1, 0)).await.unwrap().message.message_id;
    place.store.untold(&untold(bad, Some(0), 60_000)).await.unwrap();
    place.store.notify(&[to("r", notice(2))]).await.unwrap();
    assert_eq!(next(&place, &wanted(1, 0)).await, None, "the route rests");
    place.sql("UPDATE notice_routes SET rest_ms = 0").await;
    assert_eq!(ids(&next(&place, &wanted(1, 0)).await.unwrap()), [2], "what is new goes first");
    assert_eq!(ids(&next(&place, &wanted(1, 0)).await.unwrap()), [1]);
    // One that cannot be read holds up none behind it.
    place.store.notify(&[to("r", notice(3)), to("r", notice(4))]).await.unwrap();
    place.sql("UPDATE notices SET notice = '{}' WHERE seq = (SELECT max(seq) - 1 FROM notices)").await;
    assert_eq!(next(&place, &wanted(1, 0)).await.map(|sending| ids(&sending)), None);
    assert_eq!(ids(&next(&place, &wanted(1, 0)).await.unwrap()), [4]);
}

async fn quiet_hours_let_through_what_is_critical(place: Place) {
    let critical = Notice { severity: Severity::Critical, ..notice(2) };
    place.store.notify(&[to("r", notice(1)), to("r", critical)]).await.unwrap();
    let quiet = Wanted { critical_only: true, ..wanted(500, 0) };
    assert_eq!(ids(&next(&place, &quiet).await.unwrap()), [2]);
    assert_eq!(next(&place, &quiet).await, None);
    place.store.told("r", Uuid::from_u128(2), 0).await.unwrap();
    let morning = next(&place, &wanted(500, 0)).await.unwrap();
    assert_eq!(ids(&morning), [1], "the rest waits for the morning");
    // It is on its way when the next night begins: what is critical does not wait for it.
    let critical = Notice { severity: Severity::Critical, ..notice(3) };
    place.store.notify(&[to("r", critical), to("r", notice(4))]).await.unwrap();
    assert_eq!(next(&place, &wanted(500, 0)).await, None);
    assert_eq!(ids(&next(&place, &quiet).await.unwrap()), [3]);
}

async fn a_condition_ends_after_it_began(place: Place) {
    let begin = async |given_up: u32| {
        let details = serde_json::Map::from_iter([("given_up".to_owned(), given_up.into())]);
        place.store.begin_condition("sink.dead/a", &details).await.unwrap()
    };
    let began_ms = begin(3).await;
    assert_eq!(begin(4).await, began_ms);
    let lasting = place.store.conditions().await.unwrap();
    assert_eq!((lasting.len(), lasting[0].began_ms), (1, began_ms));
    assert_eq!(lasting[0].details["given_up"], 3, "as its first notice had it");
    assert!(place.store.end_condition(&lasting[0]).await.unwrap());
    assert!(!place.store.end_condition(&lasting[0]).await.unwrap(), "another has ended it");

    let about = |number, resolved| Notice { condition: Some("c".into()), resolved, ..notice(number) };
    place.store.notify(&[to("r", about(1, false)), to("r", about(2, true))]).await.unwrap();
    let first = next(&place, &wanted(1, 0)).await.unwrap();
    assert_eq!(next(&place, &wanted(1, 0)).await, None, "the end waits for the beginning");
    place.store.untold(&untold(first.message.message_id, Some(3_600_000), 0)).await.unwrap();
    assert_eq!(next(&place, &wanted(1, 0)).await, None, "also where that failed");
    place.store.told("r", first.message.message_id, 0).await.unwrap();
    assert_eq!(ids(&next(&place, &wanted(1, 0)).await.unwrap()), [2]);
}

async fn a_route_that_is_off_keeps_what_it_has(place: Place) {
    place.store.notify(&[to("r", notice(1))]).await.unwrap();
    assert!(place.store.switch_route("r", Some("410")).await.unwrap());
    assert!(!place.store.switch_route("r", Some("again")).await.unwrap());
    assert_eq!(next(&place, &wanted(1, 0)).await, None);
    assert_eq!(place.store.notices_open(&["r".into()]).await.unwrap(), 0);
    let watched = Watched::default();
    assert_eq!(place.store.vitals(&watched).await.unwrap().off, ["r"]);
    assert_eq!(place.store.routes().await.unwrap()[0].off.as_deref(), Some("410"));
    assert!(place.store.switch_route("r", None).await.unwrap());
    assert!(!place.store.switch_route("r", None).await.unwrap());
    assert_eq!(ids(&next(&place, &wanted(1, 0)).await.unwrap()), [1]);
}

async fn what_is_wrong_can_be_seen(place: Place) {
    let limits = JudgeLimits { calls: 0, usd: 1.0, tenant_calls: 1, tenant_usd: 0.0 };
    let sinks = vec!["one".to_owned(), "two".to_owned(), "three".to_owned()];
    let watched = Watched { sinks, recent_ms: 60_000, limits };
    let vitals = place.store.vitals(&watched).await.unwrap();
    assert!(vitals.oldest_open_ms.is_empty() && vitals.given_up.is_empty() && vitals.spent.is_empty());
    place.store.record(&[record(&call("Yes."), "v1").await]).await.unwrap();
    place.store.bury(&burial(DeadClass::BadJson)).await.unwrap();
    place.sql("UPDATE outbox SET created_ms = created_ms - 10000 WHERE sink = 'one'").await;
    let refused = place.store.due("two", 1, 0).await.unwrap().remove(0).delivery_id;
    place.store.undelivered(&[undelivered(refused, None, "no")]).await.unwrap();
    let vitals = place.store.vitals(&watched).await.unwrap();
    assert_eq!(vitals.dead_letters, 1);
    assert!(vitals.oldest_open_ms["one"] >= 10_000 && vitals.oldest_open_ms.len() == 1, "{vitals:?}");
    assert_eq!(vitals.given_up["two"], 1);
    place.store.reserve_judging("acme", 0.7, &limits).await.unwrap().unwrap();
    assert_eq!(place.store.vitals(&watched).await.unwrap().spent, ["acme"]);
    place.store.reserve_judging("globex", 0.7, &limits).await.unwrap().unwrap();
    assert_eq!(place.store.vitals(&watched).await.unwrap().spent, ["", "acme", "globex"]);
    let old = Watched { recent_ms: -60_000, ..watched };
    let vitals = place.store.vitals(&old).await.unwrap();
    assert!(vitals.dead_letters == 0 && vitals.given_up.is_empty(), "what is too old does not count");
}

/// Sinks that are watched for a minute.
fn watched() -> Watched {
    Watched { sinks: vec!["one".into(), "two".into()], recent_ms: 60_000, ..Watched::default() }
}

/// The age of the oldest open delivery of the sink `one`; none where nothing of it is late.
async fn oldest(place: &Place) -> Option<i64> {
    place.store.vitals(&watched()).await.unwrap().oldest_open_ms.get("one").copied()
}

async fn what_is_given_up_counts_from_when_it_was(place: Place) {
    let store = &place.store;
    let given_up = async || store.vitals(&watched()).await.unwrap().given_up.get("two").copied();
    store.record(&records(1..2).await).await.unwrap();
    // It was tried for longer than the window.
    place.sql("UPDATE outbox SET created_ms = created_ms - 900000").await;
    let id = store.due("two", 1, 0).await.unwrap().remove(0).delivery_id;
    store.undelivered(&[undelivered(id, None, "no such trace, 900 s after")]).await.unwrap();
    assert_eq!(given_up().await, Some(1));
    assert!(store.requeue_delivery(id, "erika").await.unwrap());
    assert_eq!(given_up().await, None, "it is tried again");
    store.undelivered(&[undelivered(id, None, "no")]).await.unwrap();
    assert_eq!(store.requeue_deliveries("two", None, 10, "erika").await.unwrap(), [id]);
    assert_eq!(place.count("SELECT count(*) FROM outbox WHERE dead_ms IS NOT NULL").await, 0);
    store.undelivered(&[undelivered(id, None, "no")]).await.unwrap();
    place.sql("UPDATE outbox SET dead_ms = dead_ms - 900000").await;
    assert_eq!(given_up().await, None, "that was before the window");
}

async fn a_sink_that_takes_nothing_is_late_and_one_that_takes_others_is_not(place: Place) {
    let store = &place.store;
    store.record(&records(1..4).await).await.unwrap();
    place.sql("UPDATE outbox SET created_ms = created_ms - 600000, due_ms = due_ms - 600000").await;
    let due = store.due("one", 10, 0).await.unwrap();
    let [fails, taken] = [due[0].delivery_id, due[1].delivery_id];
    // Each fails by itself, again and again.
    place.sql("UPDATE outbox SET attempts = 12 WHERE sink = 'one'").await;
    let late = oldest(&place).await;
    assert!(late.is_some_and(|late| late >= 600_000), "it has taken nothing: {late:?}");
    store.delivered(&[delivered(taken)]).await.unwrap();
    assert_eq!(oldest(&place).await, None, "it takes others");
    // What waits with it, and does not fail, counts from when it last took something.
    place.sql(&format!("UPDATE outbox SET attempts = 0 WHERE delivery_id = '{fails}'")).await;
    assert!(oldest(&place).await.unwrap() < 60_000);
    place.sql("UPDATE sink_marks SET taken_ms = taken_ms - 300000").await;
    let late = oldest(&place).await.unwrap();
    assert!((299_000..400_000).contains(&late), "{late}");
    // What it was sent since then is late, however often it failed.
    place.sql("UPDATE outbox SET attempts = 12, created_ms = created_ms + 400000 WHERE sink = 'one'").await;
    let late = oldest(&place).await.unwrap();
    assert!((200_000..300_000).contains(&late), "{late}");
    // Of another sink nothing is known by it.
    assert!(store.vitals(&watched()).await.unwrap().oldest_open_ms["two"] >= 600_000);
}

async fn what_waited_while_its_sink_was_paused_is_not_late(place: Place) {
    let store = &place.store;
    store.record(&records(1..2).await).await.unwrap();
    place.sql("UPDATE outbox SET created_ms = created_ms - 600000").await;
    assert!(store.pause_sink("one", true).await.unwrap());
    assert_eq!(oldest(&place).await, None);
    assert!(store.pause_sink("one", false).await.unwrap());
    let age = oldest(&place).await.unwrap();
    assert!(age < 60_000, "it counts from the end of the pause: {age}");
    place.sql("UPDATE outbox SET attempts = 12").await;
    assert!(oldest(&place).await.is_some_and(|age| age < 60_000), "also what has failed");
    // A pause that was none changes nothing, and the next one is another.
    place.sql("UPDATE sink_marks SET resumed_ms = resumed_ms - 300000").await;
    assert!(!store.pause_sink("one", false).await.unwrap());
    assert!(oldest(&place).await.unwrap() >= 300_000);
    assert!(store.pause_sink("one", true).await.unwrap() && store.pause_sink("one", false).await.unwrap());
    assert!(oldest(&place).await.unwrap() < 60_000);
}

async fn a_notice_goes_with_its_call_and_with_age(place: Place) {
    let first = numbered(1, "Yes.");
    let mut one = record(&first, "v1").await;
    let of = |number| Notice { evaluation_id: Some(one.evaluation.evaluation_id), ..notice(number) };
    one.notices = vec![to("r", of(1)), to("s", of(1)), to("r", of(2))];
    place.store.record(&[one]).await.unwrap();
    place.store.notify(&[to("r", notice(3))]).await.unwrap();
    let told = next(&place, &wanted(1, 0)).await.unwrap();
    place.store.told("r", told.message.message_id, 0).await.unwrap();
    let mut texts = 0;
    let mut count =
        |text: aftercheck::store::StoredText<'_>| texts += usize::from(text.place == "notices.notice");
    place.store.each_text(&mut count).await.unwrap();
    assert_eq!(texts, 4, "a scan sees them");
    let whose = Whose::Call { request_id: first.request_id, tenant_id: None };
    let erased = place.store.erase(&whose, None, 10, &[]).await.unwrap();
    assert_eq!(erased.delivered["notify.r"], 1, "what was told is said");
    assert!(!erased.delivered.contains_key("notify.s"));
    assert_eq!(place.count("SELECT count(*) FROM notices").await, 1);
    place.store.told("r", Uuid::from_u128(3), 0).await.unwrap();
    let third = next(&place, &wanted(1, 0)).await.unwrap();
    place.store.told("r", third.message.message_id, 0).await.unwrap();
    place.store.expire(TooOld::default(), 10).await.unwrap();
    assert_eq!(place.count("SELECT count(*) FROM notices").await, 1, "it is not old");
    place.sql("UPDATE notices SET created_ms = 0").await;
    place.store.expire(TooOld::default(), 10).await.unwrap();
    assert_eq!(place.count("SELECT count(*) FROM notices").await, 0);
}
