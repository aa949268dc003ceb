//! Kind `secrets`: no key or token stands in the answer. The value itself is never quoted.

use regex::{Regex, RegexSet};
use serde::Deserialize;

use super::{Finding, Rule, spans};
use crate::domain::Call;

/// Options of `secrets`: none.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Options {}

/// What is looked for: name and pattern. Sources: each vendor's documented key format.
const PATTERNS: [(&str, &str); 11] = [
    ("anthropic_key", r"\bsk-ant-[A-Za-z0-9_-]{20,200}"),
    ("openai_key", r"\bsk-(?:proj-|svcacct-)?[A-Za-z0-9_-]{20,200}"),
    ("aws_access_key", r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    ("google_api_key", r"\bAIza[A-Za-z0-9_-]{35}"),
    ("github_token", r"\b(?:gh[pousr]_[A-Za-z0-9]{36,255}|github_pat_[A-Za-z0-9_]{22,255})"),
    ("slack_token", r"\bxox[abprs]-[A-Za-z0-9-]{10,200}"),
    ("stripe_key", r"\b[sr]k_live_[A-Za-z0-9]{16,200}"),
    ("jwt", r"\beyJ[A-Za-z0-9_-]{10,1000}\.eyJ[A-Za-z0-9_-]{10,1000}\.[A-Za-z0-9_-]{10,1000}"),
    ("private_key", r"-----BEGIN (?:[A-Z]{2,10} )?PRIVATE KEY-----"),
    ("bearer_token", r"(?i)\bauthorization:\s{0,4}bearer\s{1,4}[A-Za-z0-9._~+/-]{16,500}"),
    ("named_secret", r#"(?i)\b(?:api[_ -]?key|secret|password|passwd|token)["']?\s{0,3}[:=]\s{0,3}["']?[A-Za-z0-9+/_-]{20,200}"#),
];

/// Compiled patterns.
pub(super) struct Secrets {
    any: RegexSet,
    each: Vec<(&'static str, Regex)>,
}

impl Secrets {
    /// Compiles the patterns.
    pub fn new() -> Result<Self, String> {
        let any = RegexSet::new(PATTERNS.map(|(_, pattern)| pattern)).map_err(|error| error.to_string())?;
        let each = PATTERNS
            .iter()
            .map(|(name, pattern)| Ok((*name, Regex::new(pattern).map_err(|error| error.to_string())?)))
            .collect::<Result<_, String>>()?;
        Ok(Self { any, each })
    }
}

impl Rule for Secrets {
    fn check(&self, call: &Call) -> Finding {
        let answer = &call.content.answer;
        let mut found = Vec::new();
        // The set is one linear pass and finds nothing in almost every answer.
        for number in self.any.matches(answer) {
            let (name, pattern) = &self.each[number];
            found.extend(pattern.find(answer).map(|place| (place.range(), (*name).to_owned())));
        }
        found.sort_by_key(|(range, _)| range.start);
        Finding::of_spans("secrets", spans(answer, &found))
    }
}
