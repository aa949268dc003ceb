//! Words, numbers and signs of a text, and number words.

use super::markers;

/// A word, a number or a sign.
#[derive(Debug)]
pub(super) struct Token {
    /// First character.
    pub(super) start: usize,
    /// One past the last character.
    pub(super) end: usize,
    /// The text in lower case; for a number the suffix of an ordinal, else empty.
    pub(super) word: String,
    /// Value of a number in digits.
    pub(super) number: Option<f64>,
    /// Digits of a number with more than a float keeps apart.
    pub(super) long: Option<String>,
}

/// Digits that a float keeps apart.
const EXACT_DIGITS: usize = 15;
/// Longest citation marker, in characters.
const MAX_MARKER: usize = 60;

/// Tokens in order, without links, citation markers and the numbers of lists.
pub(super) fn tokens(text: &[char]) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut at = 0;
    let mut listed = markers::of_lists(text).into_iter().peekable();
    while let Some(&c) = text.get(at) {
        while listed.next_if(|(start, _)| *start < at).is_some() {}
        let item = listed.peek().filter(|(start, _)| *start == at).map(|(_, end)| *end);
        let skipped = item.or_else(|| marker(text, at)).or_else(|| link(text, at));
        at = if let Some(end) = skipped {
            end
        } else if c.is_whitespace() {
            at + 1
        } else if c.is_ascii_digit() {
            number(text, at, &mut tokens)
        } else {
            word(text, at, &mut tokens)
        };
    }
    tokens
}

/// Characters from `start` as a token without a number.
fn plain(text: &[char], start: usize, end: usize) -> Token {
    let written = text.get(start..end).unwrap_or_default();
    // Nearly every word is ASCII, and there are thousands of them.
    let mut word = String::with_capacity(written.len());
    for c in written {
        match c.is_ascii() {
            true => word.push(c.to_ascii_lowercase()),
            false => word.extend(c.to_lowercase()),
        }
    }
    Token { start, end, word, number: None, long: None }
}

/// End of the run of such characters.
fn run(text: &[char], at: usize, inside: impl Fn(&char) -> bool) -> usize {
    at + text.get(at..).unwrap_or_default().iter().take_while(|c| inside(c)).count()
}

/// Whether a character makes a word with those beside it. Chinese, Japanese and Korean ones do not: numbers stand
/// between them without blanks.
fn in_word(c: &char) -> bool {
    (c.is_alphanumeric() || *c == '_') && *c < '\u{2e80}'
}

/// Whether a digit stands there.
fn is_digit(text: &[char], at: usize) -> bool {
    text.get(at).is_some_and(char::is_ascii_digit)
}

/// End of the citation marker that begins here.
fn marker(text: &[char], at: usize) -> Option<usize> {
    let close = match text.get(at)? {
        '[' => ']',
        '【' => '】',
        _ => return None,
    };
    let inner = text.get(at + 1..text.len().min(at + MAX_MARKER))?;
    let length = inner.iter().position(|c| *c == close)?;
    let spaced = inner.get(..length)?.windows(2).any(|w| w[1] == ' ' && w[0] != ',');
    (!spaced).then_some(at + length + 2)
}

/// End of the link that begins here.
fn link(text: &[char], at: usize) -> Option<usize> {
    let stands = |word: &str| word.chars().enumerate().all(|(i, w)| text.get(at + i) == Some(&w));
    (stands("http://") || stands("https://") || stands("www.")).then(|| run(text, at, |c| !c.is_whitespace()))
}

/// Where the parts of the dotted date that begins here end: `27.11.2099`.
fn dotted_date(text: &[char], at: usize) -> Option<[usize; 3]> {
    let part = |at: usize, most: usize| {
        let end = run(text, at, char::is_ascii_digit);
        (1..=most).contains(&(end - at)).then_some(end)
    };
    let dot = |at: usize| (text.get(at) == Some(&'.')).then_some(at + 1);
    let day = part(at, 2)?;
    let month = part(dot(day)?, 2)?;
    let year = part(dot(month)?, 4).filter(|end| end - month == 5)?;
    let goes_on = text.get(year) == Some(&'.') && is_digit(text, year + 1);
    (!goes_on && !text.get(year).is_some_and(|c| c.is_alphanumeric())).then_some([day, month, year])
}

/// Reads a number, or an identifier that begins with a digit. Returns its end.
fn number(text: &[char], start: usize, tokens: &mut Vec<Token>) -> usize {
    if let Some([day, month, year]) = dotted_date(text, start) {
        for (from, to) in [(start, day), (day + 1, month), (month + 1, year)] {
            tokens.push(digits(text, from, to));
            tokens.push(plain(text, to, to + usize::from(to < year)));
        }
        tokens.pop();
        return year;
    }
    let mut end = run(text, start, char::is_ascii_digit);
    while text.get(end) == Some(&',') && (1..4).all(|i| is_digit(text, end + i)) && !is_digit(text, end + 4) {
        end += 4;
    }
    if text.get(end) == Some(&'.') && is_digit(text, end + 1) {
        end = run(text, end + 1, char::is_ascii_digit);
    }
    let letters = run(text, end, |c| c.is_alphabetic() && in_word(c));
    let version = text.get(end) == Some(&'.') && is_digit(text, end + 1);
    if version || is_digit(text, letters) && letters > end || text.get(letters) == Some(&'_') {
        let end = run(text, start, |c| in_word(c) || *c == '.');
        tokens.push(plain(text, start, end));
        return end;
    }
    let mut token = digits(text, start, end);
    let suffix: String = text.get(end..letters).unwrap_or_default().iter().take(3).collect();
    if matches!(suffix.as_str(), "st" | "nd" | "rd" | "th") {
        token.end = letters;
        token.word = suffix;
    }
    end = token.end;
    tokens.push(token);
    end
}

/// Digits from `start` as a token.
fn digits(text: &[char], start: usize, end: usize) -> Token {
    let written: String = text.get(start..end).unwrap_or_default().iter().filter(|c| **c != ',').collect();
    let long = (written.len() > EXACT_DIGITS).then(|| written.clone());
    Token { start, end, word: String::new(), number: written.parse().ok(), long }
}

/// End of the "a.m." or "p.m." that begins here.
fn half_of_day(text: &[char], at: usize) -> Option<usize> {
    let lower = |i: usize| text.get(at + i).map(char::to_ascii_lowercase);
    let half = matches!(lower(0), Some('a' | 'p')) && lower(1) == Some('.') && lower(2) == Some('m');
    let goes_on = text.get(at + 3).is_some_and(|c| c.is_alphanumeric());
    (half && !goes_on).then(|| at + 3 + usize::from(lower(3) == Some('.')))
}

/// Reads a word or a sign; digits within or behind a hyphen belong to the word, and so do the parts of a version:
/// "H2O", "gpt-4", "v2.3.1". Returns its end.
fn word(text: &[char], start: usize, tokens: &mut Vec<Token>) -> usize {
    if let Some(end) = half_of_day(text, start) {
        let mut token = plain(text, start, end);
        token.word.retain(|c| c != '.');
        tokens.push(token);
        return end;
    }
    let mut end = run(text, start, in_word).max(start + 1);
    if is_digit(text, end - 1) && text.get(end) == Some(&'.') && is_digit(text, end + 1) {
        end = run(text, end, |c| in_word(c) || *c == '.');
    }
    let half = matches!(text.get(start..end), Some(['a' | 'A' | 'p' | 'P', 'm' | 'M']));
    if text.get(start).is_some_and(in_word) && !half {
        while text.get(end) == Some(&'-') && is_digit(text, end + 1) {
            end = run(text, end + 1, |c| in_word(c) || *c == '.');
        }
    }
    tokens.push(plain(text, start, end));
    end
}

/// Number words below twenty, by value.
const SMALL: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];
/// Tens from twenty.
const TENS: [&str; 8] = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];

/// Value of a number word below a hundred.
fn small(word: &str) -> Option<u32> {
    let index = |words: &[&str]| words.iter().position(|w| *w == word).and_then(|i| u32::try_from(i).ok());
    index(&SMALL).or_else(|| index(&TENS).map(|i| (i + 2) * 10))
}

/// Ordinals below twenty from "first", then "twentieth" and "thirtieth"; others are put together.
const ORDINALS: [&str; 21] = [
    "first",
    "second",
    "third",
    "fourth",
    "fifth",
    "sixth",
    "seventh",
    "eighth",
    "ninth",
    "tenth",
    "eleventh",
    "twelfth",
    "thirteenth",
    "fourteenth",
    "fifteenth",
    "sixteenth",
    "seventeenth",
    "eighteenth",
    "nineteenth",
    "twentieth",
    "thirtieth",
];

/// Whether a token is, or ends, an ordinal: "third", "21st".
pub(super) fn is_ordinal(token: &Token) -> bool {
    ordinal(&token.word).is_some() || (token.number.is_some() && !token.word.is_empty())
}

/// Value of an ordinal of one word.
fn ordinal(word: &str) -> Option<u32> {
    let place = ORDINALS.iter().position(|w| *w == word).and_then(|i| u32::try_from(i + 1).ok())?;
    Some(if place == 21 { 30 } else { place })
}

/// What a word multiplies the number before it by.
pub(super) fn scale(word: &str) -> Option<f64> {
    Some(match word {
        "hundred" => 1e2,
        "thousand" => 1e3,
        "million" | "mn" => 1e6,
        "billion" | "bn" => 1e9,
        "trillion" => 1e12,
        _ => return None,
    })
}

/// The same for `k`, `m` and `b` right behind the digits.
pub(super) fn letter_scale(number: Option<&Token>, behind: Option<&Token>) -> Option<f64> {
    let (number, behind) = (number?, behind?);
    match behind.word.as_str() {
        _ if number.end != behind.start => None,
        "k" => Some(1e3),
        "m" => Some(1e6),
        "b" => Some(1e9),
        _ => None,
    }
}

/// The number that these tokens spell at their beginning, and how many they are.
pub(super) fn spelled(tokens: &[Token]) -> Option<(usize, f64)> {
    let word = |at: usize| tokens.get(at).map_or("", |t| t.word.as_str());
    if let Some(value) = ordinal(word(0)) {
        return Some((1, f64::from(value)));
    }
    let mut current = small(word(0))?;
    // "thirty-second" is a length of time as often as a day.
    if let ("-", Some(unit)) =
        (word(1), ordinal(word(2)).filter(|unit| current >= 20 && matches!(unit, 1 | 3..=9)))
    {
        return Some((3, f64::from(current + unit)));
    }
    let below = |value: u32| if value >= 20 { 10 } else { 0 };
    let (mut room, mut used, mut total, mut last_scale) = (below(current), 1, 0.0, f64::INFINITY);
    loop {
        let joined = usize::from(matches!(word(used), "-" | "and") && small(word(used + 1)).is_some());
        let next = word(used + joined);
        if let Some(value) = small(next).filter(|v| *v > 0 && *v < room) {
            current += value;
            room = below(value);
            used += joined + 1;
        } else if next == "hundred" && (1..100).contains(&current) {
            current *= 100;
            room = 100;
            used += 1;
        } else if let Some(scale) = scale(next).filter(|s| *s > 100.0 && *s < last_scale) {
            total += f64::from(current) * scale;
            (current, room, last_scale) = (0, 100, scale);
            used += 1;
        } else {
            return Some((used, total + f64::from(current)));
        }
    }
}
