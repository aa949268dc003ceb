//! Kafka, against the mock brokers that librdkafka ships: they listen on TCP, and no server is needed.

#![cfg(feature = "kafka")]

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    process::{Child, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread::sleep,
    time::{Duration, Instant},
};

use aftercheck::sources::{
    Delivery, Disposition, Message, Publisher, Source, SourceError,
    kafka::{KafkaConfig, KafkaPublisher, KafkaSource, PASSWORD_VARIABLE},
    lane,
};
use rdkafka::{mocking::MockCluster, producer::DefaultProducerContext};
use tokio::time::sleep as wait;

use super::service::{Service, ended, eventually};

/// Longest that anything here may take before the test says so; far more than it takes.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long a look at the topic may last.
const LOOK: Duration = Duration::from_millis(500);
/// A lease that does not end while a test runs.
const LONG: Duration = Duration::from_secs(600);
/// The topic of every test; each has brokers of its own.
const TOPIC: &str = "calls";

/// Brokers with one topic.
struct Brokers {
    mock: MockCluster<'static, DefaultProducerContext>,
}

impl Brokers {
    fn new(partitions: i32) -> Self {
        let mock = MockCluster::new(1).unwrap();
        mock.create_topic(TOPIC, partitions, 1).unwrap();
        Self { mock }
    }

    /// Settings for these brokers. A member that is gone is noticed after four seconds: the mock lets the first member
    /// of a group wait for three, and would take it for gone sooner.
    fn config(&self) -> KafkaConfig {
        let properties = [("session.timeout.ms", "4000"), ("heartbeat.interval.ms", "200")];
        KafkaConfig {
            brokers: self.mock.bootstrap_servers(),
            topic: TOPIC.into(),
            properties: properties.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            ..KafkaConfig::default()
        }
    }

    fn source(&self, lease: Duration) -> KafkaSource {
        KafkaSource::new(&self.config(), lease).unwrap()
    }

    async fn publish(&self, messages: &[Message]) {
        KafkaPublisher::new(&self.config()).unwrap().publish(messages.to_vec()).await.unwrap();
    }
}

/// Messages of one tenant.
fn messages(tenant: &str, numbers: std::ops::Range<usize>) -> Vec<Message> {
    let message = |number| Message {
        payload: format!("{tenant}-{number}").into_bytes().into(),
        tenant_id: Some(tenant.to_owned()),
    };
    numbers.map(message).collect()
}

fn text(delivery: &Delivery) -> String {
    String::from_utf8(delivery.payload.to_vec()).unwrap()
}

fn texts(deliveries: &[Delivery]) -> Vec<String> {
    deliveries.iter().map(text).collect()
}

/// Receives until there are so many.
async fn take(source: &mut KafkaSource, count: usize) -> Vec<Delivery> {
    let until = Instant::now() + PATIENCE;
    let mut taken = Vec::new();
    while taken.len() < count {
        assert!(Instant::now() < until, "{} of {count} came: {:?}", taken.len(), texts(&taken));
        taken.extend(source.receive(count - taken.len(), LOOK).await.unwrap());
    }
    taken
}

async fn ack(deliveries: Vec<Delivery>) {
    for delivery in deliveries {
        delivery.settle(Disposition::Ack).await.unwrap();
    }
}

/// Asks until nothing waits.
async fn empty(source: &mut KafkaSource) {
    let until = Instant::now() + PATIENCE;
    while source.depth().await.map(|depth| depth.messages).unwrap_or(1) > 0 {
        assert!(Instant::now() < until, "the topic does not empty");
        wait(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ack_retry_and_drop_with_exact_bytes() {
    let brokers = Brokers::new(1);
    let bytes: Vec<u8> = (0..=255).collect();
    let sent = [bytes.clone(), b"later".to_vec(), b"dropped".to_vec(), b"".to_vec()];
    let sent = sent.map(|payload| Message { payload: payload.into(), tenant_id: None });
    brokers.publish(&sent).await;
    let mut source = brokers.source(Duration::from_secs(1));
    assert_eq!(source.depth().await.unwrap().messages, 4, "before anything is assigned");
    let mut first = take(&mut source, 4).await;
    for (delivery, message) in first.iter().zip(&sent) {
        assert_eq!(delivery.payload, message.payload);
    }
    let depth = source.depth().await.unwrap();
    assert_eq!(depth.messages, 4, "those in work wait too");
    assert!(depth.oldest.unwrap() < PATIENCE, "{depth:?}");
    drop(first.remove(2));
    first.remove(1).settle(Disposition::Retry(Duration::from_millis(200))).await.unwrap();
    ack(first).await;
    let again = take(&mut source, 2).await;
    assert_eq!(texts(&again), ["later", "dropped"]);
    again[0].extend().await.unwrap();
    ack(again).await;
    empty(&mut source).await;
    source.close().await.unwrap();
    let mut next = brokers.source(LONG);
    empty(&mut next).await;
    assert!(next.receive(1, Duration::from_secs(4)).await.unwrap().is_empty(), "all was committed");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_offset_never_passes_an_unfinished_record() {
    let brokers = Brokers::new(1);
    brokers.publish(&messages("acme", 0..10)).await;
    let mut source = brokers.source(LONG);
    let mut taken = take(&mut source, 10).await;
    let stuck = taken.remove(4);
    ack(taken).await;
    // The background commit has its time; then the worker goes without its last one.
    wait(Duration::from_millis(1500)).await;
    source.close().await.unwrap();
    assert!(matches!(stuck.extend().await, Err(SourceError::LeaseLost)), "the partition is gone");
    let mut source = brokers.source(LONG);
    let again = take(&mut source, 6).await;
    assert_eq!(texts(&again), (4..10).map(|number| format!("acme-{number}")).collect::<Vec<_>>());
    assert!(matches!(stuck.settle(Disposition::Ack).await, Err(SourceError::LeaseLost)));
    ack(again).await;
    empty(&mut source).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_record_pauses_its_partition_and_the_end_of_it_goes_on() {
    let brokers = Brokers::new(1);
    let config = KafkaConfig { max_ahead: 10, ..brokers.config() };
    let mut source = KafkaSource::new(&config, LONG).unwrap();
    // The topic grows while it is read, so that not all of it comes in one fetch.
    let mut stuck = None;
    let mut finished = 0;
    for round in 0..20 {
        brokers.publish(&messages("acme", round * 5..round * 5 + 5)).await;
        wait(Duration::from_millis(150)).await;
        for delivery in source.receive(100, LOOK).await.unwrap() {
            match text(&delivery).as_str() {
                "acme-0" => stuck = Some(delivery),
                _ => {
                    delivery.settle(Disposition::Ack).await.unwrap();
                    finished += 1;
                }
            }
        }
    }
    assert!(finished < 60, "{finished} are finished beyond the stuck one");
    assert!(source.depth().await.unwrap().messages > 40);
    stuck.expect("the first came").settle(Disposition::Ack).await.unwrap();
    while finished < 99 {
        let more = take(&mut source, 1).await;
        finished += more.len();
        ack(more).await;
    }
    empty(&mut source).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_tenants_flood_does_not_starve_another() {
    let brokers = Brokers::new(8);
    let names: Vec<String> = (0..20).map(|number| format!("tenant{number}")).collect();
    let flood = &names[0];
    let small = names.iter().find(|name| lane(Some(name), 8) != lane(Some(flood), 8)).unwrap();
    brokers.publish(&messages(flood, 0..3000)).await;
    brokers.publish(&messages(small, 0..20)).await;
    let mut source = brokers.source(LONG);
    let (mut of_flood, mut of_small) = (0, 0);
    while of_small < 20 {
        // Work takes its time. Without it all of the flood is through before the other partition is fetched.
        wait(Duration::from_millis(2)).await;
        for delivery in take(&mut source, 8).await {
            let counter =
                if text(&delivery).starts_with(&format!("{small}-")) { &mut of_small } else { &mut of_flood };
            *counter += 1;
            delivery.settle(Disposition::Ack).await.unwrap();
        }
    }
    assert!(of_flood < 1500, "{of_flood} of the flood came before the last of the others");
}

/// A worker that takes records until it is told to stop. What it has worked on is noted before it settles, as the store
/// commits before the ack; some are worked on out of order, some are dropped as if the attempt had crashed.
async fn work(
    mut source: KafkaSource,
    done: Arc<Mutex<HashMap<String, usize>>>,
    stop: Arc<AtomicBool>,
    seed: usize,
) {
    let mut count = seed;
    while !stop.load(Ordering::Relaxed) {
        let Ok(deliveries) = source.receive(16, LOOK).await else { continue };
        for delivery in deliveries {
            count += 1;
            if count.is_multiple_of(23) {
                continue;
            }
            let done = Arc::clone(&done);
            let pause = Duration::from_millis(count as u64 * 7919 % 60);
            tokio::spawn(async move {
                wait(pause).await;
                *done.lock().unwrap().entry(text(&delivery)).or_default() += 1;
                match delivery.settle(Disposition::Ack).await {
                    Ok(()) | Err(SourceError::LeaseLost) => {}
                    Err(error) => panic!("{error}"),
                }
            });
        }
    }
    source.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_that_join_and_leave_lose_nothing() {
    let brokers = Brokers::new(6);
    let (done, lease) = (Arc::new(Mutex::new(HashMap::new())), Duration::from_secs(1));
    let start = |seed| {
        let stop = Arc::new(AtomicBool::new(false));
        let source = brokers.source(lease);
        (Arc::clone(&stop), tokio::spawn(work(source, Arc::clone(&done), stop, seed)))
    };
    let steady = start(0);
    for round in 0..5 {
        let guest = start(round);
        for part in 0..4 {
            let from = round * 400 + part * 100;
            let flow = (from..from + 100)
                .flat_map(|number| messages(&format!("tenant{}", number % 13), number..number + 1));
            brokers.publish(&flow.collect::<Vec<_>>()).await;
            wait(Duration::from_millis(900)).await;
        }
        guest.0.store(true, Ordering::Relaxed);
        guest.1.await.unwrap();
    }
    let mut observer = brokers.source(lease);
    let until = Instant::now() + PATIENCE;
    // The observer joins too, and works on what it is given.
    loop {
        let left = observer.receive(100, LOOK).await.unwrap_or_default();
        for delivery in left {
            *done.lock().unwrap().entry(text(&delivery)).or_default() += 1;
            drop(delivery.settle(Disposition::Ack).await);
        }
        steady.0.store(Instant::now() + PATIENCE / 2 > until, Ordering::Relaxed);
        let waiting = observer.depth().await.map(|depth| depth.messages).unwrap_or(1);
        if waiting == 0 && done.lock().unwrap().len() == 2000 {
            break;
        }
        assert!(Instant::now() < until, "{waiting} wait, {} of 2000 are done", done.lock().unwrap().len());
    }
    steady.0.store(true, Ordering::Relaxed);
    steady.1.await.unwrap();
    observer.close().await.unwrap();
    // Commits of who leaves while the group is being shared out may be refused: those messages come again, and to an end.
    let mut last = brokers.source(LONG);
    let until = Instant::now() + PATIENCE;
    while last.depth().await.map_or(1, |depth| depth.messages) > 0 {
        assert!(Instant::now() < until, "not everything is ever committed");
        for delivery in last.receive(100, LOOK).await.unwrap_or_default() {
            *done.lock().unwrap().entry(text(&delivery)).or_default() += 1;
            drop(delivery.settle(Disposition::Ack).await);
        }
    }
    let done = done.lock().unwrap();
    let (lost, repeated) = (2000 - done.len(), done.values().filter(|times| **times > 1).count());
    println!("join and leave · accepted 2000 · done {} · lost {lost} · repeated {repeated}", done.len());
    assert_eq!(lost, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn brokers_that_are_down_are_told_and_come_back() {
    let brokers = Brokers::new(2);
    brokers.publish(&messages("acme", 0..3)).await;
    let mut source = brokers.source(LONG);
    ack(take(&mut source, 3).await).await;
    brokers.mock.broker_down(-1).unwrap();
    let until = Instant::now() + PATIENCE;
    let told = loop {
        assert!(Instant::now() < until, "nothing tells that the brokers are down");
        if let Err(error) = source.receive(1, LOOK).await {
            break error.to_string();
        }
    };
    assert!(told.contains("[source.kafka] brokers"), "{told}");
    let publisher = KafkaPublisher::new(&brokers.config()).unwrap();
    let refused = publisher.publish(messages("acme", 3..6)).await.unwrap_err().to_string();
    assert!(refused.contains("[source.kafka] brokers"), "{refused}");
    assert!(source.depth().await.is_err());
    brokers.mock.broker_up(-1).unwrap();
    publisher.publish(messages("acme", 6..9)).await.unwrap();
    // What was finished and not committed may come again; what was published since must come.
    let mut seen = HashSet::new();
    while !(6..9).all(|number| seen.contains(&format!("acme-{number}"))) {
        assert!(Instant::now() < until, "after the outage came {seen:?}");
        for delivery in source.receive(10, LOOK).await.unwrap_or_default() {
            seen.insert(text(&delivery));
            delivery.settle(Disposition::Ack).await.unwrap();
        }
    }
    empty(&mut source).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_producer_that_was_connected_hears_of_an_outage_in_time() {
    let brokers = Brokers::new(1);
    let publisher = KafkaPublisher::new(&brokers.config()).unwrap();
    publisher.publish(messages("acme", 0..1)).await.unwrap();
    brokers.mock.broker_down(-1).unwrap();
    // Longer than its own deadline, which must end it.
    let outcome = tokio::time::timeout(PATIENCE, publisher.publish(messages("acme", 1..2))).await.unwrap();
    let refused = outcome.unwrap_err().to_string();
    assert!(refused.contains("sent again") && refused.contains("[source.kafka] brokers"), "{refused}");
    brokers.mock.broker_up(-1).unwrap();
    publisher.publish(messages("acme", 2..3)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topic_that_is_not_there_is_told_with_the_remedy() {
    let brokers = Brokers::new(1);
    let absent = KafkaConfig { topic: "misspelt".into(), ..brokers.config() };
    let mut source = KafkaSource::new(&absent, LONG).unwrap();
    let told = source.receive(1, LOOK).await.err().unwrap().to_string();
    assert!(told.contains("misspelt") && told.contains("declare = true"), "{told}");
    let publisher = KafkaPublisher::new(&absent).unwrap();
    let refused = publisher.publish(messages("acme", 0..1)).await.unwrap_err().to_string();
    assert!(refused.contains("misspelt does not exist"), "{refused}");
    // The mock brokers do not create topics for clients; that they are asked can be seen.
    let declared = KafkaConfig { declare: true, ..absent };
    let refused = KafkaPublisher::new(&declared).unwrap().publish(messages("acme", 0..1)).await;
    let refused = refused.unwrap_err().to_string();
    assert!(!refused.contains("does not exist"), "{refused}");
    let there = KafkaConfig { declare: true, ..brokers.config() };
    KafkaPublisher::new(&there).unwrap().publish(messages("acme", 0..1)).await.unwrap();
}

#[test]
fn the_password_is_neither_logged_nor_told() {
    let brokers = Brokers::new(1);
    let service = service(&brokers);
    let file = service.path("c.toml");
    let config = std::fs::read_to_string(&file).unwrap();
    let signed_in =
        "security_protocol = \"sasl_plaintext\"\nsasl_mechanism = \"PLAIN\"\nusername = \"worker\"\n";
    let config = config.replace("stall_secs = 3\n", signed_in);
    let config =
        config.replace("[source.kafka.properties]\n", "[source.kafka.properties]\ndebug = \"all\"\n");
    std::fs::write(&file, config).unwrap();
    let calls = service.path("calls.jsonl");
    std::fs::write(&calls, "{}\n").unwrap();
    let mut enqueue = service.command(&["enqueue", calls.to_str().unwrap()]);
    enqueue.env("AFTERCHECK_LOG", "trace").env(PASSWORD_VARIABLE, "hunter2-secret");
    let output = enqueue.stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    assert!(!output.status.success(), "these brokers have no sign-in");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(said.contains("[source.kafka] brokers"), "the error is told: {said}");
    assert!(!said.contains("hunter2"), "{said}");
}

/// A service whose queue is the topic of these brokers.
fn service(brokers: &Brokers) -> Service {
    let service = Service::new();
    let file = service.path("c.toml");
    let KafkaConfig { brokers, topic, properties, .. } = brokers.config();
    let properties: BTreeMap<_, _> = properties.into_iter().collect();
    let block = format!(
        "kind = \"kafka\"\nlease_secs = 1\n[source.kafka]\nbrokers = {brokers:?}\ntopic = {topic:?}\nstall_secs = 3\n\
         [source.kafka.properties]\n{}",
        toml::to_string(&properties).unwrap()
    );
    let config = std::fs::read_to_string(&file).unwrap();
    assert!(config.contains("lease_secs = 1\n"));
    std::fs::write(&file, config.replace("lease_secs = 1\n", &block)).unwrap();
    service
}

/// Drains what is left, undisturbed, and counts.
fn drained(service: &Service, name: &str) {
    service.let_outbox_leases_end();
    let status = ended(&mut service.drain(&[]));
    assert!(status.is_some_and(|status| status.success()), "the last run did not drain");
    let count = service.report(name);
    assert_eq!((count.lost, count.duplicated), (0, 0), "{count:?}");
    assert_eq!(count.evaluations + count.dead_letters, service.accepted as i64);
    assert_eq!(count.dead_letters, service.accepted.div_ceil(10) as i64);
}

#[test]
fn a_journey_with_duplicates_and_malformed_calls() {
    let brokers = Brokers::new(3);
    let mut service = service(&brokers);
    service.enqueue(200);
    drained(&service, "kafka journey");
}

#[test]
fn a_journey_with_kills_loses_nothing() {
    let brokers = Brokers::new(3);
    let mut service = service(&brokers);
    let mut hits = 0;
    for _ in 0..4 {
        service.enqueue(200);
        let before = ended_calls(&service);
        let mut worker: Child = service.drain(&[]);
        // Some are finished, and some are not.
        let part = eventually(|| (ended_calls(&service) > before).then_some(()));
        worker.kill().unwrap();
        worker.wait().unwrap();
        part.expect("some calls are finished");
        hits += usize::from(service.in_work() > 0 || ended_calls(&service) < service.accepted as i64);
        sleep(Duration::from_millis(100));
    }
    println!("{hits} of 4 kills came before all calls were finished");
    assert!(hits > 0, "the kills come too late to prove anything");
    drained(&service, "kafka kills");
}

/// Calls that have come to their end.
fn ended_calls(service: &Service) -> i64 {
    let count = service.count();
    count.evaluations + count.dead_letters
}

#[cfg(feature = "faults")]
#[test]
fn a_stalled_consumer_is_built_anew() {
    let brokers = Brokers::new(2);
    let mut service = service(&brokers);
    service.enqueue(20);
    let status = ended(&mut service.drain(&[("AFTERCHECK_BROKEN", "stalled_consumer")]));
    assert!(status.is_some_and(|status| status.success()), "nothing built another consumer");
    let count = service.report("stalled kafka consumer");
    assert_eq!((count.lost, count.duplicated), (0, 0));
}
