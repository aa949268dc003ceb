//! One message while it is redacted: the same value has the same placeholder wherever it stands.

use std::collections::{HashMap, hash_map::Entry};

use serde::de::IgnoredAny;
use serde_json::{Map, Number, Value};

use super::Redactor;
use crate::{
    domain::placeholder,
    redaction::{Finding, Kind, Treatment},
};

/// Fewest digits of a number that may be something else than a count.
const MIN_NUMBER_DIGITS: usize = 9;
/// Highest number of a placeholder that is taken into account: whoever writes a higher one does so by hand.
const MAX_NUMBER: usize = 100_000;
/// How often a text is looked at until nothing more is found in it: a placeholder is shorter than what it stands for, so
/// that a word comes within reach of a number it says something of.
const MAX_LOOKS: usize = 4;
/// How often JSON within texts of JSON is read as JSON.
const MAX_NESTED: usize = 4;
/// Longest name, and longest text under it, that are read together.
const MAX_NAMED_BYTES: usize = 100;
/// Fields of a call whose numbers are measures: a card number there is none, but a number that looks like one.
const MEASURES: [&str; 17] = [
    "version",
    "attempt",
    "temperature",
    "seed",
    "tokens_in",
    "tokens_out",
    "cached_tokens",
    "eval_judge_tokens",
    "embedding_tokens",
    "cost_usd",
    "ttft",
    "total",
    "tools",
    "latency_ms",
    "csat",
    "score",
    "probability",
];

/// What is the same of a value however it is written: of numbers the letters and digits, of others all, in small letters.
pub(in crate::redaction) fn bare(kind: &str, value: &str) -> String {
    match kind {
        "email" | "key" | "url_secret" | "ipv4" | "ipv6" => value.to_lowercase(),
        _ => value.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect(),
    }
}

/// The digits of a number; of one with a decimal point only where there is nothing behind it.
fn digits(number: &Number) -> String {
    match number.as_f64().filter(|value| number.is_f64() && value.fract() == 0.0 && value.abs() < 1e19) {
        Some(whole) => format!("{whole:.0}"),
        None if number.is_f64() => String::new(),
        None => number.to_string(),
    }
}

/// Whose text is redacted.
#[derive(Clone, Copy)]
pub(super) enum Calls<'a> {
    /// That of a call of this environment and tenant.
    Of {
        /// Its environment.
        environment: &'a str,
        /// Its tenant, where it has one.
        tenant_id: Option<&'a str>,
    },
    /// What is kept of a call of this tenant, on its way to a destination.
    Sent {
        /// The sink.
        destination: &'a str,
        /// The call's tenant.
        tenant_id: &'a str,
    },
    /// Nobody knows: everything is masked.
    Unknown,
}

/// Whether the number of a field is a measure, which may look like something personal.
pub fn is_measure(name: &str) -> bool {
    MEASURES.contains(&name)
}

/// One message while it is redacted.
pub(super) struct Work<'a> {
    redactor: &'a Redactor,
    /// Whose it is.
    calls: Calls<'a>,
    /// Whether names say nothing of what numbers measure.
    pub(super) is_free: bool,
    /// Texts of JSON around what is read.
    nested: usize,
    /// Numbers of the values of a kind, and the next.
    numbers: HashMap<String, (HashMap<String, usize>, usize)>,
}

impl<'a> Work<'a> {
    /// Nothing is numbered yet.
    pub(super) fn new(redactor: &'a Redactor, calls: Calls<'a>) -> Self {
        Self { redactor, calls, is_free: false, nested: 0, numbers: HashMap::new() }
    }

    /// Finds the placeholders that are there, so that their numbers are not given to other values.
    pub(super) fn look_over(&mut self, value: &Value) {
        match value {
            Value::String(text) => self.count(text),
            Value::Array(items) => items.iter().for_each(|item| self.look_over(item)),
            Value::Object(fields) => {
                for (name, value) in fields {
                    self.count(name);
                    self.look_over(value);
                }
            }
            _ => {}
        }
    }

    /// Finds the placeholders of a text.
    pub(super) fn count(&mut self, text: &str) {
        if !text.contains('<') {
            return;
        }
        for kind in self.redactor.kinds() {
            let highest = placeholder::find(text, kind)
                .iter()
                .filter_map(|one| one.number())
                .filter(|number| *number <= MAX_NUMBER)
                .max()
                .unwrap_or(0);
            if highest > 0 {
                let (_, next) = self.numbers.entry(kind.to_owned()).or_insert_with(|| (HashMap::new(), 1));
                *next = (*next).max(highest + 1);
            }
        }
    }

    /// Redacts all that hangs on a value, which stands under a name. The depth of a message is bounded where it is read.
    pub(super) fn value(&mut self, name: &str, value: &mut Value) {
        match value {
            Value::String(text) => {
                if let Some(redacted) = self.under(name, text) {
                    *text = redacted;
                }
            }
            Value::Number(_) if !self.is_free && is_measure(name) => {}
            Value::Number(number) => {
                let digits = digits(number);
                if digits.len() >= MIN_NUMBER_DIGITS
                    && let Some(redacted) = self.under(name, &digits)
                {
                    *value = Value::String(redacted);
                }
            }
            Value::Array(items) => items.iter_mut().for_each(|item| self.value(name, item)),
            Value::Object(fields) => {
                fields.iter_mut().for_each(|(name, value)| self.value(name, value));
                self.keys(fields);
            }
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// A text under a name, which may say what it is where the text does not: nine digits under `ssn`. A text that is JSON,
    /// as answers may be, stays JSON; JSON within it is read so a few times, and then as text.
    fn under(&mut self, name: &str, text: &str) -> Option<String> {
        if self.nested < MAX_NESTED
            && text.trim_start().starts_with(['{', '['])
            && let Ok(value) = serde_json::from_str::<Value>(text)
        {
            self.nested += 1;
            let redacted = self.json(name, value, text);
            self.nested -= 1;
            return redacted;
        }
        if text.len() > MAX_NAMED_BYTES || !(2..=MAX_NAMED_BYTES).contains(&name.len()) {
            return self.text(text);
        }
        let named = self.looks(&format!("{}: ", name.replace(['_', '-', '.'], " ")), text);
        // A name may also hide what a text shows by itself: an order number that has the form of another.
        self.text(named.as_deref().unwrap_or(text)).or(named)
    }

    /// A text that is JSON, as this value.
    fn json(&mut self, name: &str, mut value: Value, text: &str) -> Option<String> {
        let before = value.clone();
        self.value(name, &mut value);
        let written = value.to_string();
        // A field that is there twice is in the text, and only once in the value.
        let found = |text: &str| self.redactor.recognisers.find(&self.redactor.opaque(text)).len();
        let is_clean = value == before && found(text) <= found(&written);
        let redacted = (!is_clean).then_some(written);
        // A value that is known by what stands beside it is found in the text. A measure would not be JSON any more.
        let whole = self.text(redacted.as_deref().unwrap_or(text));
        whole.filter(|whole| serde_json::from_str::<IgnoredAny>(whole).is_ok()).or(redacted)
    }

    /// Redacts names of fields.
    pub(super) fn keys(&mut self, fields: &mut Map<String, Value>) {
        let redacted: Vec<Option<String>> = fields.keys().map(|name| self.text(name)).collect();
        if redacted.iter().all(Option::is_none) {
            return;
        }
        // How many were told apart by nothing but what is gone.
        let mut alike: HashMap<String, usize> = HashMap::new();
        let before = std::mem::take(fields);
        for ((name, value), redacted) in before.into_iter().zip(redacted) {
            let name = redacted.unwrap_or(name);
            let count = alike.entry(name.clone()).or_default();
            *count += 1;
            let mut unique = if *count == 1 { name.clone() } else { format!("{name} {count}") };
            while fields.contains_key(&unique) {
                *count += 1;
                unique = format!("{name} {count}");
            }
            fields.insert(unique, value);
        }
    }

    /// A text without what is personal; none where nothing is.
    pub(super) fn text(&mut self, text: &str) -> Option<String> {
        self.looks("", text)
    }

    /// A text that stands behind these words, without what is personal; looked at until nothing more is found.
    fn looks(&mut self, before: &str, text: &str) -> Option<String> {
        let mut redacted: Option<String> = None;
        for _ in 0..MAX_LOOKS {
            let text = redacted.as_deref().unwrap_or(text);
            let read = format!("{before}{}", self.redactor.opaque(text));
            let found = self.redactor.recognisers.find(&read).into_iter();
            let found = found.filter(|value| value.end > before.len()).map(|value| Finding {
                start: value.start.saturating_sub(before.len()),
                end: value.end - before.len(),
                kind: value.kind,
            });
            let Some(less) = self.without(text, found.collect()) else { break };
            redacted = Some(less);
        }
        redacted
    }

    /// A text without what was found in it; none where all of it stays.
    fn without(&mut self, text: &str, found: Vec<Finding>) -> Option<String> {
        let (mut redacted, mut at) = (String::new(), 0);
        for value in found {
            let (Some(kept), Some(written)) = (text.get(at..value.start), text.get(value.start..value.end))
            else {
                continue;
            };
            let Some(instead) = self.instead(&value.kind, written) else { continue };
            redacted.push_str(kept);
            redacted.push_str(&instead);
            at = value.end;
        }
        if at == 0 {
            return None;
        }
        redacted.push_str(text.get(at..).unwrap_or_default());
        Some(redacted)
    }

    /// What stands in place of a value; none where it stays.
    pub(super) fn instead(&mut self, kind: &Kind, value: &str) -> Option<String> {
        let name = kind.name();
        match self.treatment(name) {
            Treatment::Keep => None,
            Treatment::Drop => Some(String::new()),
            Treatment::Pseudonym => Some(self.redactor.pseudonym(name, value)),
            Treatment::Mask => Some(self.numbered(name, bare(name, value))),
        }
    }

    /// What becomes of a kind.
    fn treatment(&self, kind: &str) -> Treatment {
        let policy = &self.redactor.config;
        match self.calls {
            Calls::Of { environment, tenant_id } => policy.treatment(kind, Some(environment), tenant_id),
            // What was kept was to be kept, unless this destination is not to have it.
            Calls::Sent { destination, tenant_id } => {
                policy.treatment_sent(kind, destination, tenant_id).unwrap_or(Treatment::Keep)
            }
            Calls::Unknown => Treatment::Mask,
        }
    }

    /// The placeholder of a value by its number, a new one where it is the first of its kind.
    fn numbered(&mut self, kind: &str, value: String) -> String {
        let (known, next) = self.numbers.entry(kind.to_owned()).or_insert_with(|| (HashMap::new(), 1));
        let number = match known.entry(value) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                *next += 1;
                *new.insert(*next - 1)
            }
        };
        placeholder::numbered(kind, number)
    }

    /// Makes pseudonyms masks, and drops placeholders, where the policy says less than what was kept.
    pub(super) fn placeholders(&mut self, text: &mut String) {
        let redactor = self.redactor;
        for kind in redactor.kinds() {
            let treatment = self.treatment(kind);
            if !matches!(treatment, Treatment::Mask | Treatment::Drop) {
                continue;
            }
            // From the end: what stands before keeps its place.
            for place in placeholder::places(text, kind).into_iter().rev() {
                let there = text.get(place.clone()).unwrap_or_default().to_owned();
                match treatment {
                    Treatment::Drop => text.replace_range(place, ""),
                    _ if there.contains(':') => {
                        let mask = self.numbered(kind, there);
                        text.replace_range(place, &mask);
                    }
                    _ => {}
                }
            }
        }
    }
}
