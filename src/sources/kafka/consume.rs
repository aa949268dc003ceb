//! The topic as a [`Source`]: hands out what the pump has put in.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use async_trait::async_trait;
use tokio::{
    task::spawn_blocking,
    time::{timeout, timeout_at},
};

use super::{
    KafkaConfig,
    assignment::Hand,
    client::{Clients, lasting},
    lag::{Lag, Measured},
    pump::{Pump, Shared, Trouble},
    topic,
};
use crate::sources::{Delivery, Depth, Disposition, Settler, Source, SourceError};

/// How long closing may take: the last commit, and leaving the group.
const CLOSE_DEADLINE: Duration = Duration::from_secs(4);
/// How long a worker without a partition sees a lag that nobody in the group works on, before it builds its consumer
/// anew. Longer than a group takes to notice that a member has died.
const STALL_WITHOUT_PARTITIONS: Duration = Duration::from_secs(90);

/// The consumer.
pub struct KafkaSource {
    clients: Clients,
    lease: Duration,
    shared: Arc<Shared>,
    pump: Option<Pump>,
    lag: Option<Arc<Lag>>,
    /// Where the group stood when this worker had no partition.
    position: i64,
}

impl KafkaSource {
    /// A consumer whose deliveries are leased for `lease`; nothing is connected.
    ///
    /// # Errors
    /// When the settings cannot be used.
    pub fn new(config: &KafkaConfig, lease: Duration) -> Result<Self, SourceError> {
        let clients = Clients::new(config)?;
        let shared = Arc::new(Shared::new(config.max_ahead));
        Ok(Self { clients, lease, shared, pump: None, lag: None, position: 0 })
    }

    /// Looks for the topic and starts the thread, the first time and whenever it has ended.
    async fn start(&mut self) -> Result<(), SourceError> {
        if let Some(pump) = &mut self.pump
            && pump.ended.try_recv() == Err(tokio::sync::oneshot::error::TryRecvError::Empty)
        {
            return Ok(());
        }
        topic::ensure(&self.clients).await?;
        self.shared.lock().stop = false;
        let pump = Pump::start(self.clients.clone(), Arc::clone(&self.shared));
        self.pump = Some(pump.map_err(|error| SourceError::Refused(format!("kafka: no thread: {error}")))?);
        Ok(())
    }

    /// Hands out what waits; none when nothing does, with the time when something will.
    fn take(&self, max: usize) -> Result<Vec<Delivery>, Option<Instant>> {
        let handed = {
            let mut state = self.shared.lock();
            let handed = state.assignment.hand_out(max, self.lease, Instant::now());
            if handed.is_empty() {
                return Err(state.assignment.next_due());
            }
            handed
        };
        let delivery = |(hand, payload)| {
            let lease = Lease { shared: Arc::clone(&self.shared), hand, length: self.lease };
            Delivery::new(payload, self.lease, Box::new(lease))
        };
        Ok(handed.into_iter().map(delivery).collect())
    }

    /// Why nothing comes, where that is known.
    fn trouble(&self) -> Option<SourceError> {
        match self.shared.lock().trouble.clone()? {
            Trouble::Code(code) => lasting(self.clients.config(), code),
            Trouble::Client(what) => Some(SourceError::Settings(format!("kafka: {what}"))),
        }
    }

    /// Has the consumer built anew when it has stalled: records wait, none is in work, and nothing moves.
    fn watch(&mut self, measured: &Measured, has_partitions: bool) {
        let (now, stall) = (Instant::now(), Duration::from_secs(self.clients.config().stall_secs));
        let mut state = self.shared.lock();
        if !has_partitions && measured.position != self.position {
            // Others work.
            self.position = measured.position;
            state.assignment.touch(now);
        }
        let limit = if has_partitions { stall } else { stall.max(STALL_WITHOUT_PARTITIONS) };
        if measured.messages > 0 && state.trouble.is_none() && state.assignment.idle(limit, now) {
            state.rebuild = true;
        }
    }
}

#[async_trait]
impl Source for KafkaSource {
    fn name(&self) -> &'static str {
        "kafka"
    }

    async fn receive(&mut self, max: usize, wait: Duration) -> Result<Vec<Delivery>, SourceError> {
        let until = Instant::now() + wait;
        self.start().await?;
        loop {
            let arrived = self.shared.arrived.notified();
            let due = match self.take(max) {
                Ok(deliveries) => return Ok(deliveries),
                Err(due) => due,
            };
            if let Some(trouble) = self.trouble() {
                return Err(trouble);
            }
            if Instant::now() >= until {
                return Ok(Vec::new());
            }
            let wake = due.map_or(until, |due| due.min(until));
            // Woken or not, it looks again.
            drop(timeout_at(wake.into(), arrived).await);
        }
    }

    async fn depth(&mut self) -> Result<Depth, SourceError> {
        match self.pump {
            // Who only asks joins nothing: a member that comes and goes has the group share out its partitions anew.
            None => topic::ensure(&self.clients).await?,
            Some(_) => self.start().await?,
        }
        if self.lag.is_none() {
            self.lag = Some(Arc::new(Lag::new(&self.clients)?));
        }
        let Some(lag) = self.lag.clone() else { return Err(SourceError::Gone) };
        let (views, oldest_ms) = {
            let state = self.shared.lock();
            (state.assignment.views(), state.assignment.oldest_ms())
        };
        let has_partitions = !views.is_empty();
        let measured = spawn_blocking(move || lag.measure(&views)).await.map_err(|_| SourceError::Gone)??;
        self.watch(&measured, has_partitions);
        let oldest = match measured.messages {
            0 => Some(Duration::ZERO),
            _ => oldest_ms.map(age),
        };
        Ok(Depth { messages: measured.messages, oldest })
    }

    async fn close(&mut self) -> Result<(), SourceError> {
        let Some(pump) = self.pump.take() else { return Ok(()) };
        self.shared.lock().stop = true;
        match timeout(CLOSE_DEADLINE, pump.ended).await {
            Ok(_) => Ok(()),
            Err(_) => Err(SourceError::Late("kafka did not take the last offsets")),
        }
    }
}

impl Drop for KafkaSource {
    fn drop(&mut self) {
        self.shared.lock().stop = true;
    }
}

/// How long ago this was, by the clock of whoever set the timestamp.
fn age(timestamp_ms: i64) -> Duration {
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(timestamp_ms.unsigned_abs());
    SystemTime::now().duration_since(at).unwrap_or_default()
}

/// The right to end one record.
struct Lease {
    shared: Arc<Shared>,
    hand: Hand,
    length: Duration,
}

#[async_trait]
impl Settler for Lease {
    async fn settle(self: Box<Self>, disposition: Disposition) -> Result<(), SourceError> {
        held(self.shared.lock().assignment.settle(&self.hand, disposition, Instant::now()))?;
        if let Disposition::Retry(_) = disposition {
            self.shared.arrived.notify_one();
        }
        Ok(())
    }

    async fn extend(&self) -> Result<(), SourceError> {
        held(self.shared.lock().assignment.extend(&self.hand, self.length, Instant::now()))
    }
}

/// Whether the record was still ours.
fn held(ours: bool) -> Result<(), SourceError> {
    if ours { Ok(()) } else { Err(SourceError::LeaseLost) }
}
