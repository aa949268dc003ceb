//! What a call's work leaves in the store: its attempt before the work, its verdict after it. Both are written for many
//! calls in one transaction.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use uuid::Uuid;

use super::{
    Pulse,
    group::{Grouped, Pauses, until_answered},
};
use crate::{
    faults::broken,
    metrics,
    store::{Record, Recorded, Store, StoreError},
};

/// Most calls of one transaction.
const MAX_GROUP: usize = 64;

/// Counts attempts and commits verdicts.
#[derive(Clone)]
pub(super) struct Recorder {
    attempts: Grouped<String, Result<u32, Arc<StoreError>>>,
    verdicts: Grouped<Record, Result<(), StoreError>>,
}

impl Recorder {
    /// Starts the two tasks that talk to the store; they end when every handle is gone.
    pub(super) fn start(store: Arc<dyn Store>, pulse: Arc<Pulse>) -> Self {
        let begin = (Arc::clone(&store), Arc::clone(&pulse));
        Self {
            attempts: Grouped::start(MAX_GROUP, move |digests| begin_all(begin.clone(), digests)),
            verdicts: Grouped::start(MAX_GROUP, move |records| {
                record_all(Arc::clone(&store), Arc::clone(&pulse), records)
            }),
        }
    }

    /// How often a payload was begun before. One that is new is counted, committed before this returns; one that was
    /// begun before is counted when its turn to run alone has come, because waiting is no attempt.
    ///
    /// # Errors
    /// [`StoreError`] when the store refuses; while it is down this waits.
    pub(super) async fn begin(&self, digest: String) -> Result<u32, Arc<StoreError>> {
        self.attempts.ask(digest).await.unwrap_or_else(|| Err(Arc::new(gone())))
    }

    /// Records one verdict; returns once it is committed, or was there already.
    ///
    /// # Errors
    /// [`StoreError`] when the store refuses it; while it is down this waits.
    pub(super) async fn record(&self, record: Record) -> Result<(), StoreError> {
        self.verdicts.ask(record).await.unwrap_or_else(|| Err(gone()))
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

/// The task that was asked is no more.
fn gone() -> StoreError {
    StoreError::Unavailable(sqlx::Error::WorkerCrashed)
}

/// Reads how often each payload was begun before, and counts this attempt of those that are new.
async fn begin_all(
    (store, pulse): (Arc<dyn Store>, Arc<Pulse>),
    digests: Vec<String>,
) -> Vec<Result<u32, Arc<StoreError>>> {
    let counting = async {
        let before = until_answered(&pulse, || store.attempts(&digests)).await?;
        let new = digests.iter().zip(&before).filter(|(_, before)| **before == 0);
        // A set: copies of one payload in one group are one attempt.
        let new = Vec::from_iter(new.map(|(digest, _)| digest.clone()).collect::<BTreeSet<String>>());
        if !new.is_empty() {
            until_answered(&pulse, || store.count_attempts(&new)).await?;
        }
        Ok(before)
    };
    match counting.await {
        Ok(before) => before.into_iter().map(Ok).collect(),
        Err(error) => {
            let error = Arc::new(error);
            digests.iter().map(|_| Err(Arc::clone(&error))).collect()
        }
    }
}

/// Commits a group. Where the store is not available, it is asked again with half as many, in case they were too much for
/// its limits; where it refuses, each record goes alone, so that one bad record harms no other.
async fn record_all(
    store: Arc<dyn Store>,
    pulse: Arc<Pulse>,
    records: Vec<Record>,
) -> Vec<Result<(), StoreError>> {
    let (mut outcomes, mut most, mut pauses) = (Vec::new(), records.len(), Pauses::new());
    while outcomes.len() < records.len() {
        let part = &records[outcomes.len()..];
        let part = &part[..part.len().min(most)];
        let begun = Instant::now();
        pulse.ask_store();
        match store.record(part).await {
            Ok(recorded) => {
                pulse.store_answered();
                metrics::committed(begun.elapsed(), part.len());
                part.iter().zip(recorded).for_each(|(record, outcome)| count(record, outcome));
                outcomes.extend(part.iter().map(|_| Ok(())));
            }
            Err(StoreError::Unavailable(error)) => {
                most = (part.len() / 2).max(1);
                pauses.wait(&error).await;
            }
            Err(error) if part.len() > 1 => {
                tracing::warn!(%error, records = part.len(), "group commit refused, committing one by one");
                most = 1;
            }
            Err(error) => {
                pulse.store_answered();
                outcomes.push(Err(error));
            }
        }
    }
    outcomes
}

/// Counts what was written.
fn count(record: &Record, outcome: Recorded) {
    match outcome {
        Recorded::New => metrics::evaluated(&record.evaluation),
        Recorded::AlreadyThere => metrics::duplicate("same"),
        Recorded::Conflict => metrics::duplicate("conflict"),
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
