//! Claims always slice the answer, in bytes and in characters, in order and without overlap.
#![no_main]

use aftercheck::evaluators::nli::claims::split;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|answer: &str| {
    let mut end = 0;
    for claim in split(answer).spans {
        assert!(claim.bytes.start >= end && claim.bytes.start < claim.bytes.end);
        let text = answer.get(claim.bytes.clone()).expect("on character borders");
        let chars = answer.chars().skip(claim.chars.start).take(claim.chars.len());
        assert!(text.chars().eq(chars));
        end = claim.bytes.end;
    }
});
