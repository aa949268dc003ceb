//! The story of one call, from the queue to the verdict. Read it from top to bottom.
//!
//! ```text
//! receive at most as many as there are free permits
//!   └─ begin: count the attempt, before any work: what kills the process is counted too
//!        └─ decode and redact ──bad──► dead letter, redacted, committed ─► ack
//!             └─ decided already by this evaluator version? ─► ack
//!                  └─ take out names, where an analyzer is asked for them
//!                       └─ cascade: rules ─► NLI ─► the judge, where that is unsure ─► decide
//!                            ├─ the judge cannot be asked yet ─► deferred, committed ─► ack; `catch_up` judges it later
//!                            └─ record what is kept: one transaction, shared by the calls that wait for it
//!                                 └─ ack, never before the commit
//! ```
//! Where the store is down, calls wait for it with their deliveries held: their permits stay in use, so that nothing more
//! is received. [`dispatch`] delivers what the transaction put into the outbox, [`notify`] tells
//! people what they should hear of.

pub mod cascade;
mod catch_up;
pub mod dead_letters;
pub mod decide;
pub mod decode;
pub mod dispatch;
pub mod feedback;
mod group;
pub mod ingest;
mod judge;
pub mod judging;
pub mod keep;
mod names;
pub mod notify;
mod off_runtime;
pub mod priority;
mod pulse;
mod record;
pub mod retention;
pub mod retry;
pub mod scan;
mod settle;
mod together;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{RwLock, RwLockReadGuard, RwLockWriteGuard, Semaphore},
    time::{MissedTickBehavior, interval, sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use self::{
    cascade::{Cascade, Wait},
    catch_up::CatchUp,
    decode::Decoded,
    group::Patience,
    judge::Attempt,
    keep::Keeper,
    record::Recorder,
    retry::backoff,
    settle::{exhausted, holding},
    together::{SHARE, expected, free},
};
pub use off_runtime::{Panicked, off_runtime};
pub use pulse::{EXIT_STALLED, Pulse, watch};

use crate::{
    domain::{DeadLetter, id::sha256_hex},
    faults::{broken, crash_point},
    metrics,
    redaction::{NamesError, Redactor},
    sources::{Delivery, Disposition, Limits, Source, SourceError},
    store::{CallKey, Decided, Store, StoreError},
};

/// How long one look at the queue may last.
const RECEIVE_WAIT: Duration = Duration::from_secs(1);
/// How long a source may take beyond its wait before the look is given up.
const RECEIVE_GRACE: Duration = Duration::from_secs(15);
/// Pause after the queue failed to answer.
const SOURCE_PAUSE: Duration = Duration::from_secs(1);
/// How long a delivery is put off when its attempt cannot be counted.
const UNCOUNTED_PAUSE: Duration = Duration::from_secs(2);
/// How often the queue is asked how much waits in it.
const DEPTH_INTERVAL: Duration = Duration::from_secs(5);
/// How long that answer may take.
const DEPTH_WAIT: Duration = Duration::from_secs(5);

/// `[pipeline]`: how much at a time, and how long until something is given up.
#[derive(Debug, Clone, Copy, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PipelineConfig {
    /// Calls worked on at a time; also the most that a crash gives back to the queue.
    pub in_flight: usize,
    /// Attempts on one payload before it becomes a dead letter.
    pub max_attempts: u32,
    /// Longest work on one call in seconds, waiting for the model included and for the store not.
    pub call_deadline_secs: u64,
    /// How long SIGTERM waits for calls in work, in seconds.
    pub grace_secs: u64,
}

impl PipelineConfig {
    /// What a queue has to know of it.
    pub fn limits(&self) -> Limits {
        Limits { in_flight: self.in_flight, max_attempts: self.max_attempts }
    }
}

impl Default for PipelineConfig {
    fn default() -> Self {
        Self { in_flight: 32, max_attempts: 5, call_deadline_secs: 300, grace_secs: 25 }
    }
}

/// What every call of a worker shares.
pub struct Pipeline {
    /// Takes out what is personal.
    pub redactor: Arc<Redactor>,
    /// Judges calls.
    pub cascade: Cascade,
    /// Says what is kept of them.
    pub keeper: Arc<Keeper>,
    /// Keeps verdicts.
    pub store: Arc<dyn Store>,
    /// Names of the sinks that want every verdict.
    pub sinks: Vec<String>,
    /// Says what people should hear of a verdict.
    pub routes: Arc<notify::Routes>,
    /// Limits.
    pub config: PipelineConfig,
    /// Signs of life, for readiness.
    pub pulse: Arc<Pulse>,
}

/// Shared by the calls of one run.
struct Work {
    pipeline: Pipeline,
    recorder: Recorder,
    patience: Patience,
    source: &'static str,
    /// Calls run side by side under the read side; one that has failed before runs alone under the write side,
    /// so that a payload that kills the process takes no innocent one with it.
    alone: Arc<RwLock<()>>,
}

/// Why a call's work ended without its effect.
#[derive(Debug, thiserror::Error)]
enum Unfinished {
    /// The store did not take it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store did not answer what many calls asked together.
    #[error(transparent)]
    Shared(Arc<StoreError>),
    /// The queue gave it to someone else, or did not answer.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The model could not run and attempts are left.
    #[error("model could not run, attempt {0}")]
    Model(u32),
    /// `call_deadline_secs` is over.
    #[error("call deadline exceeded")]
    Deadline,
    /// The process leaves while the analyzer of names is down.
    #[error(transparent)]
    Names(#[from] NamesError),
    /// Another delivery of the same bytes came to its end, or the count of attempts is lost: the next delivery tells.
    #[error("attempts on these bytes are not counted any more")]
    Uncounted,
    /// Our code panicked on it.
    #[error(transparent)]
    Panicked(#[from] Panicked),
}

/// A call's turn, until its verdict is committed or has to wait for a store that is down.
#[expect(dead_code, reason = "held, and dropped")]
enum Turn<'a> {
    /// Others run too.
    SideBySide(RwLockReadGuard<'a, ()>),
    /// No other runs.
    Alone(RwLockWriteGuard<'a, ()>),
}

/// What is known of a payload before its work begins.
struct Begun {
    /// SHA-256 of the payload.
    digest: String,
    /// Attempts before this one.
    before: u32,
}

/// Pulls and judges calls until `shutdown`, or, when `drain`, until the queue is empty. Returns how many
/// deliveries were settled. What is still in work after the grace time comes again when its lease ends.
pub async fn run(
    pipeline: Pipeline,
    mut source: Box<dyn Source>,
    shutdown: CancellationToken,
    drain: bool,
) -> u64 {
    let config = pipeline.config;
    let pulse = Arc::clone(&pipeline.pulse);
    let version = pipeline.cascade.version().to_owned();
    let patience = Patience { pulse: Arc::clone(&pulse), leaving: shutdown.clone() };
    let permits = Arc::new(Semaphore::new(config.in_flight.max(1)));
    let several = config.in_flight.div_ceil(SHARE);
    let alone = Arc::<RwLock<()>>::default();
    let expected = expected(several, config.in_flight, &permits, &alone);
    let recorder = Recorder::start(Arc::clone(&pipeline.store), patience.clone(), version, expected);
    let work = Arc::new(Work { pipeline, recorder, patience, source: source.name(), alone });
    let catching_up = CatchUp::start(&work, &shutdown);
    let tasks = TaskTracker::new();
    let mut measuring = interval(DEPTH_INTERVAL);
    measuring.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = shutdown.cancelled() => break,
            // Before the permit: how much waits is measured while every permit is in use, too.
            _ = measuring.tick() => {
                is_empty(&mut *source, &pulse).await;
                // From its end: a queue that does not answer in time would be asked for nothing else.
                measuring.reset();
                metrics::in_flight(tasks.len(), permits.available_permits());
                continue;
            }
            () = free(&permits, several) => {}
        }
        let deliveries = receive(&mut *source, permits.available_permits(), &pulse).await;
        if deliveries.is_empty() && drain && tasks.is_empty() && is_empty(&mut *source, &pulse).await {
            break;
        }
        metrics::received(work.source, deliveries.len());
        for delivery in deliveries {
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { break };
            let work = Arc::clone(&work);
            tasks.spawn(async move {
                work.attend(delivery).await;
                work.pipeline.pulse.beat();
                drop(permit);
            });
        }
        metrics::in_flight(tasks.len(), permits.available_permits());
    }
    tasks.close();
    let ended = async { tokio::join!(tasks.wait(), catching_up.end()) };
    if timeout(Duration::from_secs(config.grace_secs), ended).await.is_err() {
        tracing::warn!(in_flight = tasks.len(), "grace time is over, calls in work will come again");
    }
    close(&mut *source).await;
    pulse.end();
    pulse.settled()
}

/// Takes at most as many deliveries as there are free permits; none when the queue does not answer.
async fn receive(source: &mut dyn Source, free: usize, pulse: &Pulse) -> Vec<Delivery> {
    // Not cancelled by shutdown: half a receive would leave deliveries leased with nobody at work.
    static IDLE: AtomicBool = AtomicBool::new(false);
    if IDLE.load(Ordering::Relaxed) {
        // The deliberately broken build that looks alive and asks no more.
        pulse.beat();
        sleep(SOURCE_PAUSE).await;
        return Vec::new();
    }
    let greed = if broken("greedy_receive") { 50 } else { 1 };
    let look = source.receive(free.max(1) * greed, RECEIVE_WAIT);
    let outcome = pulse.turning(timeout(RECEIVE_WAIT + RECEIVE_GRACE, look)).await;
    pulse.turn();
    match outcome {
        Ok(Ok(deliveries)) => {
            pulse.beat();
            return deliveries;
        }
        Ok(Err(error)) => {
            tracing::error!(%error, "queue does not answer, asking again");
            IDLE.store(broken("idle_after_error"), Ordering::Relaxed);
        }
        Err(_) => tracing::error!("queue does not answer in time, asking again"),
    }
    sleep(SOURCE_PAUSE).await;
    Vec::new()
}

/// Lets go of the queue; what it has not confirmed by then comes again.
async fn close(source: &mut dyn Source) {
    match timeout(DEPTH_WAIT, source.close()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(%error, "queue could not be closed, what it had not confirmed comes again")
        }
        Err(_) => tracing::warn!("queue did not close in time, what it had not confirmed comes again"),
    }
}

/// Measures the queue; true when nothing waits and nothing is in work.
async fn is_empty(source: &mut dyn Source, pulse: &Pulse) -> bool {
    match pulse.turning(timeout(DEPTH_WAIT, source.depth())).await {
        Ok(Ok(depth)) => {
            metrics::queue(depth.messages, depth.oldest);
            return depth.messages == 0;
        }
        Ok(Err(error)) => tracing::error!(%error, "queue depth is not known"),
        Err(_) => tracing::error!("queue depth is not known in time"),
    }
    false
}

impl Work {
    /// Works on one delivery and settles it, holding its lease meanwhile.
    async fn attend(&self, delivery: Delivery) {
        crash_point("K1");
        match holding(&delivery, self.finish(&delivery)).await {
            Ok(disposition) => {
                crash_point("K7");
                self.settle(delivery, disposition).await;
                crash_point("K8");
            }
            Err(error) => tracing::warn!(%error, "delivery given up"),
        }
    }

    /// Takes one attempt to its end; says how the delivery is to be settled.
    async fn finish(&self, delivery: &Delivery) -> Result<Disposition, SourceError> {
        let begun = match self.begin(delivery).await {
            Ok(begun) => begun,
            Err(error) => {
                tracing::error!(%error, "attempt cannot be counted, giving the delivery back");
                return Ok(Disposition::Retry(UNCOUNTED_PAUSE));
            }
        };
        match self.in_turn(delivery, &begun).await {
            Ok(()) => Ok(Disposition::Ack),
            Err(Unfinished::Source(error)) => Err(error),
            Err(error) => Ok(self.put_off(delivery, &begun, error).await),
        }
    }

    /// Counts the attempt of a payload that is new.
    async fn begin(&self, delivery: &Delivery) -> Result<Begun, Unfinished> {
        let payload = delivery.payload.clone();
        let digest = off_runtime(payload.len(), move || sha256_hex(&payload)).await?;
        let before = self.recorder.begin(digest.clone()).await.map_err(Unfinished::Shared)?;
        Ok(Begun { digest, before })
    }

    /// Says that an attempt failed, and when the next is due.
    async fn put_off(&self, delivery: &Delivery, begun: &Begun, error: Unfinished) -> Disposition {
        let attempt = begun.before + 1;
        metrics::retried(error.reason());
        tracing::warn!(%error, attempt, "call will be tried again");
        // Who leaves may do so because the store is down.
        if !self.patience.leaving.is_cancelled() {
            self.note_retry(delivery, attempt, error.reason()).await;
        }
        Disposition::Retry(backoff(attempt, &begun.digest))
    }

    /// The attempt: side by side with others, or alone when the payload failed before.
    async fn in_turn(&self, delivery: &Delivery, begun: &Begun) -> Result<(), Unfinished> {
        if begun.before == 0 {
            let turn = Turn::SideBySide(self.alone.read().await);
            return self.attempt(turn, delivery, &begun.digest, 1).await;
        }
        let turn = Turn::Alone(self.alone.write().await);
        let (store, digest) = (&self.pipeline.store, std::slice::from_ref(&begun.digest));
        // Made once: a count whose answer was lost is not counted again.
        let counting = Uuid::now_v7();
        let counted = self.patience.until_answered(|| store.count_attempts(digest, counting)).await?;
        let attempt = counted.first().copied().unwrap_or(begun.before + 1);
        self.attempt(turn, delivery, &begun.digest, attempt).await
    }

    /// Decode and redact, look up, judge, record: everything up to the commit.
    async fn attempt(
        &self,
        turn: Turn<'_>,
        delivery: &Delivery,
        digest: &str,
        attempt: u32,
    ) -> Result<(), Unfinished> {
        let max = self.pipeline.config.max_attempts;
        if attempt > max {
            drop(turn);
            let letter = exhausted(self.ids(delivery).await, max);
            return self.bury(delivery, digest, letter, attempt - 1).await;
        }
        let (key, decoded) = match self.read(delivery).await? {
            Ok(read) => read,
            Err(letter) => {
                drop(turn);
                return self.bury(delivery, digest, *letter, attempt).await;
            }
        };
        crash_point("K2");
        metrics::unknown_fields(decoded.unknown_fields);
        let decided = self.recorder.decided(&key).await.map_err(Unfinished::Shared)?;
        if decided != Decided::No {
            drop(turn);
            metrics::duplicate(decided.as_str());
            let conflict = decided == Decided::Conflict;
            let note = || self.pipeline.store.note_duplicate(&key, digest, conflict);
            return Ok(self.patience.until_answered(note).await?);
        }
        let mut turn = Some(turn);
        let (user_key, call) = (self.pipeline.redactor.user_key(&decoded.call.metadata), decoded.call);
        let bytes = delivery.payload.len();
        let call = self.without_names(call, bytes, Some(digest), &mut turn).await?;
        let wait = Wait { waited: Duration::ZERO, hold: false };
        let attempt = Attempt { payload: &delivery.payload, digest, number: attempt, wait };
        let (mut record, deferral) = self.judge(&key, call, attempt, &mut turn).await?;
        record.kept.user_key = user_key;
        if let Some(deferral) = deferral {
            drop(turn);
            return self.defer(&record, &deferral).await;
        }
        if broken("ack_before_commit") {
            delivery.extend().await?;
            self.recorder.later(record);
            return Ok(());
        }
        self.recorder.record(record, turn).await.map_err(Unfinished::Shared)
    }

    /// Decodes and redacts; nothing that is personal goes past here, but for the sealed copy of the debug share.
    async fn read(
        &self,
        delivery: &Delivery,
    ) -> Result<Result<(Arc<CallKey>, Decoded), Box<DeadLetter>>, Unfinished> {
        let (payload, redactor) = (delivery.payload.clone(), Arc::clone(&self.pipeline.redactor));
        let read = move || match decode::decode(&payload, &redactor) {
            Ok(decoded) => CallKey::of(&decoded.call).map(|key| Ok((Arc::new(key), decoded))),
            Err(letter) => Ok(Err(letter)),
        };
        Ok(off_runtime(delivery.payload.len(), read).await??)
    }
}

impl Unfinished {
    /// Label of the retry metric.
    fn reason(&self) -> &'static str {
        match self {
            Self::Store(_) | Self::Shared(_) => "store",
            Self::Source(_) => "source",
            Self::Model(_) => "model",
            Self::Deadline => "deadline",
            Self::Names(_) => "names",
            Self::Uncounted => "uncounted",
            Self::Panicked(_) => "panicked",
        }
    }
}
