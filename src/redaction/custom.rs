//! What a configuration adds: national ids, regular expressions, lists of words.

use std::sync::Arc;

use aho_corasick::{AhoCorasick, MatchKind};
use regex::{Regex, RegexBuilder};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::national::NationalId;
use super::scan::Found;
use super::{Kind, RecogniserConfig};

/// Longest regular expression, in bytes.
const MAX_PATTERN_BYTES: usize = 1024;
/// Most memory of a compiled regular expression: repeated repetitions are refused rather than paid for.
const MAX_COMPILED_BYTES: usize = 1 << 20;
/// Most words of a list.
const MAX_WORDS: usize = 100_000;
/// Most patterns and lists: each reads the text once more.
const MAX_CUSTOM: usize = 64;

/// A regular expression; it reads the folded text, in which digits and hyphens are ASCII.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pattern {
    /// What is found is called so.
    pub name: String,
    /// The expression, in the syntax of the crate `regex`; its first group is the value, where it has one.
    pub regex: String,
}

/// Words that are never shown, whatever their case; only whole words are found.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DenyList {
    /// What is found is called so.
    pub name: String,
    /// The words.
    pub words: Vec<String>,
}

/// A pattern or list that cannot be used.
#[derive(Debug, Error)]
pub enum BadPattern {
    /// The name is empty or has other characters than masks take.
    #[error(
        "pattern {name:?}: the name is not of 1 to 40 small letters, digits and underscores; give it such a name"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// The expression is longer than 1024 bytes.
    #[error("pattern {name:?}: the expression has {bytes} bytes; 1024 are the most, split it")]
    Long {
        /// The name.
        name: String,
        /// Its length.
        bytes: usize,
    },
    /// The expression does not compile, or needs more than 1 MiB compiled.
    #[error(
        "pattern {name:?}: {source}; correct the expression, or lower its repetitions where it is too big"
    )]
    Syntax {
        /// The name.
        name: String,
        /// What the compiler said.
        source: Box<regex::Error>,
    },
    /// The expression matches nothing at all, and so everywhere.
    #[error("pattern {name:?}: the expression matches the empty text; make it ask for something")]
    Empty {
        /// The name.
        name: String,
    },
    /// The list has no words, an empty one, or too many.
    #[error("list {name:?}: it has no words, an empty word, or more than 100000; correct the list")]
    Words {
        /// The name.
        name: String,
    },
    /// There are more than 64 patterns and lists.
    #[error("pattern {name:?} is one too many: 64 patterns and lists are the most; join some")]
    Many {
        /// The first that is too many.
        name: String,
    },
}

/// The patterns and lists of a configuration, built.
#[derive(Debug, Default)]
pub(super) struct Custom {
    /// National ids.
    national: Vec<NationalId>,
    /// Regular expressions.
    patterns: Vec<(Kind, Regex)>,
    /// Lists of words.
    lists: Vec<(Kind, AhoCorasick)>,
}

impl Custom {
    /// Builds all of a configuration.
    ///
    /// # Errors
    /// [`BadPattern`] names the first that cannot be used.
    pub(super) fn build(config: &RecogniserConfig) -> Result<Self, BadPattern> {
        let names = config.patterns.iter().map(|pattern| &pattern.name);
        if let Some(name) = names.chain(config.deny_lists.iter().map(|list| &list.name)).nth(MAX_CUSTOM) {
            return Err(BadPattern::Many { name: name.clone() });
        }
        Ok(Self {
            national: config.national_ids.clone(),
            patterns: config.patterns.iter().map(compile).collect::<Result<_, _>>()?,
            lists: config.deny_lists.iter().map(collect).collect::<Result<_, _>>()?,
        })
    }

    /// Adds what is found in a folded text.
    pub(super) fn find(&self, text: &str, found: &mut Vec<Found>) {
        for id in &self.national {
            id.find(text, found);
        }
        for (kind, pattern) in &self.patterns {
            let groups = pattern.captures_len() > 1;
            if groups {
                for groups in pattern.captures_iter(text) {
                    let value = groups.get(1).or_else(|| groups.get(0));
                    found.extend(value.map(|v| Found { kind: kind.clone(), start: v.start(), end: v.end() }));
                }
            } else {
                let values = pattern.find_iter(text);
                found.extend(values.map(|v| Found { kind: kind.clone(), start: v.start(), end: v.end() }));
            }
        }
        for (kind, list) in &self.lists {
            let words = list.find_iter(text).filter(|word| is_whole(text, word.start(), word.end()));
            found.extend(words.map(|w| Found { kind: kind.clone(), start: w.start(), end: w.end() }));
        }
    }
}

/// The kind of that name.
fn kind(name: &str) -> Result<Kind, BadPattern> {
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if !(1..=40).contains(&name.len()) || !name.chars().all(fits) {
        return Err(BadPattern::Name { name: name.into() });
    }
    Ok(Kind::Custom(Arc::from(name)))
}

/// Compiles one pattern.
fn compile(pattern: &Pattern) -> Result<(Kind, Regex), BadPattern> {
    let (kind, name) = (kind(&pattern.name)?, || pattern.name.clone());
    if pattern.regex.len() > MAX_PATTERN_BYTES {
        return Err(BadPattern::Long { name: name(), bytes: pattern.regex.len() });
    }
    let regex = RegexBuilder::new(&pattern.regex)
        .size_limit(MAX_COMPILED_BYTES)
        .build()
        .map_err(|source| BadPattern::Syntax { name: name(), source: Box::new(source) })?;
    if regex.is_match("") {
        return Err(BadPattern::Empty { name: name() });
    }
    Ok((kind, regex))
}

/// Builds the automaton of one list.
fn collect(list: &DenyList) -> Result<(Kind, AhoCorasick), BadPattern> {
    let (kind, bad) = (kind(&list.name)?, || BadPattern::Words { name: list.name.clone() });
    let words: Vec<String> =
        list.words.iter().map(|word| super::fold::fold(word.trim()).text.into_owned()).collect();
    if words.is_empty() || words.len() > MAX_WORDS || words.iter().any(String::is_empty) {
        return Err(bad());
    }
    let automaton = AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .match_kind(MatchKind::LeftmostLongest)
        .build(&words)
        .map_err(|_| bad())?;
    Ok((kind, automaton))
}

/// Whether no word goes on at either side.
fn is_whole(text: &str, start: usize, end: usize) -> bool {
    let (before, word, after) = (text.get(..start), text.get(start..end), text.get(end..));
    let edge = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
    let touches = |a: Option<char>, b: Option<char>| edge(a) && edge(b);
    !touches(before.and_then(|t| t.chars().next_back()), word.and_then(|t| t.chars().next()))
        && !touches(word.and_then(|t| t.chars().next_back()), after.and_then(|t| t.chars().next()))
}
