//! Group commit: verdicts that wait for the same disk flush share one transaction.

use std::{sync::Arc, time::Instant};

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::{
    faults::broken,
    metrics,
    store::{Record, Recorded, Store, StoreError},
};

/// Most records of one transaction.
const MAX_GROUP: usize = 64;

/// Hands records to the one task that commits them.
#[derive(Clone)]
pub struct Recorder {
    waiting: mpsc::Sender<Waiting>,
}

/// A record and who waits for it.
struct Waiting {
    record: Record,
    reply: oneshot::Sender<Result<(), StoreError>>,
}

impl Recorder {
    /// Starts the committing task; it ends when every handle is gone.
    pub fn start(store: Arc<dyn Store>) -> Self {
        let (waiting, mut receiver) = mpsc::channel::<Waiting>(MAX_GROUP);
        tokio::spawn(async move {
            let mut group = Vec::with_capacity(MAX_GROUP);
            while receiver.recv_many(&mut group, MAX_GROUP).await > 0 {
                // A task of its own, so that a panic ends one group and not all recording.
                let commit = tokio::spawn(commit(Arc::clone(&store), std::mem::take(&mut group)));
                if commit.await.is_err() {
                    tracing::error!("a group commit panicked, its calls will be tried again");
                }
            }
        });
        Self { waiting }
    }

    /// Records one verdict; returns once it is committed, or was there already.
    ///
    /// # Errors
    /// [`StoreError`] when nothing of this record was written, or when nobody knows.
    pub async fn record(&self, record: Record) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        let gone = || StoreError::Unavailable(sqlx::Error::WorkerCrashed);
        self.waiting.send(Waiting { record, reply }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }

    /// Records at some later time: the deliberately broken build that acks before the commit.
    pub(super) fn later(&self, record: Record) {
        let recorder = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            drop(recorder.record(record).await);
        });
    }
}

/// What the deliberately broken builds make of a record; the record itself outside the fault tests.
pub(super) fn misshape(mut record: Record) -> Record {
    if broken("forgetful_key") {
        record.evaluation.evaluation_id = Uuid::now_v7();
        record.evaluation.evaluator_version = record.evaluation.evaluation_id.to_string();
    }
    if broken("missing_outbox") {
        record.sinks.clear();
    }
    if broken("chatty") {
        tracing::info!(answer = record.call.content.answer, "recording");
    }
    record
}

/// Commits a group; where the group is refused, each record alone, so that one bad record harms no other.
async fn commit(store: Arc<dyn Store>, group: Vec<Waiting>) {
    let begun = Instant::now();
    let (records, replies): (Vec<Record>, Vec<_>) =
        group.into_iter().map(|waiting| (waiting.record, waiting.reply)).unzip();
    match store.record(&records).await {
        Ok(outcomes) => {
            metrics::committed(begun.elapsed(), records.len());
            for ((record, outcome), reply) in records.iter().zip(outcomes).zip(replies) {
                count(record, outcome);
                // A caller that gave up finds the verdict when the call comes again.
                drop(reply.send(Ok(())));
            }
        }
        Err(error) => {
            tracing::warn!(%error, records = records.len(), "group commit failed, committing one by one");
            for (record, reply) in records.iter().zip(replies) {
                let outcome = store.record(std::slice::from_ref(record)).await;
                if let Ok(outcomes) = &outcome {
                    outcomes.iter().for_each(|&outcome| count(record, outcome));
                }
                drop(reply.send(outcome.map(drop)));
            }
        }
    }
}

/// Counts what was written.
fn count(record: &Record, outcome: Recorded) {
    match outcome {
        Recorded::New => metrics::evaluated(&record.evaluation),
        Recorded::AlreadyThere => metrics::duplicate("same"),
        Recorded::Conflict => metrics::duplicate("conflict"),
    }
}
