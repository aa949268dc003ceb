//! One delivery: acked, held until it is tried again, or held because it was dropped.
//!
//! To try again, a delivery is not given back to the broker: whether that counts against the delivery limit differs
//! between its versions, and none before 4.3 waits. It stays unacked in this worker, and is handed out again under its
//! own tag.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use lapin::{
    Acker,
    options::{BasicAckOptions, BasicNackOptions},
};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::sources::{Delivery, Disposition, Settler, SourceError, held::Back};

/// How long an ack may take to be on its way.
const SETTLE_DEADLINE: Duration = Duration::from_secs(10);
/// Unacked for longer, a delivery is given back instead of held: at 30 minutes the broker would close the channel, and
/// give out again everything that came over it.
const OLD: Duration = Duration::from_secs(900);

/// One connection's life, known to every delivery that came over it.
#[derive(Clone, Default)]
pub(super) struct Life {
    ended: CancellationToken,
    /// One more is held by every delivery that is not settled.
    unsettled: Arc<()>,
}

impl Life {
    /// Ends it: nothing that came over this connection can be settled any more.
    pub(super) fn end(&self) {
        self.ended.cancel();
    }

    /// Whether it has ended.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Waits for its end.
    pub(super) async fn ended(&self) {
        self.ended.cancelled().await;
    }

    /// Deliveries in work or held.
    pub(super) fn unsettled(&self) -> usize {
        // The connection has one itself.
        Arc::strong_count(&self.unsettled) - 1
    }
}

/// A message that the broker counts as ours.
pub(super) struct Taken {
    payload: Bytes,
    acker: Acker,
    since: Instant,
    life: Life,
}

impl Taken {
    /// A message that has just come.
    pub(super) fn new(message: lapin::message::Delivery, life: &Life) -> Self {
        Self { payload: message.data.into(), acker: message.acker, since: Instant::now(), life: life.clone() }
    }

    /// Whether it is still ours.
    pub(super) fn is_ours(&self) -> bool {
        !self.life.has_ended() && self.acker.usable()
    }

    /// Puts it into the pipeline's hands.
    pub(super) fn hand_out(self, lease: Duration, back: Back<Taken>) -> Delivery {
        Delivery::new(self.payload.clone(), lease, Box::new(Lease { taken: Some(self), back, length: lease }))
    }
}

/// A message in the pipeline's hands.
struct Lease {
    /// None once it is settled.
    taken: Option<Taken>,
    back: Back<Taken>,
    length: Duration,
}

impl Lease {
    /// Lets it wait in this worker.
    fn hold(&self, taken: Taken, wait: Duration) -> Result<(), SourceError> {
        self.back.after(taken, wait).map_err(|taken| {
            // Cannot be: as many fit as the broker leaves unacked. Only a new connection would bring it again.
            tracing::error!("no room for a delivery that waits, the connection is given up");
            taken.life.end();
            SourceError::Gone
        })
    }
}

#[async_trait]
impl Settler for Lease {
    async fn settle(mut self: Box<Self>, disposition: Disposition) -> Result<(), SourceError> {
        let Some(taken) = self.taken.take().filter(Taken::is_ours) else {
            return Err(SourceError::LeaseLost);
        };
        let answer = match disposition {
            Disposition::Ack => timeout(SETTLE_DEADLINE, taken.acker.ack(BasicAckOptions::default())).await,
            Disposition::Retry(wait) if taken.since.elapsed() + wait < OLD => return self.hold(taken, wait),
            Disposition::Retry(_) => {
                let requeue = BasicNackOptions { requeue: true, ..Default::default() };
                timeout(SETTLE_DEADLINE, taken.acker.nack(requeue)).await
            }
        };
        match answer {
            Ok(Ok(true)) => Ok(()),
            // False is no success: the channel has died, and the broker gives it out again.
            Ok(Ok(false) | Err(_)) => {
                taken.life.end();
                Err(SourceError::LeaseLost)
            }
            Err(_) => {
                taken.life.end();
                Err(SourceError::Late("rabbitmq took no ack"))
            }
        }
    }

    async fn extend(&self) -> Result<(), SourceError> {
        match &self.taken {
            Some(taken) if taken.is_ours() => Ok(()),
            _ => Err(SourceError::LeaseLost),
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(taken) = self.taken.take().filter(Taken::is_ours) {
            // An error is logged, and ends the connection.
            drop(self.hold(taken, self.length));
        }
    }
}
