//! NLI: whether the contexts of a call entail the claims of its answer, found out on this machine.

mod abbreviations;
mod boundaries;
pub mod calibration;
mod citations;
pub mod claims;
pub mod closeness;
mod doubts;
pub mod evidence;
mod function_words;
mod letter;
mod lines;
mod not_claims;
pub mod overlap;
mod pairs;
mod phrases;
pub mod score;
