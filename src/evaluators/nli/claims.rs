//! Splits an answer into claims: the sentences, list items and table rows that can be true or false.
//!
//! Where a rule below is in doubt it keeps the text: a claim too many costs a little time, a claim dropped
//! hides an error.

use std::{ops::Range, sync::LazyLock};

use regex::Regex;

/// Most claims of one answer; the rest is counted, never silently lost.
pub const MAX_CLAIMS: usize = 200;
/// Longest line that can be a greeting or a lead-in, in bytes.
const MAX_SMALL_TALK_BYTES: usize = 160;

/// Words that end with a point within a sentence.
const ABBREVIATIONS: [&str; 45] = [
    "mr", "mrs", "ms", "dr", "prof", "sr", "jr", "st", "vs", "etc", "e.g", "i.e", "cf", "no", "nos", "p", "pp", "vol",
    "fig", "eq", "sec", "ch", "art", "inc", "ltd", "co", "corp", "u.s", "u.k", "u.n", "a.m", "p.m", "approx", "ca",
    "dept", "est", "gen", "gov", "sen", "rep", "rev", "hon", "al", "z.b", "bzw",
];

/// Greetings, thanks, offers and lead-ins that say nothing about the world.
static SMALL_TALK: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"(?xi)^\W*(?:
          (?:hi|hello|hey|dear\s\w+|good\s(?:morning|afternoon|evening)|greetings)\b[^.!]{0,40}$
        | (?:thanks|thank\syou|you(?:'|’|\s'\s)?re\swelcome)\b.{0,80}$
        | (?:i\s)?hope\s(?:this|that)\shelps\b.{0,40}$
        | (?:please\s)?(?:let\s(?:me|us)\sknow|feel\sfree\sto)\b.{0,120}$
        | (?:sure|certainly|of\scourse|absolutely|great\squestion|gladly)\W*$
        | (?:sure|certainly|of\scourse|absolutely)[\s,!.]+here(?:'s|’s|\sis|\sare)\b.{0,80}:\s*$
        | here(?:'s|’s|\sis|\sare)\b.{0,80}:\s*$
        | (?:best|kind|warm)\s(?:regards|wishes)\W*$
        )",
    )
    .ok()
});

/// Sentences that only decline to answer.
static REFUSAL: LazyLock<Option<Regex>> = LazyLock::new(|| {
    Regex::new(
        r"(?xi)^\W*(?:(?:i(?:'|’)?m|i\sam)\s(?:very\s)?sorry\b|sorry\b|i\sapologi[sz]e\b|unfortunately\b)?[\s,.;]*
          (?:but\s)?(?:
            i\s(?:can(?:'|’)?t|cannot|can\snot|am\s(?:not\sable|unable)\sto|won(?:'|’)t)\s
              (?:help|assist|answer|provide|share|discuss|do\sthat|comply)\b.{0,120}
          | i\s(?:do\snot|don(?:'|’)?t)\s(?:know|have\s(?:enough|that|this|any|the)\b.{0,40}information)\b.{0,100}
          | (?:i(?:'|’)?m|i\sam)\s(?:not\sable|unable)\sto\s(?:help|assist|answer|provide|find)\b.{0,120}
          )?\W*$",
    )
    .ok()
});

/// One claim, as it stands in the answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimSpan {
    /// Unicode scalar values of the answer, end exclusive.
    pub chars: Range<usize>,
    /// Bytes of the answer, end exclusive.
    pub bytes: Range<usize>,
}

/// The claims of an answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Claims {
    /// In the answer's order, disjoint.
    pub spans: Vec<ClaimSpan>,
    /// Claims beyond [`MAX_CLAIMS`].
    pub dropped: usize,
}

/// Splits an answer into claims.
pub fn split(answer: &str) -> Claims {
    let mut ranges = Vec::new();
    let mut in_code = false;
    for line in lines(answer) {
        let text = answer[line.clone()].trim();
        if text.starts_with("```") || text.starts_with("~~~") {
            in_code = !in_code;
        } else if !in_code {
            ranges.extend(claims_of_line(answer, line));
        }
    }
    let dropped = ranges.len().saturating_sub(MAX_CLAIMS);
    ranges.truncate(MAX_CLAIMS);
    Claims { spans: with_chars(answer, ranges), dropped }
}

/// Sentences of a text, as byte ranges without surrounding white space.
pub fn sentences(text: &str) -> Vec<Range<usize>> {
    lines(text).into_iter().flat_map(|line| sentences_of_line(text, line)).collect()
}

/// Claims of one line: nothing for headings and table rules, the row for tables, else its sentences.
fn claims_of_line(answer: &str, line: Range<usize>) -> Vec<Range<usize>> {
    let line = trim(answer, line);
    let text = &answer[line.clone()];
    if text.is_empty() || text.starts_with('#') || is_lead_in(text) {
        return Vec::new();
    }
    if text.starts_with('|') && text.ends_with('|') && text.len() > 1 {
        let rule = text.chars().all(|c| matches!(c, '|' | '-' | ':' | ' '));
        let header = answer[line.end..].trim_start().starts_with("|-")
            || answer[line.end..].trim_start().starts_with("| -")
            || answer[line.end..].trim_start().starts_with("|:");
        return if rule || header { Vec::new() } else { vec![line] };
    }
    let body = line.start + list_marker(text)..line.end;
    sentences_of_line(answer, body).into_iter().filter(|range| is_claim(&answer[range.clone()])).collect()
}

/// A short line that only announces what follows.
fn is_lead_in(text: &str) -> bool {
    text.ends_with(':') && text.len() <= MAX_SMALL_TALK_BYTES && !text.contains(". ")
}

/// Bytes of a list marker at the start of a line.
fn list_marker(text: &str) -> usize {
    let first = text.split_whitespace().next().unwrap_or_default();
    let bullet = matches!(first, "-" | "*" | "•" | "–" | "+");
    let number = first.strip_suffix(['.', ')']).is_some_and(|stem| {
        !stem.is_empty() && (stem.chars().all(|c| c.is_ascii_digit()) && stem.len() <= 3)
            || stem.len() == 1 && first.ends_with(')') && stem.chars().all(|c| c.is_ascii_alphabetic())
    });
    if !(bullet || number) || first.len() == text.len() {
        return 0;
    }
    first.len() + text[first.len()..].len() - text[first.len()..].trim_start().len()
}

/// Whether a sentence can be true or false.
fn is_claim(text: &str) -> bool {
    if !text.chars().any(char::is_alphanumeric) {
        return false;
    }
    let end = text.trim_end_matches(['"', '\'', '”', '’', ')', ' ', '*', '_']);
    if end.ends_with(['?', '？']) {
        return false;
    }
    let matches = |pattern: &Option<Regex>| {
        text.len() <= MAX_SMALL_TALK_BYTES * 2 && pattern.as_ref().is_some_and(|pattern| pattern.is_match(text))
    };
    !matches(&SMALL_TALK) && !matches(&REFUSAL)
}

/// Lines without their ends.
fn lines(text: &str) -> Vec<Range<usize>> {
    let mut start = 0;
    text.split('\n')
        .map(|line| {
            let range = start..start + line.len();
            start += line.len() + 1;
            range
        })
        .collect()
}

/// Sentences of one line.
fn sentences_of_line(text: &str, line: Range<usize>) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut start = line.start;
    let mut chars = text[line.clone()].char_indices().map(|(at, c)| (line.start + at, c)).peekable();
    while let Some((at, c)) = chars.next() {
        if !matches!(c, '.' | '!' | '?' | '。' | '！' | '？' | '…') {
            continue;
        }
        let mut end = at + c.len_utf8();
        // Everything that closes the sentence belongs to it: "…", !?, quotes, brackets.
        while let Some(&(next, closing)) = chars.peek() {
            if !matches!(closing, '.' | '!' | '?' | '"' | '\'' | '”' | '’' | ')' | ']' | '»' | '。' | '！' | '？') {
                break;
            }
            end = next + closing.len_utf8();
            chars.next();
        }
        let cjk = matches!(c, '。' | '！' | '？');
        if cjk || (c == '.' && ends_at_point(text, start, at, end, line.end)) || (c != '.' && ends(text, end, line.end)) {
            found.push(trim(text, start..end));
            start = end;
        }
    }
    found.push(trim(text, start..line.end));
    found.retain(|range| !range.is_empty());
    found
}

/// Whether white space or the line's end follows.
fn ends(text: &str, end: usize, line_end: usize) -> bool {
    end >= line_end || text[end..line_end].starts_with(char::is_whitespace)
}

/// Whether a point ends its sentence: not within numbers, addresses, abbreviations or initials.
fn ends_at_point(text: &str, start: usize, at: usize, end: usize, line_end: usize) -> bool {
    if !ends(text, end, line_end) {
        return false;
    }
    // Bounded look back: only the last word matters, however long the line is.
    let from = at.saturating_sub(24).max(start);
    let from = (from..=at).find(|&from| text.is_char_boundary(from)).unwrap_or(at);
    let before = &text[from..at];
    let word = before.rsplit(|c: char| c.is_whitespace() || c == '(' || c == '[').next().unwrap_or_default();
    if word.is_empty() {
        // A point that stands alone ends the sentence: tokenised text.
        return true;
    }
    let after = text[end..line_end].trim_start();
    let Some(next) = after.chars().next() else { return true };
    let lower = word.to_lowercase();
    let number = matches!(lower.as_str(), "no" | "nos" | "p" | "pp" | "vol" | "fig" | "eq" | "sec" | "ch" | "art");
    if number {
        return !next.is_ascii_digit();
    }
    let months = next.is_lowercase() || matches!(lower.as_str(), "mr" | "mrs" | "ms" | "dr" | "prof" | "st" | "gen" | "gov" | "sen" | "rep" | "rev" | "hon" | "vs" | "e.g" | "i.e");
    if ABBREVIATIONS.contains(&lower.as_str()) {
        return !months;
    }
    let initial = word.chars().count() == 1 && word.chars().all(char::is_uppercase);
    !(initial && next.is_uppercase() && word != "I")
}

/// A range without surrounding white space.
fn trim(text: &str, range: Range<usize>) -> Range<usize> {
    let slice = &text[range.clone()];
    let start = range.start + slice.len() - slice.trim_start().len();
    start..(start + slice.trim().len())
}

/// Adds character offsets to ordered byte ranges in one pass.
fn with_chars(text: &str, ranges: Vec<Range<usize>>) -> Vec<ClaimSpan> {
    let (mut byte, mut count) = (0, 0);
    let mut advance = |to: usize| {
        count += text[byte..to].chars().count();
        byte = to;
        count
    };
    ranges
        .into_iter()
        .map(|bytes| {
            let start = advance(bytes.start);
            ClaimSpan { chars: start..advance(bytes.end), bytes }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn claims(answer: &str) -> Vec<&str> {
        split(answer).spans.iter().map(|span| &answer[span.bytes.clone()]).collect()
    }

    #[test]
    fn tricky_sentences_survive() {
        let table: Vec<(&str, Vec<&str>)> = vec![
            ("Dr. Smith paid 3.5 million. He left at 5 p.m. on Monday.", vec!["Dr. Smith paid 3.5 million.", "He left at 5 p.m. on Monday."]),
            ("See https://a.example/x.y?z=1. It works, e.g. on v1.2.3 too.", vec!["See https://a.example/x.y?z=1.", "It works, e.g. on v1.2.3 too."]),
            ("J. K. Rowling wrote it. No. 5 is alive.", vec!["J. K. Rowling wrote it.", "No. 5 is alive."]),
            ("caffeine is the drug . it ' s popular .", vec!["caffeine is the drug .", "it ' s popular ."]),
            ("He said \"Go now.\" Then he left.", vec!["He said \"Go now.\"", "Then he left."]),
            ("Was it so? Yes, in 1999.", vec!["Yes, in 1999."]),
            ("Hello!\nSure, here is the list:\n- Paris is big.\n- Rome is old", vec!["Paris is big.", "Rome is old"]),
            ("1. First thing\n2) Second thing", vec!["First thing", "Second thing"]),
            ("| a | b |\n|---|---|\n| x | 1 |", vec!["| x | 1 |"]),
            ("# Title\nText.\n```\nlet x = 1;\n```", vec!["Text."]),
            ("I'm sorry, but I can't help with that.", vec![]),
            ("I don't know.", vec![]),
            ("Paris", vec!["Paris"]),
            ("東京は首都です。人口は多い。", vec!["東京は首都です。", "人口は多い。"]),
            ("It costs 30 days [chk_1]. Let me know if you need more.", vec!["It costs 30 days [chk_1]."]),
            ("", vec![]),
        ];
        for (answer, expected) in table {
            assert_eq!(claims(answer), expected, "{answer}");
        }
    }

    #[test]
    fn hostile_input_takes_linear_time() {
        for pattern in [".", "\"", "\n", "a. ", "- ", "|", "?!", "é."] {
            let answer = pattern.repeat((1 << 20) / pattern.len());
            drop(split(&answer));
        }
        let many = "It is so. ".repeat(500);
        assert_eq!((split(&many).spans.len(), split(&many).dropped), (MAX_CLAIMS, 300));
    }

    proptest! {
        #[test]
        fn offsets_always_slice_the_answer(answer in "(\\PC|\n|[.!?] |- ){0,200}") {
            let chars: Vec<char> = answer.chars().collect();
            let mut last = 0;
            for span in split(&answer).spans {
                let text = &answer[span.bytes.clone()];
                let sliced: String = chars[span.chars.clone()].iter().collect();
                prop_assert_eq!(text, sliced);
                prop_assert!(span.bytes.start >= last && !span.bytes.is_empty());
                last = span.bytes.end;
            }
        }
    }
}
