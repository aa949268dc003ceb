//! The published schemas are those of the Rust types, and the example traffic is what they say.

use std::fs;

use aftercheck::{
    domain::{Call, Evaluation},
    pipeline::decode::decode,
};

/// A file of the repository.
fn file(name: &str) -> String {
    fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

#[test]
fn schemas_are_those_of_the_types() {
    let call = serde_json::to_string_pretty(&schemars::schema_for!(Call)).unwrap();
    let evaluation = serde_json::to_string_pretty(&schemars::schema_for!(Evaluation)).unwrap();
    let remedy = "write it anew: aftercheck schema NAME > schemas/NAME.v1.json";
    assert_eq!(file("schemas/call.v1.json").trim(), call, "{remedy}");
    assert_eq!(file("schemas/evaluation.v1.json").trim(), evaluation, "{remedy}");
}

#[test]
fn example_traffic_decodes_but_for_the_malformed_lines() {
    let traffic = file("examples/traffic.jsonl");
    let (mut good, mut classes) = (0, Vec::new());
    for line in traffic.lines() {
        match decode(line.as_bytes()) {
            Ok(_) => good += 1,
            Err(letter) => classes.push(letter.class),
        }
    }
    assert!(good >= 300, "{good} good calls");
    assert!((5..=12).contains(&classes.len()), "{classes:?}");
}
