//! Integration tests, one binary.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a test that cannot go on should stop and say so"
)]

mod api;
mod calibrate;
mod canaries;
mod dispatch;
mod doors;
mod doubts;
mod durability;
mod embedding;
mod gold;
mod gold_pr;
mod healthy;
mod http;
mod judge;
mod kafka;
mod layering;
#[cfg(feature = "faults")]
mod matrix;
mod models;
mod names;
mod notify;
mod operations;
mod pages;
mod queues;
mod rabbitmq;
mod redaction;
mod retention;
mod review;
mod revision;
mod schemas;
mod service;
mod sinks;
mod sqs;
mod store;
mod tables;
