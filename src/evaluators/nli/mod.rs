//! Faithfulness: does each claim of the answer follow from the contexts?
//!
//! [`claims`] splits the answer, [`evidence`] finds the windows that speak about a claim, [`score`] asks the
//! model and aggregates.

pub mod claims;
pub mod evidence;
pub mod score;
