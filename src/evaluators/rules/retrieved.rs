//! Ids of what retrieval returned, and how other ids would look beside them.

use std::collections::{HashMap, HashSet};

use crate::domain::Call;

/// Shortest id of hexadecimal digits and hyphens (UUID, hash) that is told by its shape alone.
const MIN_HEX: usize = 8;
/// Most digits of a place that no passage has; longer numbers in brackets are years, codes and the like.
const MAX_WRONG_DIGITS: usize = 2;

/// What a call's answer may cite.
pub(super) struct Retrieved<'a> {
    /// Ids by their lower case: of retrieval and of contexts, which may name documents and passages.
    ids: HashMap<String, &'a str>,
    /// In the order that positions count: contexts, else what retrieval returned.
    order: Vec<&'a str>,
    /// What ids begin with, with how many of them do.
    prefixes: HashMap<String, usize>,
    /// Shapes of ids that are hexadecimal.
    shapes: HashSet<String>,
}

impl<'a> Retrieved<'a> {
    /// What the call retrieved; none where it says nothing about retrieval.
    pub(super) fn of(call: &'a Call) -> Option<Self> {
        let contexts: Vec<&str> = call.content.contexts.iter().map(|c| c.id.as_str()).collect();
        let retrieved: Vec<&str> = call.retrieval_ids.iter().flatten().map(String::as_str).collect();
        if contexts.is_empty() && call.retrieval_ids.is_none() {
            return None;
        }
        let ids: HashMap<String, &str> =
            retrieved.iter().chain(&contexts).map(|id| (id.to_lowercase(), *id)).collect();
        let mut prefixes = HashMap::new();
        for prefix in ids.keys().filter_map(|id| prefix(id)) {
            *prefixes.entry(prefix.to_owned()).or_default() += 1;
        }
        let shapes = ids.keys().filter_map(|id| hex_shape(id)).collect();
        let order = if contexts.is_empty() { retrieved } else { contexts };
        Some(Self { ids, order, prefixes, shapes })
    }

    /// The id that is written so, in whatever case.
    pub(super) fn id(&self, word: &str) -> Option<&'a str> {
        self.ids.get(&word.to_lowercase()).copied()
    }

    /// The id at a place, counted from 1.
    pub(super) fn at(&self, position: usize) -> Option<&'a str> {
        self.order.get(position.checked_sub(1)?).copied()
    }

    /// Whether numbers in brackets cite passages: places count from 1, and of several one at least is right,
    /// or else it is an interval. Right behind a word, as in `days[1]` and `array[7]`, all are right.
    pub(super) fn are_positions(&self, numbers: &[&str], glued: bool) -> bool {
        let place = |word: &str| word.parse::<usize>().ok().filter(|_| word.len() <= 4);
        let right = |word: &&&str| place(word).is_some_and(|p| self.at(p).is_some());
        let rights = numbers.iter().filter(right).count();
        let wrong = |word: &&str| word.len() <= MAX_WRONG_DIGITS && place(word).is_some_and(|p| p > 0);
        let plausible = numbers.iter().all(|word| right(&word) || wrong(word));
        plausible && (rights == numbers.len() || (!glued && (numbers.len() == 1 || rights > 0)))
    }

    /// Whether a word that is no id of these would be one: it begins as all of them do, or with a digit in it
    /// as one of them does, or is hexadecimal in the shape of one. Where nothing was retrieved, `_` and a digit
    /// make an id. "ISO-9001" and dates are none of this.
    pub(super) fn is_id_like(&self, word: &str) -> bool {
        let word = word.to_lowercase();
        if !word.chars().all(|c| c.is_alphanumeric() || "_-:#./".contains(c)) {
            return false;
        }
        let digit = word.chars().any(|c| c.is_ascii_digit());
        if self.ids.is_empty() {
            return digit && word.contains('_') && word.starts_with(char::is_alphabetic);
        }
        let sharing = prefix(&word).and_then(|p| self.prefixes.get(p)).copied().unwrap_or_default();
        (sharing > 0 && (digit || sharing == self.ids.len()))
            || hex_shape(&word).is_some_and(|shape| self.shapes.contains(&shape))
    }
}

/// What an id begins with: letters and the separator or up to the digit that follows them.
fn prefix(id: &str) -> Option<&str> {
    let end = id.find(|c: char| !c.is_alphabetic())?;
    let separator = id.get(end..)?.chars().next().filter(|c| !c.is_ascii_digit());
    let prefix = id.get(..end + separator.map_or(0, char::len_utf8))?;
    (end > 0 && prefix.chars().count() > 1).then_some(prefix)
}

/// Lengths of the groups of an id of hexadecimal digits and hyphens.
fn hex_shape(id: &str) -> Option<String> {
    let hex = id.chars().all(|c| c.is_ascii_hexdigit() || c == '-');
    let digit = id.chars().any(|c| c.is_ascii_digit());
    (hex && digit && id.len() >= MIN_HEX).then(|| id.replace(|c: char| c != '-', "x"))
}
