//! What a call's work asks of the store and leaves there: its attempt, whether it is decided already, its verdict. Calls
//! that wait for the same share one transaction.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use uuid::Uuid;

use super::{
    Turn,
    group::{Grouped, Patience, Pauses},
};
use crate::{
    faults::broken,
    metrics,
    store::{CallKey, Decided, Record, Recorded, Store, StoreError},
};

/// Most calls of one transaction.
const MAX_GROUP: usize = 64;
/// Records that are tried alone, one after the other in vain, until the store is taken for down.
const TRIED_ALONE: usize = 2;

/// An answer to one of many: where the store refuses, all of them share the error.
type Answer<T> = Result<T, Arc<StoreError>>;

/// Counts attempts, looks calls up and commits verdicts.
#[derive(Clone)]
pub(super) struct Recorder {
    attempts: Grouped<String, Answer<u32>>,
    decided: Grouped<Arc<CallKey>, Answer<Decided>>,
    verdicts: Grouped<Record, Result<(), Failed>>,
    talk: Talk,
}

/// What each of the tasks has.
#[derive(Clone)]
struct Talk {
    store: Arc<dyn Store>,
    patience: Patience,
    /// Transactions with verdicts that were committed.
    commits: Arc<AtomicU64>,
}

/// A record that was not committed, and why.
struct Failed {
    record: Box<Record>,
    error: Arc<StoreError>,
}

impl Recorder {
    /// Starts the tasks that talk to the store, under one evaluator version; they end when every handle is gone. Fewer
    /// verdicts than `several` says wait a moment for others.
    pub(super) fn start(
        store: Arc<dyn Store>,
        patience: Patience,
        version: String,
        several: impl Fn() -> usize + Send + 'static,
    ) -> Self {
        let talk = Talk { store, patience, commits: Arc::default() };
        let (begin, look, record) = (talk.clone(), talk.clone(), talk.clone());
        let version: Arc<str> = version.into();
        Self {
            attempts: Grouped::start(MAX_GROUP, || 1, move |digests| begin_all(begin.clone(), digests)),
            decided: Grouped::start(
                MAX_GROUP,
                || 1,
                move |calls| look_up_all(look.clone(), Arc::clone(&version), calls),
            ),
            verdicts: Grouped::start(MAX_GROUP, several, move |records| record_all(record.clone(), records)),
            talk,
        }
    }

    /// How often a payload was begun before. One that is new is counted, committed before this returns; one that was
    /// begun before is counted when its turn to run alone has come, because waiting is no attempt.
    ///
    /// # Errors
    /// [`StoreError`] when the process leaves. While the store is down, or refuses, this waits.
    pub(super) async fn begin(&self, digest: String) -> Answer<u32> {
        self.attempts.ask(digest).await.unwrap_or_else(|| Err(Arc::new(gone())))
    }

    /// Whether this evaluator version has decided a call, and on the same body.
    ///
    /// # Errors
    /// As [`Recorder::begin`].
    pub(super) async fn decided(&self, call: &Arc<CallKey>) -> Answer<Decided> {
        self.decided.ask(Arc::clone(call)).await.unwrap_or_else(|| Err(Arc::new(gone())))
    }

    /// Records one verdict; returns once it is committed, or was there already. While the store is down this waits, and
    /// gives up the call's turn; once it takes others and not this one, the record itself is at fault.
    ///
    /// # Errors
    /// [`StoreError`] when nothing of this record was written, or when nobody knows.
    pub(super) async fn record(
        &self,
        mut record: Record,
        mut turn: Option<Turn<'_>>,
    ) -> Result<(), Arc<StoreError>> {
        let Talk { patience, commits, .. } = &self.talk;
        let _owed = patience.pulse.ask_store();
        let (mut pauses, mut before) = (Pauses::new(), None);
        loop {
            let Some(answer) = self.verdicts.ask(record).await else { return Err(Arc::new(gone())) };
            let Err(failed) = answer else { return Ok(()) };
            if !matches!(*failed.error, StoreError::Unavailable(_)) {
                return Err(failed.error);
            }
            // One that runs alone would keep the others from showing that the store takes theirs.
            turn.take();
            let now = commits.load(Ordering::Relaxed);
            if before.is_some_and(|before| before < now)
                || patience.wait(&mut pauses, &*failed.error, failed.error.needs_operator()).await.is_err()
            {
                return Err(failed.error);
            }
            before.get_or_insert(now);
            record = *failed.record;
        }
    }

    /// Records at some later time: the deliberately broken build that acks before the commit.
    pub(super) fn later(&self, record: Record) {
        let recorder = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
            drop(recorder.record(record, None).await);
        });
    }
}

/// The task that was asked is no more.
fn gone() -> StoreError {
    StoreError::Unavailable(sqlx::Error::WorkerCrashed)
}

/// Reads how often each payload was begun before, and counts this attempt of those that are new.
async fn begin_all(Talk { store, patience, .. }: Talk, digests: Vec<String>) -> Vec<Answer<u32>> {
    let counting = async {
        let before = patience.until_granted(|| store.attempts(&digests)).await?;
        let new = digests.iter().zip(&before).filter(|(_, before)| **before == 0);
        // A set: copies of one payload in one group are one attempt.
        let new = Vec::from_iter(new.map(|(digest, _)| digest.clone()).collect::<BTreeSet<String>>());
        if !new.is_empty() {
            let counting = Uuid::now_v7();
            patience.until_granted(|| store.count_attempts(&new, counting)).await?;
        }
        Ok(before)
    };
    to_each(digests.len(), counting.await)
}

/// Looks calls up.
async fn look_up_all(
    Talk { store, patience, .. }: Talk,
    version: Arc<str>,
    calls: Vec<Arc<CallKey>>,
) -> Vec<Answer<Decided>> {
    to_each(calls.len(), patience.until_granted(|| store.decided(&calls, &version)).await)
}

/// The answer to each, or the error to all.
fn to_each<T>(count: usize, answers: Result<Vec<T>, StoreError>) -> Vec<Answer<T>> {
    match answers.map_err(Arc::new) {
        Ok(answers) => answers.into_iter().map(Ok).collect(),
        Err(error) => (0..count).map(|_| Err(Arc::clone(&error))).collect(),
    }
}

/// Commits a group. Where the store does not take it as a whole, each record goes alone, so that one bad record harms no
/// other. Where the store takes none it is down, and the rest is not tried.
async fn record_all(talk: Talk, records: Vec<Record>) -> Vec<Result<(), Failed>> {
    let mut last = match talk.commit(&records).await {
        Ok(()) => return records.iter().map(|_| Ok(())).collect(),
        Err(error) => Arc::new(error),
    };
    if records.len() > 1 {
        tracing::warn!(error = %last, records = records.len(), "group was not committed, committing one by one");
    }
    // What failed alone need not be tried alone again.
    let mut misses = if records.len() == 1 { TRIED_ALONE } else { 0 };
    let mut outcomes = Vec::with_capacity(records.len());
    for record in records {
        if misses < TRIED_ALONE {
            match talk.commit(std::slice::from_ref(&record)).await {
                Ok(()) => {
                    misses = 0;
                    outcomes.push(Ok(()));
                    continue;
                }
                Err(error) => {
                    misses += usize::from(matches!(error, StoreError::Unavailable(_)));
                    last = Arc::new(error);
                }
            }
        }
        outcomes.push(Err(Failed { record: Box::new(record), error: Arc::clone(&last) }));
    }
    outcomes
}

impl Talk {
    /// Commits records in one transaction, and counts what was written.
    async fn commit(&self, records: &[Record]) -> Result<(), StoreError> {
        let begun = Instant::now();
        let recorded = self.store.record(records).await?;
        self.commits.fetch_add(1, Ordering::Relaxed);
        metrics::committed(begun.elapsed(), records.len());
        records.iter().zip(recorded).for_each(|(record, outcome)| count(record, outcome));
        Ok(())
    }
}

/// Counts what was written.
fn count(record: &Record, outcome: Recorded) {
    match outcome {
        Recorded::New => metrics::evaluated(&record.evaluation),
        Recorded::AlreadyThere => metrics::duplicate("same"),
        Recorded::Conflict => metrics::duplicate("conflict"),
        Recorded::Erased => metrics::duplicate("erased"),
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
        tracing::info!(body = record.kept.body, "recording");
    }
    record
}
