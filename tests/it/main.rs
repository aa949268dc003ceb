//! Integration tests, one binary.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that cannot go on should stop and say so"
)]

mod calibrate;
mod doubts;
mod durability;
mod embedding;
mod http;
mod kafka;
mod layering;
mod models;
mod operations;
mod revision;
mod schemas;
mod service;
mod store;
