//! Calls whose judge could not be asked when they came: kept in the store, and judged when it can be, the oldest first.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{
    task::{JoinHandle, JoinSet},
    time::sleep,
};
use tokio_util::sync::CancellationToken;

use super::{Unfinished, Work, cascade::Wait, judge::Attempt, together::SHARE};
use crate::{
    domain::{Call, DeadClass, DeadLetter},
    metrics,
    store::{Burial, Buried, CallKey, Decided, Deferred, Until},
};

/// How often deferred calls are looked for.
const INTERVAL: Duration = Duration::from_secs(15);
/// How long one that is taken is hidden from other workers; longer than it takes.
const LEASE_MS: i64 = 1_800_000;
/// How long a call waits that could not be judged for another reason than its judge.
const AGAIN: Until = Until::In(600_000);

/// The task that judges them, a few at a time, so that new calls have most of the places.
pub(super) struct CatchUp {
    task: JoinHandle<()>,
    leaving: CancellationToken,
}

impl CatchUp {
    /// Starts it.
    pub(super) fn start(work: &Arc<Work>, shutdown: &CancellationToken) -> Self {
        let leaving = shutdown.child_token();
        Self { task: tokio::spawn(Arc::clone(work).catch_up(leaving.clone())), leaving }
    }

    /// Ends it, once the calls that it is at have come to their end. One that is cut off is due again when its lease ends.
    pub(super) async fn end(self) {
        self.leaving.cancel();
        drop(self.task.await);
    }
}

impl Work {
    /// Judges deferred calls that are due, until the process leaves.
    async fn catch_up(self: Arc<Self>, leaving: CancellationToken) {
        let mut at_work = JoinSet::new();
        while !leaving.is_cancelled() {
            if let Err(error) = self.take_up(&mut at_work).await {
                tracing::warn!(%error, "deferred calls could not be looked at, trying again");
            }
            tokio::select! {
                () = leaving.cancelled() => {}
                () = sleep(INTERVAL) => {}
                Some(_) = at_work.join_next() => {}
            }
        }
        while at_work.join_next().await.is_some() {}
    }

    /// Takes up the oldest that are due, as many as may be judged at a time.
    async fn take_up(self: &Arc<Self>, at_work: &mut JoinSet<()>) -> Result<(), Unfinished> {
        let store = &self.pipeline.store;
        let waiting = store.deferred_calls().await?;
        metrics::deferred_calls(waiting);
        if waiting == 0 {
            return Ok(());
        }
        let most = (self.pipeline.config.in_flight / SHARE).max(1);
        while at_work.len() < most {
            let Some(deferred) = store.deferred(self.pipeline.cascade.version(), LEASE_MS).await? else {
                break;
            };
            let (work, request_id) = (Arc::clone(self), deferred.request_id.clone());
            at_work.spawn(async move {
                if let Err(error) = work.catch_up_with(deferred).await {
                    tracing::warn!(%error, request_id, "deferred call is due again when its lease ends");
                }
            });
        }
        Ok(())
    }

    /// Brings one of them to its end, or puts it off.
    async fn catch_up_with(self: Arc<Self>, deferred: Deferred) -> Result<(), Unfinished> {
        let store = &self.pipeline.store;
        let deferred = Arc::new(deferred);
        if deferred.tries > i64::from(self.pipeline.config.max_attempts) {
            // Its work has ended the process, or failed, each time.
            return self.bury_deferred(&deferred, "its attempts ended without an evaluation").await;
        }
        // A task of its own: a panic of ours is an attempt of the call.
        let (work, taken) = (Arc::clone(&self), Arc::clone(&deferred));
        let judging = tokio::spawn(async move { work.judge_deferred(&taken).await });
        let failed = match judging.await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "a panic of ours".to_owned(),
        };
        tracing::warn!(error = failed, request_id = deferred.request_id, "deferred call will be tried again");
        Ok(store.put_off(&deferred, AGAIN, true).await?)
    }

    /// Judges a call that was deferred, or puts it off again.
    async fn judge_deferred(&self, deferred: &Deferred) -> Result<(), Unfinished> {
        let store = &self.pipeline.store;
        let Ok(call) = serde_json::from_str::<Call>(&deferred.call) else {
            return self.bury_deferred(deferred, "it cannot be read any more").await;
        };
        // Its digest is that of the call with its names, where they were taken out of what is kept.
        let (tenant_id, request_id) = (deferred.tenant_id.clone(), deferred.request_id.clone());
        let body_digest = deferred.body_digest.clone();
        let key = Arc::new(CallKey { tenant_id, request_id, body_digest });
        let decided = self.recorder.decided(&key).await.map_err(Unfinished::Shared)?;
        if decided != Decided::No {
            return Ok(store.end_deferred(deferred).await?);
        }
        let payload = Bytes::from(deferred.call.clone());
        let waited = Duration::from_millis(deferred.age_ms.unsigned_abs());
        let attempt = Attempt {
            payload: &payload,
            digest: &deferred.payload_digest,
            number: u32::try_from(deferred.tries).unwrap_or(u32::MAX),
            wait: Wait { waited, hold: true },
        };
        let (mut record, deferral) = self.judge(&key, call, attempt, &mut None).await?;
        if let Some(deferral) = deferral {
            return Ok(store.put_off(deferred, deferral.until, false).await?);
        }
        record.kept.user_key = deferred.user_key.clone();
        self.recorder.record(record, None).await.map_err(Unfinished::Shared)?;
        metrics::caught_up();
        Ok(store.end_deferred(deferred).await?)
    }

    /// Makes a deferred call a dead letter.
    async fn bury_deferred(&self, deferred: &Deferred, why: &str) -> Result<(), Unfinished> {
        let store = &self.pipeline.store;
        let burial = Burial {
            payload: Bytes::from(deferred.call.clone()),
            payload_digest: deferred.payload_digest.clone(),
            user_key: deferred.user_key.clone(),
            letter: DeadLetter {
                class: DeadClass::Deferred,
                pointer: String::new(),
                detail: format!("the call waited for a judge, and {why}"),
                remedy: "see the log for what ended its attempts, then `aftercheck dead requeue`".into(),
                tenant_id: Some(deferred.tenant_id.clone()),
                request_id: Some(deferred.request_id.clone()),
            },
            attempts: u32::try_from(deferred.tries).unwrap_or(u32::MAX),
            source: self.source,
        };
        if store.bury(&burial).await? == Buried::Written {
            metrics::dead_letter(burial.letter.class.as_str());
        }
        Ok(store.end_deferred(deferred).await?)
    }
}
