//! Rules: cheap, certain checks of one answer, written in TOML packs (`rules/*.toml`, `rules/README.md`).
//!
//! Answers are hostile and up to 1 MiB, so every kind scans in linear time and reports a bounded number of
//! spans. Offsets count Unicode scalar values. Details never quote a secret or a personal value.

mod blocks;
#[cfg(test)]
mod cases;
mod citations;
mod dates;
mod error;
mod example;
mod fold;
mod json_schema;
mod kinds;
mod markers;
mod numbers;
mod operations;
mod pack;
mod personal;
mod phrases;
mod quantities;
mod references;
mod refusal;
mod retrieved;
mod sentences;
#[cfg(test)]
mod tests;
mod urls;
mod words;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;

use crate::domain::evaluation::Span;
use crate::domain::id::sha256_hex;
use crate::domain::{Call, RuleOutcome, RuleResult};

pub use error::RulesError;
use example::Example;

/// Most spans that one finding keeps.
const MAX_SPANS: usize = 100;
/// The packs that are compiled in, by file name, sorted.
const SHIPPED: &[(&str, &str)] = &[
    ("citations.toml", include_str!("../../../rules/citations.toml")),
    ("format.toml", include_str!("../../../rules/format.toml")),
    ("grounding.toml", include_str!("../../../rules/grounding.toml")),
    ("operations.toml", include_str!("../../../rules/operations.toml")),
    ("safety.toml", include_str!("../../../rules/safety.toml")),
];

/// What a failing rule means for the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OnFail {
    /// The call fails.
    Fail,
    /// A person has to look.
    Review,
    /// The result is stored; the verdict does not change.
    Label,
}

/// One check, built from its options once and shared between threads.
trait Rule: Send + Sync {
    /// Checks one call.
    fn check(&self, call: &Call) -> Finding;
}

/// What a rule found in one call.
struct Finding {
    /// Result.
    outcome: RuleOutcome,
    /// What was found, in a few words.
    detail: String,
    /// Where in the answer.
    spans: Vec<Span>,
}

impl Finding {
    /// The answer satisfies the rule.
    fn pass() -> Self {
        Self { outcome: RuleOutcome::Pass, detail: String::new(), spans: Vec::new() }
    }

    /// The answer breaks the rule.
    fn fail(detail: impl Into<String>, spans: Vec<Span>) -> Self {
        Self { outcome: RuleOutcome::Fail, detail: detail.into(), spans }
    }

    /// The call has nothing that the rule speaks about.
    fn not_applicable(detail: impl Into<String>) -> Self {
        Self { outcome: RuleOutcome::NotApplicable, detail: detail.into(), spans: Vec::new() }
    }

    /// The rule could not run.
    fn error(detail: impl Into<String>) -> Self {
        Self { outcome: RuleOutcome::Error, detail: detail.into(), spans: Vec::new() }
    }
}

/// One rule of a pack.
struct Entry {
    /// `pack.rule`.
    id: String,
    /// Name of the kind.
    kind: &'static str,
    /// What a failure means.
    on_fail: OnFail,
    /// Features it applies to; all when empty.
    features: Vec<String>,
    /// The check.
    rule: Box<dyn Rule>,
    /// Examples that must pass.
    passes: Vec<Example>,
    /// Examples that must fail.
    fails: Vec<Example>,
}

/// All rules in force, in pack order.
pub struct Rules {
    /// The rules.
    entries: Vec<Entry>,
    /// See [`Rules::digest`].
    digest: String,
}

/// How one example of a pack turned out.
#[derive(Debug, Clone, PartialEq)]
pub struct ExampleResult {
    /// Rule id, `pack.rule`.
    pub rule: String,
    /// The example's answer.
    pub example: String,
    /// What the pack says.
    pub expected: RuleOutcome,
    /// What the rule said.
    pub got: RuleOutcome,
    /// Whether both agree.
    pub ok: bool,
}

impl Rules {
    /// The packs that are compiled in.
    ///
    /// # Errors
    /// [`RulesError`] where a shipped pack is broken; a test keeps that from happening.
    pub fn shipped() -> Result<Self, RulesError> {
        Self::from_texts(
            SHIPPED.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect(),
        )
    }

    /// Every `*.toml` of a directory, sorted by name.
    ///
    /// # Errors
    /// [`RulesError::Read`] for a file, else what is wrong with it.
    pub fn load(dir: &Path) -> Result<Self, RulesError> {
        let broken = |path: &Path, source| RulesError::Read { file: path.display().to_string(), source };
        let mut texts = Vec::new();
        for entry in std::fs::read_dir(dir).map_err(|e| broken(dir, e))? {
            let path = entry.map_err(|e| broken(dir, e))?.path();
            if path.extension().is_some_and(|e| e == "toml") && path.is_file() {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                texts.push((name, std::fs::read_to_string(&path).map_err(|e| broken(&path, e))?));
            }
        }
        texts.sort();
        Self::from_texts(texts)
    }

    /// Rules of packs given by file name and text.
    fn from_texts(texts: Vec<(String, String)>) -> Result<Self, RulesError> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut hashed = String::new();
        for (file, text) in &texts {
            hashed.push_str(&format!("{file} {}\n{text}\n", text.len()));
            for entry in pack::parse(file, text)? {
                if entries.iter().any(|e| e.id == entry.id) {
                    return Err(RulesError::duplicate(file, &entry.id));
                }
                entries.push(entry);
            }
        }
        Ok(Self { entries, digest: sha256_hex(hashed.as_bytes()) })
    }

    /// Results of the rules that apply to the call's feature. A rule that panics has outcome `error`.
    pub fn check(&self, call: &Call) -> Vec<RuleResult> {
        self.entries.iter().filter(|e| e.applies_to(&call.feature)).map(|e| e.run(call)).collect()
    }

    /// What a failure of this rule means; `review` for a rule that is not there.
    pub fn on_fail(&self, rule_id: &str) -> OnFail {
        self.entry(rule_id).map_or(OnFail::Review, |e| e.on_fail)
    }

    /// Whether a rule of kind `refusal` failed.
    pub fn is_refusal(&self, results: &[RuleResult]) -> bool {
        self.of_kind(results, "refusal").any(|r| r.outcome == RuleOutcome::Fail)
    }

    /// Cited sentences, each with the id it cites, from rules of kind `citations`.
    #[cfg(test)]
    fn citations(&self, results: &[RuleResult]) -> Vec<Span> {
        let mut spans: Vec<Span> =
            self.of_kind(results, "citations").flat_map(|r| r.spans.iter().cloned()).collect();
        spans.sort_by(|a, b| (a.start, a.end, &a.note).cmp(&(b.start, b.end, &b.note)));
        spans.dedup();
        spans
    }

    /// Runs every example of every rule.
    pub fn check_examples(&self) -> Vec<ExampleResult> {
        let mut results = Vec::new();
        for entry in &self.entries {
            let passes = entry.passes.iter().map(|e| (e, RuleOutcome::Pass));
            let fails = entry.fails.iter().map(|e| (e, RuleOutcome::Fail));
            for (example, expected) in passes.chain(fails) {
                let got = entry.run(&example.call()).outcome;
                let (rule, text) = (entry.id.clone(), example.answer.clone());
                results.push(ExampleResult { rule, example: text, expected, got, ok: got == expected });
            }
        }
        results
    }

    /// SHA-256 in hex of all pack texts.
    pub fn digest(&self) -> String {
        self.digest.clone()
    }

    /// Id, kind and meaning of a failure of each rule, in pack order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str, OnFail)> {
        self.entries.iter().map(|e| (e.id.as_str(), e.kind, e.on_fail))
    }

    /// The rule of that id.
    fn entry(&self, id: &str) -> Option<&Entry> {
        self.entries.iter().find(|e| e.id == id)
    }

    /// Results whose rule is of that kind.
    fn of_kind<'a>(
        &'a self,
        results: &'a [RuleResult],
        kind: &'static str,
    ) -> impl Iterator<Item = &'a RuleResult> {
        results.iter().filter(move |r| self.entry(&r.rule).is_some_and(|e| e.kind == kind))
    }
}

impl Entry {
    /// Whether the rule speaks about calls of this feature.
    fn applies_to(&self, feature: &str) -> bool {
        self.features.is_empty() || self.features.iter().any(|f| f == feature)
    }

    /// Runs the check; a panic becomes outcome `error`.
    fn run(&self, call: &Call) -> RuleResult {
        let mut finding = catch_unwind(AssertUnwindSafe(|| self.rule.check(call)))
            .unwrap_or_else(|_| Finding::error("the rule panicked"));
        finding.spans.truncate(MAX_SPANS);
        RuleResult {
            rule: self.id.clone(),
            outcome: finding.outcome,
            detail: finding.detail,
            spans: finding.spans,
        }
    }
}
