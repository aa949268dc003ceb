//! Throughput of the recognisers on one core: on prose, on the labelled corpus, and on texts made to hurt.
//!
//! `cargo bench --bench redaction` prints megabytes of UTF-8 (10^6 bytes) a second of this thread's CPU time, the best
//! of `ROUNDS`, and for the texts made to hurt how much longer a byte takes than one of prose.
//! `cargo bench --bench redaction -- corpus` prints one line of JSON for `benches/presidio`: seconds for the corpus and
//! what was found in each of its lines, in characters. Any other word leaves texts made to hurt out whose names lack it.
//!
//! Prose is what the example traffic has as questions, answers and passages, with one labelled text of the corpus to
//! every `PROSE_TO_LABELLED` of them. Texts are read one at a time, as the worker reads them.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::{fs, hint::black_box, path::Path, time::Duration};

use aftercheck::redaction::Recognisers;
use anyhow::Context;
use cpu_time::ThreadTime;
use serde_json::{Value, json};

/// Times that each text is read; the best counts.
const ROUNDS: u32 = 5;
/// Texts of prose to one with labelled values.
const PROSE_TO_LABELLED: usize = 5;
/// Bytes of each text made to hurt.
const HOSTILE_BYTES: usize = 1_000_000;
/// What texts made to hurt repeat, and what each aims at.
const HOSTILE: [(&str, &str); 26] = [
    ("one run of digits", "4"),
    ("digits and blanks", "4111 "),
    ("digits and hyphens", "1-"),
    ("almost cards", "4111 1111 1111 1112 "),
    ("almost security numbers", "536904399 "),
    ("almost telephone numbers", "555 010 0177 "),
    ("plus signs and digits", "+44 20 7946 0 "),
    ("dotted numbers", "1.2.3.4."),
    ("addresses of versions", "version 1.2.3.4 "),
    ("at signs", "@"),
    ("almost e-mail", "a.b-c@d."),
    ("long local parts", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa@"),
    ("colons", ":"),
    ("almost version 6", "2001:db8:1:2:3:4:5:"),
    ("schemes", "a://"),
    ("logins", "a://b:c"),
    ("parameters", "?key="),
    ("parameters without end", "?token=a&"),
    ("prefixes of keys", "sk-"),
    ("prefixes of keys, apart", "sk-a/"),
    ("almost tokens of JSON", "eyJ."),
    ("random after a word", "key A7bK9cQ2Zx4LmP8t "),
    ("begins of private keys", "-----BEGIN PRIVATE KEY-----"),
    ("almost accounts", "DE89 3704 0044 0532 0130 01 "),
    ("zero-width characters", "\u{200b}4"),
    ("towers of marks", "e\u{301}\u{302}\u{303}"),
];

fn main() -> anyhow::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let corpus =
        texts(&root.join("tests/fixtures/pii/corpus.jsonl"), |line| vec![line.get("text").cloned()])?;
    let recognisers = Recognisers::shipped();
    if std::env::args().any(|argument| argument == "corpus") {
        println!("{}", findings(&recognisers, &corpus));
        return Ok(());
    }
    let only = std::env::args().skip(1).find(|argument| !argument.starts_with("--")).unwrap_or_default();
    let traffic = texts(&root.join("examples/traffic.jsonl"), parts)?;
    let prose: Vec<&str> = prose(&traffic, &corpus);
    println!("{:28} {:>8} {:>9} {:>9}", "text", "MB/s", "findings", "to prose");
    let base = print(&recognisers, "prose", &prose, None);
    print(&recognisers, "the traffic alone", &borrowed(&traffic), Some(base));
    print(&recognisers, "the labelled corpus", &borrowed(&corpus), Some(base));
    let foreign: Vec<&str> = corpus.iter().map(String::as_str).filter(|text| !text.is_ascii()).collect();
    print(&recognisers, "its texts beyond ASCII", &foreign, Some(base));
    for (name, unit) in HOSTILE.iter().filter(|(name, _)| name.contains(&only)) {
        let text = unit.repeat(HOSTILE_BYTES / unit.len());
        print(&recognisers, name, &[&text], Some(base));
    }
    Ok(())
}

/// The strings as slices.
fn borrowed(texts: &[String]) -> Vec<&str> {
    texts.iter().map(String::as_str).collect()
}

/// What the lines of a file have as texts; lines that are no JSON are left out.
fn texts(path: &Path, of: impl Fn(&Value) -> Vec<Option<Value>>) -> anyhow::Result<Vec<String>> {
    let file = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let lines = file.lines().filter_map(|line| serde_json::from_str(line).ok());
    let texts = lines.flat_map(|line: Value| of(&line)).flatten();
    Ok(texts.filter_map(|text| text.as_str().map(str::to_owned)).filter(|text| !text.is_empty()).collect())
}

/// Question, answer and passages of a call.
fn parts(call: &Value) -> Vec<Option<Value>> {
    let content = |name: &str| call.pointer(&format!("/content/{name}"));
    let passages = content("contexts").and_then(Value::as_array).into_iter().flatten();
    let passages = passages.map(|passage| passage.get("text").cloned());
    [content("input").cloned(), content("answer").cloned()].into_iter().chain(passages).collect()
}

/// Prose with a few labelled values.
fn prose<'a>(traffic: &'a [String], corpus: &'a [String]) -> Vec<&'a str> {
    // The labels come in order of their kinds: a step of a prime takes all kinds in turn.
    let labelled = (0..).map(|number| number * 97 % corpus.len().max(1));
    let chunks = traffic.chunks(PROSE_TO_LABELLED).zip(labelled);
    let texts = chunks.flat_map(|(texts, place)| texts.iter().chain(corpus.get(place)));
    texts.map(String::as_str).collect()
}

/// CPU time of reading all texts once, the best of the rounds, and how much was found.
fn time(recognisers: &Recognisers, texts: &[&str]) -> (Duration, usize) {
    let round = |_| {
        let begun = ThreadTime::now();
        let found: usize = texts.iter().map(|text| black_box(recognisers.find(black_box(text))).len()).sum();
        (begun.elapsed(), found)
    };
    (0..ROUNDS).map(round).min().unwrap_or_default()
}

/// Prints the line of one sort of text; returns nanoseconds a byte.
fn print(recognisers: &Recognisers, name: &str, texts: &[&str], base: Option<f64>) -> f64 {
    let (took, found) = time(recognisers, texts);
    let bytes: usize = texts.iter().map(|text| text.len()).sum();
    let each = took.as_nanos() as f64 / bytes.max(1) as f64;
    let ratio = each / base.unwrap_or(each);
    println!("{name:28} {:8.1} {found:9} {ratio:9.2}", 1e3 / each.max(f64::MIN_POSITIVE));
    each
}

/// Seconds for all texts, their bytes, and the findings of each in characters.
fn findings(recognisers: &Recognisers, texts: &[String]) -> Value {
    let (took, _) = time(recognisers, &borrowed(texts));
    let of = |text: &String| -> Vec<Value> {
        let characters = |at: usize| text.get(..at).map_or(0, |before| before.chars().count());
        let found = recognisers.find(text).into_iter();
        found.map(|f| json!([f.kind.name(), characters(f.start), characters(f.end)])).collect()
    };
    let bytes: usize = texts.iter().map(String::len).sum();
    json!({"seconds": took.as_secs_f64(), "bytes": bytes, "findings": texts.iter().map(of).collect::<Vec<_>>()})
}
