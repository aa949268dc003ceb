//! How deliveries end: deletes and visibility changes that wait at the same time share one call, and each entry of
//! its answer is looked at. SQS answers 200 where half of a batch has failed.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use aws_sdk_sqs::{
    error::BuildError,
    types::{
        BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry,
    },
};
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, sleep},
};

use super::{
    Disposition, MAX_BATCH, Settler, SourceError,
    client::{CallError, first_line, plain_code, within},
    lane::Lane,
};

/// Settlements that may wait for a call.
const MAX_WAITING: usize = 64;
/// Calls at a time, of one queue.
const MAX_CALLS: usize = 8;
/// Times that an entry is sent which SQS failed to do.
const MAX_ROUNDS: u32 = 3;
/// Pause before the second round, doubled before each further one.
const ROUND_PAUSE: Duration = Duration::from_millis(100);
/// Longest that SQS lets a message be held, counted from its receive.
const MAX_HELD: Duration = Duration::from_secs(43_200);
/// Kept free below that: asking for more than is left is an error and changes nothing.
const HELD_MARGIN: Duration = Duration::from_secs(60);

/// Where settlements go. The task behind it ends when all of these are gone.
pub(super) type Settlements = mpsc::Sender<Settlement>;

/// One delivery in our hands.
pub(super) struct Held {
    settlements: Settlements,
    receipt: String,
    lease: Duration,
    received: Instant,
    /// Until when it is ours, in milliseconds since it was received.
    until_ms: AtomicU64,
}

/// What becomes of one delivery, and who waits for it.
pub(super) struct Settlement {
    receipt: String,
    end: End,
    reply: oneshot::Sender<Result<(), SourceError>>,
}

/// What SQS is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is done.
    Delete,
    /// It is visible again in so many seconds, counted from the call.
    Visible(i32),
}

/// How one entry of a batch ended.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// Done.
    Done,
    /// The receipt is no longer good: the message is someone else's, or gone.
    Lost,
    /// SQS failed to do it and may do it now.
    Again(String),
    /// SQS will not do it.
    Refused(String),
}

impl Held {
    /// A delivery that was received just now.
    pub(super) fn new(settlements: Settlements, receipt: String, lease: Duration) -> Self {
        let until_ms = AtomicU64::new(millis(lease));
        Self { settlements, receipt, lease, received: Instant::now(), until_ms }
    }

    /// Whether its time is over. Then another worker may have it: an old receipt must change nothing for them.
    fn is_over(&self) -> bool {
        millis(self.received.elapsed()) > self.until_ms.load(Ordering::Relaxed)
    }

    /// Sends a settlement and waits for its end.
    async fn send(&self, end: End) -> Result<(), SourceError> {
        let (reply, answer) = oneshot::channel();
        let settlement = Settlement { receipt: self.receipt.clone(), end, reply };
        self.settlements.send(settlement).await.map_err(|_| SourceError::Gone)?;
        answer.await.map_err(|_| SourceError::Gone)?
    }
}

#[async_trait]
impl Settler for Held {
    async fn settle(self: Box<Self>, disposition: Disposition) -> Result<(), SourceError> {
        match disposition {
            // Also when its time is over: what is committed need not come again to anyone.
            Disposition::Ack => self.send(End::Delete).await,
            Disposition::Retry(_) if self.is_over() => Err(SourceError::LeaseLost),
            Disposition::Retry(after) => {
                self.send(End::Visible(visible_in(after, self.received.elapsed()))).await
            }
        }
    }

    async fn extend(&self) -> Result<(), SourceError> {
        let held = self.received.elapsed();
        let seconds = visible_in(self.lease, held);
        if self.is_over() || seconds == 0 {
            return Err(SourceError::LeaseLost);
        }
        self.send(End::Visible(seconds)).await?;
        // Counted from before the call: SQS counts from a little later.
        let until = held + Duration::from_secs(u64::from(seconds.unsigned_abs()));
        self.until_ms.store(millis(until), Ordering::Relaxed);
        Ok(())
    }
}

/// Seconds until a message that has been held for some time may be visible again: rounded up, and no more than SQS
/// allows.
fn visible_in(after: Duration, held: Duration) -> i32 {
    let whole = after.as_secs() + u64::from(after.subsec_nanos() > 0);
    let left = MAX_HELD.saturating_sub(HELD_MARGIN).saturating_sub(held).as_secs();
    i32::try_from(whole.min(left)).unwrap_or(i32::MAX)
}

/// A duration in milliseconds.
fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Starts the task that settles the deliveries of one queue.
pub(super) fn start(lane: Arc<Lane>) -> Settlements {
    let (settlements, waiting) = mpsc::channel(MAX_WAITING);
    tokio::spawn(settle_together(lane, waiting));
    settlements
}

/// Puts settlements that wait at the same time into one call, several calls side by side, until every delivery and
/// the source are gone.
async fn settle_together(lane: Arc<Lane>, mut waiting: mpsc::Receiver<Settlement>) {
    let mut calls = JoinSet::new();
    let mut group = Vec::with_capacity(MAX_BATCH);
    while waiting.recv_many(&mut group, MAX_BATCH).await > 0 {
        if calls.len() >= MAX_CALLS {
            calls.join_next().await;
        }
        while calls.try_join_next().is_some() {}
        let (deletes, changes): (Vec<_>, Vec<_>) =
            group.drain(..).partition(|settlement| settlement.end == End::Delete);
        for batch in [deletes, changes].into_iter().filter(|batch| !batch.is_empty()) {
            calls.spawn(settle_batch(Arc::clone(&lane), batch));
        }
    }
    while calls.join_next().await.is_some() {}
}

/// Settles a batch whose entries are of one kind. What SQS failed to do is sent again, some times.
async fn settle_batch(lane: Arc<Lane>, mut batch: Vec<Settlement>) {
    for round in 1.. {
        let mut outcomes = match send(&lane, &batch).await {
            Ok(outcomes) => outcomes,
            Err(error) => return fail(batch, &error),
        };
        let mut again = Vec::new();
        for (place, settlement) in batch.into_iter().enumerate() {
            let missing = || Outcome::Again("the answer does not name it".into());
            let settled = match outcomes.remove(&place).unwrap_or_else(missing) {
                Outcome::Done => Ok(()),
                Outcome::Lost => Err(SourceError::LeaseLost),
                Outcome::Refused(reason) => Err(SourceError::Refused(reason)),
                Outcome::Again(_) if round < MAX_ROUNDS => {
                    again.push(settlement);
                    continue;
                }
                Outcome::Again(reason) => Err(SourceError::Refused(reason)),
            };
            // Who settled may have been cut off by the end of the grace time.
            drop(settlement.reply.send(settled));
        }
        if again.is_empty() {
            return;
        }
        tracing::debug!(
            entries = again.len(),
            round,
            "sqs failed a part of a batch, sending that part again"
        );
        batch = again;
        sleep(ROUND_PAUSE * 2u32.pow(round - 1)).await;
    }
}

/// Tells everyone of a batch that the call as a whole failed.
fn fail(batch: Vec<Settlement>, error: &SettleError) {
    for settlement in batch {
        drop(settlement.reply.send(Err(error.to_source_error())));
    }
}

/// Why a call as a whole failed.
enum SettleError {
    /// The queue could not be opened. It was open when it gave the message.
    Closed,
    /// The call failed.
    Call(CallError),
    /// The request could not be built: a field that it needs is missing.
    Build,
}

impl SettleError {
    /// The same for one of many who wait.
    fn to_source_error(&self) -> SourceError {
        match self {
            Self::Closed => SourceError::Gone,
            Self::Call(error) => error.clone().into(),
            Self::Build => SourceError::Refused("sqs: a settlement could not be written".into()),
        }
    }
}

impl From<CallError> for SettleError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

impl From<BuildError> for SettleError {
    fn from(_: BuildError) -> Self {
        Self::Build
    }
}

/// Sends one batch; gives the outcome of each entry by its place.
async fn send(lane: &Lane, batch: &[Settlement]) -> Result<HashMap<usize, Outcome>, SettleError> {
    let (Ok(open), Ok(clients)) = (lane.open().await, lane.queues.clients().await) else {
        return Err(SettleError::Closed);
    };
    if batch.first().is_some_and(|settlement| settlement.end == End::Delete) {
        let entries = batch.iter().enumerate().map(|(place, settlement)| {
            DeleteMessageBatchRequestEntry::builder()
                .id(place.to_string())
                .receipt_handle(&settlement.receipt)
                .build()
        });
        let entries = entries.collect::<Result<_, _>>()?;
        let call = clients.calls.delete_message_batch().queue_url(&open.url).set_entries(Some(entries));
        let answer = within("DeleteMessageBatch", Duration::ZERO, call.send()).await?;
        return Ok(outcomes(answer.successful().iter().map(|entry| entry.id()), answer.failed()));
    }
    let entries = batch.iter().enumerate().map(|(place, settlement)| {
        let seconds = if let End::Visible(seconds) = settlement.end { seconds } else { 0 };
        ChangeMessageVisibilityBatchRequestEntry::builder()
            .id(place.to_string())
            .receipt_handle(&settlement.receipt)
            .visibility_timeout(seconds)
            .build()
    });
    let entries = entries.collect::<Result<_, _>>()?;
    let call =
        clients.calls.change_message_visibility_batch().queue_url(&open.url).set_entries(Some(entries));
    let answer = within("ChangeMessageVisibilityBatch", Duration::ZERO, call.send()).await?;
    Ok(outcomes(answer.successful().iter().map(|entry| entry.id()), answer.failed()))
}

/// The outcome of each entry that an answer names.
fn outcomes<'a>(
    done: impl Iterator<Item = &'a str>,
    failed: &[BatchResultErrorEntry],
) -> HashMap<usize, Outcome> {
    let done = done.map(|id| (id, Outcome::Done));
    let failed = failed.iter().map(|entry| (entry.id(), outcome(entry)));
    done.chain(failed).filter_map(|(id, outcome)| Some((id.parse().ok()?, outcome))).collect()
}

/// What a failed entry means. All that we say of a message is its receipt and a time within the limits, so that what
/// SQS calls invalid is the receipt: it has expired, or the message is not in flight.
fn outcome(entry: &BatchResultErrorEntry) -> Outcome {
    let reason = || {
        let said = first_line(entry.message().unwrap_or_default());
        format!("sqs: {}: {said}", plain_code(entry.code()))
    };
    match plain_code(entry.code()) {
        "ReceiptHandleIsInvalid" | "MessageNotInflight" | "InvalidParameterValue" => Outcome::Lost,
        _ if entry.sender_fault() => Outcome::Refused(reason()),
        _ => Outcome::Again(reason()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(code: &str, sender_fault: bool) -> BatchResultErrorEntry {
        BatchResultErrorEntry::builder().id("0").code(code).sender_fault(sender_fault).build().unwrap()
    }

    #[test]
    fn each_failed_entry_is_told_apart() {
        assert_eq!(outcome(&failed("ReceiptHandleIsInvalid", true)), Outcome::Lost);
        assert_eq!(outcome(&failed("AWS.SimpleQueueService.MessageNotInflight", true)), Outcome::Lost);
        assert!(matches!(outcome(&failed("InternalError", false)), Outcome::Again(_)));
        assert!(matches!(outcome(&failed("AccessDenied", true)), Outcome::Refused(_)));
    }

    #[test]
    fn a_wait_is_rounded_up_and_stays_below_the_twelve_hours_from_the_receive() {
        assert_eq!(visible_in(Duration::ZERO, Duration::ZERO), 0);
        assert_eq!(visible_in(Duration::from_millis(1), Duration::ZERO), 1);
        assert_eq!(visible_in(Duration::from_millis(2500), Duration::ZERO), 3);
        assert_eq!(visible_in(Duration::from_secs(100_000), Duration::ZERO), 43_140);
        assert_eq!(visible_in(Duration::from_secs(100), Duration::from_secs(43_100)), 40);
        assert_eq!(visible_in(Duration::from_secs(100), Duration::from_secs(50_000)), 0);
    }
}
