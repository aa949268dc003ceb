//! The LLM judge: asked about the claims that the local model is unsure of, and believed only where its answer is what was
//! asked for and agrees with itself.
//!
//! * `question`: what is asked, in a form that no text of a call can leave; `precheck`: what is never asked.
//! * `config`, `model`: one judge with its limits, on the wire as `openai` or `anthropic`; `waits`: how they say "later".
//! * `answer`: what is believed; `error`: how a judge fails, and what may help.
//! * `breaker`, `prices`, `family`: when it is left alone, what it costs, whom it may favour.
//!
//! Order of judges, retries, budget and cache are the pipeline's.

pub mod answer;
mod anthropic;
pub mod breaker;
pub mod config;
pub mod error;
pub mod family;
pub mod model;
mod openai;
pub mod precheck;
pub mod prices;
pub mod question;
mod waits;

use config::ModelConfig;
pub use error::{JudgeError, Remedy};

use crate::domain::id::sha256_hex;

/// Raised by hand when the code changes what is asked or believed; `tests/it/revision.rs` says when passages do.
pub const REVISION: u32 = 3;

/// What of these judges may change a verdict: the models in their order, and what they are asked.
pub fn policy(models: &[ModelConfig]) -> serde_json::Value {
    models.iter().map(ModelConfig::policy).collect::<Vec<_>>().into()
}

/// The version of prompt, schema and code: the first eight hex digits of their digest, after the revision. A judge whose
/// documents are marked has another prompt.
pub fn prompt_version(datamark: bool) -> String {
    let parts = format!("{REVISION} {} {}", model::system(datamark), *model::SCHEMA);
    format!("v{REVISION}-{}", &sha256_hex(parts.as_bytes())[..8])
}
