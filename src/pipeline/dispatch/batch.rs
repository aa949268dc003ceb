//! One batch of due rows: what the sink is sent of them, and how each is marked by what became of it.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use tokio::time::timeout;
use uuid::Uuid;

use super::{
    Dispatcher, Running,
    items::{self, Key, Maker},
    policy::Row,
};
use crate::{
    domain::{Call, Evaluation, Retraction},
    faults::crash_point,
    metrics,
    sinks::{Item, Outcome, SinkError},
    store::{Delivered, Due, OutboxRow, StoreError, Undelivered},
};

/// How long one request of the sink may take: a batch, or a part of one.
const DEADLINE: Duration = Duration::from_secs(50);
/// How long a batch may be sent in parts; no part begins later, so that all of them end within the lease.
const PARTS: Duration = Duration::from_secs(55);
/// Calls that are in memory at a time while their claims are quoted: each may have a mebibyte.
const CALLS: usize = 8;
/// Longest receipt that is kept, in bytes.
const MAX_RECEIPT_BYTES: usize = 2000;

impl Running {
    /// Delivers a batch, or takes back what it is about, and marks its rows.
    pub(super) async fn batch(&self, rows: Vec<OutboxRow>) -> Result<(), StoreError> {
        let begun = Instant::now();
        let (mut evaluations, mut said, mut retractions) = (Vec::new(), Vec::new(), Vec::new());
        let maker = self.dispatcher.maker();
        for OutboxRow { delivery_id, attempts, age_ms, due } in rows {
            let row = Row { delivery_id, attempts, age_ms };
            match due {
                Due::Evaluation(evaluation) => evaluations.push((row, *evaluation)),
                Due::Label(label) => said.push((row, maker.label(delivery_id, *label))),
                Due::Golden(golden) => said.push((row, maker.golden(delivery_id, *golden))),
                Due::Retraction(retraction) => retractions.push((row, retraction)),
            }
        }
        let marked = match evaluations.is_empty() && said.is_empty() {
            true => Ok(()),
            false => self.deliver(evaluations, said, begun).await,
        };
        // What is to be deleted does not wait for what cannot be marked.
        if !retractions.is_empty() {
            self.retract(retractions, begun).await?;
        }
        metrics::batch_delivered(&self.dispatcher.name, begun.elapsed());
        marked
    }

    /// Sends evaluations and what people said, in halves where the sink refuses them as a whole.
    async fn deliver(
        &self,
        evaluations: Vec<(Row, Evaluation)>,
        said: Vec<(Row, Item)>,
        begun: Instant,
    ) -> Result<(), StoreError> {
        let behind = said.iter().map(|(row, _)| *row);
        let rows: Vec<Row> = evaluations.iter().map(|(row, _)| *row).chain(behind).collect();
        let mut items = self.dispatcher.items(evaluations).await?;
        items.extend(said.into_iter().map(|(_, item)| item));
        let mut parts = vec![(rows.as_slice(), items.as_slice())];
        while let Some((rows, items)) = parts.pop() {
            if begun.elapsed() > PARTS {
                self.put_off("delivered", &self.waiting(rows, "its batch took too long", Duration::ZERO))
                    .await?;
                continue;
            }
            let sent = Instant::now();
            let answer = in_time(self.dispatcher.sink.deliver(items)).await;
            match answer {
                Ok(outcomes) => {
                    self.note(&outcomes);
                    self.mark(rows, outcomes).await?;
                }
                Err(SinkError::Refused(reason)) => {
                    self.flow().answered();
                    match rows {
                        [row] => self.put_off("delivered", &[row.never(&reason)]).await?,
                        rows => {
                            let half = rows.len() / 2;
                            parts.push((&rows[half..], &items[half..]));
                            parts.push((&rows[..half], &items[..half]));
                        }
                    }
                }
                Err(error) => {
                    let waiting = self.down(rows, &error, sent);
                    self.put_off("delivered", &waiting).await?;
                }
            }
        }
        Ok(())
    }

    /// Notes what the outcomes of items say of the sink: that it is up, where it was asked at all, and for how long it wants to be
    /// left alone, which it says to each request and means of all.
    fn note(&self, outcomes: &[Outcome]) {
        let mut flow = self.flow();
        if outcomes.iter().any(Outcome::was_asked) {
            flow.answered();
        }
        let waits = outcomes.iter().filter_map(|outcome| match outcome {
            Outcome::Again { after, .. } => *after,
            _ => None,
        });
        if let Some(longest) = waits.max() {
            flow.leave_alone(longest, Instant::now());
        }
    }

    /// Marks rows by what became of their items. Where a sink says less than it was asked, the rest is sent again.
    async fn mark(&self, rows: &[Row], mut outcomes: Vec<Outcome>) -> Result<(), StoreError> {
        let unsaid = Outcome::Again { reason: "the sink did not say what became of it".into(), after: None };
        outcomes.resize(rows.len(), unsaid);
        let config = &self.dispatcher.config;
        let (mut delivered, mut undelivered) = (Vec::new(), Vec::new());
        for (row, outcome) in rows.iter().zip(outcomes) {
            match outcome {
                Outcome::Delivered { receipt } => {
                    let receipt = receipt.filter(|receipt| receipt.len() <= MAX_RECEIPT_BYTES);
                    delivered.push(Delivered { delivery_id: row.delivery_id, receipt });
                }
                Outcome::Again { reason, after } => undelivered.push(row.failed(config, &reason, after)),
                Outcome::Unclear { reason } => undelivered.push(row.unclear(config, &reason)),
                Outcome::Never { reason } | Outcome::Unsent { reason: Some(reason) } => {
                    undelivered.push(row.never(&reason));
                }
                Outcome::Unsent { reason: None } => {
                    delivered.push(Delivered { delivery_id: row.delivery_id, receipt: None });
                }
            }
        }
        self.done("delivered", &delivered).await?;
        self.put_off("delivered", &undelivered).await
    }

    /// Has the sink delete what it was sent, in halves where it refuses that as a whole: what it cannot delete is dead with its
    /// reason.
    async fn retract(&self, due: Vec<(Row, Retraction)>, begun: Instant) -> Result<(), StoreError> {
        // They are told without end while the sink is down, so only their attempts count, and not how old they are.
        let young = |(row, retraction): (Row, Retraction)| (Row { age_ms: 0, ..row }, retraction);
        let (rows, retractions): (Vec<Row>, Vec<Retraction>) = due.into_iter().map(young).unzip();
        let mut parts = vec![(rows.as_slice(), retractions.as_slice())];
        while let Some((rows, retractions)) = parts.pop() {
            if begun.elapsed() > PARTS {
                self.put_off("retracted", &self.waiting(rows, "its batch took too long", Duration::ZERO))
                    .await?;
                continue;
            }
            let sent = Instant::now();
            match in_time(self.dispatcher.sink.retract(retractions)).await {
                Ok(unknown) => self.retracted(rows, retractions, &unknown).await?,
                Err(SinkError::Refused(reason)) => {
                    self.flow().answered();
                    match rows {
                        [row] => self.put_off("retracted", &[row.never(&reason)]).await?,
                        rows => {
                            let half = rows.len() / 2;
                            parts.push((&rows[half..], &retractions[half..]));
                            parts.push((&rows[..half], &retractions[..half]));
                        }
                    }
                }
                // While it is down it is told again and again, without end.
                Err(error) => {
                    let (_, rest) = self.rests(&error, sent);
                    self.put_off("retracted", &self.waiting(rows, &error.to_string(), rest)).await?;
                }
            }
        }
        Ok(())
    }

    /// Marks retractions: what the sink does not know it is asked for as often as a delivery is tried.
    async fn retracted(
        &self,
        rows: &[Row],
        retractions: &[Retraction],
        unknown: &[Uuid],
    ) -> Result<(), StoreError> {
        let config = &self.dispatcher.config;
        self.flow().answered();
        let (mut gone, mut missing) = (Vec::new(), Vec::new());
        for (retraction, row) in retractions.iter().zip(rows) {
            match unknown.contains(&retraction.delivery_id) {
                true => missing.push(row.failed(config, "the sink does not know this delivery", None)),
                false => gone.push(Delivered { delivery_id: row.delivery_id, receipt: None }),
            }
        }
        self.done("retracted", &gone).await?;
        self.put_off("retracted", &missing).await
    }

    /// Marks rows as done.
    async fn done(&self, done: &'static str, rows: &[Delivered]) -> Result<(), StoreError> {
        if rows.is_empty() {
            return Ok(());
        }
        crash_point("K9");
        self.dispatcher.store.delivered(rows).await?;
        metrics::delivered(&self.dispatcher.name, done, rows.len());
        Ok(())
    }

    /// The sink as a whole failed, and these rows wait with it. A row that was alone while the sink had just taken others has
    /// failed by itself: it may be what brings the sink down.
    fn down(&self, rows: &[Row], error: &SinkError, sent: Instant) -> Vec<Undelivered> {
        let (was_up, rest) = self.rests(error, sent);
        let reason = error.to_string();
        match (rows, error) {
            ([row], SinkError::Again { .. }) if was_up => {
                vec![row.failed(&self.dispatcher.config, &reason, Some(rest))]
            }
            _ => self.waiting(rows, &reason, rest),
        }
    }

    /// Has the sink rest; says whether it had just taken others, and for how long it rests.
    fn rests(&self, error: &SinkError, sent: Instant) -> (bool, Duration) {
        let (was_up, rest) = {
            let mut flow = self.flow();
            (flow.is_up(), flow.failed(error, sent, Instant::now()))
        };
        let (sink, rest_secs) = (&self.dispatcher.name, rest.as_secs_f64());
        match error {
            SinkError::Denied(_) => tracing::error!(sink, %error, rest_secs, "sink lets nobody in, it rests"),
            _ => tracing::warn!(sink, %error, rest_secs, "sink is down, it rests"),
        }
        (was_up, rest)
    }

    /// Rows that wait for so long and use up no attempt.
    fn waiting(&self, rows: &[Row], reason: &str, rest: Duration) -> Vec<Undelivered> {
        rows.iter().map(|row| row.waits(&self.dispatcher.config, reason, rest)).collect()
    }

    /// Says when rows are tried again, or that they are not.
    async fn put_off(&self, done: &str, rows: &[Undelivered]) -> Result<(), StoreError> {
        let Some(first) = rows.first() else { return Ok(()) };
        let sink = &self.dispatcher.name;
        let dead = rows.iter().filter(|row| row.after_ms.is_none()).count();
        tracing::warn!(sink, rows = rows.len(), dead, error = first.error, "not {done}");
        metrics::delivered(sink, "dead", dead);
        metrics::delivered(sink, "retry", rows.len() - dead);
        self.dispatcher.store.undelivered(rows).await
    }
}

impl Dispatcher {
    /// Makes what the sink is sent.
    fn maker(&self) -> Maker<'_> {
        Maker { name: &self.name, redactor: &self.redactor, pages: self.pages.as_ref() }
    }

    /// What the sink is sent.
    async fn items(&self, evaluations: Vec<(Row, Evaluation)>) -> Result<Vec<Item>, StoreError> {
        let maker = self.maker();
        let mut items = Vec::with_capacity(evaluations.len());
        let mut evaluations = evaluations.into_iter().peekable();
        while evaluations.peek().is_some() {
            let some: Vec<(Row, Evaluation)> = evaluations.by_ref().take(CALLS).collect();
            let calls = self.calls(&some).await?;
            items.extend(
                some.into_iter().map(|(row, evaluation)| maker.item(row.delivery_id, evaluation, &calls)),
            );
        }
        Ok(items)
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
}

/// The answer of a sink, within the deadline. After it nobody knows what arrived.
async fn in_time<T>(answer: impl Future<Output = Result<T, SinkError>>) -> Result<T, SinkError> {
    let late = SinkError::Again { reason: format!("no answer within {} s", DEADLINE.as_secs()), after: None };
    timeout(DEADLINE, answer).await.unwrap_or(Err(late))
}
