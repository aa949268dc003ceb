//! What the words near a value say it is.

use std::collections::BTreeMap;

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};

use super::text::Text;
use super::words::WORDS;

/// What a word says of the number or token near it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    /// It is a telephone number.
    Phone,
    /// It is a social security number.
    Ssn,
    /// It is secret.
    Secret,
    /// It is a password, short and chosen by a person.
    Password,
    /// It is the address of a machine.
    Address,
    /// It is a release of a program.
    Version,
    /// It is an order, a part, a date: nobody's.
    Record,
    /// It is a digest or the id of something technical: random, yet not secret.
    Digest,
}

/// Topics in the order of [`Nearest`]'s places.
const TOPICS: usize = 8;

/// Recognises all context words at once.
#[derive(Debug)]
pub(super) struct Context {
    /// The words, without their marks.
    automaton: AhoCorasick,
    /// What each says.
    words: Vec<Word>,
}

/// What is known of one word.
#[derive(Debug, Default)]
struct Word {
    /// The bits of its topics.
    topics: u8,
    /// Whether letters may stand before it.
    goes_back: bool,
    /// Whether letters may stand after it.
    goes_on: bool,
}

/// Distance in bytes from the nearest word of each topic.
#[derive(Debug, Clone, Copy)]
pub(super) struct Nearest([usize; TOPICS]);

impl Context {
    /// Builds the automaton.
    #[expect(clippy::expect_used, reason = "the words are constants and a test builds the automaton")]
    pub(super) fn new() -> Self {
        let mut known: BTreeMap<String, Word> = BTreeMap::new();
        for (topic, list) in WORDS {
            for marked in list.split_whitespace() {
                // `_` stands for what joins words: "site key", "SITE_KEY", "site-key".
                for joint in [" ", "_", "-"] {
                    let bare = marked.trim_matches('~').replace('_', joint).to_ascii_lowercase();
                    let word = known.entry(bare).or_default();
                    word.topics |= 1 << (*topic as u8);
                    word.goes_back |= marked.starts_with('~');
                    word.goes_on |= marked.ends_with('~');
                }
            }
        }
        let (patterns, words): (Vec<_>, _) = known.into_iter().unzip();
        let automaton = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::LeftmostLongest)
            .kind(Some(AhoCorasickKind::DFA))
            .prefilter(false)
            .build(&patterns)
            .expect("a few hundred short words are an automaton");
        Self { automaton, words }
    }

    /// Distances of the words in the `reach` bytes that end at `at`.
    pub(super) fn before(&self, text: &Text, at: usize, reach: usize) -> Nearest {
        let from = at.saturating_sub(reach);
        let mut nearest = Nearest([usize::MAX; TOPICS]);
        for (topics, _, end) in self.hits(text, from, at) {
            nearest.note(topics, at - end);
        }
        nearest
    }

    /// Distances of the words in the `reach` bytes that begin at `at`.
    pub(super) fn after(&self, text: &Text, at: usize, reach: usize) -> Nearest {
        let mut nearest = Nearest([usize::MAX; TOPICS]);
        for (topics, start, _) in self.hits(text, at, at.saturating_add(reach)) {
            nearest.note(topics, start - at);
        }
        nearest
    }

    /// Topics, beginning and end of each word between two places.
    fn hits<'a>(
        &'a self,
        text: &'a Text,
        from: usize,
        to: usize,
    ) -> impl Iterator<Item = (u8, usize, usize)> + 'a {
        let window = text.part(from, to);
        self.automaton.find_iter(window).filter_map(move |hit| {
            let word = self.words.get(hit.pattern().as_usize())?;
            let (start, end) = (from + hit.start(), from + hit.end());
            let begins = word.goes_back || !continues(text.back(start, 1), text.at(start));
            let ends = word.goes_on || !continues(text.back(end, 1), text.at(end)) || is_plural(text, end);
            (begins && ends).then_some((word.topics, start, end))
        })
    }
}

/// Whether two bytes are letters of one word; `apiKey` is two words.
fn continues(first: u8, second: u8) -> bool {
    first.is_ascii_alphabetic()
        && second.is_ascii_alphabetic()
        && !(first.is_ascii_lowercase() && second.is_ascii_uppercase())
}

/// Whether an `s` ends the word here.
fn is_plural(text: &Text, end: usize) -> bool {
    text.at(end) == b's' && !text.at(end + 1).is_ascii_alphabetic()
}

impl Nearest {
    /// Notes a word with these topics.
    fn note(&mut self, topics: u8, distance: usize) {
        for (topic, place) in self.0.iter_mut().enumerate() {
            if topics & (1 << topic) != 0 {
                *place = distance.min(*place);
            }
        }
    }

    /// Bytes to the nearest word of this topic, `usize::MAX` where there is none.
    pub(super) fn distance(&self, topic: Topic) -> usize {
        self.0.get(topic as usize).copied().unwrap_or(usize::MAX)
    }

    /// Whether a word of this topic is near.
    pub(super) fn has(&self, topic: Topic) -> bool {
        self.distance(topic) != usize::MAX
    }

    /// Whether a word of the first topic is near, and nearer than all of the others.
    pub(super) fn says(&self, topic: Topic, against: &[Topic]) -> bool {
        self.has(topic) && against.iter().all(|other| self.distance(topic) < self.distance(*other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_believed() {
        let context = Context::new();
        let text = Text::new("my phone broke; order no. 55501234");
        let near = context.before(&text, 26, 64);
        assert!(near.has(Topic::Phone) && near.says(Topic::Record, &[Topic::Phone]));
    }

    #[test]
    fn words_are_whole_unless_marked() {
        let context = Context::new();
        for (text, topic, said) in [
            ("hotel: ", Topic::Phone, false),
            ("tel: ", Topic::Phone, true),
            ("phones ", Topic::Phone, true),
            ("apiKey=", Topic::Secret, true),
            ("keyboard ", Topic::Secret, false),
            ("Bestellnummer ", Topic::Record, true),
            ("public key ", Topic::Secret, false),
        ] {
            assert_eq!(context.before(&Text::new(text), text.len(), 64).has(topic), said, "{text}");
        }
    }
}
