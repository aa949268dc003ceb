//! Calls from Amazon SQS. `AFTERCHECK_TEST_SQS` holds the URL of an emulator (scripts/moto starts one), and keys of
//! any kind are in the environment; what an emulator does not do is tested against a fake of our own.

mod fake;
mod faults;

use std::{
    env,
    fs::File,
    io::Write,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use aftercheck::sources::{
    Delivery, Depth, Disposition, Message, Publisher, Source, SourceConfig, SourceError, SourceKind, lane,
    sqs::{self, SqsConfig, SqsSource},
};
use tokio::time::{Instant, sleep};

use super::service::{Service, call, ended};

/// How long one look at a queue lasts; what the pipeline gives it.
const LOOK: Duration = Duration::from_secs(1);
/// Longest that anything here may take; far more than it takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// The emulator, where there is one and the environment has the keys that every AWS client needs.
fn emulator() -> Option<String> {
    let endpoint = env::var("AFTERCHECK_TEST_SQS").ok();
    if endpoint.is_none() {
        println!("skipped: AFTERCHECK_TEST_SQS is not set, scripts/moto starts what it names");
    }
    endpoint.filter(|_| has_keys())
}

/// Whether keys are in the environment.
fn has_keys() -> bool {
    let has_keys = env::var("AWS_ACCESS_KEY_ID").is_ok() && env::var("AWS_SECRET_ACCESS_KEY").is_ok();
    if !has_keys {
        println!("skipped: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set, any value will do");
    }
    has_keys
}

/// A queue of its own on this service, created when it is first used.
fn settings(endpoint: &str, lanes: u16) -> SourceConfig {
    let queue = format!("it-{}", uuid::Uuid::now_v7());
    let sqs = SqsConfig {
        queue,
        endpoint: Some(endpoint.to_owned()),
        declare: true,
        lanes,
        poll_secs: 1,
        ..SqsConfig::default()
    };
    SourceConfig { kind: SourceKind::Sqs, lease_secs: 30, sqs, ..SourceConfig::default() }
}

/// Messages of one tenant.
fn messages(tenant: &str, count: usize) -> Vec<Message> {
    let message = |number| Message {
        payload: format!("{{\"{tenant}\": {number}}}").into(),
        tenant_id: Some(tenant.to_owned()),
    };
    (0..count).map(message).collect()
}

/// Looks until there is something; errors are passed over, as the pipeline does.
async fn some(source: &mut SqsSource, max: usize) -> Vec<Delivery> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        match source.receive(max, LOOK).await {
            Ok(deliveries) if !deliveries.is_empty() => return deliveries,
            Ok(_) => {}
            Err(_) => sleep(Duration::from_millis(200)).await,
        }
    }
    panic!("nothing was received")
}

/// Looks until there is an error.
async fn failure(source: &mut SqsSource) -> SourceError {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        match source.receive(10, LOOK).await {
            Ok(deliveries) => assert!(deliveries.is_empty()),
            Err(error) => return error,
        }
    }
    panic!("there was no error")
}

/// Settles all of them at the same time, as the pipeline does.
async fn settle_all(deliveries: Vec<Delivery>, disposition: Disposition) -> Vec<Result<(), SourceError>> {
    let mut tasks = tokio::task::JoinSet::new();
    for (place, delivery) in deliveries.into_iter().enumerate() {
        tasks.spawn(async move { (place, delivery.settle(disposition).await) });
    }
    let mut outcomes = tasks.join_all().await;
    outcomes.sort_by_key(|(place, _)| *place);
    outcomes.into_iter().map(|(_, outcome)| outcome).collect()
}

/// The program of this service, on a queue of SQS.
fn command(service: &Service, settings: &SourceConfig, arguments: &[&str]) -> Command {
    let mut command = service.command(arguments);
    let endpoint = settings.sqs.endpoint.as_deref().unwrap_or_default();
    command.envs([
        ("AFTERCHECK__SOURCE__KIND", "sqs"),
        ("AFTERCHECK__SOURCE__LEASE_SECS", "10"),
        ("AFTERCHECK__SOURCE__SQS__QUEUE", &settings.sqs.queue),
        ("AFTERCHECK__SOURCE__SQS__ENDPOINT", endpoint),
        ("AFTERCHECK__SOURCE__SQS__DECLARE", "true"),
        ("AFTERCHECK__SOURCE__SQS__POLL_SECS", "1"),
        ("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", "a-key-that-nobody-may-see"),
    ]);
    command
}

/// Queues calls through the program; every tenth is malformed, every seventh comes twice.
fn enqueue(service: &mut Service, settings: &SourceConfig, calls: usize) {
    let mut enqueue = command(service, settings, &["enqueue", "-"]).stdin(Stdio::piped()).spawn().unwrap();
    let mut stdin = enqueue.stdin.take().unwrap();
    for number in 0..calls {
        for _ in 0..if number % 7 == 0 { 2 } else { 1 } {
            writeln!(stdin, "{}", call(number)).unwrap();
        }
    }
    drop(stdin);
    assert!(enqueue.wait().unwrap().success());
    service.accepted += calls;
}

#[test]
fn calls_go_through_the_program_and_each_is_evaluated_once() {
    let Some(endpoint) = emulator() else { return };
    let settings = settings(&endpoint, 1);
    let mut service = Service::new();
    enqueue(&mut service, &settings, 200);
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("log");
    let mut run = command(&service, &settings, &["run", "--drain"]);
    run.env("AFTERCHECK_LOG", "info").stderr(File::create(&log).unwrap());
    let status = ended(&mut run.spawn().unwrap());
    assert!(status.is_some_and(|status| status.success()), "the queue was not drained");
    let told = std::fs::read_to_string(&log).unwrap();
    assert!(told.contains("\"level\":\"INFO\"") && !told.contains("\"level\":\"DEBUG\""), "{told}");
    let count = service.report("sqs journey");
    assert_eq!((count.lost, count.duplicated), (0, 0));
    assert_eq!((count.evaluations, count.dead_letters), (180, 20));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let depth = runtime.block_on(async { SqsSource::new(&settings, 5).depth().await.unwrap() });
    assert_eq!(depth.messages, 0);
}

#[test]
fn at_the_trace_level_no_library_writes_what_it_sends() {
    let Some(endpoint) = emulator() else { return };
    let (settings, service) = (settings(&endpoint, 1), Service::new());
    let mut enqueue = command(&service, &settings, &["enqueue", "-"]);
    enqueue.env("AFTERCHECK_LOG", "trace").stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut enqueue = enqueue.spawn().unwrap();
    writeln!(enqueue.stdin.take().unwrap(), "{}", call(7)).unwrap();
    let told = String::from_utf8(enqueue.wait_with_output().unwrap().stderr).unwrap();
    let lines = || told.lines().filter(|line| line.contains("\"level\":\"TRACE\""));
    assert!(told.contains("\"level\":\"DEBUG\"") && told.contains("aws_smithy"), "the filter was heard");
    assert_eq!(lines().find(|line| !line.contains("\"target\":\"aftercheck")), None);
    let answer = call(7)["content"]["answer"].as_str().unwrap().to_owned();
    assert!(!told.contains(&answer), "{told}");
}

#[tokio::test]
async fn a_delivery_is_acked_retried_and_extended() {
    let Some(endpoint) = emulator() else { return };
    let settings = SourceConfig { lease_secs: 5, ..settings(&endpoint, 1) };
    sqs::publisher(&settings).publish(messages("a", 3)).await.unwrap();
    let mut source = SqsSource::new(&settings, 5);
    let mut held = some(&mut source, 3).await;
    while held.len() < 3 {
        held.extend(some(&mut source, 3 - held.len()).await);
    }
    assert_eq!(source.depth().await.unwrap().messages, 3, "what is in work counts");
    assert!(source.depth().await.unwrap().oldest.is_some());
    let (extended, retried, acked) = (held.remove(0), held.remove(0), held.remove(0));
    let (extended_payload, retried_payload) = (extended.payload.clone(), retried.payload.clone());
    acked.settle(Disposition::Ack).await.unwrap();
    retried.settle(Disposition::Retry(Duration::from_millis(300))).await.unwrap();
    // For longer than the lease: what is extended stays ours, what is retried comes again.
    let mut again = Vec::new();
    let until = Instant::now() + Duration::from_secs(8);
    while Instant::now() < until {
        extended.extend().await.unwrap();
        again.extend(source.receive(10, LOOK).await.unwrap());
    }
    assert!(!again.is_empty() && again.iter().all(|delivery| delivery.payload == retried_payload));
    for delivery in again {
        delivery.settle(Disposition::Ack).await.unwrap();
    }
    // Given back at once, the other is there again.
    extended.settle(Disposition::Retry(Duration::ZERO)).await.unwrap();
    let last = some(&mut source, 10).await;
    assert_eq!(last[0].payload, extended_payload);
    settle_all(last, Disposition::Ack).await.into_iter().for_each(Result::unwrap);
    assert_eq!(source.depth().await.unwrap().messages, 1, "not empty before the queue has said so");
    assert!(source.receive(10, LOOK * 3).await.unwrap().is_empty());
    assert_eq!(source.depth().await.unwrap(), Depth { messages: 0, oldest: Some(Duration::ZERO) });
    source.close().await.unwrap();
}

#[tokio::test]
async fn an_absent_queue_is_named_with_the_remedy_and_a_declared_one_has_its_dead_letter_queue() {
    let Some(endpoint) = emulator() else { return };
    let declared = settings(&endpoint, 1);
    let mut checked = declared.clone();
    checked.sqs.declare = false;
    let error = failure(&mut SqsSource::new(&checked, 5)).await.to_string();
    assert!(error.contains(&checked.sqs.queue) && error.contains("declare = true"), "{error}");
    // Found by its URL too, once it is there.
    sqs::publisher(&declared).publish(messages("a", 1)).await.unwrap();
    let mut by_url = checked.clone();
    by_url.sqs.queue = format!("{endpoint}/123456789012/{}", checked.sqs.queue);
    let held = some(&mut SqsSource::new(&by_url, 5), 1).await;
    assert_eq!(held.len(), 1);
    let mut dead = checked.clone();
    dead.sqs.queue.push_str("-dead");
    assert_eq!(SqsSource::new(&dead, 5).depth().await.unwrap().messages, 0);
}

#[tokio::test]
async fn a_batch_beyond_the_limits_is_split_and_what_sqs_cannot_hold_is_refused_whole() {
    let Some(endpoint) = emulator() else { return };
    let settings = settings(&endpoint, 1);
    let publisher = sqs::publisher(&settings);
    let mut source = SqsSource::new(&settings, 5);
    for bad in [&b"{\"a\":\"\x01\"}"[..], b"\xff", "\u{ffff}".as_bytes(), &vec![b'x'; (1 << 20) + 1]] {
        let mut batch = messages("a", 3);
        batch.push(Message { payload: bad.to_vec().into(), tenant_id: None });
        let error = publisher.publish(batch).await.unwrap_err().to_string();
        assert!(error.contains("message 4") && error.contains("none of the batch was sent"), "{error}");
    }
    assert_eq!(source.depth().await.unwrap().messages, 0);
    let large = Message { payload: vec![b'x'; 300_000].into(), tenant_id: None };
    publisher.publish(vec![large; 25]).await.unwrap();
    assert_eq!(source.depth().await.unwrap().messages, 25);
}

#[tokio::test]
async fn a_flood_of_one_tenant_does_not_starve_another() {
    let Some(endpoint) = emulator() else { return };
    let mut settings = settings(&endpoint, 4);
    settings.sqs.fair = true;
    let (flood, quiet) = ("acme", "beta");
    assert_ne!(lane(Some(flood), 4), lane(Some(quiet), 4), "the test needs two lanes");
    let publisher: Arc<dyn Publisher> = sqs::publisher(&settings);
    publisher.publish(messages(flood, 400)).await.unwrap();
    let mut source = SqsSource::new(&settings, 5);
    let first = some(&mut source, 16).await;
    settle_all(first, Disposition::Ack).await.into_iter().for_each(Result::unwrap);
    publisher.publish(messages(quiet, 10)).await.unwrap();
    let (mut served, mut of_flood) = (0, 0);
    while served < 10 {
        let held = some(&mut source, 16).await;
        let of_quiet = held.iter().filter(|delivery| delivery.payload.starts_with(b"{\"beta")).count();
        served += of_quiet;
        of_flood += held.len() - of_quiet;
        settle_all(held, Disposition::Ack).await.into_iter().for_each(Result::unwrap);
    }
    println!("{of_flood} calls of the flood were served before the last of ten quiet ones");
    assert!(of_flood <= 60, "{of_flood} calls of the flood came first");
    source.close().await.unwrap();
}
