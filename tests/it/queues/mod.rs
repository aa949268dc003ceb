//! What every queue promises: one suite, which each queue runs with [`suite`].

mod backlog;
mod fairness;
mod postgres;
#[cfg(feature = "faults")]
mod pressure;
mod sqlite;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use aftercheck::sources::{Delivery, Disposition, Message, Publisher, Source, SourceError};
use async_trait::async_trait;
use bytes::Bytes;
use tokio::task::JoinSet;

/// How long one look at a queue may wait.
const LOOK: Duration = Duration::from_secs(1);
/// Looks that may find nothing before a test says that nothing comes.
const LOOKS: usize = 60;
/// A lease that no test outlives.
const LONG: Duration = Duration::from_secs(600);
/// What two clocks may differ by.
const SLACK: Duration = Duration::from_millis(100);

/// A queue that one test has to itself; it is gone when this is dropped.
#[async_trait]
pub trait Queue: Send + Sync {
    /// A consumer that may hold a delivery for so long.
    async fn consumer(&self, lease: Duration) -> Box<dyn Source>;

    /// Its producer.
    async fn publisher(&self) -> Arc<dyn Publisher>;

    /// What it can do.
    fn can(&self) -> Can {
        Can::default()
    }
}

/// What a queue can do that not every queue can.
pub struct Can {
    /// A delivery that is dropped comes again after its lease, and [`Delivery::extend`] holds it.
    pub leases: bool,
    /// Who lost a lease is told so, and can settle nothing.
    pub fencing: bool,
    /// A retry comes after its wait and not before.
    pub waits: bool,
    /// Tenants are served in turn.
    pub lanes: bool,
    /// Bytes that are no text come back as they were.
    pub binary: bool,
    /// The largest message that is tried.
    pub payload_bytes: usize,
}

impl Default for Can {
    fn default() -> Self {
        Self { leases: true, fencing: true, waits: true, lanes: true, binary: true, payload_bytes: 1 << 20 }
    }
}

/// Runs every case on the queue that `$open` gives; it gives none where its server is not there, and says so.
macro_rules! suite {
    ($open:path) => {
        crate::queues::cases!(
            $open:
            messages_come_and_never_more_than_asked_for,
            an_ack_is_final,
            a_retry_comes_again_and_not_before_its_wait,
            what_is_dropped_comes_again_and_not_before_its_lease,
            extending_holds_a_delivery,
            who_lost_a_lease_can_settle_nothing,
            nothing_is_lost_between_two_consumers,
            an_empty_queue_gives_nothing,
            the_depth_is_about_right,
            bytes_come_back_as_they_were,
            a_flood_of_one_tenant_does_not_starve_another,
        );
    };
}
pub(crate) use suite;

/// Makes one test of each case.
macro_rules! cases {
    ($open:path: $($case:ident),+ $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                if let Some(queue) = $open().await {
                    crate::queues::$case(&queue).await;
                }
            }
        )+
    };
}
pub(crate) use cases;

/// A message of a tenant.
pub fn message(tenant: &str, payload: impl Into<Bytes>) -> Message {
    Message { payload: payload.into(), tenant_id: Some(tenant.into()) }
}

/// Numbered messages of a tenant.
pub fn numbered(tenant: &str, count: usize) -> Vec<Message> {
    (0..count).map(|number| message(tenant, format!("{tenant} {number}"))).collect()
}

/// The next deliveries, however long they take.
pub async fn some(source: &mut dyn Source, max: usize) -> Vec<Delivery> {
    for _ in 0..LOOKS {
        let deliveries = source.receive(max, LOOK).await.unwrap();
        if !deliveries.is_empty() {
            return deliveries;
        }
    }
    panic!("nothing comes")
}

/// The next delivery, however long it takes.
pub async fn one(source: &mut dyn Source) -> Delivery {
    some(source, 1).await.remove(0)
}

/// Asks for the depth until it is as wanted: some queues count with a delay.
async fn depth(source: &mut dyn Source, wanted: impl Fn(u64) -> bool) {
    let mut last = None;
    for _ in 0..LOOKS {
        let messages = source.depth().await.unwrap().messages;
        if wanted(messages) {
            return;
        }
        last = Some(messages);
        tokio::time::sleep(LOOK).await;
    }
    panic!("depth {last:?}")
}

/// Settles deliveries side by side.
async fn ack(deliveries: Vec<Delivery>) {
    let mut acks = JoinSet::new();
    for delivery in deliveries {
        acks.spawn(delivery.settle(Disposition::Ack));
    }
    while let Some(done) = acks.join_next().await {
        done.unwrap().unwrap();
    }
}

pub async fn messages_come_and_never_more_than_asked_for(queue: &dyn Queue) {
    let mut source = queue.consumer(LONG).await;
    queue.publisher().await.publish(numbered("acme", 20)).await.unwrap();
    let mut seen = BTreeSet::new();
    while seen.len() < 20 {
        let deliveries = some(&mut *source, 8).await;
        assert!(deliveries.len() <= 8);
        seen.extend(deliveries.iter().map(|delivery| delivery.payload.clone()));
        ack(deliveries).await;
    }
    depth(&mut *source, |messages| messages == 0).await;
}

pub async fn an_ack_is_final(queue: &dyn Queue) {
    let lease = Duration::from_secs(1);
    let mut source = queue.consumer(lease).await;
    queue.publisher().await.publish(vec![message("acme", "x")]).await.unwrap();
    loop {
        // On a machine that stands still the lease may end in between; then it must come again.
        match one(&mut *source).await.settle(Disposition::Ack).await {
            Ok(()) => break,
            Err(SourceError::LeaseLost) => {}
            Err(error) => panic!("{error}"),
        }
    }
    let until = Instant::now() + lease * 3;
    while Instant::now() < until {
        assert!(source.receive(10, LOOK).await.unwrap().is_empty());
    }
}

pub async fn a_retry_comes_again_and_not_before_its_wait(queue: &dyn Queue) {
    let mut source = queue.consumer(LONG).await;
    queue.publisher().await.publish(vec![message("acme", "x")]).await.unwrap();
    let delivery = one(&mut *source).await;
    let (settled, wait) = (Instant::now(), Duration::from_secs(2));
    delivery.settle(Disposition::Retry(wait)).await.unwrap();
    let again = one(&mut *source).await;
    assert!(!queue.can().waits || settled.elapsed() + SLACK >= wait, "{:?}", settled.elapsed());
    assert_eq!(&again.payload[..], b"x");
    again.settle(Disposition::Retry(Duration::ZERO)).await.unwrap();
    one(&mut *source).await.settle(Disposition::Ack).await.unwrap();
    depth(&mut *source, |messages| messages == 0).await;
}

pub async fn what_is_dropped_comes_again_and_not_before_its_lease(queue: &dyn Queue) {
    if !queue.can().leases {
        return;
    }
    let lease = Duration::from_secs(2);
    let mut source = queue.consumer(lease).await;
    queue.publisher().await.publish(vec![message("acme", "x")]).await.unwrap();
    let asked = Instant::now();
    let first = one(&mut *source).await;
    drop(first);
    let again = one(&mut *source).await;
    assert!(asked.elapsed() + SLACK >= lease, "{:?}", asked.elapsed());
    assert_eq!(&again.payload[..], b"x");
}

pub async fn extending_holds_a_delivery(queue: &dyn Queue) {
    if !queue.can().leases {
        return;
    }
    let lease = Duration::from_secs(3);
    let (mut source, mut other) = (queue.consumer(lease).await, queue.consumer(lease).await);
    queue.publisher().await.publish(vec![message("acme", "x")]).await.unwrap();
    let held = one(&mut *source).await;
    let until = Instant::now() + lease * 2;
    while Instant::now() < until {
        held.extend().await.unwrap();
        assert!(other.receive(1, lease / 10).await.unwrap().is_empty(), "it is held");
    }
    held.settle(Disposition::Ack).await.unwrap();
}

pub async fn who_lost_a_lease_can_settle_nothing(queue: &dyn Queue) {
    if !queue.can().fencing {
        return;
    }
    let (mut paused, mut other) =
        (queue.consumer(Duration::from_millis(50)).await, queue.consumer(LONG).await);
    queue.publisher().await.publish(vec![message("acme", "x")]).await.unwrap();
    let stale = one(&mut *paused).await;
    let fresh = one(&mut *other).await;
    assert!(matches!(stale.extend().await, Err(SourceError::LeaseLost)));
    assert!(matches!(stale.settle(Disposition::Ack).await, Err(SourceError::LeaseLost)));
    depth(&mut *other, |messages| messages == 1).await;
    assert!(fresh.extend().await.is_ok(), "the stale extension and ack changed nothing");
    fresh.settle(Disposition::Ack).await.unwrap();
    depth(&mut *other, |messages| messages == 0).await;
}

pub async fn nothing_is_lost_between_two_consumers(queue: &dyn Queue) {
    const MESSAGES: usize = 10_000;
    let publisher = queue.publisher().await;
    for batch in numbered("acme", MESSAGES).chunks(500) {
        publisher.publish(batch.to_vec()).await.unwrap();
    }
    let seen: Arc<Mutex<BTreeMap<Bytes, usize>>> = Arc::default();
    let mut consumers = JoinSet::new();
    for _ in 0..2 {
        let (mut source, seen) = (queue.consumer(LONG).await, Arc::clone(&seen));
        consumers.spawn(async move {
            while seen.lock().unwrap().len() < MESSAGES {
                let deliveries = source.receive(64, LOOK).await.unwrap();
                for delivery in &deliveries {
                    *seen.lock().unwrap().entry(delivery.payload.clone()).or_default() += 1;
                }
                ack(deliveries).await;
            }
            source.close().await.unwrap();
        });
    }
    let all = async {
        while let Some(done) = consumers.join_next().await {
            done.unwrap()
        }
    };
    tokio::time::timeout(LOOK * LOOKS as u32 * 3, all).await.expect("all of them come");
    let seen = seen.lock().unwrap();
    let more_than_once = seen.values().filter(|&&count| count > 1).count();
    assert!(!queue.can().fencing || more_than_once == 0, "{more_than_once} came more than once");
}

pub async fn an_empty_queue_gives_nothing(queue: &dyn Queue) {
    let mut source = queue.consumer(LONG).await;
    for wait in [Duration::ZERO, LOOK] {
        let look = tokio::time::timeout(LOOK * LOOKS as u32, source.receive(10, wait));
        assert!(look.await.expect("it ends").unwrap().is_empty());
    }
}

pub async fn the_depth_is_about_right(queue: &dyn Queue) {
    let mut source = queue.consumer(LONG).await;
    queue.publisher().await.publish(numbered("acme", 100)).await.unwrap();
    depth(&mut *source, |messages| (50..=200).contains(&messages)).await;
    let mut left = 100;
    while left > 0 {
        let deliveries = some(&mut *source, left).await;
        left -= deliveries.len();
        ack(deliveries).await;
    }
    depth(&mut *source, |messages| messages == 0).await;
}

pub async fn bytes_come_back_as_they_were(queue: &dyn Queue) {
    let can = queue.can();
    let mut source = queue.consumer(LONG).await;
    let mut payloads =
        vec![Bytes::from("ä\u{1f980} \"quoted\" \\ \t\n"), Bytes::from(vec![b'x'; can.payload_bytes])];
    if can.binary {
        payloads.push((0..=255).collect());
        payloads.push((0..can.payload_bytes).map(|place| (place % 251) as u8).collect());
    }
    let messages = payloads.iter().map(|payload| message("acme", payload.clone())).collect();
    queue.publisher().await.publish(messages).await.unwrap();
    let mut expected: BTreeSet<Bytes> = payloads.into_iter().collect();
    while !expected.is_empty() {
        let deliveries = some(&mut *source, 10).await;
        for delivery in &deliveries {
            assert!(
                expected.remove(&delivery.payload),
                "{} bytes that nobody published",
                delivery.payload.len()
            );
        }
        ack(deliveries).await;
    }
}

pub async fn a_flood_of_one_tenant_does_not_starve_another(queue: &dyn Queue) {
    if !queue.can().lanes {
        return;
    }
    for (at_a_time, enough) in [(8, 24), (1, 22)] {
        let mut source = queue.consumer(LONG).await;
        let publisher = queue.publisher().await;
        // The lane of the flood comes before that of the few: who always began at the first would serve it alone.
        let (flood, few) = (format!("flood {at_a_time}"), format!("other {at_a_time}"));
        publisher.publish(numbered(&flood, 5000)).await.unwrap();
        publisher.publish(numbered(&few, 10)).await.unwrap();
        let (mut received, mut served) = (0, 0);
        while served < 10 {
            let deliveries = some(&mut *source, at_a_time).await;
            received += deliveries.len();
            served +=
                deliveries.iter().filter(|delivery| delivery.payload.starts_with(few.as_bytes())).count();
        }
        assert!(received <= enough, "{at_a_time} at a time: {received} deliveries until the few were served");
        // The next round has the queue to itself.
        let left = 5010 - received;
        let mut rest = 0;
        while rest < left {
            let deliveries = some(&mut *source, 256).await;
            rest += deliveries.len();
            ack(deliveries).await;
        }
    }
}
