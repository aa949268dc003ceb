//! NLI: whether the contexts of a call entail the claims of its answer, found out on this machine.

mod abbreviations;
mod boundaries;
pub mod claims;
pub mod evidence;
pub mod score;
mod lines;
mod not_claims;
mod pairs;
mod phrases;
