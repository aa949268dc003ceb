//! Whether a text is in a language that the model reads.
//!
//! Most scripts tell by themselves. Among languages of one script whatlang decides, which is rarely sure of one
//! sentence: where English is listed, its function words have a say too. `jamie vardy scored an injury-time winner`
//! has none and passes for Danish, so that what is doubtful is no doubt.

use unicode_segmentation::UnicodeSegmentation;
use whatlang::{Lang, Script, detect, detect_script};

use crate::evaluators::nli::function_words::is_function_word;

/// Shortest text whose language is asked for, in characters.
const MIN_CHARS: usize = 40;
/// Most characters of a text that are read: more would not change the language.
const MAX_CHARS: usize = 600;
/// whatlang's confidence from which on a text without any English function word is in another language.
const SURE: f64 = 0.45;
/// The same, for any other text: what whatlang itself calls reliable.
const RELIABLE: f64 = 0.9;
/// Share of English function words from which on a text is English.
const ENGLISH: f64 = 0.15;
/// Fewest letters of another script that are more than a symbol.
const MIN_LETTERS: usize = 2;
/// English function words that other languages in Latin script write too.
#[rustfmt::skip]
const ELSEWHERE: &[&str] = &[
    "a", "am", "an", "are", "as", "at", "but", "by", "can", "do", "for", "had", "has", "have", "he", "her", "i", "in",
    "is", "may", "me", "my", "no", "of", "on", "or", "over", "s", "so", "t", "to", "up", "us", "was", "we", "will",
    "also",
];

/// What a text says about its language.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// It is one that is listed.
    Listed,
    /// It is another.
    Foreign,
    /// It cannot be told.
    Unsure,
}

/// Joins the beginnings of texts to one that is long enough to tell its language.
pub(super) fn joined<'a>(texts: impl Iterator<Item = &'a str>) -> String {
    let mut whole = String::new();
    let mut room = MAX_CHARS;
    for text in texts {
        whole.extend(text.chars().take(room));
        whole.push(' ');
        room = room.saturating_sub(text.chars().take(room).count());
        if room == 0 {
            break;
        }
    }
    whole
}

/// Tells whether a text is in one of these languages.
pub(super) fn reading(text: &str, languages: &[Lang]) -> Reading {
    let end = text.char_indices().nth(MAX_CHARS).map_or(text.len(), |(end, _)| end);
    let text = &text[..end];
    let Some(script) = detect_script(text) else { return Reading::Unsure };
    let written: &[Lang] = match script {
        // Japanese is written in it too.
        Script::Mandarin => &[Lang::Cmn, Lang::Jpn],
        _ => script.langs(),
    };
    if script != Script::Latin && !written.iter().any(|lang| languages.contains(lang)) {
        let letters = text.chars().filter(|c| c.is_alphabetic() && !c.is_ascii()).take(MIN_LETTERS).count();
        return if letters == MIN_LETTERS { Reading::Foreign } else { Reading::Unsure };
    }
    if let [_] = written {
        return Reading::Listed;
    }
    let english = (languages.contains(&Lang::Eng) && script == Script::Latin).then(|| english_share(text));
    if english.is_some_and(|share| share >= ENGLISH) {
        return Reading::Listed;
    }
    if text.chars().take(MIN_CHARS).count() < MIN_CHARS {
        return Reading::Unsure;
    }
    let least = if english == Some(0.0) { SURE } else { RELIABLE };
    match detect(text) {
        Some(found) if languages.contains(&found.lang()) => Reading::Listed,
        Some(found) if found.confidence() > least => Reading::Foreign,
        _ => Reading::Unsure,
    }
}

/// Gives the share of the words of a text that only English has, and only for grammar.
fn english_share(text: &str) -> f64 {
    let (mut english, mut all) = (0_usize, 0_usize);
    for word in text.unicode_words() {
        all += 1;
        english += usize::from(
            is_function_word(word) && !ELSEWHERE.iter().any(|other| word.eq_ignore_ascii_case(other)),
        );
    }
    english as f64 / all.max(1) as f64
}
