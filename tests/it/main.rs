//! Integration tests, one binary.

mod durability;
mod layering;
mod models;
mod schemas;
