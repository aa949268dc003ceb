//! The thread that polls, always: a member of the group that does not poll is thrown out. It puts records into the
//! [`Assignment`], takes finished offsets out of it, and pauses partitions that hold enough.

use std::{
    cell::Cell,
    collections::HashMap,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, sleep},
    time::{Duration, Instant},
};

use bytes::Bytes;
use rdkafka::{
    ClientContext, Message, Offset, TopicPartitionList,
    config::RDKafkaLogLevel,
    consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance},
    error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code},
    message::BorrowedMessage,
};
use serde::Deserialize;
use tokio::sync::{Notify, oneshot};

use super::{
    assignment::{Assignment, Limits, Record},
    client::{self, Clients, failed, lasting},
    offsets::Taken,
};
use crate::faults::broken;

/// How long one poll waits; also how late an offset is stored and a partition paused.
const POLL: Duration = Duration::from_millis(100);
/// Records taken between two looks at the rest.
const BATCH: usize = 500;
/// How often, and how long, the brokers are asked whether a trouble is over.
const PROBE: Duration = Duration::from_secs(1);
/// Pause after a client could not be made.
const PAUSE: Duration = Duration::from_secs(1);
/// Records held at a time, all partitions together, and bytes of them.
const HELD: (usize, usize) = (4096, 64 * 1024 * 1024);

/// What the thread shares with the source and with whoever has a record in work.
pub struct Shared {
    state: Mutex<State>,
    /// Told when a record has come, or when there is another reason to look.
    pub arrived: Notify,
}

/// See [`Shared`].
pub struct State {
    /// What is held.
    pub assignment: Assignment,
    /// Why nothing comes, where that is known.
    pub trouble: Option<Trouble>,
    /// Set to end the thread.
    pub stop: bool,
    /// Set to have the consumer built anew.
    pub rebuild: bool,
    /// Counts the consumers. What an earlier one still says is not heard.
    consumer: u64,
}

/// Why nothing comes.
#[derive(Debug, Clone)]
pub enum Trouble {
    /// What the client said; see [`lasting`].
    Code(Code),
    /// The client could not be made.
    Client(String),
}

/// The thread.
pub struct Pump {
    /// Ends with the thread.
    pub ended: oneshot::Receiver<()>,
}

impl Shared {
    /// Nothing held.
    pub fn new(ahead: usize) -> Self {
        let limits = Limits { records: HELD.0, bytes: HELD.1, ahead };
        let assignment = Assignment::new(limits, Instant::now());
        let state = State { assignment, trouble: None, stop: false, rebuild: false, consumer: 0 };
        Self { state: Mutex::new(state), arrived: Notify::new() }
    }

    /// What is held; never kept over an await.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what an earlier consumer held; the number of the next.
    fn begin(&self) -> u64 {
        let mut state = self.lock();
        state.assignment.clear(Instant::now());
        state.rebuild = false;
        state.consumer += 1;
        state.consumer
    }

    /// Notes why nothing comes.
    fn trouble(&self, trouble: Trouble) {
        self.lock().trouble = Some(trouble);
        self.arrived.notify_one();
    }
}

impl Pump {
    /// Starts the thread; it joins the group.
    ///
    /// # Errors
    /// When the system gives no thread.
    pub fn start(clients: Clients, shared: Arc<Shared>) -> io::Result<Self> {
        let (alive, ended) = oneshot::channel();
        thread::Builder::new().name("kafka".into()).spawn(move || {
            run(&clients, &shared);
            drop(alive);
        })?;
        Ok(Self { ended })
    }
}

/// Builds consumers, one after the other, until it is told to stop.
fn run(clients: &Clients, shared: &Arc<Shared>) {
    while !shared.lock().stop {
        let number = shared.begin();
        match join(clients, shared, number) {
            Ok(consumer) => {
                let failing = Cell::new(false);
                let pumping = Pumping { consumer: &consumer, clients, shared, number, failing };
                let Some(reason) = pumping.until_the_end() else {
                    // Closing revokes every partition, which commits what is finished.
                    return drop(consumer);
                };
                tracing::warn!(reason, "kafka consumer is built anew");
                retire(consumer);
            }
            Err(error) => {
                let error = failed(error).to_string();
                tracing::error!(error, "kafka consumer cannot be made, trying again");
                shared.trouble(Trouble::Client(error));
                sleep(PAUSE);
            }
        }
    }
}

/// A consumer that has subscribed.
fn join(clients: &Clients, shared: &Arc<Shared>, number: u64) -> KafkaResult<BaseConsumer<Member>> {
    let topic = clients.config().topic.clone();
    let member = Member { shared: Arc::clone(shared), topic: topic.clone(), number };
    let consumer: BaseConsumer<Member> = clients.consumer().create_with_context(member)?;
    consumer.subscribe(&[&topic])?;
    Ok(consumer)
}

/// Closes a consumer aside: one that has stalled may take its time.
fn retire(consumer: BaseConsumer<Member>) {
    if let Err(error) = thread::Builder::new().name("kafka-old".into()).spawn(move || drop(consumer)) {
        tracing::warn!(%error, "no thread to close the old kafka consumer");
    }
}

/// One consumer at work.
struct Pumping<'a> {
    consumer: &'a BaseConsumer<Member>,
    clients: &'a Clients,
    shared: &'a Shared,
    number: u64,
    /// Whether the last offsets could not be stored.
    failing: Cell<bool>,
}

impl Pumping<'_> {
    /// Polls until it is told to stop, or until another consumer is needed: then the reason.
    fn until_the_end(&self) -> Option<&'static str> {
        let mut probed = Instant::now();
        loop {
            for turn in 0..BATCH {
                let wait = if turn == 0 { POLL } else { Duration::ZERO };
                match self.consumer.poll(wait) {
                    None => break,
                    Some(Ok(message)) => self.take(&message),
                    Some(Err(error)) => {
                        if fatal(&error) {
                            tracing::error!(%error, "kafka consumer cannot go on");
                            return Some("fatal error");
                        }
                        self.note(&error);
                    }
                }
            }
            self.store();
            self.flow();
            let state = self.shared.lock();
            let (stop, rebuild, troubled) = (state.stop, state.rebuild, state.trouble.is_some());
            drop(state);
            if stop {
                return None;
            }
            if rebuild {
                return Some("records wait and none comes");
            }
            if troubled && probed.elapsed() >= PROBE {
                self.probe();
                probed = Instant::now();
            }
        }
    }

    /// Puts one record in.
    fn take(&self, message: &BorrowedMessage<'_>) {
        // A record without a value is malformed; as such it ends in a dead letter.
        let payload = Bytes::copy_from_slice(message.payload().unwrap_or_default());
        let record = Record { payload, timestamp_ms: message.timestamp().to_millis() };
        let (partition, offset) = (message.partition(), message.offset());
        let mut state = self.shared.lock();
        let taken = state.assignment.take(partition, offset, record, Instant::now());
        state.trouble = None;
        drop(state);
        if taken == Taken::Back {
            tracing::warn!(
                partition,
                offset,
                "the log goes on at an earlier offset, what it holds is read again"
            );
        }
        self.shared.arrived.notify_one();
    }

    /// Notes what the client says beside records.
    fn note(&self, error: &KafkaError) {
        match error {
            KafkaError::PartitionEOF(partition) => {
                let mut state = self.shared.lock();
                state.assignment.at_end(*partition);
                state.trouble = None;
            }
            KafkaError::MessageConsumption(code) if lasting(self.clients.config(), *code).is_some() => {
                self.shared.trouble(Trouble::Code(*code));
            }
            error => tracing::warn!(%error, "kafka consumer"),
        }
    }

    /// Stores what is finished; it is committed in the background. For a partition that was taken away in between this
    /// is no error: its next owner repeats what was not committed.
    fn store(&self) {
        let offsets = self.shared.lock().assignment.unstored();
        if offsets.is_empty() {
            return;
        }
        match list(&self.clients.config().topic, &offsets).and_then(|list| self.consumer.store_offsets(&list))
        {
            Ok(()) => self.failing.set(false),
            Err(KafkaError::StoreOffset(Code::State | Code::UnknownPartition)) => {
                tracing::debug!("offsets of a lost partition are dropped");
            }
            Err(error) => {
                // Once, not with every poll.
                if !self.failing.replace(true) {
                    tracing::warn!(%error, "offsets could not be stored, trying again");
                }
                self.shared.lock().assignment.not_stored(&offsets);
            }
        }
    }

    /// Pauses partitions that hold enough, and goes on with those that have room again.
    fn flow(&self) {
        let flow = self.shared.lock().assignment.flow();
        let topic = &self.clients.config().topic;
        let offsets = |partitions: &[i32]| partitions.iter().map(|id| (*id, 0)).collect::<Vec<_>>();
        if !flow.pause.is_empty() {
            tracing::debug!(partitions = ?flow.pause, "paused");
            let done = list(topic, &offsets(&flow.pause)).and_then(|list| self.consumer.pause(&list));
            complain(done);
        }
        if !flow.resume.is_empty() {
            tracing::debug!(partitions = ?flow.resume, "resumed");
            let done = list(topic, &offsets(&flow.resume)).and_then(|list| self.consumer.resume(&list));
            complain(done);
        }
        if broken("stalled_consumer") && self.number == 1 {
            complain(self.consumer.assignment().and_then(|ours| self.consumer.pause(&ours)));
        }
    }

    /// Asks whether the trouble is over. That a group may not be used only an assignment refutes: everybody may ask what
    /// is asked here, and the client tells that error once.
    fn probe(&self) {
        if matches!(self.shared.lock().trouble, Some(Trouble::Code(Code::GroupAuthorizationFailed))) {
            return;
        }
        let topic = &self.clients.config().topic;
        let Ok(metadata) = self.consumer.fetch_metadata(Some(topic), PROBE) else { return };
        if metadata.topics().iter().all(|topic| topic.error().is_none()) {
            tracing::info!("kafka answers again");
            self.shared.lock().trouble = None;
        }
    }
}

/// Whether a consumer cannot go on after this.
fn fatal(error: &KafkaError) -> bool {
    matches!(
        error,
        KafkaError::MessageConsumptionFatal(_)
            | KafkaError::MessageConsumption(Code::Fatal | Code::FencedInstanceId)
    )
}

/// Logs a pause or resume that was not done: the partition holds more or less than it should.
fn complain(done: KafkaResult<()>) {
    if let Err(error) = done {
        tracing::warn!(%error, "a partition could not be paused or resumed");
    }
}

/// Offsets as the client takes them: the next to read.
fn list(topic: &str, offsets: &[(i32, i64)]) -> KafkaResult<TopicPartitionList> {
    let mut list = TopicPartitionList::with_capacity(offsets.len());
    for (partition, next) in offsets {
        list.add_partition_offset(topic, *partition, Offset::Offset(*next))?;
    }
    Ok(list)
}

/// What librdkafka calls back, always on the thread that polls.
struct Member {
    shared: Arc<Shared>,
    topic: String,
    number: u64,
}

impl Member {
    /// The state, while this consumer is the one.
    fn state(&self) -> Option<MutexGuard<'_, State>> {
        let state = self.shared.lock();
        (state.consumer == self.number).then_some(state)
    }

    /// Gives partitions up: nothing more of them is handed out, what is finished is committed before they go.
    fn revoke(&self, consumer: &BaseConsumer<Self>, partitions: &TopicPartitionList) {
        let now = Instant::now();
        let Some(mut state) = self.state() else { return };
        let mut revoke = |id| state.assignment.revoke(id, now).map(|next| (id, next));
        let offsets: Vec<_> =
            partitions.elements().iter().filter_map(|element| revoke(element.partition())).collect();
        drop(state);
        let lost = consumer.assignment_lost();
        tracing::info!(partitions = partitions.count(), lost, "partitions taken away");
        if lost || offsets.is_empty() {
            return;
        }
        let done = list(&self.topic, &offsets).and_then(|list| {
            // Both: the background commit must not lie behind this one.
            consumer.store_offsets(&list).and_then(|()| consumer.commit(&list, CommitMode::Sync))
        });
        if let Err(error) = done {
            tracing::warn!(%error, "offsets could not be committed, their calls come again");
        }
    }
}

impl ConsumerContext for Member {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        match rebalance {
            Rebalance::Assign(partitions) => {
                let now = Instant::now();
                let Some(mut state) = self.state() else { return };
                for element in partitions.elements() {
                    state.assignment.assign(element.partition(), now);
                }
                state.assignment.touch(now);
                state.trouble = None;
                drop(state);
                tracing::info!(partitions = partitions.count(), "partitions assigned");
            }
            Rebalance::Revoke(partitions) => self.revoke(consumer, partitions),
            Rebalance::Error(error) => tracing::warn!(%error, "rebalance failed"),
        }
    }

    fn commit_callback(&self, result: KafkaResult<()>, _: &TopicPartitionList) {
        match result {
            Ok(()) | Err(KafkaError::ConsumerCommit(Code::NoOffset)) => {}
            Err(error) => tracing::warn!(%error, "offsets could not be committed, they are tried again"),
        }
    }
}

impl ClientContext for Member {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        client::log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        if !matches!(error, KafkaError::Global(Code::PartitionEOF)) {
            tracing::warn!(%error, reason, "kafka client");
        }
    }

    fn stats_raw(&self, statistics: &[u8]) {
        let Ok(statistics) = serde_json::from_slice::<Statistics>(statistics) else { return };
        let Some(mut state) = self.state() else { return };
        for (id, partition) in statistics.topics.values().flat_map(|topic| &topic.partitions) {
            if let Ok(id) = id.parse() {
                state.assignment.reached(id, partition.eof_offset);
            }
        }
    }
}

/// The part of librdkafka's statistics that is read.
#[derive(Deserialize)]
struct Statistics {
    topics: HashMap<String, TopicStatistics>,
}

/// See [`Statistics`].
#[derive(Deserialize)]
struct TopicStatistics {
    partitions: HashMap<String, PartitionStatistics>,
}

/// See [`Statistics`].
#[derive(Deserialize)]
struct PartitionStatistics {
    /// Where the end of the log was last met.
    eof_offset: i64,
}
