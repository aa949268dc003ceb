//! How long what is kept stays: deleted with age, batch by batch, by a command or by the running service.

use std::{path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::{
    metrics,
    store::{Pruned, Store, StoreError, TooOld},
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
    /// Other lengths for an environment, a tenant, or one in the other. The first that fits a call counts, before `whole`.
    pub exceptions: Vec<KeptException>,
    /// Days after which a running service deletes evaluations, as `aftercheck prune` does; 0: never.
    pub days: u64,
    /// Days after which a running service deletes dead letters that nobody has requeued or dropped; 0: never. They hold the
    /// whole answer, since they are there to be sent again.
    pub dead_letter_days: u64,
    /// The debug share.
    pub sealed: SealedConfig,
}

/// How much is kept of the answers of some calls.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KeptException {
    /// Calls of this environment; absent: of all.
    pub environment: Option<String>,
    /// Calls of this tenant; absent: of all.
    pub tenant_id: Option<String>,
    /// Longest answer that is kept, in characters; 0: its length and hash and nothing else.
    pub answer_chars: Option<usize>,
    /// All of it is kept.
    pub whole: bool,
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
            exceptions: Vec::new(),
            days: 0,
            dead_letter_days: 0,
            sealed: SealedConfig::default(),
        }
    }
}

impl Default for SealedConfig {
    fn default() -> Self {
        Self { share: 0.0, key_file: None, days: 7 }
    }
}

impl RetentionConfig {
    /// Checks ranges and relations.
    ///
    /// # Errors
    /// The key and what to do.
    pub fn check(&self) -> Result<(), &'static str> {
        let is_about = |one: &KeptException| one.environment.is_some() || one.tenant_id.is_some();
        let checks = [
            (
                self.days.max(self.dead_letter_days) <= 36_500,
                "[retention] days and dead_letter_days: need 0 (never) to 36500",
            ),
            (
                self.exceptions.iter().all(|one| is_about(one) && one.answer_chars.is_some() != one.whole),
                "[retention] exceptions: each needs environment or tenant_id, and either answer_chars or whole = true",
            ),
            ((0.0..=1.0).contains(&self.sealed.share), "[retention.sealed] share: need 0 to 1"),
            ((1..=3650).contains(&self.sealed.days), "[retention.sealed] days: need 1 to 3650"),
            (
                self.sealed.share == 0.0 || self.sealed.key_file.is_some(),
                "[retention.sealed] key_file: a share needs one; make it with `openssl rand -hex 32`",
            ),
        ];
        checks.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, remedy)| Err(remedy))
    }

    /// Longest answer that is kept of a tenant's call in an environment, in characters; none where all of it is.
    pub(super) fn chars_of(&self, environment: &str, tenant_id: &str) -> Option<usize> {
        let fits = |wanted: &Option<String>, is| wanted.as_deref().is_none_or(|wanted| wanted == is);
        let exception = self
            .exceptions
            .iter()
            .find(|one| fits(&one.environment, environment) && fits(&one.tenant_id, tenant_id));
        match exception {
            Some(exception) => exception.answer_chars,
            None if self.whole.iter().any(|whole| whole == environment) => None,
            None => Some(self.answer_chars),
        }
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

/// One round: what has expired, then old evaluations.
async fn prune_once(config: &RetentionConfig, store: &dyn Store) -> Result<(u64, u64), StoreError> {
    // What is sealed first: it is what must not stay.
    let expired = expire(config, store).await?;
    let evaluations = match before(config.days) {
        0 => 0,
        before_ms => prune(store, before_ms, |_| {}).await?.evaluations,
    };
    metrics::pruned(evaluations, expired);
    Ok((evaluations, expired))
}

/// Deletes sealed messages, keys of erased calls and dead letters that the policy lets stay no longer; returns how many.
///
/// # Errors
/// [`StoreError`]; what was deleted before stays deleted.
pub async fn expire(config: &RetentionConfig, store: &dyn Store) -> Result<u64, StoreError> {
    let too_old = TooOld { erased_ms: before(config.days), dead_ms: before(config.dead_letter_days) };
    let mut expired = 0;
    loop {
        match store.expire(too_old, BATCH).await? {
            0 => return Ok(expired),
            gone => expired += gone,
        }
    }
}

/// What is from before this time, in Unix milliseconds, is older than so many days; 0, before which nothing is, where nothing
/// goes with age.
fn before(days: u64) -> i64 {
    match i64::try_from(days).unwrap_or(i64::MAX) {
        0 => 0,
        days => Timestamp::now().as_millisecond().saturating_sub(days.saturating_mul(DAY_MS)),
    }
}
