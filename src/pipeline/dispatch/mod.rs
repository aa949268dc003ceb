//! Delivers the outbox: due rows of each sink, several batches at a time, until every row is delivered or dead. What was erased is
//! taken back from the sinks by the same way.
//!
//! * `flow`: how much a sink is sent at a time, and how long it rests while it is down.
//! * `policy`: when a row is tried again, and when no more.
//! * `items`: what a sink is sent of an evaluation.
//! * `batch`: one batch, from the store to the sink and back.
//!
//! Rows stay in the store until their turn comes: of a sink that is down for a day no more is in memory than one batch.

mod batch;
mod config;
mod flow;
mod items;
mod policy;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use reqwest::Url;
use tokio::{
    task::{JoinError, JoinSet},
    time::sleep,
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use self::config::DeliveryConfig;
use self::flow::Flow;
pub use self::items::page;
use crate::{
    metrics,
    redaction::Redactor,
    sinks::Sink,
    store::{Store, StoreError},
};

/// How often an empty outbox is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How often a run shows how the sinks stand.
const STATES_INTERVAL: Duration = Duration::from_secs(30);
/// How long rows in delivery are hidden from other dispatchers; longer than a batch takes, where the store answers. Both may be made
/// twice.
const LEASE: Duration = Duration::from_secs(120);

/// Longest rest of a sink that a drain waits for.
const DRAIN_REST: Duration = Duration::from_secs(2);
/// How often a drain asks an outbox that cannot be read, one time after the other, with pauses that double from
/// [`POLL_INTERVAL`]: seven and a half seconds, longer than a server needs to start again.
const DRAIN_TRIES: u32 = 5;

/// Delivers the rows of one sink.
pub struct Dispatcher {
    /// What outbox, metrics and policy call it.
    pub name: String,
    /// Where they go.
    pub sink: Arc<dyn Sink>,
    /// Whether its comments may quote calls.
    pub quotes: bool,
    /// Where our pages are; without it comments have no link.
    pub pages: Option<Url>,
    /// How much at a time, and when a delivery is given up.
    pub config: DeliveryConfig,
    /// Where the outbox is.
    pub store: Arc<dyn Store>,
    /// Says what the sink may have.
    pub redactor: Arc<Redactor>,
}

/// A dispatcher at work.
struct Running {
    dispatcher: Dispatcher,
    flow: Mutex<Flow>,
}

/// Batches at work.
type Batches = JoinSet<Result<(), StoreError>>;

/// What comes next.
#[derive(Clone, Copy)]
enum Turn {
    /// A batch was begun.
    Begun,
    /// There is nothing to do for so long, or until a batch ends.
    Wait(Duration),
    /// Nothing is due.
    Idle,
    /// The outbox cannot be read: nobody knows whether something is due.
    Unreadable,
}

/// Delivers until shutdown, or, when `drain`, until none is due. Rows whose delivery failed are due later: a drain does not
/// wait for a sink that is down, but for a moment; nor for an outbox that cannot be read, but for some tries.
pub async fn run(dispatcher: Dispatcher, shutdown: CancellationToken, drain: bool) {
    let key = format!("{}:{}", dispatcher.name, Uuid::now_v7());
    let flow = Mutex::new(Flow::new(key, dispatcher.sink.batch()));
    let running = Arc::new(Running { dispatcher, flow });
    let mut batches = JoinSet::new();
    // How often the outbox could not be read, one time after the other.
    let mut unreadable = 0;
    while !shutdown.is_cancelled() {
        while let Some(ended) = batches.try_join_next() {
            running.ended(ended);
        }
        let turn = running.turn(&mut batches).await;
        unreadable = match turn {
            Turn::Unreadable => unreadable + 1,
            // It was not asked.
            Turn::Wait(_) => unreadable,
            Turn::Begun | Turn::Idle => 0,
        };
        let wait = match turn {
            Turn::Begun => continue,
            Turn::Idle if drain && batches.is_empty() => return,
            Turn::Wait(rest) if drain && batches.is_empty() && rest > DRAIN_REST => return,
            Turn::Unreadable if drain && unreadable >= DRAIN_TRIES => {
                let sink = &running.dispatcher.name;
                tracing::error!(
                    sink,
                    tries = unreadable,
                    "the drain ends for this sink, what it is to get waits"
                );
                break;
            }
            Turn::Wait(wait) => wait.min(POLL_INTERVAL),
            Turn::Unreadable if drain => POLL_INTERVAL * (1 << (unreadable - 1)),
            Turn::Idle | Turn::Unreadable => POLL_INTERVAL,
        };
        tokio::select! {
            () = sleep(wait) => {}
            // The end of a batch does not make an outbox readable: it would only use up tries.
            Some(ended) = batches.join_next(), if unreadable == 0 => running.ended(ended),
            () = shutdown.cancelled() => {}
        }
    }
    while let Some(ended) = batches.join_next().await {
        running.ended(ended);
    }
}

impl Running {
    /// Begins a batch where there is a place for it and something is due.
    async fn turn(self: &Arc<Self>, batches: &mut Batches) -> Turn {
        let Dispatcher { name, config, store, .. } = &self.dispatcher;
        let (rest, size, places) = {
            let mut flow = self.flow();
            // A sink may have learnt since that its backend takes more at a time.
            flow.takes(self.dispatcher.sink.batch());
            (flow.rest(Instant::now()), flow.size(), flow.batches(config.batches))
        };
        metrics::sink_resting(name, rest.is_some());
        if let Some(rest) = rest {
            return Turn::Wait(rest);
        }
        if batches.len() >= places {
            return Turn::Wait(POLL_INTERVAL);
        }
        match store.due(name, size, LEASE.as_millis() as i64).await {
            Ok(rows) if rows.is_empty() => Turn::Idle,
            Ok(rows) => {
                let running = Arc::clone(self);
                batches.spawn(async move { running.batch(rows).await });
                Turn::Begun
            }
            Err(error) => {
                tracing::error!(sink = name, %error, "outbox cannot be read");
                Turn::Unreadable
            }
        }
    }

    /// Takes note of the end of a batch. Its rows are due again once their lease has run out, where they were not marked.
    fn ended(&self, ended: Result<Result<(), StoreError>, JoinError>) {
        let sink = &self.dispatcher.name;
        match ended {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(sink, %error, "outbox cannot be marked"),
            Err(error) => tracing::error!(sink, %error, "a delivery came to no orderly end"),
        }
    }

    /// How the sink stands.
    fn flow(&self) -> MutexGuard<'_, Flow> {
        self.flow.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows how the sinks stand, until the service stops.
pub async fn keep_showing(store: Arc<dyn Store>, names: Vec<String>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        match store.sink_states().await {
            Ok(states) => {
                for name in &names {
                    let state = states.iter().find(|state| state.sink == *name);
                    let state = state.cloned().unwrap_or_default();
                    metrics::sink(
                        name,
                        state.pending,
                        state.oldest_ms,
                        state.dead,
                        state.paused_ms.is_some(),
                    );
                }
            }
            Err(error) => tracing::warn!(%error, "how the sinks stand cannot be read"),
        }
        tokio::select! {
            () = sleep(STATES_INTERVAL) => {}
            () = stop.cancelled() => {}
        }
    }
}
