//! Delivers the outbox: due rows of each sink, batch by batch, until every row is delivered or dead. What was erased is taken
//! back from the sinks by the same way.

mod items;

use std::{collections::HashMap, sync::Arc, time::Duration};

use reqwest::Url;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::items::{Key, Maker};
use super::retry::backoff;
use crate::{
    domain::{Call, Evaluation, Retraction},
    faults::crash_point,
    metrics,
    redaction::Redactor,
    sinks::{Item, Outcome, Sink, SinkError},
    store::{Delivered, Due, Store, StoreError, Undelivered},
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
/// Longest wait that a backend may ask for.
const MAX_WAIT: Duration = Duration::from_secs(3600);
/// Longest receipt that is kept, in bytes.
const MAX_RECEIPT_BYTES: usize = 2000;

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
    /// Where the outbox is.
    pub store: Arc<dyn Store>,
    /// Says what the sink may have.
    pub redactor: Arc<Redactor>,
}

/// Delivers until shutdown, or, when `drain`, until none is due. Rows whose delivery failed are due later: a drain does not
/// wait for a sink that is down.
pub async fn run(dispatcher: Dispatcher, shutdown: CancellationToken, drain: bool) {
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

/// A row that is being delivered.
#[derive(Clone, Copy)]
struct Row {
    delivery_id: Uuid,
    /// Attempts before this one.
    attempts: u32,
}

impl Dispatcher {
    /// Delivers one batch; returns how many rows were due.
    async fn deliver_due(&self) -> Result<usize, StoreError> {
        let rows = self.store.due(&self.name, self.sink.batch(), LEASE.as_millis() as i64).await?;
        let due = rows.len();
        let (mut evaluations, mut retractions) = (Vec::new(), Vec::new());
        for row in rows {
            let at = Row { delivery_id: row.delivery_id, attempts: row.attempts };
            match row.due {
                Due::Evaluation(evaluation) => evaluations.push((at, *evaluation)),
                Due::Retraction(retraction) => retractions.push((at, retraction)),
            }
        }
        if !evaluations.is_empty() {
            let rows: Vec<Row> = evaluations.iter().map(|(row, _)| *row).collect();
            let items = self.items(evaluations).await?;
            self.deliver(&rows, &items).await?;
        }
        if !retractions.is_empty() {
            self.retract(retractions).await?;
        }
        Ok(due)
    }

    /// What the sink is sent.
    async fn items(&self, evaluations: Vec<(Row, Evaluation)>) -> Result<Vec<Item>, StoreError> {
        let calls = self.calls(&evaluations).await?;
        let maker = Maker { name: &self.name, redactor: &self.redactor, pages: self.pages.as_ref() };
        let item = |(row, evaluation): (Row, Evaluation)| maker.item(row.delivery_id, evaluation, &calls);
        Ok(evaluations.into_iter().map(item).collect())
    }

    /// The calls that may be quoted.
    async fn calls(&self, evaluations: &[(Row, Evaluation)]) -> Result<HashMap<Key, Call>, StoreError> {
        if !self.quotes {
            return Ok(HashMap::new());
        }
        let keys: Vec<Key> = evaluations.iter().map(|(_, evaluation)| items::key(evaluation)).collect();
        let calls = self.store.calls(&keys).await?;
        Ok(keys.into_iter().zip(calls).filter_map(|(key, call)| Some((key, call?))).collect())
    }

    /// Sends a batch, in halves where the sink refuses it as a whole, and marks each row by what became of it.
    async fn deliver(&self, rows: &[Row], items: &[Item]) -> Result<(), StoreError> {
        let mut open = vec![(rows, items)];
        while let Some((rows, items)) = open.pop() {
            let answer = match timeout(DEADLINE, self.sink.deliver(items)).await {
                Ok(answer) => answer,
                Err(_) => Err(late()),
            };
            match answer {
                Err(SinkError::Refused(_)) if items.len() > 1 => {
                    let half = items.len() / 2;
                    open.push((&rows[half..], &items[half..]));
                    open.push((&rows[..half], &items[..half]));
                }
                answer => self.mark(rows, outcomes(answer, rows.len())).await?,
            }
        }
        Ok(())
    }

    /// Marks rows by what became of their items.
    async fn mark(&self, rows: &[Row], outcomes: Vec<Outcome>) -> Result<(), StoreError> {
        let (mut delivered, mut undelivered) = (Vec::new(), Vec::new());
        for (row, outcome) in rows.iter().zip(outcomes) {
            let delivery_id = row.delivery_id;
            match outcome {
                Outcome::Delivered { receipt } => {
                    let receipt = receipt.filter(|receipt| receipt.len() <= MAX_RECEIPT_BYTES);
                    delivered.push(Delivered { delivery_id, receipt });
                }
                Outcome::Again { reason, after } => undelivered.push(later(*row, reason, after)),
                Outcome::Never { reason } => undelivered.push(Undelivered {
                    delivery_id,
                    after_ms: None,
                    is_attempt: true,
                    error: reason,
                }),
            }
        }
        if !delivered.is_empty() {
            crash_point("K9");
            self.store.delivered(&delivered).await?;
            metrics::delivered(&self.name, "delivered", delivered.len());
        }
        self.put_off("delivered", &undelivered).await
    }

    /// Has the sink delete what it was sent. While it is down it is told again and again, without end; what it does not know
    /// it is asked for as often as a delivery is tried.
    async fn retract(&self, due: Vec<(Row, Retraction)>) -> Result<(), StoreError> {
        let (rows, retractions): (Vec<Row>, Vec<Retraction>) = due.into_iter().unzip();
        let answer = match timeout(DEADLINE, self.sink.retract(&retractions)).await {
            Ok(answer) => answer,
            Err(_) => Err(late()),
        };
        let unknown = match answer {
            Ok(unknown) => unknown,
            Err(error) => {
                let again = |row: &Row| {
                    let later = later(*row, error.to_string(), None);
                    Undelivered { after_ms: later.after_ms.or(Some(MAX_PAUSE_MS)), ..later }
                };
                let rows: Vec<Undelivered> = rows.iter().map(again).collect();
                return self.put_off("retracted", &rows).await;
            }
        };
        let is_unknown = |(one, _): &(&Retraction, Row)| unknown.contains(&one.delivery_id);
        let (missing, gone): (Vec<_>, Vec<_>) = retractions.iter().zip(rows).partition(is_unknown);
        if !gone.is_empty() {
            crash_point("K9");
            let done = |(_, row): (_, Row)| Delivered { delivery_id: row.delivery_id, receipt: None };
            let gone: Vec<Delivered> = gone.into_iter().map(done).collect();
            self.store.delivered(&gone).await?;
            metrics::delivered(&self.name, "retracted", gone.len());
        }
        let unknown = "the sink does not know this delivery";
        let missing: Vec<Undelivered> =
            missing.into_iter().map(|(_, row)| later(row, unknown.to_owned(), None)).collect();
        self.put_off("retracted", &missing).await
    }

    /// Says when rows are tried again, or that they are not.
    async fn put_off(&self, done: &str, rows: &[Undelivered]) -> Result<(), StoreError> {
        let Some(first) = rows.first() else { return Ok(()) };
        let (sink, dead) = (&self.name, rows.iter().filter(|row| row.after_ms.is_none()).count());
        tracing::warn!(sink, rows = rows.len(), dead, error = first.error, "not {done}");
        metrics::delivered(sink, "dead", dead);
        metrics::delivered(sink, "retry", rows.len() - dead);
        self.store.undelivered(rows).await
    }
}

/// A batch took too long: nobody knows what arrived.
fn late() -> SinkError {
    SinkError::Again { reason: format!("no answer within {} s", DEADLINE.as_secs()), after: None }
}

/// What became of each of so many items. Where a sink says less than it was asked, the rest is sent again.
fn outcomes(answer: Result<Vec<Outcome>, SinkError>, rows: usize) -> Vec<Outcome> {
    let (mut outcomes, rest) = match answer {
        Ok(outcomes) => (outcomes, again("the sink did not say what became of it", None)),
        Err(SinkError::Again { reason, after }) => (Vec::new(), again(&reason, after)),
        Err(SinkError::Denied(reason)) => (Vec::new(), again(&reason, None)),
        Err(SinkError::Refused(reason)) => (Vec::new(), Outcome::Never { reason }),
    };
    outcomes.resize(rows, rest);
    outcomes
}

/// It may work later.
fn again(reason: &str, after: Option<Duration>) -> Outcome {
    Outcome::Again { reason: reason.to_owned(), after }
}

/// When a row is tried again after this attempt has failed: each row by its own count.
fn later(row: Row, error: String, after: Option<Duration>) -> Undelivered {
    let attempt = row.attempts + 1;
    let wait = backoff(attempt, &row.delivery_id.to_string()).max(after.unwrap_or_default().min(MAX_WAIT));
    let after_ms = (attempt < MAX_ATTEMPTS).then(|| i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
    Undelivered { delivery_id: row.delivery_id, after_ms, is_attempt: true, error }
}
