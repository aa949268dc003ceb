//! aftercheck checks LLM answers after the user has seen them.
//!
//! # The map, in dependency order
//! * [`domain`]: the call that comes in, the evaluation that goes out. Plain data.
//! * [`metrics`], [`shutdown`], [`faults`], [`database`], [`outbound`]: leaves that everything may use.
//! * [`inference`]: local models: a classifier fed with token-budgeted batches, a sentence encoder.
//! * [`evaluators`]: rules, NLI faithfulness, and the LLM judge.
//! * [`redaction`]: finds personal data and secrets in texts.
//! * [`sources`], [`store`], [`sinks`]: where calls come from, where verdicts are kept, where scores go.
//! * [`pipeline`]: receive → decode → cascade → decide → record → settle. **Start reading there.**
//! * [`review`]: what people look at, and what they say. [`monitor`]: whether judges agree with them.
//! * [`golden`]: what people said of calls becomes the test of the next release.
//! * [`access`]: who comes in. [`http`]: calls in, sign-in, pages, the API, health, readiness, metrics.
//!   [`config`], [`telemetry`]: how it is set up.
//! * [`service`]: builds the parts and runs them. [`cli`]: one file per subcommand.

pub mod access;
pub mod cli;
pub mod config;
pub mod database;
pub mod domain;
pub mod evaluators;
pub mod faults;
pub mod golden;
#[cfg(test)]
mod growth;
pub mod http;
pub mod inference;
pub mod metrics;
pub mod monitor;
pub mod outbound;
pub mod pipeline;
pub mod redaction;
pub mod review;
pub mod service;
pub mod shutdown;
pub mod sinks;
pub mod sources;
pub mod store;
pub mod telemetry;
