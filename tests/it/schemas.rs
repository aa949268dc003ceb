//! The published schemas are those of the Rust types, and the example traffic is what they say.

use std::{
    fs,
    io::Write,
    process::{Command, Stdio},
};

use aftercheck::{
    domain::{Call, Evaluation},
    pipeline::decode::decode,
    redaction::Redactor,
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
    let openapi = serde_json::to_string_pretty(aftercheck::http::openapi()).unwrap();
    assert_eq!(file("schemas/openapi.v1.json").trim(), openapi, "{remedy}");
}

#[test]
fn example_traffic_decodes_but_for_the_malformed_lines() {
    let traffic = file("examples/traffic.jsonl");
    let (mut good, mut classes) = (0, Vec::new());
    for line in traffic.lines() {
        match decode(line.as_bytes(), &Redactor::shipped()) {
            Ok(_) => good += 1,
            Err(letter) => classes.push(letter.class),
        }
    }
    assert!(good >= 300, "{good} good calls");
    assert!((5..=12).contains(&classes.len()), "{classes:?}");
}

/// What a Python program writes.
fn python(program: &str) -> Vec<u8> {
    let mut python =
        Command::new("python3").arg("-").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    python.stdin.take().unwrap().write_all(program.as_bytes()).unwrap();
    python.wait_with_output().unwrap().stdout
}

#[test]
fn the_producers_that_people_copy_send_what_is_accepted() {
    let readme = file("README.md");
    let block = readme.split("```python\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    for program in [block, &file("examples/producers/python_producer.py")] {
        let written = python(program);
        let decoded = decode(&written, &Redactor::shipped()).unwrap_or_else(|letter| panic!("{letter}"));
        assert_eq!(decoded.unknown_fields, 0);
        assert!(!decoded.call.content.contexts.is_empty());
    }
}
