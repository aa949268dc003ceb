//! What fresh answers to the questions of a golden set come to. Pure.
//!
//! People's word goes before ours: an answer that is the one they refused has failed, one that is the one they took, or wrote
//! themselves, holds, whatever the cascade says of it. Every other answer holds where the cascade passes it and has failed where the
//! cascade fails it. The expected answer is no evidence: a fresh answer may say the same in other words, and one that is not supported
//! by the contexts is no better for what a person wrote. So it is compared as a text only.

use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::domain::{Evaluation, Golden, Said, Verdict, id::response_hash};

/// What one row comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The fresh answer holds.
    Held,
    /// It does not.
    Regressed,
    /// Nobody but a person can tell.
    Unsure,
    /// There is no fresh answer.
    Missing,
}

impl Outcome {
    /// The word used in tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Regressed => "regressed",
            Self::Unsure => "unsure",
            Self::Missing => "missing",
        }
    }
}

/// One row that was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Checked {
    /// The row.
    pub golden_id: Uuid,
    /// The producer's id of the call that it came of.
    pub request_id: String,
    /// Feature of the call.
    pub feature: String,
    /// What people said of the answer of then.
    pub label: Said,
    /// What it comes to.
    pub result: Outcome,
    /// Why, in codes and words of ours; no text of the answer.
    pub why: String,
}

/// What makes a check fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gate {
    /// What nobody can tell fails it.
    pub strict: bool,
    /// A row without an answer does not.
    pub allow_missing: bool,
}

impl Gate {
    /// Whether a row fails the check.
    pub fn fails(self, result: Outcome) -> bool {
        match result {
            Outcome::Held => false,
            Outcome::Regressed => true,
            Outcome::Unsure => self.strict,
            Outcome::Missing => !self.allow_missing,
        }
    }
}

/// What people's word alone says of a fresh answer; none where they did not see that one.
pub fn known(golden: &Golden, answer: &str) -> Option<(Outcome, &'static str)> {
    let same = |text: &str| response_hash(text) == response_hash(answer);
    if golden.expected.as_deref().is_some_and(same) {
        return Some((Outcome::Held, "the answer that people wrote"));
    }
    match (same(&golden.actual), golden.label) {
        (true, Said::Fail) => Some((Outcome::Regressed, "the answer that people refused, again")),
        (true, Said::Pass) => Some((Outcome::Held, "the answer that people took")),
        _ => None,
    }
}

/// What the cascade's verdict says of a fresh answer.
pub fn judged(evaluation: &Evaluation) -> (Outcome, String) {
    let result = match evaluation.verdict {
        Verdict::Pass => Outcome::Held,
        Verdict::Fail => Outcome::Regressed,
        Verdict::Review | Verdict::NotApplicable => Outcome::Unsure,
    };
    let reasons: Vec<&str> = evaluation.reasons.iter().map(|reason| reason.as_str()).collect();
    (result, reasons.join(", "))
}

/// A row with what it comes to.
pub fn checked(golden: &Golden, (result, why): (Outcome, String)) -> Checked {
    Checked {
        golden_id: golden.golden_id,
        request_id: golden.request_id.clone(),
        feature: golden.feature.clone(),
        label: golden.label,
        result,
        why,
    }
}

/// The message of a call that asks the row's question, wants the same schema and has this answer. What a row does not have is as of
/// a call that ended well: no tool was called, nothing was retrieved beside the contexts, generation ended by itself.
pub fn message(golden: &Golden, answer: &str) -> Value {
    let contexts: Vec<Value> =
        golden.contexts.iter().map(|context| json!({"id": context.id, "text": context.text})).collect();
    json!({
        "version": 1, "request_id": golden.request_id, "trace_id": golden.trace_id, "tenant_id": golden.tenant_id,
        "feature": golden.feature, "prompt_version": golden.prompt_version, "occurred_at": golden.occurred_at,
        "model_requested": golden.model, "model_resolved": golden.model, "provider": "golden",
        "tokens_in": 1, "tokens_out": 1, "latency_ms": {"total": 1.0}, "finish_reason": "stop",
        "messages_hash": golden.golden_id,
        "content": {
            "input": golden.input, "answer": answer, "contexts": contexts, "output_schema": golden.output_schema,
        },
    })
}

/// How many rows came to each result: held, regressed, unsure, missing.
pub fn counts(rows: &[Checked]) -> [usize; 4] {
    [Outcome::Held, Outcome::Regressed, Outcome::Unsure, Outcome::Missing]
        .map(|result| rows.iter().filter(|row| row.result == result).count())
}

/// The report as JUnit XML, as CI systems read it: a test case a row.
pub fn junit(rows: &[Checked], gate: Gate) -> String {
    let failures = rows.iter().filter(|row| gate.fails(row.result)).count();
    let skipped = rows.iter().filter(|row| row.result != Outcome::Held && !gate.fails(row.result)).count();
    let mut xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n<testsuite name=\"aftercheck gold check\" \
         tests=\"{}\" failures=\"{failures}\" errors=\"0\" skipped=\"{skipped}\">\n",
        rows.len()
    );
    for row in rows {
        let (class, name) = (escaped(&row.feature), escaped(&row.request_id));
        let message = escaped(&format!("{}: {}", row.result.as_str(), row.why));
        let inner = match (row.result, gate.fails(row.result)) {
            (Outcome::Held, _) => String::new(),
            (_, true) => format!("<failure message=\"{message}\"/>"),
            (_, false) => format!("<skipped message=\"{message}\"/>"),
        };
        xml.push_str(&format!("<testcase classname=\"{class}\" name=\"{name}\">{inner}</testcase>\n"));
    }
    xml.push_str("</testsuite>\n</testsuites>\n");
    xml
}

/// A text within XML: what would end it is escaped, and what XML cannot hold is replaced.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// The report as Markdown, for the summary of a pull request: what does not hold, a line each.
pub fn markdown(rows: &[Checked], gate: Gate) -> String {
    let [held, regressed, unsure, missing] = counts(rows);
    let failed = rows.iter().any(|row| gate.fails(row.result));
    let mut out = format!(
        "## Golden set: {}\n\n{} rows: {held} held, {regressed} regressed, {unsure} unsure, {missing} missing.\n",
        if failed { "failed" } else { "passed" },
        rows.len()
    );
    let told: Vec<&Checked> = rows.iter().filter(|row| row.result != Outcome::Held).collect();
    if !told.is_empty() {
        out.push_str("\n| result | request | feature | people said | why |\n|---|---|---|---|---|\n");
    }
    for row in told {
        let cells = [row.result.as_str(), &row.request_id, &row.feature, row.label.as_str(), &row.why];
        let cells: Vec<String> = cells.iter().map(|cell| plain(cell)).collect();
        out.push_str(&format!("| {} |\n", cells.join(" | ")));
    }
    out
}

/// A text within a table of Markdown, as nothing but text.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '\\' | '`' | '*' | '[' | ']' | '|' | '!' | '~' | '#' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A row of its own.
    pub(in crate::golden) fn row(number: u128) -> Golden {
        serde_json::from_value(json!({
            "golden_id": Uuid::from_u128(number), "dataset": "d", "tenant_id": "acme", "request_id": format!("r{number}"),
            "trace_id": "t", "feature": "shop", "occurred_at": "2026-11-20T10:00:00Z",
            "input": format!("What is the discount of offer {number}?"),
            "contexts": [{"id": "c1", "text": "The discount is 10 %."}], "actual": format!("It is {number}0 %."),
            "expected": "It is 10 %.", "label": "fail", "reviewers": ["ana"], "evaluator_version": "v",
            "prompt_version": "p", "model": "m", "source": "production",
        }))
        .unwrap()
    }

    #[test]
    fn the_word_of_people_goes_before_ours() {
        let failed = row(2);
        let result = |golden: &Golden, answer: &str| known(golden, answer).map(|(result, _)| result);
        assert_eq!(result(&failed, "it is  20 %."), Some(Outcome::Regressed), "however it is spaced");
        assert_eq!(result(&failed, "It is 10 %."), Some(Outcome::Held));
        assert_eq!(result(&failed, "Ten."), None);
        let passed = Golden { label: Said::Pass, expected: None, ..row(2) };
        assert_eq!(result(&passed, "It is 20 %."), Some(Outcome::Held));
    }

    #[test]
    fn a_fresh_answer_is_held_to_the_schema_of_the_call() {
        let schema = json!({"type": "object", "required": ["title"]});
        let golden = Golden { output_schema: Some(schema.clone()), ..row(1) };
        assert_eq!(message(&golden, "no JSON")["content"]["output_schema"], schema);
        assert_eq!(message(&row(1), "no JSON")["content"]["output_schema"], Value::Null);
        let kept: Golden = serde_json::from_value(json!(golden)).unwrap();
        assert_eq!(kept, golden);
        assert!(json!(row(1)).get("output_schema").is_none(), "rows without one stay as they are");
    }

    #[test]
    fn what_fails_the_gate_is_said_at_the_command_line() {
        let gate = |strict, allow_missing| Gate { strict, allow_missing };
        assert!(gate(false, false).fails(Outcome::Missing) && !gate(false, true).fails(Outcome::Missing));
        assert!(gate(true, false).fails(Outcome::Unsure) && !gate(false, false).fails(Outcome::Unsure));
        assert!(gate(false, true).fails(Outcome::Regressed) && !gate(true, false).fails(Outcome::Held));
    }

    #[test]
    fn reports_are_whole_whatever_stands_in_an_id() {
        let mut golden = row(1);
        golden.request_id = "<a b=\"c\">|&\u{0}`x`\n".into();
        let rows = [
            checked(&golden, (Outcome::Regressed, "why".into())),
            checked(&row(2), (Outcome::Unsure, String::new())),
        ];
        let gate = Gate { strict: false, allow_missing: false };
        let xml = junit(&rows, gate);
        assert!(xml.contains("tests=\"2\" failures=\"1\" errors=\"0\" skipped=\"1\""), "{xml}");
        assert!(xml.contains("name=\"&lt;a b=&quot;c&quot;&gt;|&amp;\u{fffd}`x`\u{fffd}\""), "{xml}");
        let text = markdown(&rows, gate);
        assert!(text.starts_with("## Golden set: failed"), "{text}");
        assert!(text.contains("&lt;a b=\"c\">\\|&amp; \\`x\\` "), "{text}");
        assert_eq!(text.lines().count(), 8, "{text}");
    }
}
