//! aftercheck checks LLM answers after the user has seen them.

pub mod domain;
pub mod evaluators;
