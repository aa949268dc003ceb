//! Precision and recall of the recognisers on the labelled corpus `tests/fixtures/pii/corpus.jsonl`.
//!
//! The recognisers were developed on the even lines; the odd ones are printed beside them. A finding counts where its
//! kind is the label's, it covers all that is labelled, and at most half as much again: of a value that was found,
//! nothing stays in the text.

use std::collections::BTreeMap;

use aftercheck::redaction::{Finding, Recognisers};
use serde::Deserialize;

/// Least precision and recall on all lines.
const GATES: [(&str, f64); 9] = [
    ("card", 0.97),
    ("ssn", 0.97),
    ("iban", 0.97),
    ("email", 0.97),
    ("key", 0.97),
    // Not asked for; so that they do not get worse unseen.
    ("phone", 0.95),
    ("ipv4", 0.95),
    ("ipv6", 0.95),
    ("url_secret", 0.95),
];

/// A line of the corpus.
#[derive(Deserialize)]
struct Labelled {
    /// Its name.
    id: String,
    /// The text.
    text: String,
    /// What is in it.
    entities: Vec<Label>,
}

/// What is labelled, in Unicode scalar values.
#[derive(Deserialize)]
struct Label {
    /// Its kind.
    kind: String,
    /// First character.
    start: usize,
    /// One past the last.
    end: usize,
}

/// Counts of one kind.
#[derive(Default, Clone, Copy)]
struct Counts {
    /// Labels that were found.
    right: u32,
    /// Of these, from the first character to the last.
    exact: u32,
    /// Labels that were not found.
    missed: u32,
    /// Findings without a label.
    wrong: u32,
}

impl Counts {
    /// The share of findings that are right.
    fn precision(&self) -> f64 {
        f64::from(self.right) / f64::from((self.right + self.wrong).max(1))
    }

    /// The share of labels that were found.
    fn recall(&self) -> f64 {
        f64::from(self.right) / f64::from((self.right + self.missed).max(1))
    }
}

/// Whether a finding is the labelled value.
fn is_same(label: &Label, finding: &(usize, usize, String)) -> bool {
    let (start, end, kind) = finding;
    let length = label.end - label.start;
    *kind == label.kind && *start <= label.start && *end >= label.end && end - start <= length + length / 2
}

/// Findings with offsets in characters.
fn in_characters(text: &str, findings: &[Finding]) -> Vec<(usize, usize, String)> {
    let characters = |at: usize| text[..at].chars().count();
    findings.iter().map(|f| (characters(f.start), characters(f.end), f.kind.name().to_owned())).collect()
}

/// Compares the findings of one line with its labels; tells what is wrong on stderr where asked.
fn count(
    line: &Labelled,
    findings: &[(usize, usize, String)],
    tell: bool,
    counts: &mut BTreeMap<String, Counts>,
) {
    let value =
        |start: usize, end: usize| line.text.chars().skip(start).take(end - start).collect::<String>();
    let mut used = vec![false; findings.len()];
    for label in &line.entities {
        let counts = counts.entry(label.kind.clone()).or_default();
        match findings.iter().position(|finding| is_same(label, finding)) {
            Some(place) => {
                used[place] = true;
                counts.right += 1;
                counts.exact += u32::from((findings[place].0, findings[place].1) == (label.start, label.end));
            }
            None => {
                counts.missed += 1;
                if tell {
                    eprintln!(
                        "missed {} {}: {:?} in {:?}",
                        line.id,
                        label.kind,
                        value(label.start, label.end),
                        line.text
                    );
                }
            }
        }
    }
    for (finding, _) in findings.iter().zip(used).filter(|(_, used)| !used) {
        counts.entry(finding.2.clone()).or_default().wrong += 1;
        if tell {
            eprintln!(
                "wrong {} {}: {:?} in {:?}",
                line.id,
                finding.2,
                value(finding.0, finding.1),
                line.text
            );
        }
    }
}

/// Prints the figures of some lines.
fn print(title: &str, counts: &BTreeMap<String, Counts>) {
    println!("{title:12} labels found exact wrong precision recall");
    for (kind, c) in counts {
        println!(
            "{kind:12} {:6} {:5} {:5} {:5} {:9.4} {:6.4}",
            c.right + c.missed,
            c.right,
            c.exact,
            c.wrong,
            c.precision(),
            c.recall()
        );
    }
}

#[test]
fn the_corpus_is_recognised() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/pii/corpus.jsonl");
    let corpus = std::fs::read_to_string(path).unwrap();
    // AFTERCHECK_TELL=even or odd prints what went wrong in that half.
    let tell = std::env::var("AFTERCHECK_TELL").unwrap_or_default();
    let recognisers = Recognisers::shipped();
    let (mut even, mut odd, mut all) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for (number, line) in corpus.lines().enumerate() {
        let line: Labelled = serde_json::from_str(line).unwrap();
        let findings = in_characters(&line.text, &recognisers.find(&line.text));
        // Lines count from 1.
        let (name, half) = if number % 2 == 1 { ("even", &mut even) } else { ("odd", &mut odd) };
        count(&line, &findings, tell == name, half);
        count(&line, &findings, false, &mut all);
    }
    print("even lines", &even);
    if tell != "even" {
        print("odd lines", &odd);
        print("all lines", &all);
        for (kind, least) in GATES {
            let counts = all[kind];
            assert!(counts.precision() >= least, "precision of {kind} is {:.4}", counts.precision());
            assert!(counts.recall() >= least, "recall of {kind} is {:.4}", counts.recall());
        }
    }
}
