//! Any bytes decode to a call or to a dead letter that says what to do; never to a panic.
#![no_main]

use aftercheck::{domain::Call, pipeline::decode::decode};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| {
    match decode(payload) {
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
