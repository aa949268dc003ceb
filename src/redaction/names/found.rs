//! What an analyzer found, and its places in the texts of a call: a value that was found anywhere is taken out
//! everywhere, so that an answer and the context that it stands on go on to say the same.

use std::{cmp::Reverse, collections::HashMap, ops::Range, sync::Arc};

use aho_corasick::{AhoCorasick, Anchored, Input, MatchKind, StartKind};

use super::client::{NamesError, Span};
use super::protected::Known;
use super::texts;
use crate::{
    domain::Call,
    redaction::{Kind, redactor::bare},
};

/// Fewest characters of a value: a single letter stands everywhere.
const MIN_CHARS: usize = 2;
/// What an analyzer may count as the end of a name.
const POSSESSIVE: [&str; 4] = ["'s", "’s", "'S", "’S"];

/// A value and where it was found in its text.
#[derive(Clone, PartialEq, Eq)]
#[cfg_attr(test, derive(Debug))]
pub(super) struct Value {
    /// Its bytes.
    pub(super) place: Range<usize>,
    /// Its kind.
    pub(super) kind: String,
}

/// The values in a part of a text that an analyzer reported, without what stays. Offsets that lie outside of the part
/// say nothing.
pub(super) fn values<'a>(
    text: &str,
    part: &Range<usize>,
    spans: impl Iterator<Item = &'a Span>,
    protected: &[Range<usize>],
) -> Vec<Value> {
    // The analyzer counts Unicode scalar values.
    let mut bytes: Vec<usize> = Vec::new();
    let mut values = Vec::new();
    for span in spans {
        if bytes.is_empty() {
            let read = text.get(part.clone()).unwrap_or_default();
            bytes.extend(read.char_indices().map(|(at, _)| part.start + at).chain([part.end]));
        }
        let at = |character: i64| usize::try_from(character).ok().and_then(|at| bytes.get(at)).copied();
        let (Some(start), Some(end)) = (at(span.start), at(span.end)) else { continue };
        let kind = span.entity_type.to_lowercase();
        let places = pieces(text, start..end, protected).into_iter();
        values.extend(places.map(|place| Value { place, kind: kind.clone() }));
    }
    values
}

/// What is left of a place without the parts that stay, line by line, without numbers and what surrounds names.
fn pieces(text: &str, place: Range<usize>, protected: &[Range<usize>]) -> Vec<Range<usize>> {
    let mut left: Vec<Range<usize>> = Vec::new();
    let mut at = place.start;
    let first = protected.partition_point(|range| range.end <= place.start);
    for range in protected[first..].iter().take_while(|range| range.start < place.end) {
        left.push(at..range.start.max(at));
        at = range.end;
    }
    left.push(at..place.end.max(at));
    let mut pieces = Vec::new();
    for piece in left {
        let mut at = piece.start;
        for line in text.get(piece).unwrap_or_default().split(['\n', '\r', '\t']) {
            pieces.extend(names(line).map(|range| at + range.start..at + range.end));
            at += line.len() + 1;
        }
    }
    pieces
}

/// Where names lie in a line: between its numbers, which are no names, and which rules compare with those of contexts.
fn names(line: &str) -> impl Iterator<Item = Range<usize>> {
    let (mut runs, mut start, mut at) = (Vec::new(), 0, 0);
    for word in line.split_inclusive(char::is_whitespace) {
        if word.contains(char::is_numeric) && !word.contains(char::is_alphabetic) {
            runs.push(start..at);
            start = at + word.len();
        }
        at += word.len();
    }
    runs.push(start..at);
    runs.into_iter().filter_map(|run| {
        let name = trimmed(line.get(run.clone())?)?;
        Some(run.start + name.start..run.start + name.end)
    })
}

/// Where the name lies in what was found; none where it is too little.
fn trimmed(found: &str) -> Option<Range<usize>> {
    let name = found.trim_matches(|c| !is_wordy(c));
    let start = found.len() - found.trim_start_matches(|c| !is_wordy(c)).len();
    let name = POSSESSIVE.iter().find_map(|end| name.strip_suffix(end)).unwrap_or(name);
    let is_name = name.chars().count() >= MIN_CHARS && name.chars().any(char::is_alphabetic);
    is_name.then(|| start..start + name.len())
}

/// Names that were found in a call. It says nothing of itself: it holds what is personal.
pub(in crate::redaction) struct FoundNames {
    /// What a value is, by what is the same of it however it is written.
    kinds: HashMap<String, Arc<str>>,
    /// Where something was found in a text.
    places: HashMap<String, Vec<Range<usize>>>,
    /// Finds each value as it was written; none where there is no value.
    search: Option<AhoCorasick>,
}

impl FoundNames {
    /// What was found in texts; of kinds that a value was found as, the most frequent one counts, and of these the first
    /// in `order`.
    ///
    /// # Errors
    /// [`NamesError::Unreadable`] where it is too much to be looked for.
    pub(super) fn new(
        found: impl Iterator<Item = (String, Vec<Value>)>,
        order: &[Arc<str>],
    ) -> Result<Self, NamesError> {
        let mut votes: HashMap<String, Vec<usize>> = HashMap::new();
        let mut written: Vec<String> = Vec::new();
        let mut places: HashMap<String, Vec<Range<usize>>> = HashMap::new();
        for (text, values) in found {
            for value in &values {
                let Some(kind) = order.iter().position(|kind| **kind == *value.kind) else { continue };
                let name = text.get(value.place.clone()).unwrap_or_default();
                votes.entry(bare(&value.kind, name)).or_insert_with(|| vec![0; order.len()])[kind] += 1;
                written.push(name.to_owned());
            }
            places.insert(text, values.into_iter().map(|value| value.place).collect());
        }
        written.sort_unstable();
        written.dedup();
        let kinds = votes.into_iter().filter_map(|(name, votes)| {
            let (most, _) = votes.iter().enumerate().max_by_key(|(at, count)| (**count, Reverse(*at)))?;
            Some((name, Arc::clone(order.get(most)?)))
        });
        let search = (!written.is_empty()).then(|| {
            let longest = AhoCorasick::builder()
                .match_kind(MatchKind::LeftmostLongest)
                .start_kind(StartKind::Anchored)
                .build(&written);
            longest.map_err(|_| NamesError::Unreadable("more names than can be looked for"))
        });
        Ok(Self { kinds: kinds.collect(), places, search: search.transpose()? })
    }

    /// Whether nothing was found.
    pub(in crate::redaction) fn is_empty(&self) -> bool {
        self.search.is_none()
    }

    /// Puts what `instead` says in place of each name in a call; where it says nothing, the name stays.
    pub(in crate::redaction) fn replace(
        &self,
        call: &mut Call,
        known: &[&str],
        instead: &mut dyn FnMut(&Kind, &str) -> Option<String>,
    ) {
        let known = Known::of(call, known);
        texts::rewrite(call, &mut |text, form| {
            let (mut without, mut at) = (String::new(), 0);
            for (place, kind) in self.regions(text, &known.protected(text, form)) {
                let (Some(before), Some(name)) = (text.get(at..place.start), text.get(place.clone())) else {
                    continue;
                };
                let Some(instead) = instead(&Kind::Custom(kind), name) else { continue };
                without.push_str(before);
                without.push_str(&instead);
                at = place.end;
            }
            (at > 0).then(|| without + text.get(at..).unwrap_or_default())
        });
    }

    /// Where names stand in a text, ascending. Names that overlap are one: nothing of either may be left. It is what the
    /// longest of them is.
    fn regions(&self, text: &str, protected: &[Range<usize>]) -> Vec<(Range<usize>, Arc<str>)> {
        let Some(search) = &self.search else { return Vec::new() };
        let is_free = |place: &Range<usize>| {
            let first = protected.partition_point(|range| range.end <= place.start);
            protected.get(first).is_none_or(|range| range.start >= place.end)
        };
        let places = self.places.get(text).into_iter().flatten();
        let mut found: Vec<Range<usize>> = places.filter(|place| is_free(place)).cloned().collect();
        for (at, c) in text.char_indices().filter(|(at, c)| is_wordy(*c) && begins(text, *at, *c)) {
            let mut end = text.len();
            // The longest that is a whole word: where "Jane Doe" goes on as "Jane Doeller", "Jane" is still one.
            while let Some(name) = search.find(Input::new(text).range(at..end).anchored(Anchored::Yes)) {
                if ends(text, name.end()) && is_free(&(at..name.end())) {
                    found.push(at..name.end());
                    break;
                }
                end = name.end().saturating_sub(1).max(at + c.len_utf8() - 1);
            }
        }
        found.sort_unstable_by_key(|place| (place.start, Reverse(place.end)));
        let mut regions: Vec<(Range<usize>, Range<usize>)> = Vec::new();
        for place in found {
            match regions.last_mut() {
                Some((region, longest)) if place.start < region.end => {
                    region.end = region.end.max(place.end);
                    if place.len() > longest.len() {
                        *longest = place;
                    }
                }
                _ => regions.push((place.clone(), place)),
            }
        }
        let kind = |place: &Range<usize>| self.kinds.get(&bare("", text.get(place.clone())?)).cloned();
        regions.into_iter().filter_map(|(region, longest)| Some((region, kind(&longest)?))).collect()
    }
}

/// Whether a character is a part of words.
fn is_wordy(c: char) -> bool {
    // A combining accent belongs to the letter before it.
    c.is_alphanumeric() || matches!(c, '\u{300}'..='\u{36f}')
}

/// Whether words are written without blanks in the script of a character, or endings follow names without one.
fn is_spaceless(c: char) -> bool {
    matches!(c,
        '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{3040}'..='\u{30ff}'
        | '\u{31f0}'..='\u{31ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7af}'
        | '\u{f900}'..='\u{faff}' | '\u{ff66}'..='\u{ff9f}' | '\u{20000}'..='\u{3ffff}')
}

/// Whether two neighbours belong to one word.
fn are_joined(one: char, next: char) -> bool {
    is_wordy(one) && is_wordy(next) && !is_spaceless(one) && !is_spaceless(next)
}

/// Whether a word begins at a character. One underscore is emphasis, but between letters.
fn begins(text: &str, at: usize, c: char) -> bool {
    let mut before = text.get(..at).unwrap_or_default().chars().rev();
    let last = before.next();
    let last = if last == Some('_') { before.next() } else { last };
    !last.is_some_and(|last| are_joined(last, c))
}

/// Whether a word ends here.
fn ends(text: &str, at: usize) -> bool {
    let Some(last) = text.get(..at).and_then(|before| before.chars().next_back()) else { return false };
    let mut after = text.get(at..).unwrap_or_default().chars();
    let next = after.next();
    let next = if next == Some('_') { after.next() } else { next };
    !next.is_some_and(|next| are_joined(last, next))
}
