//! Evaluators: what can be found out about a call. Rules are cheap and certain, NLI costs milliseconds.

pub mod nli;
pub mod rules;
