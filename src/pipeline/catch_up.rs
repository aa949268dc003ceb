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
/// Pause after one that has to wait on: a judge that is out would be found out for each of thousands.
const REST: Duration = Duration::from_secs(2);
/// How long one that is taken is hidden from other workers, at least; longer than it takes.
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

/// What came of looking for calls that are due.
enum Round {
    /// There is none.
    Nothing,
    /// All came to their end.
    Ended,
    /// One has to wait on, and perhaps the others would have to, too.
    WaitsOn,
}

impl Work {
    /// Judges deferred calls that are due, until the process leaves.
    async fn catch_up(self: Arc<Self>, leaving: CancellationToken) {
        while !leaving.is_cancelled() {
            let pause = match self.catch_up_some(&leaving).await {
                Ok(Round::Ended) => continue,
                Ok(Round::WaitsOn) => REST,
                Ok(Round::Nothing) => INTERVAL,
                Err(error) => {
                    tracing::warn!(%error, "deferred calls could not be looked at, trying again");
                    INTERVAL
                }
            };
            tokio::select! {
                () = leaving.cancelled() => {}
                () = sleep(pause) => {}
            }
        }
    }

    /// Some of the oldest that are due, side by side, until the last of them has come to its end.
    async fn catch_up_some(self: &Arc<Self>, leaving: &CancellationToken) -> Result<Round, Unfinished> {
        let (store, config) = (&self.pipeline.store, &self.pipeline.config);
        let waiting = store.deferred_calls().await?;
        metrics::deferred_calls(waiting);
        if waiting == 0 {
            return Ok(Round::Nothing);
        }
        let most = (config.in_flight / SHARE).max(1);
        let lease_ms =
            LEASE_MS.max(i64::try_from(config.call_deadline_secs).unwrap_or(i64::MAX).saturating_mul(2_000));
        let (mut at_work, mut ended, mut failed) = (JoinSet::new(), Vec::new(), None);
        while at_work.len() < most && !leaving.is_cancelled() {
            let deferred = match store.deferred(self.pipeline.cascade.version(), lease_ms).await {
                Ok(Some(deferred)) => deferred,
                Ok(None) => break,
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            };
            // What may have ended the process before takes no other call with it.
            let is_suspect = deferred.tries > 1;
            while is_suspect && let Some(one) = at_work.join_next().await {
                ended.push(one);
            }
            at_work.spawn(Arc::clone(self).catch_up_with(deferred));
            if is_suspect {
                break;
            }
        }
        while let Some(one) = at_work.join_next().await {
            ended.push(one);
        }
        match failed {
            Some(error) => Err(error.into()),
            None if ended.is_empty() => Ok(Round::Nothing),
            None if ended.iter().all(|one| matches!(one, Ok(true))) => Ok(Round::Ended),
            None => Ok(Round::WaitsOn),
        }
    }

    /// Brings one of them to its end; false where it has to wait on.
    async fn catch_up_with(self: Arc<Self>, deferred: Deferred) -> bool {
        let deferred = Arc::new(deferred);
        // A task of its own: a panic of ours is an attempt of the call.
        let (work, taken) = (Arc::clone(&self), Arc::clone(&deferred));
        let judging = tokio::spawn(async move { work.judge_deferred(&taken).await });
        let failed = match judging.await {
            Ok(Ok(has_ended)) => return has_ended,
            Ok(Err(error)) => error.to_string(),
            Err(_) => "a panic of ours".to_owned(),
        };
        let request_id = &deferred.request_id;
        tracing::warn!(error = failed, request_id, "deferred call will be tried again");
        if let Err(error) = self.pipeline.store.put_off(&deferred, AGAIN, true).await {
            tracing::warn!(%error, request_id, "deferred call is due again when its lease ends");
        }
        false
    }

    /// Judges a call that was deferred, or puts it off again: then it has not come to its end.
    async fn judge_deferred(&self, deferred: &Deferred) -> Result<bool, Unfinished> {
        let store = &self.pipeline.store;
        if deferred.tries > i64::from(self.pipeline.config.max_attempts) {
            // Its work has ended the process, or failed, each time.
            return self.bury_deferred(deferred, "its attempts ended without an evaluation").await;
        }
        let Ok(call) = serde_json::from_str::<Call>(&deferred.call) else {
            return self.bury_deferred(deferred, "it cannot be read any more").await;
        };
        // Its digest is that of the call with its names, where they were taken out of what is kept.
        let (tenant_id, request_id) = (deferred.tenant_id.clone(), deferred.request_id.clone());
        let body_digest = deferred.body_digest.clone();
        let key = Arc::new(CallKey { tenant_id, request_id, body_digest });
        let decided = self.recorder.decided(&key).await.map_err(Unfinished::Shared)?;
        if decided != Decided::No {
            store.end_deferred(deferred).await?;
            return Ok(true);
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
            store.put_off(deferred, deferral.until, false).await?;
            return Ok(false);
        }
        record.kept.user_key = deferred.user_key.clone();
        self.recorder.record(record, None).await.map_err(Unfinished::Shared)?;
        metrics::caught_up();
        store.end_deferred(deferred).await?;
        Ok(true)
    }

    /// Makes a deferred call a dead letter, which is its end.
    async fn bury_deferred(&self, deferred: &Deferred, why: &str) -> Result<bool, Unfinished> {
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
        store.end_deferred(deferred).await?;
        Ok(true)
    }
}
