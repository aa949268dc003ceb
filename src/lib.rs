//! aftercheck checks LLM answers after the user has seen them.
//!
//! # The map, in dependency order
//! * [`domain`]: the call that comes in, the evaluation that goes out. Plain data.
//! * [`metrics`], [`shutdown`], [`faults`], [`sqlite`]: leaves that everything may use.
//! * [`inference`]: local models behind one thread, fed with token-budgeted batches.
//! * [`evaluators`]: rules and NLI faithfulness.
//! * [`pipeline`]: receive → decode → cascade → decide → record → settle. **Start reading there.**

pub mod domain;
pub mod evaluators;
pub mod faults;
pub mod inference;
pub mod metrics;
pub mod pipeline;
pub mod shutdown;
pub mod sqlite;
pub mod store;
