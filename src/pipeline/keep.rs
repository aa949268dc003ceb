//! What is kept of a call once it is judged: all of it, or its answer cut, by environment, and with it what its evaluation
//! quotes from behind the cut; and of a share the message as it was delivered, sealed.

use jiff::Timestamp;
use serde::Serialize;

use super::retention::{DAY_MS, RetentionConfig};
use crate::{
    domain::{Call, Evaluation, RuleResult, id::sha256_hex},
    redaction::{Seal, SealError},
    store::{Cut, Kept, Sealed, StoreError, json},
};

/// Longest placeholder: a cut goes through none.
const PLACEHOLDER_CHARS: usize = 64;

/// Makes what is kept of calls.
#[derive(Debug, Default)]
pub struct Keeper {
    config: RetentionConfig,
    seal: Option<Seal>,
}

/// A call as it is stored.
#[derive(Serialize)]
struct Body<'a> {
    #[serde(flatten)]
    call: &'a Call,
    #[serde(skip_serializing_if = "Option::is_none")]
    cut: Option<Cut>,
}

impl Keeper {
    /// A keeper of this policy.
    ///
    /// # Errors
    /// [`SealError`] where a share is to be sealed and its key cannot be read.
    pub fn new(config: &RetentionConfig) -> Result<Self, SealError> {
        let sealing = config.sealed.key_file.as_deref().filter(|_| config.sealed.share > 0.0);
        Ok(Self { config: config.clone(), seal: sealing.map(Seal::read).transpose()? })
    }

    /// What is kept of a call that was delivered as these bytes, and of what was found in it.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] where the call cannot be written as JSON.
    pub fn keep(
        &self,
        call: &Call,
        evaluation: &mut Evaluation,
        body_digest: String,
        delivered: &[u8],
    ) -> Result<Kept, StoreError> {
        let (mut short, mut cut) = (None, None);
        if let Some(chars) = self.config.chars_of(&call.environment, &call.tenant_id) {
            cut = end_of_answer(&call.content.answer, chars).map(|end| {
                let answer = &call.content.answer;
                unquote(&mut evaluation.rules, answer, answer[..end].chars().count());
                silence(evaluation);
                let mut call = call.clone();
                call.content.answer.truncate(end);
                short = Some(call);
                Cut { answer_chars: answer.chars().count(), answer_sha256: sha256_hex(answer.as_bytes()) }
            });
        }
        let body = json("call", &Body { call: short.as_ref().unwrap_or(call), cut })?;
        Ok(Kept { body, body_digest, user_key: None, sealed: self.sealed(call, delivered) })
    }

    /// The message, sealed, where the call is in the debug share.
    fn sealed(&self, call: &Call, delivered: &[u8]) -> Option<Sealed> {
        let seal = self.seal.as_ref()?;
        if place(call) >= self.config.sealed.share {
            return None;
        }
        let days = i64::try_from(self.config.sealed.days).unwrap_or(i64::MAX);
        let expires_ms = Timestamp::now().as_millisecond().saturating_add(days.saturating_mul(DAY_MS));
        match seal.seal(&call.tenant_id, &call.request_id, delivered) {
            Ok(message) => Some(Sealed { message, expires_ms }),
            // It is there for whoever looks for faults: a verdict does not wait for it.
            Err(error) => {
                tracing::error!(%error, request_id = call.request_id, "message of the debug share");
                None
            }
        }
    }
}

/// Takes the words out of what judges said: nobody knows which of them are of the answer.
fn silence(evaluation: &mut Evaluation) {
    evaluation.forget_exchanges();
    if let Some(judge) = &mut evaluation.judge {
        judge.reason.clear();
        judge.claims.iter_mut().for_each(|claim| claim.reason.clear());
    }
}

/// Takes out of what rules found the words of the answer from behind this character. Where they stood is no word of it.
fn unquote(rules: &mut [RuleResult], answer: &str, kept_chars: usize) {
    for RuleResult { detail, spans, .. } in rules {
        for span in spans.iter_mut().filter(|span| span.end > kept_chars && !span.note.is_empty()) {
            let chars = answer.chars().skip(span.start).take(span.end.saturating_sub(span.start));
            if chars.collect::<String>().contains(&span.note) {
                // As a detail quotes what it is about.
                *detail = detail.replace(&format!("{:?}", span.note), "…");
                span.note.clear();
            }
        }
    }
}

/// Where a call stands between 0 and 1, by its ids and by nothing that anyone can guess from the rate of the audit.
fn place(call: &Call) -> f64 {
    let digest = sha256_hex(format!("sealed {} {}", call.tenant_id, call.request_id).as_bytes());
    u32::from_str_radix(&digest[..8], 16).map_or(1.0, |place| f64::from(place) / (f64::from(u32::MAX) + 1.0))
}

/// Where an answer ends that has more characters than this; none where it has not. Not within a placeholder: what is left
/// of one would be nothing that anybody can read.
fn end_of_answer(answer: &str, chars: usize) -> Option<usize> {
    let (end, _) = answer.char_indices().nth(chars)?;
    let before = answer[..end].char_indices().rev().take(PLACEHOLDER_CHARS);
    let opened = before.take_while(|(_, c)| *c != '>').find(|(_, c)| *c == '<').map(|(at, _)| at);
    let is_one = |at: &usize| {
        let inner = answer[at + 1..].split('>').next().unwrap_or_default();
        inner.len() < PLACEHOLDER_CHARS && inner.starts_with(|c: char| c.is_ascii_uppercase())
    };
    Some(opened.filter(is_one).unwrap_or(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_cut_between_characters_and_not_within_a_placeholder() {
        assert_eq!(end_of_answer("abc", 3), None);
        assert_eq!(end_of_answer("abcd", 3), Some(3));
        assert_eq!(end_of_answer("äöü", 2), Some(4));
        assert_eq!(end_of_answer("", 0), None);
        assert_eq!(end_of_answer("abc", 0), Some(0));
        assert_eq!(end_of_answer("to <CARD_12> and", 8), Some(3));
        assert_eq!(end_of_answer("to <CARD> and", 9), Some(9));
        assert_eq!(end_of_answer("1 < 2 and more", 7), Some(7));
        assert_eq!(end_of_answer("ä <EMAIL:a123456789abcdef>", 5), Some(3));
    }

    #[test]
    fn the_first_exception_that_fits_says_how_much_is_kept() {
        let config: RetentionConfig = serde_json::from_value(serde_json::json!({
            "exceptions": [
                {"tenant_id": "bank", "environment": "staging", "answer_chars": 100},
                {"tenant_id": "bank", "answer_chars": 0},
                {"environment": "testing", "whole": true},
            ],
        }))
        .unwrap();
        assert_eq!(config.check(), Ok(()));
        assert_eq!(config.chars_of("staging", "bank"), Some(100));
        assert_eq!(config.chars_of("production", "bank"), Some(0));
        assert_eq!(config.chars_of("testing", "bank"), Some(0));
        assert_eq!(config.chars_of("testing", "acme"), None);
        assert_eq!(config.chars_of("staging", "acme"), None);
        assert_eq!(config.chars_of("production", "acme"), Some(2000));
        // What was forgotten must not keep everything.
        for wrong in [
            "{}",
            r#"{"tenant_id": "bank"}"#,
            r#"{"answer_chars": 1}"#,
            r#"{"tenant_id": "b", "answer_chars": 1, "whole": true}"#,
        ] {
            let exceptions = vec![serde_json::from_str(wrong).unwrap()];
            assert!(RetentionConfig { exceptions, ..RetentionConfig::default() }.check().is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_rules_quote_from_behind_the_cut_goes_with_it() {
        use crate::domain::{RuleOutcome, evaluation::Span};
        let span = |start, end, note: &str| Span { start, end, note: note.into() };
        let spans = vec![span(0, 11, "a1"), span(12, 20, "b2"), span(12, 20, "card"), span(4, 14, "So")];
        let rule = RuleResult {
            rule: "r".into(),
            outcome: RuleOutcome::Fail,
            detail: "two: \"a1\", \"b2\"".into(),
            spans,
        };
        let mut rules = [rule];
        unquote(&mut rules, "It is [a1]. So [b2].", 11);
        let notes: Vec<&str> = rules[0].spans.iter().map(|span| span.note.as_str()).collect();
        assert_eq!(notes, ["a1", "", "card", ""], "what is kept and what is not of the answer stays");
        assert_eq!(rules[0].detail, "two: \"a1\", …");
    }

    #[test]
    fn the_share_is_what_it_says() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/traffic.jsonl");
        let traffic = std::fs::read_to_string(file).unwrap();
        let mut call: Call = serde_json::from_str(traffic.lines().next().unwrap()).unwrap();
        let mut sealed = 0;
        for number in 0..4000 {
            call.request_id = format!("r{number}");
            sealed += usize::from(place(&call) < 0.25);
        }
        assert!((900..1100).contains(&sealed), "{sealed} of 4000");
    }
}
