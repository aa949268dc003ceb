//! What is watched over time: how far judges agree with people.

pub mod agreement;
pub mod audit;
