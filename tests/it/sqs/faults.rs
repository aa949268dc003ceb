//! What goes wrong with SQS, rows 19 to 21 of the fault matrix among it: batches that fail in part, polls that hang,
//! leases that are lost, messages that come twice.

use std::{
    io::Read,
    process::Stdio,
    time::{Duration, Instant},
};

use aftercheck::sources::{
    Delivery, Disposition, Message, Source, SourceConfig, SourceError, lane,
    sqs::{self, SqsSource},
};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    PATIENCE, command, enqueue, failure,
    fake::{Call, Fake, Fault},
    has_keys, messages, settings, settle_all, some,
};
use crate::service::{Service, ended};

/// The entries of a call.
fn entries(call: &Call) -> &Vec<Value> {
    call.body["Entries"].as_array().unwrap()
}

/// Receives exactly so many.
async fn receive(source: &mut SqsSource, count: usize) -> Vec<Delivery> {
    let mut held = Vec::new();
    while held.len() < count {
        held.extend(some(source, count - held.len()).await);
    }
    held
}

/// A queue of the fake with messages on it.
async fn filled(fake: &Fake, lease_secs: u64, count: usize) -> (SourceConfig, SqsSource) {
    let settings = SourceConfig { lease_secs, ..settings(&fake.endpoint, 1) };
    sqs::publisher(&settings).publish(messages("a", count)).await.unwrap();
    let source = SqsSource::new(&settings, 5);
    (settings, source)
}

#[tokio::test]
async fn row_21_entries_that_a_delete_has_failed_are_sent_again_and_no_others() {
    if !has_keys() {
        return;
    }
    let fake = Fake::start();
    let (_, mut source) = filled(&fake, 30, 10).await;
    let held = receive(&mut source, 10).await;
    fake.plan("DeleteMessageBatch", "", 1, Fault::Half { sender_fault: false });
    assert!(settle_all(held, Disposition::Ack).await.iter().all(Result::is_ok));
    assert_eq!(fake.left(), 0, "what was reported as done is done");
    let sent: usize = fake.calls("DeleteMessageBatch").iter().map(|call| entries(call).len()).sum();
    assert!((11..=15).contains(&sent), "{sent} entries for 10 deliveries, half of a batch failed");
}

#[tokio::test]
async fn row_21_a_delete_that_fails_for_good_is_an_error_and_its_neighbours_are_done() {
    if !has_keys() {
        return;
    }
    for fault in [Fault::Half { sender_fault: false }, Fault::Half { sender_fault: true }] {
        let fake = Fake::start();
        let (_, mut source) = filled(&fake, 1, 10).await;
        let held = receive(&mut source, 10).await;
        fake.plan("DeleteMessageBatch", "", usize::MAX, fault);
        let outcomes = settle_all(held, Disposition::Ack).await;
        let failed = outcomes.iter().filter(|outcome| outcome.is_err()).count();
        assert!(failed > 0 && failed < 10, "{failed} failed");
        assert!(
            outcomes.iter().flat_map(|outcome| outcome.as_ref().err()).all(|error| {
                matches!(error, SourceError::Refused(said) if said.contains("InternalError"))
            })
        );
        fake.heal();
        // Those come again when the lease is over, the others do not.
        let again = receive(&mut source, failed).await;
        assert!(settle_all(again, Disposition::Ack).await.iter().all(Result::is_ok));
        assert_eq!(fake.left(), 0);
    }
}

#[test]
fn row_21_what_was_not_deleted_comes_again_and_is_evaluated_once() {
    let fake = Fake::start();
    let mut settings = settings(&fake.endpoint, 1);
    settings.lease_secs = 1;
    let mut service = Service::new();
    enqueue(&mut service, &settings, 60);
    fake.plan("DeleteMessageBatch", "", 8, Fault::Half { sender_fault: true });
    let mut run = command(&service, &settings, &["run", "--drain"]);
    let status = ended(&mut run.env("AFTERCHECK__SOURCE__LEASE_SECS", "1").spawn().unwrap());
    assert!(status.is_some_and(|status| status.success()));
    let count = service.report("row 21");
    assert_eq!((count.lost, count.duplicated, count.evaluations, count.dead_letters), (0, 0, 54, 6));
    assert_eq!(fake.left(), 0);
    let deleted: usize = fake.calls("DeleteMessageBatch").iter().map(|call| entries(call).len()).sum();
    assert!(deleted > 69, "some came again");
}

#[test]
fn messages_that_come_twice_under_other_receipts_are_evaluated_once() {
    let fake = Fake::start();
    let settings = settings(&fake.endpoint, 1);
    let mut service = Service::new();
    enqueue(&mut service, &settings, 60);
    fake.plan("ReceiveMessage", "", 6, Fault::Twice);
    let status = ended(&mut command(&service, &settings, &["run", "--drain"]).spawn().unwrap());
    assert!(status.is_some_and(|status| status.success()));
    let count = service.report("sqs duplicates");
    assert_eq!((count.lost, count.duplicated, count.evaluations, count.dead_letters), (0, 0, 54, 6));
    assert_eq!(fake.left(), 0);
}

#[tokio::test]
async fn row_20_polls_that_hang_are_told_and_the_queue_is_heard_again_when_they_do_not() {
    if !has_keys() {
        return;
    }
    let fake = Fake::start();
    let (_, mut source) = filled(&fake, 30, 3).await;
    fake.plan("ReceiveMessage", "", usize::MAX, Fault::Hang);
    let error = failure(&mut source).await;
    assert!(matches!(error, SourceError::Late(_)), "{error}");
    fake.heal();
    // The polls that hang still hold their part of the permits: what is left is enough to go on.
    assert_eq!(receive(&mut source, 3).await.len(), 3);
}

#[tokio::test]
async fn row_20_a_poll_that_hangs_ends_by_its_own_deadline() {
    if !has_keys() {
        return;
    }
    let fake = Fake::start();
    let (_, mut source) = filled(&fake, 30, 1).await;
    fake.plan("ReceiveMessage", "", 1, Fault::Hang);
    // One permit: the poll that hangs has it, and no other can be made before it ends.
    assert_eq!(receive(&mut source, 1).await.len(), 1);
    assert!(fake.calls("ReceiveMessage").len() >= 2);
}

#[tokio::test]
async fn row_20_a_lane_that_hangs_holds_up_no_other() {
    if !has_keys() {
        return;
    }
    let fake = Fake::start();
    let settings = settings(&fake.endpoint, 2);
    let (stuck, well) = ("acme", "beta");
    assert_ne!(lane(Some(stuck), 2), lane(Some(well), 2), "the test needs both lanes");
    fake.plan("ReceiveMessage", &format!("-{}", lane(Some(stuck), 2)), usize::MAX, Fault::Hang);
    let publisher = sqs::publisher(&settings);
    publisher.publish(messages(stuck, 5)).await.unwrap();
    publisher.publish(messages(well, 50)).await.unwrap();
    let mut source = SqsSource::new(&settings, 5);
    let mut served = 0;
    while served < 50 {
        let held = some(&mut source, 8).await;
        served += held.len();
        assert!(settle_all(held, Disposition::Ack).await.iter().all(Result::is_ok));
    }
    assert_eq!(fake.left(), 5);
    fake.heal();
    assert_eq!(receive(&mut source, 5).await.len(), 5);
}

#[tokio::test]
async fn row_20_errors_are_told_and_the_next_look_goes_on() {
    if !has_keys() {
        return;
    }
    for (status, code) in [(500, "InternalFailure"), (503, "ServiceUnavailable"), (400, "RequestThrottled")] {
        let fake = Fake::start();
        let (_, mut source) = filled(&fake, 30, 1).await;
        fake.plan("ReceiveMessage", "", 1, Fault::Status(status, code));
        let error = failure(&mut source).await.to_string();
        assert!(error.contains("ReceiveMessage") && error.contains(code), "{error}");
        assert_eq!(receive(&mut source, 1).await.len(), 1);
    }
}

#[tokio::test]
async fn row_19_a_lease_is_held_by_extending_it_and_a_lost_one_is_told() {
    if !has_keys() {
        return;
    }
    let fake = Fake::start();
    let (settings, mut source) = filled(&fake, 2, 1).await;
    let mut other = SqsSource::new(&settings, 5);
    let held = receive(&mut source, 1).await.remove(0);
    for _ in 0..4 {
        sleep(Duration::from_secs(1)).await;
        held.extend().await.unwrap();
        assert!(other.receive(1, Duration::from_millis(10)).await.unwrap().is_empty());
    }
    // No sign of life: the other has it, and the first can neither hold it nor put it off nor delete it.
    let taken = receive(&mut other, 1).await.remove(0);
    assert!(matches!(held.extend().await, Err(SourceError::LeaseLost)));
    held.settle(Disposition::Ack).await.unwrap();
    assert_eq!(fake.left(), 1, "an old receipt deletes nothing");
    taken.settle(Disposition::Ack).await.unwrap();
    assert_eq!(fake.left(), 0);
}

#[tokio::test]
async fn row_19_what_sqs_says_of_a_receipt_is_a_lost_lease() {
    if !has_keys() {
        return;
    }
    for code in ["MessageNotInflight", "ReceiptHandleIsInvalid", "AWS.SimpleQueueService.MessageNotInflight"]
    {
        let fake = Fake::start();
        let (_, mut source) = filled(&fake, 30, 2).await;
        let mut held = receive(&mut source, 2).await;
        fake.plan("ChangeMessageVisibilityBatch", "", usize::MAX, Fault::Every(code));
        fake.plan("DeleteMessageBatch", "", usize::MAX, Fault::Every(code));
        assert!(matches!(held[0].extend().await, Err(SourceError::LeaseLost)));
        let retried = held.remove(0).settle(Disposition::Retry(Duration::ZERO)).await;
        assert!(matches!(retried, Err(SourceError::LeaseLost)));
        assert!(matches!(held.remove(0).settle(Disposition::Ack).await, Err(SourceError::LeaseLost)));
    }
}

/// The service with a model that never answers: work on each call lasts until its deadline.
#[cfg(feature = "faults")]
fn slow(lease_held: bool) {
    let mut service = Service::new();
    if !service.has_model {
        return println!("skipped: no tiny model, scripts/test makes it");
    }
    let fake = Fake::start();
    let settings = settings(&fake.endpoint, 1);
    enqueue(&mut service, &settings, 4);
    if !lease_held {
        fake.plan("ChangeMessageVisibilityBatch", "", usize::MAX, Fault::Every("MessageNotInflight"));
    }
    let mut run = command(&service, &settings, &["run", "--drain"]);
    run.envs([
        ("AFTERCHECK__SOURCE__LEASE_SECS", "2"),
        ("AFTERCHECK__PIPELINE__CALL_DEADLINE_SECS", "4"),
        ("AFTERCHECK__PIPELINE__MAX_ATTEMPTS", "1"),
        ("AFTERCHECK_BROKEN", "stalled_model"),
    ]);
    assert!(ended(&mut run.spawn().unwrap()).is_some_and(|status| status.success()));
    let count = service.report(if lease_held { "row 19, lease held" } else { "row 19, lease lost" });
    assert_eq!((count.lost, count.duplicated, count.dead_letters), (0, 0, 4));
    assert_eq!(fake.left(), 0);
    let extensions = fake.calls("ChangeMessageVisibilityBatch").len();
    assert!(extensions >= 1, "the lease of slow work is extended");
}

#[cfg(feature = "faults")]
#[test]
fn row_19_work_that_outlasts_its_lease_holds_it() {
    slow(true);
}

#[cfg(feature = "faults")]
#[test]
fn row_19_work_whose_lease_is_lost_comes_again_and_ends_once() {
    slow(false);
}

#[tokio::test]
async fn what_sqs_has_not_taken_is_sent_again_and_what_it_refuses_is_an_error() {
    if !has_keys() {
        return;
    }
    let fake = Fake::start();
    let mut settings = settings(&fake.endpoint, 1);
    settings.sqs.fair = true;
    let publisher = sqs::publisher(&settings);
    fake.plan("SendMessageBatch", "", 1, Fault::Half { sender_fault: false });
    publisher.publish(messages("acme", 10)).await.unwrap();
    let sent: Vec<usize> = fake.calls("SendMessageBatch").iter().map(|call| entries(call).len()).collect();
    assert_eq!((sent, fake.left()), (vec![10, 5], 10));
    let calls = fake.calls("SendMessageBatch");
    let groups: Vec<&str> =
        calls.iter().flat_map(entries).map(|entry| entry["MessageGroupId"].as_str().unwrap()).collect();
    assert!(groups.iter().all(|group| *group == groups[0] && !group.contains("acme")));
    fake.plan("SendMessageBatch", "", 1, Fault::Every("InvalidMessageContents"));
    let error = publisher.publish(messages("acme", 2)).await.unwrap_err().to_string();
    assert!(error.contains("InvalidMessageContents"), "{error}");
    fake.plan("SendMessageBatch", "", usize::MAX, Fault::Half { sender_fault: false });
    let error = publisher.publish(messages("acme", 1)).await.unwrap_err().to_string();
    assert!(error.contains("InternalError") && error.contains("again"), "{error}");
}

#[tokio::test]
async fn what_is_heard_while_the_worker_stops_is_given_back_at_once() {
    if !has_keys() {
        return;
    }
    let fake = Fake::start();
    let settings = settings(&fake.endpoint, 1);
    let mut source = SqsSource::new(&settings, 5);
    assert!(source.receive(1, Duration::from_millis(300)).await.unwrap().is_empty());
    // A poll is in flight now. What it hears after the last look is nobody's.
    let publish = async {
        sleep(Duration::from_millis(100)).await;
        let message = Message { payload: "{}".into(), tenant_id: None };
        sqs::publisher(&settings).publish(vec![message]).await.unwrap();
    };
    let (closed, ()) = tokio::join!(source.close(), publish);
    closed.unwrap();
    let receives = fake.calls("ReceiveMessage").len();
    assert_eq!(receive(&mut SqsSource::new(&settings, 5), 1).await.len(), 1);
    assert!(receives >= 1 && fake.calls("ChangeMessageVisibilityBatch").len() == 1);
}

/// What the program logs while it meets this service, until it is ended.
fn log(fake: &Fake, level: &str, until: &str, variables: &[(&str, &str)]) -> String {
    let service = Service::new();
    let settings = settings(&fake.endpoint, 1);
    let mut run = command(&service, &settings, &["run"]);
    run.env("AFTERCHECK_LOG", level).env("AFTERCHECK__HTTP__LISTEN", "127.0.0.1:0");
    let mut child = run.envs(variables.iter().copied()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let (mut log, mut part, end) = (String::new(), [0; 4096], Instant::now() + PATIENCE);
    while !log.contains(until) && Instant::now() < end {
        let read = stderr.read(&mut part).unwrap();
        log.push_str(&String::from_utf8_lossy(&part[..read]));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(log.contains(until), "the log does not say {until:?}: {log}");
    log
}

#[test]
fn no_credential_is_logged_whatever_the_service_repeats() {
    let secrets = [
        ("AWS_SECRET_ACCESS_KEY", "a-key-that-nobody-may-see"),
        ("AWS_SESSION_TOKEN", "a-token-that-nobody-may-see"),
    ];
    for level in ["info", "debug", "trace"] {
        let fake = Fake::start();
        fake.plan("ReceiveMessage", "", usize::MAX, Fault::Status(403, "SignatureDoesNotMatch"));
        let log = log(&fake, level, "check the AWS secret key and the clock", &secrets);
        for (name, secret) in secrets {
            assert!(!log.contains(secret), "{name} is in the log of level {level}");
        }
    }
}

#[test]
fn a_queue_that_gives_up_before_we_do_is_warned_of() {
    let fake = Fake::start();
    fake.set_attributes(json!({
        "RedrivePolicy": json!({"deadLetterTargetArn": "arn", "maxReceiveCount": 5}).to_string(),
    }));
    let log = log(&fake, "warn", "raise maxReceiveCount", &[("AFTERCHECK__PIPELINE__MAX_ATTEMPTS", "5")]);
    assert!(log.contains("[pipeline] max_attempts"), "{log}");
    fake.set_attributes(json!({
        "RedrivePolicy": json!({"deadLetterTargetArn": "arn", "maxReceiveCount": "6"}).to_string(),
    }));
    let log = self::log(&fake, "info", "queue found", &[("AFTERCHECK__PIPELINE__MAX_ATTEMPTS", "5")]);
    assert!(!log.contains("raise maxReceiveCount"), "{log}");
}
