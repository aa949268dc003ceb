//! Sinks: where scores go, and where they are deleted again. A sink never sleeps and never retries: it says what became of
//! each batch.

pub mod jsonl;

use std::{collections::BTreeMap, path::PathBuf};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::{Evaluation, Retraction};

/// `[sinks.NAME]`: one destination, by the name that outbox, metrics and `why` show.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum SinkConfig {
    /// Appends one JSON line per evaluation to a file.
    Jsonl {
        /// The file, created when absent.
        path: PathBuf,
    },
}

/// One evaluation to be delivered.
#[derive(Debug, Clone, Serialize)]
pub struct Item {
    /// The receiver's idempotency key: the same on every repeat.
    pub delivery_id: Uuid,
    /// What is delivered.
    pub evaluation: Evaluation,
}

/// Why a whole batch was not delivered.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// It may work later.
    #[error("{0}")]
    Retry(#[from] std::io::Error),
}

/// A destination of scores.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Most rows of one [`Sink::deliver`].
    fn batch(&self) -> u32;

    /// Delivers a batch; all of it arrived, or an error says why none is known to have.
    async fn deliver(&mut self, items: &[Item]) -> Result<(), SinkError>;

    /// Deletes what was delivered, because its calls were erased, and gives back the deliveries that it does not know: perhaps
    /// they never arrived, perhaps they are kept where another worker can reach them. All others are deleted, or an error says
    /// why not all of them are known to be. A repeat changes nothing.
    async fn retract(&mut self, retractions: &[Retraction]) -> Result<Vec<Uuid>, SinkError>;
}

/// Builds the configured sinks.
pub fn build(configs: &BTreeMap<String, SinkConfig>) -> Vec<(String, Box<dyn Sink>)> {
    configs
        .iter()
        .map(|(name, config)| {
            let sink: Box<dyn Sink> = match config {
                SinkConfig::Jsonl { path } => Box::new(jsonl::JsonlSink::new(path.clone())),
            };
            (name.clone(), sink)
        })
        .collect()
}
