//! Any bytes decode to a call or to a dead letter that says what to do; never to a panic.
#![no_main]

use aftercheck::pipeline::decode::decode;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| {
    match decode(payload) {
        Ok(decoded) => {
            // What was accepted is stored as JSON and must be accepted again, as the same call.
            let stored = serde_json::to_vec(&decoded.call).expect("a call is JSON");
            let again = decode(&stored).expect("an accepted call is accepted again");
            assert_eq!(again.call, decoded.call);
        }
        Err(letter) => {
            assert!(!letter.detail.is_empty() && !letter.remedy.is_empty());
            assert!(letter.pointer.is_empty() || letter.pointer.starts_with('/'));
        }
    }
});
