//! Rules: cheap deterministic checks, written as TOML packs under `rules/` (see `rules/README.md`).
//!
//! Adding a kind = one file here, one entry in [`Kind`], one line in [`Kind::build`].

mod citations;
mod fold;
mod json_schema;
mod numbers;
mod pack;
mod personal;
mod phrases;
mod secrets;
mod shape;
mod urls;

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use serde::Deserialize;

use crate::domain::{Call, RuleOutcome, RuleResult, evaluation::Span, id::sha256_hex};
#[cfg(test)]
use pack::Kind;
use pack::{Example, Pack};

/// Packs that come with aftercheck.
const SHIPPED: [(&str, &str); 4] = [
    ("format.toml", include_str!("../../../rules/format.toml")),
    ("grounding.toml", include_str!("../../../rules/grounding.toml")),
    ("operations.toml", include_str!("../../../rules/operations.toml")),
    ("safety.toml", include_str!("../../../rules/safety.toml")),
];
/// Raised when the code of a rule changes what it finds.
const REVISION: &str = "rules-1";
/// Most spans of one rule on one answer.
const MAX_SPANS: usize = 50;

/// What a failing rule means for the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFail {
    /// The call fails.
    Fail,
    /// A person looks.
    Review,
    /// It is noted, nothing else.
    Label,
}

/// Why packs cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RulesError {
    /// A file or folder cannot be read.
    #[error("rule pack {}: {source}", path.display())]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A pack is not what `rules/README.md` describes.
    #[error("rule pack {file}: {detail}")]
    Pack {
        /// The file.
        file: String,
        /// Rule, field and remedy.
        detail: String,
    },
}

/// What one rule finds in one call.
struct Finding {
    outcome: RuleOutcome,
    detail: String,
    spans: Vec<Span>,
}

/// A compiled rule.
trait Rule: Send + Sync {
    /// Checks one call; pure, and linear in the size of the call.
    fn check(&self, call: &Call) -> Finding;
}

/// A rule with what the pack says about it.
struct Entry {
    id: String,
    kind: &'static str,
    on_fail: OnFail,
    features: Vec<String>,
    passes: Vec<Example>,
    fails: Vec<Example>,
    rule: Box<dyn Rule>,
}

/// All rules of all packs, in pack order.
pub struct Rules {
    entries: Vec<Entry>,
    digest: String,
}

/// What one example of a rule came to.
#[derive(Debug, Clone)]
pub struct ExampleResult {
    /// Rule id.
    pub rule: String,
    /// The example's answer.
    pub example: String,
    /// What it should be.
    pub expected: RuleOutcome,
    /// What it is.
    pub got: RuleOutcome,
    /// Whether these are the same.
    pub ok: bool,
}

impl Rules {
    /// The packs that come with aftercheck.
    ///
    /// # Errors
    /// Never in a build whose tests pass.
    pub fn shipped() -> Result<Self, RulesError> {
        Self::of(SHIPPED.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
    }

    /// All `*.toml` packs of a folder, by name.
    ///
    /// # Errors
    /// [`RulesError`] naming the file, the rule and the field.
    pub fn load(folder: &Path) -> Result<Self, RulesError> {
        let read = |path: &Path, source| RulesError::Read { path: path.to_owned(), source };
        let mut files = Vec::new();
        for entry in std::fs::read_dir(folder).map_err(|source| read(folder, source))? {
            let path = entry.map_err(|source| read(folder, source))?.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                let text = std::fs::read_to_string(&path).map_err(|source| read(&path, source))?;
                files.push((path.file_name().unwrap_or_default().to_string_lossy().into_owned(), text));
            }
        }
        files.sort();
        Self::of(files)
    }

    /// Compiles packs.
    fn of(files: Vec<(String, String)>) -> Result<Self, RulesError> {
        let digest = sha256_hex(format!("{REVISION}{files:?}").as_bytes());
        let mut entries: Vec<Entry> = Vec::new();
        for (file, text) in files {
            let fault = |detail: String| RulesError::Pack { file: file.clone(), detail };
            let pack: Pack = toml::from_str(&text).map_err(|error| fault(error.to_string()))?;
            let name = file.trim_end_matches(".toml");
            for written in pack.rule {
                let id = format!("{name}.{}", written.id);
                if entries.iter().any(|entry| entry.id == id) {
                    return Err(fault(format!("rule {id} is there twice; give it another id")));
                }
                let rule = written.kind.build(&pack.schemas).map_err(|detail| fault(format!("rule {id}: {detail}")))?;
                entries.push(Entry {
                    id,
                    kind: written.kind.name(),
                    on_fail: written.on_fail,
                    features: written.features,
                    passes: written.passes,
                    fails: written.fails,
                    rule,
                });
            }
        }
        Ok(Self { entries, digest })
    }

    /// Checks a call with every rule that applies to its feature. A rule that panics is an error of that rule.
    pub fn check(&self, call: &Call) -> Vec<RuleResult> {
        self.entries
            .iter()
            .filter(|entry| entry.features.is_empty() || entry.features.contains(&call.feature))
            .map(|entry| entry.check(call))
            .collect()
    }

    /// What a failure of this rule means.
    pub fn on_fail(&self, rule_id: &str) -> OnFail {
        self.entries.iter().find(|entry| entry.id == rule_id).map_or(OnFail::Label, |entry| entry.on_fail)
    }

    /// Whether a rule of kind `refusal` says that the answer refuses.
    pub fn is_refusal(&self, results: &[RuleResult]) -> bool {
        self.of_kind("refusal", results).any(|result| result.outcome == RuleOutcome::Fail)
    }

    /// Sentences of the answer that cite a chunk; the note of each span is the chunk's id.
    pub fn citations(&self, results: &[RuleResult]) -> Vec<Span> {
        self.of_kind("citations", results).flat_map(|result| result.spans.clone()).collect()
    }

    /// Results of the rules of one kind.
    fn of_kind<'a>(&'a self, kind: &'a str, results: &'a [RuleResult]) -> impl Iterator<Item = &'a RuleResult> {
        results
            .iter()
            .filter(move |result| self.entries.iter().any(|entry| entry.id == result.rule && entry.kind == kind))
    }

    /// Runs every rule on its own examples.
    pub fn check_examples(&self) -> Vec<ExampleResult> {
        let expected = |entry: &Entry| {
            let pass = entry.passes.iter().map(|example| (RuleOutcome::Pass, example.clone()));
            pass.chain(entry.fails.iter().map(|example| (RuleOutcome::Fail, example.clone()))).collect::<Vec<_>>()
        };
        let mut results = Vec::new();
        for entry in &self.entries {
            for (expected, example) in expected(entry) {
                let got = entry.check(&example.clone().into_call()).outcome;
                results.push(ExampleResult {
                    rule: entry.id.clone(),
                    example: example.answer,
                    expected,
                    got,
                    ok: got == expected,
                });
            }
        }
        results
    }

    /// SHA-256 of everything that can change what the rules find.
    pub fn digest(&self) -> String {
        self.digest.clone()
    }

    /// Id, kind and consequence of each rule.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, OnFail)> {
        self.entries.iter().map(|entry| (entry.id.as_str(), entry.kind, entry.on_fail))
    }
}

impl Entry {
    /// Checks one call; a panic stays here.
    fn check(&self, call: &Call) -> RuleResult {
        let found = catch_unwind(AssertUnwindSafe(|| self.rule.check(call))).unwrap_or_else(|_| Finding {
            outcome: RuleOutcome::Error,
            detail: "the rule panicked".into(),
            spans: Vec::new(),
        });
        let mut spans = found.spans;
        spans.truncate(MAX_SPANS);
        RuleResult { rule: self.id.clone(), outcome: found.outcome, detail: found.detail, spans }
    }
}

impl Finding {
    /// The rule holds.
    fn pass() -> Self {
        Self { outcome: RuleOutcome::Pass, detail: String::new(), spans: Vec::new() }
    }

    /// The rule says nothing about this call.
    fn not_applicable() -> Self {
        Self { outcome: RuleOutcome::NotApplicable, ..Self::pass() }
    }

    /// The rule is broken.
    fn fail(detail: impl Into<String>, spans: Vec<Span>) -> Self {
        Self { outcome: RuleOutcome::Fail, detail: detail.into(), spans }
    }

    /// Fails where there are spans, else passes.
    fn of_spans(what: &str, spans: Vec<Span>) -> Self {
        match spans.len() {
            0 => Self::pass(),
            count => Self::fail(format!("{count} {what}"), spans),
        }
    }
}

/// Byte ranges of a text as spans in characters, in one pass. Ranges must be ordered.
fn spans(text: &str, ranges: &[(std::ops::Range<usize>, String)]) -> Vec<Span> {
    let (mut byte, mut count) = (0, 0);
    let mut at = |to: usize| {
        if to < byte {
            (byte, count) = (0, 0);
        }
        count += text[byte..to].chars().count();
        byte = to;
        count
    };
    ranges
        .iter()
        .take(MAX_SPANS)
        .map(|(range, note)| {
            let start = at(range.start);
            Span { start, end: at(range.end), note: note.clone() }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_shipped_example_holds_and_every_rule_has_both() {
        let rules = Rules::shipped().unwrap();
        for example in rules.check_examples() {
            assert!(example.ok, "{} {:?}: expected {:?}", example.rule, example, example.expected);
        }
        for entry in &rules.entries {
            assert!(!entry.passes.is_empty() && !entry.fails.is_empty(), "{} needs both examples", entry.id);
        }
        for kind in Kind::NAMES {
            assert!(rules.iter().any(|(_, of, _)| of == kind), "no shipped rule of kind {kind}");
        }
    }

    #[test]
    fn an_unknown_key_names_itself() {
        let pack = "[[rule]]\nid='a'\nkind='length'\non_fail='fail'\nmax_wrds=3\n";
        let error = Rules::of(vec![("x.toml".into(), pack.into())]).err().unwrap().to_string();
        assert!(error.contains("max_wrds") && error.contains("x.toml"), "{error}");
    }

    proptest! {
        #[test]
        fn no_rule_panics_and_spans_slice_the_answer(answer in "(\\PC|\n|[0-9]{1,4}|[.,$%@:/ -]|http|\\[chk_1\\]){0,120}") {
            let rules = Rules::shipped().unwrap();
            let example = Example { answer: answer.clone(), ..Example::default() };
            let length = answer.chars().count();
            for result in rules.check(&example.into_call()) {
                prop_assert!(result.outcome != RuleOutcome::Error, "{}", result.rule);
                for span in result.spans {
                    prop_assert!(span.start < span.end && span.end <= length, "{} {span:?}", result.rule);
                }
            }
        }
    }
}
