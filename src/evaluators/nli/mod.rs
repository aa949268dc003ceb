//! NLI: whether the contexts of a call entail the claims of its answer, found out on this machine.

mod abbreviations;
mod boundaries;
mod citations;
pub mod claims;
pub mod evidence;
mod letter;
mod lines;
mod not_claims;
mod pairs;
mod phrases;
pub mod score;
