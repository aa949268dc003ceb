//! Sinks against backends: fakes that keep to the contract, its traps included, and the real thing where it is installed.

mod faults;
mod helicone;
mod items;
mod langfuse;
mod openapi;
