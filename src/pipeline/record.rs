//! What a call's work asks of the store and leaves there: its attempt, whether it is decided already, its verdict. Calls
//! that wait for the same share one transaction.

use std::{collections::BTreeSet, sync::Arc, time::Instant};

use uuid::Uuid;

use super::{
    Pulse,
    group::{Grouped, Pauses, until_answered},
};
use crate::{
    domain::Call,
    faults::broken,
    metrics,
    store::{Decided, Record, Recorded, Store, StoreError},
};

/// Most calls of one transaction.
const MAX_GROUP: usize = 64;

/// An answer to one of many: where the store refuses, all of them share the error.
type Answer<T> = Result<T, Arc<StoreError>>;

/// Counts attempts, looks calls up and commits verdicts.
#[derive(Clone)]
pub(super) struct Recorder {
    attempts: Grouped<String, Answer<u32>>,
    decided: Grouped<Arc<Call>, Answer<Decided>>,
    verdicts: Grouped<Record, Result<(), StoreError>>,
}

impl Recorder {
    /// Starts the tasks that talk to the store, under one evaluator version; they end when every handle is gone.
    pub(super) fn start(store: Arc<dyn Store>, pulse: Arc<Pulse>, version: String) -> Self {
        let (begin, look) =
            ((Arc::clone(&store), Arc::clone(&pulse)), (Arc::clone(&store), Arc::clone(&pulse)));
        let version: Arc<str> = version.into();
        Self {
            attempts: Grouped::start(MAX_GROUP, move |digests| begin_all(begin.clone(), digests)),
            decided: Grouped::start(MAX_GROUP, move |calls| {
                look_up_all(look.clone(), Arc::clone(&version), calls)
            }),
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
    pub(super) async fn begin(&self, digest: String) -> Answer<u32> {
        self.attempts.ask(digest).await.unwrap_or_else(|| Err(Arc::new(gone())))
    }

    /// Whether this evaluator version has decided a call, and on the same body.
    ///
    /// # Errors
    /// As [`Recorder::begin`].
    pub(super) async fn decided(&self, call: &Arc<Call>) -> Answer<Decided> {
        self.decided.ask(Arc::clone(call)).await.unwrap_or_else(|| Err(Arc::new(gone())))
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
async fn begin_all((store, pulse): (Arc<dyn Store>, Arc<Pulse>), digests: Vec<String>) -> Vec<Answer<u32>> {
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
    to_each(digests.len(), counting.await)
}

/// Looks calls up.
async fn look_up_all(
    (store, pulse): (Arc<dyn Store>, Arc<Pulse>),
    version: Arc<str>,
    calls: Vec<Arc<Call>>,
) -> Vec<Answer<Decided>> {
    to_each(calls.len(), until_answered(&pulse, || store.decided(&calls, &version)).await)
}

/// The answer to each, or the error to all.
fn to_each<T>(count: usize, answers: Result<Vec<T>, StoreError>) -> Vec<Answer<T>> {
    match answers.map_err(Arc::new) {
        Ok(answers) => answers.into_iter().map(Ok).collect(),
        Err(error) => (0..count).map(|_| Err(Arc::clone(&error))).collect(),
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
