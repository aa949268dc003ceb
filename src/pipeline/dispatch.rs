//! Delivers the outbox: due rows of each sink, batch by batch, until every row is delivered or dead. What was erased is taken
//! back from the sinks by the same way.

use std::{sync::Arc, time::Duration};

use tokio::time::{error::Elapsed, sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::retry::backoff;
use crate::{
    domain::{Evaluation, Judgement, Retraction},
    faults::{broken, crash_point},
    metrics,
    redaction::Redactor,
    sinks::{Item, Sink, SinkError},
    store::{Due, Store, StoreError, Undelivered},
};

/// How often an empty outbox is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How long rows in delivery are hidden from other dispatchers; longer than a delivery and a retraction take, where the store
/// answers. Both may be made twice.
const LEASE: Duration = Duration::from_secs(120);
/// How long one batch may take.
const DEADLINE: Duration = Duration::from_secs(50);
/// Attempts on one row before it is dead; with the backoff about a day and a half.
const MAX_ATTEMPTS: u32 = 200;
/// Pause between later attempts on a retraction, in milliseconds.
const MAX_PAUSE_MS: i64 = 900_000;

/// Delivers the rows of one sink.
pub struct Dispatcher {
    /// What outbox, metrics and policy call it.
    pub name: String,
    /// Where they go.
    pub sink: Box<dyn Sink>,
    /// Where the outbox is.
    pub store: Arc<dyn Store>,
    /// Says what the sink may have.
    pub redactor: Arc<Redactor>,
}

/// Delivers until shutdown, or, when `drain`, until none is due. Rows whose delivery failed are due later: a drain does not
/// wait for a sink that is down.
pub async fn run(mut dispatcher: Dispatcher, shutdown: CancellationToken, drain: bool) {
    loop {
        let due = dispatcher.deliver_due().await;
        let name = &dispatcher.name;
        match due {
            Ok(0) if drain => return,
            Ok(0) => {}
            Ok(_) if shutdown.is_cancelled() => return,
            Ok(_) => continue,
            Err(error) if drain => {
                tracing::error!(sink = name, %error, "outbox cannot be read or marked");
                return;
            }
            Err(error) => tracing::error!(sink = name, %error, "outbox cannot be read or marked"),
        }
        tokio::select! {
            () = sleep(POLL_INTERVAL) => {}
            () = shutdown.cancelled() => return,
        }
    }
}

impl Dispatcher {
    /// Delivers one batch; returns how many rows were due.
    async fn deliver_due(&mut self) -> Result<usize, StoreError> {
        let rows = self.store.due(&self.name, self.sink.batch(), LEASE.as_millis() as i64).await?;
        let due = rows.len();
        let (mut items, mut item_rows) = (Vec::<Item>::new(), Vec::new());
        let (mut retractions, mut retraction_rows) = (Vec::<Retraction>::new(), Vec::new());
        for row in rows {
            let later = later(row.delivery_id, row.attempts);
            match row.due {
                Due::Evaluation(evaluation) => {
                    items.push(self.item(row.delivery_id, *evaluation));
                    item_rows.push(later);
                }
                Due::Retraction(retraction) => {
                    retractions.push(retraction);
                    retraction_rows.push(later);
                }
            }
        }
        if !items.is_empty() {
            let outcome = timeout(DEADLINE, self.sink.deliver(&items)).await;
            self.mark("delivered", &item_rows, outcome).await?;
        }
        if !retractions.is_empty() {
            self.retract(&retractions, retraction_rows).await?;
        }
        Ok(due)
    }

    /// Has the sink delete what it was sent. While it is down it is told again and again, without end; what it does not know
    /// it is asked for as often as a delivery is tried.
    async fn retract(
        &mut self,
        retractions: &[Retraction],
        rows: Vec<Undelivered>,
    ) -> Result<(), StoreError> {
        let outcome = timeout(DEADLINE, self.sink.retract(retractions)).await;
        let Ok(Ok(unknown)) = outcome else {
            let again =
                |row: Undelivered| Undelivered { after_ms: row.after_ms.or(Some(MAX_PAUSE_MS)), ..row };
            let rows: Vec<Undelivered> = rows.into_iter().map(again).collect();
            return self.mark("retracted", &rows, outcome.map(|outcome| outcome.map(drop))).await;
        };
        let is_unknown = |(one, _): &(&Retraction, Undelivered)| unknown.contains(&one.delivery_id);
        let (missing, gone): (Vec<_>, Vec<_>) = retractions.iter().zip(rows).partition(is_unknown);
        let rows = |pairs: Vec<(&Retraction, Undelivered)>| {
            pairs.into_iter().map(|(_, row)| row).collect::<Vec<_>>()
        };
        let (missing, gone) = (rows(missing), rows(gone));
        if !gone.is_empty() {
            self.mark("retracted", &gone, Ok(Ok(()))).await?;
        }
        if !missing.is_empty() {
            self.put_off("retracted", &missing, "the sink does not know these deliveries").await?;
        }
        Ok(())
    }

    /// Marks rows as done, or says when they are tried again.
    async fn mark(
        &self,
        done: &'static str,
        rows: &[Undelivered],
        outcome: Result<Result<(), SinkError>, Elapsed>,
    ) -> Result<(), StoreError> {
        let error = match outcome {
            Ok(Ok(())) => {
                crash_point("K9");
                let ids: Vec<Uuid> = rows.iter().map(|row| row.delivery_id).collect();
                self.store.delivered(&ids).await?;
                metrics::delivered(&self.name, done, rows.len());
                return Ok(());
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", DEADLINE.as_secs()),
        };
        self.put_off(done, rows, &error).await
    }

    /// Says when rows are tried again, or that they are not.
    async fn put_off(&self, done: &str, rows: &[Undelivered], error: &str) -> Result<(), StoreError> {
        let (sink, dead) = (&self.name, rows.iter().filter(|row| row.after_ms.is_none()).count());
        tracing::warn!(sink, rows = rows.len(), dead, error, "not {done}");
        metrics::delivered(sink, "dead", dead);
        metrics::delivered(sink, "retry", rows.len() - dead);
        self.store.undelivered(rows, error).await
    }

    /// What the sink gets of an evaluation: what the policy lets it have.
    fn item(&self, delivery_id: Uuid, mut evaluation: Evaluation) -> Item {
        let delivery_id = if broken("random_delivery_id") { Uuid::now_v7() } else { delivery_id };
        // Texts of the call, which no sink is sent.
        evaluation.forget_exchanges();
        // Its other texts are words of ours, and the call's own ids, in which a value is a pseudonym always.
        let found = evaluation
            .rules
            .iter_mut()
            .flat_map(|rule| rule.spans.iter_mut().map(|span| &mut span.note).chain([&mut rule.detail]));
        let chunks = evaluation.claims.iter_mut().map(|claim| &mut claim.chunk_id);
        let reasons = evaluation.judge.iter_mut().flat_map(reasons);
        let mut texts: Vec<&mut String> = found.chain(chunks).chain(reasons).collect();
        self.redactor.sent(&self.name, &evaluation.tenant_id, &mut texts);
        Item { delivery_id, evaluation }
    }
}

/// What a judge said in its own words, and what its server calls it.
fn reasons(judge: &mut Judgement) -> impl Iterator<Item = &mut String> {
    let reasons = judge.claims.iter_mut().map(|claim| &mut claim.reason).chain([&mut judge.reason]);
    reasons.chain(&mut judge.model_resolved)
}

/// When a row is tried again if this attempt fails: each row by its own count.
fn later(delivery_id: Uuid, attempts: u32) -> Undelivered {
    let attempt = attempts + 1;
    let after_ms = (attempt < MAX_ATTEMPTS)
        .then(|| i64::try_from(backoff(attempt, &delivery_id.to_string()).as_millis()).unwrap_or(i64::MAX));
    Undelivered { delivery_id, after_ms }
}
