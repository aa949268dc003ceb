//! Findings always slice the text, on character borders, ascending and without overlap; time is linear (libFuzzer's
//! own deadline sees to that).
#![no_main]

use std::sync::LazyLock;

use aftercheck::redaction::Recognisers;
use libfuzzer_sys::fuzz_target;

/// Built once; building takes longer than reading a text.
static RECOGNISERS: LazyLock<Recognisers> = LazyLock::new(Recognisers::shipped);

fuzz_target!(|text: &str| {
    let mut end = 0;
    for finding in RECOGNISERS.find(text) {
        assert!(end <= finding.start && finding.start < finding.end);
        assert!(text.get(finding.start..finding.end).is_some(), "on character borders");
        end = finding.end;
    }
});
