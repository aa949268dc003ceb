//! Delivers the outbox: due rows of each sink, batch by batch, until every row is delivered or dead.

use std::{sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::retry::backoff;
use crate::{
    faults::{broken, crash_point},
    metrics,
    redaction::Redactor,
    sinks::{Item, Sink},
    store::{OutboxRow, Store, StoreError, Undelivered},
};

/// How often an empty outbox is looked at.
const POLL_INTERVAL: Duration = Duration::from_millis(500);
/// How long rows in delivery are hidden from other dispatchers; longer than a delivery may take.
const LEASE: Duration = Duration::from_secs(120);
/// How long one batch may take.
const DEADLINE: Duration = Duration::from_secs(60);
/// Attempts on one row before it is dead; with the backoff about a day and a half.
const MAX_ATTEMPTS: u32 = 200;

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
        let Dispatcher { name, sink, store, redactor } = self;
        let rows = store.due(name, sink.batch(), LEASE.as_millis() as i64).await?;
        if rows.is_empty() {
            return Ok(0);
        }
        let ids: Vec<_> = rows.iter().map(|row| row.delivery_id).collect();
        let later: Vec<_> = rows.iter().map(later).collect();
        let items: Vec<Item> = rows.into_iter().map(|row| item(row, name, redactor)).collect();
        let error = match timeout(DEADLINE, sink.deliver(&items)).await {
            Ok(Ok(())) => {
                crash_point("K9");
                store.delivered(&ids).await?;
                metrics::delivered(name, "delivered", ids.len());
                return Ok(ids.len());
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {} s", DEADLINE.as_secs()),
        };
        let dead = later.iter().filter(|row| row.after_ms.is_none()).count();
        tracing::warn!(sink = name, rows = ids.len(), dead, %error, "delivery failed");
        metrics::delivered(name, "dead", dead);
        metrics::delivered(name, "retry", ids.len() - dead);
        store.undelivered(&later, &error).await?;
        Ok(ids.len())
    }
}

/// When a row is tried again if this attempt fails: each row by its own count.
fn later(row: &OutboxRow) -> Undelivered {
    let attempt = row.attempts + 1;
    let after_ms = (attempt < MAX_ATTEMPTS).then(|| {
        i64::try_from(backoff(attempt, &row.delivery_id.to_string()).as_millis()).unwrap_or(i64::MAX)
    });
    Undelivered { delivery_id: row.delivery_id, after_ms }
}

/// What a sink gets of an outbox row: what the policy lets it have.
fn item(row: OutboxRow, sink: &str, redactor: &Redactor) -> Item {
    let delivery_id = if broken("random_delivery_id") { Uuid::now_v7() } else { row.delivery_id };
    let mut evaluation = row.evaluation;
    // Its other texts are words of ours, and ids, in which a value is a pseudonym always.
    let details = evaluation.rules.iter_mut().map(|rule| &mut rule.detail);
    let mut texts: Vec<&mut String> =
        details.chain(evaluation.judge.as_mut().map(|judge| &mut judge.reason)).collect();
    redactor.sent(sink, &evaluation.tenant_id, &mut texts);
    Item { delivery_id, evaluation }
}
