//! How long what is kept stays: deleted with age, batch by batch, by a command or by the running service.

use std::{path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    metrics,
    store::{Pruned, Store, StoreError},
};

/// Milliseconds of a day.
pub const DAY_MS: i64 = 86_400_000;
/// Evaluations or calls of one transaction: a fraction of a second, so that no worker waits for long.
pub const BATCH: u32 = 500;
/// How often a running service looks for what is too old.
const INTERVAL: Duration = Duration::from_secs(3600);

/// `[retention]`: how much of a call is kept, and for how long.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RetentionConfig {
    /// Environments whose answers are kept whole.
    pub whole: Vec<String>,
    /// Longest answer that is kept of a call of any other environment, in characters. What is cut off is gone once the call
    /// is judged; its length and the hash of the whole answer stay.
    pub answer_chars: usize,
    /// Days after which a running service deletes evaluations, as `aftercheck prune` does; 0: never.
    pub days: u64,
    /// The debug share.
    pub sealed: SealedConfig,
}

/// `[retention.sealed]`: the share of calls of which the message is kept as it was delivered, encrypted.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SealedConfig {
    /// The share, from 0 (none) to 1 (all). Which calls is a matter of their ids: the same on every worker.
    pub share: f64,
    /// File with the key, 64 hex digits. `aftercheck reveal` needs the same.
    pub key_file: Option<PathBuf>,
    /// Days until a sealed message is deleted.
    pub days: u64,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self {
            whole: vec!["staging".to_owned()],
            answer_chars: 2000,
            days: 0,
            sealed: SealedConfig::default(),
        }
    }
}

impl Default for SealedConfig {
    fn default() -> Self {
        Self { share: 0.0, key_file: None, days: 7 }
    }
}

/// Deletes what was evaluated before a time, and adds up what went; `done` is shown each batch. What was deleted stays
/// deleted when this is ended in between.
///
/// # Errors
/// [`StoreError`]; what was deleted before stays deleted.
pub async fn prune(
    store: &dyn Store,
    before_ms: i64,
    mut done: impl FnMut(&Pruned),
) -> Result<Pruned, StoreError> {
    let (mut sum, mut from_ms) = (Pruned::default(), 0);
    loop {
        let batch = store.prune(from_ms..before_ms, BATCH).await?;
        let Some(reached_ms) = batch.reached_ms else { return Ok(sum) };
        // What is kept among those before is not looked at again.
        from_ms = reached_ms;
        sum.evaluations += batch.evaluations;
        sum.calls += batch.calls;
        sum.ledger += batch.ledger;
        done(&batch);
    }
}

/// Deletes again and again what the policy says is too old, until the service stops. Several workers may do so side by side.
pub async fn keep_pruning(config: RetentionConfig, store: Arc<dyn Store>, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            // At the start, too: a service that is restarted each night would never come to it.
            pruned = prune_once(&config, &*store) => match pruned {
                Ok((0, 0)) => {}
                Ok((evaluations, expired)) => tracing::info!(evaluations, expired, "deleted what is too old"),
                Err(error) => tracing::error!(%error, "what is too old could not be deleted, trying again later"),
            },
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(INTERVAL) => {}
        }
    }
}

/// One round: sealed messages and keys of erased calls that have expired, then old evaluations.
async fn prune_once(config: &RetentionConfig, store: &dyn Store) -> Result<(u64, u64), StoreError> {
    let days = i64::try_from(config.days).unwrap_or(i64::MAX);
    let before_ms = match days {
        0 => 0,
        days => Timestamp::now().as_millisecond().saturating_sub(days.saturating_mul(DAY_MS)),
    };
    // What is sealed first: it is what must not stay.
    let mut expired = 0;
    loop {
        let gone = store.expire(before_ms, BATCH).await?;
        expired += gone;
        if gone == 0 {
            break;
        }
    }
    let evaluations = match days {
        0 => 0,
        _ => prune(store, before_ms, |_| {}).await?.evaluations,
    };
    metrics::pruned(evaluations, expired);
    Ok((evaluations, expired))
}
