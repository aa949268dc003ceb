//! Evaluators: what can be found out about a call. Rules are cheap and certain, NLI costs milliseconds, the judge costs
//! money.

pub mod judge;
pub mod nli;
pub mod rules;
