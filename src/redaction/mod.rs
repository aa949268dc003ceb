//! Finds personal data and secrets in texts, and puts placeholders in their place: payment cards, social security
//! numbers, accounts, addresses, keys. `policy` says what becomes of which, `redactor` does it to a whole message;
//! `names` asks a service for what has no shape.
//!
//! Recognisers read a folded copy (`fold`: NFKC, ASCII digits, nothing invisible) and report places in the
//! original. One pass over the bytes (`scan`) finds candidates; a hand-written check of each kind decides, and asks the
//! words near it (`context`) where the shape says too little. Every check looks at a bounded number of bytes, or at
//! bytes that no other candidate of its kind looks at: time is linear in the text, whatever it is.

mod address;
mod cards;
mod context;
mod custom;
mod email;
mod fold;
mod iban;
mod keys;
mod named;
mod names;
mod national;
mod phone;
mod policy;
mod redactor;
mod scan;
mod seal;
mod ssn;
#[cfg(test)]
mod tests;
mod text;
mod urls;
mod words;

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::context::Context;
use self::custom::Custom;
pub use self::custom::{BadPattern, DenyList, Pattern};
pub use self::names::{Answers, BadNames, Down, Names, NamesConfig, NamesError, Questions, WhenDown};
pub use self::national::NationalId;
pub use self::policy::{Exception, RedactionConfig, Treatment};
pub use self::redactor::{RedactionError, Redactor, SHIPPED_KINDS, is_measure};
use self::scan::Found;
pub use self::seal::{Seal, SealError};

/// What a value is. The order is the order of precedence: of two findings that overlap, the one whose kind comes first
/// is kept; of two of one kind, the longer, then the one that begins first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// User and password of a URL, or the secret value of a query parameter.
    UrlSecret,
    /// Key, token, password, private key.
    Key,
    /// E-mail address.
    Email,
    /// International bank account number.
    Iban,
    /// Payment card number.
    Card,
    /// What a pattern, a deny list, a national id of the configuration or an analyzer of names found, by its name.
    Custom(Arc<str>),
    /// US social security number.
    Ssn,
    /// IPv6 address.
    Ipv6,
    /// IPv4 address.
    Ipv4,
    /// Telephone number.
    Phone,
}

impl Kind {
    /// The word used in configuration, masks and metrics.
    pub fn name(&self) -> &str {
        match self {
            Self::UrlSecret => "url_secret",
            Self::Key => "key",
            Self::Email => "email",
            Self::Iban => "iban",
            Self::Card => "card",
            Self::Custom(name) => name,
            Self::Ssn => "ssn",
            Self::Ipv6 => "ipv6",
            Self::Ipv4 => "ipv4",
            Self::Phone => "phone",
        }
    }
}

/// One value in a text. Offsets are bytes of the text as it was given, on character borders, the end exclusive; what
/// hides within the value, such as zero-width characters, lies between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What it is.
    pub kind: Kind,
    /// Its first byte.
    pub start: usize,
    /// One past its last byte.
    pub end: usize,
}

/// What is looked for beside the shipped kinds.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RecogniserConfig {
    /// National ids whose form and check digits are known.
    pub national_ids: Vec<NationalId>,
    /// Regular expressions with a name.
    pub patterns: Vec<Pattern>,
    /// Lists of words with a name.
    pub deny_lists: Vec<DenyList>,
}

impl RecogniserConfig {
    /// Names of what it adds.
    fn names(&self) -> impl Iterator<Item = &str> {
        let national = self.national_ids.iter().map(|id| id.name());
        let patterns = self.patterns.iter().map(|pattern| pattern.name.as_str());
        national.chain(patterns).chain(self.deny_lists.iter().map(|list| list.name.as_str()))
    }
}

/// Finds values of all kinds; shared between threads, built once.
#[derive(Debug)]
pub struct Recognisers {
    /// What the words near a value say.
    context: Context,
    /// What the configuration adds.
    custom: Custom,
}

impl Recognisers {
    /// The shipped kinds alone.
    pub fn shipped() -> Self {
        Self { context: Context::new(), custom: Custom::default() }
    }

    /// The shipped kinds, and what the configuration adds.
    ///
    /// # Errors
    /// [`BadPattern`] names the pattern or list that cannot be used, and why.
    pub fn new(config: &RecogniserConfig) -> Result<Self, BadPattern> {
        Ok(Self { context: Context::new(), custom: Custom::build(config)? })
    }

    /// All values in a text, ascending, without overlap; see [`Kind`] for which of two is kept.
    pub fn find(&self, text: &str) -> Vec<Finding> {
        let folded = fold::fold(text);
        let mut found = scan::find(&folded.text, &self.context);
        self.custom.find(&folded.text, &mut found);
        let mut places: Vec<Finding> = Vec::new();
        for value in apart(found) {
            let (start, end) = folded.original(value.start, value.end);
            match places.last_mut() {
                // One character that folds to several may belong to two values: they are one then.
                Some(last) if start < last.end => last.end = last.end.max(end),
                _ => places.push(Finding { kind: value.kind, start, end }),
            }
        }
        places
    }
}

/// Findings ascending, those that overlap one with precedence left out.
fn apart(mut found: Vec<Found>) -> Vec<Found> {
    let length = |value: &Found| value.end - value.start;
    found.retain(|value| value.end > value.start);
    found.sort_by(|a, b| (&a.kind, length(b), a.start).cmp(&(&b.kind, length(a), b.start)));
    let mut kept: std::collections::BTreeMap<usize, Found> = std::collections::BTreeMap::new();
    for value in found {
        let before = kept.range(..value.end).next_back();
        if before.is_none_or(|(_, before)| before.end <= value.start) {
            kept.insert(value.start, value);
        }
    }
    kept.into_values().collect()
}
