//! Any bytes decode to a call or to a dead letter that says what to do; never to a panic.
#![no_main]

use std::sync::LazyLock;

use aftercheck::{domain::Call, pipeline::decode::decode, redaction::Redactor};
use libfuzzer_sys::fuzz_target;

static REDACTOR: LazyLock<Redactor> = LazyLock::new(Redactor::shipped);

fuzz_target!(|payload: &[u8]| {
    match decode(payload, &REDACTOR) {
        Ok(decoded) => {
            // What was accepted is stored as JSON and must be read back as the same call.
            let stored = serde_json::to_string(&decoded.call).expect("a call is JSON");
            let again: Call = serde_json::from_str(&stored).expect("a stored call is read back");
            assert_eq!(again, decoded.call);
        }
        Err(letter) => {
            assert!(!letter.detail.is_empty() && !letter.remedy.is_empty());
            assert!(letter.pointer.is_empty() || letter.pointer.starts_with('/'));
        }
    }
});
