//! pipeline
pub mod decode;
