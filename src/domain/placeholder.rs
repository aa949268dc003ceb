//! What stands in a text in place of a value that was redacted: `<CARD>` for the first card number of a call, `<CARD_2>`
//! for the second, the same wherever the same number stood; `<CARD:a123456789abcdef>` where it is a pseudonym. A
//! card or security number between these signs is none: a code begins with a letter, and a number has six digits at most.

use std::ops::Range;

/// Digits of a pseudonym.
pub const PSEUDONYM_DIGITS: usize = 16;
/// Most digits of a number.
const NUMBER_DIGITS: usize = 6;

/// A placeholder in a text. Offsets count Unicode scalar values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placeholder<'a> {
    /// First character.
    pub start: usize,
    /// One past the last.
    pub end: usize,
    /// As it stands; two are the same value where these are equal.
    pub text: &'a str,
}

impl Placeholder<'_> {
    /// Which of its call's values it stands for; none of a pseudonym.
    pub fn number(&self) -> Option<usize> {
        let inner = self.text.strip_prefix('<')?.strip_suffix('>')?;
        let digits = inner.rsplit_once('_').map(|(_, digits)| digits).and_then(|digits| digits.parse().ok());
        if inner.contains(':') { None } else { Some(digits.unwrap_or(1)) }
    }
}

/// The placeholder of a call's `number`th value of a kind, from 1.
pub fn numbered(kind: &str, number: usize) -> String {
    let kind = kind.to_uppercase();
    if number == 1 { format!("<{kind}>") } else { format!("<{kind}_{number}>") }
}

/// The placeholder of a pseudonym, [`PSEUDONYM_DIGITS`] small hex digits of which the first is a letter.
pub fn pseudonym(kind: &str, code: &str) -> String {
    format!("<{}:{code}>", kind.to_uppercase())
}

/// The placeholders of one kind in a text, ascending. Whoever writes `<CARD>` by hand writes a placeholder.
pub fn find<'a>(text: &'a str, kind: &str) -> Vec<Placeholder<'a>> {
    let (mut found, mut bytes, mut characters) = (Vec::new(), 0, 0);
    for place in places(text, kind) {
        characters += text[bytes..place.start].chars().count();
        bytes = place.start;
        // A placeholder is ASCII.
        let (end, text) = (characters + place.len(), &text[place]);
        found.push(Placeholder { start: characters, end, text });
    }
    found
}

/// A text of the same length with `|` for each byte of the placeholders of these kinds, which so say nothing.
pub fn blank<'a>(text: &str, kinds: impl Iterator<Item = &'a str>) -> String {
    let mut bytes = text.as_bytes().to_vec();
    for place in kinds.flat_map(|kind| places(text, kind)) {
        bytes[place].fill(b'|');
    }
    // A placeholder is ASCII, and so is what stands there now; of anything else all is to be read.
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

/// Bytes of the placeholders of one kind, ascending.
pub fn places(text: &str, kind: &str) -> Vec<Range<usize>> {
    let opening = format!("<{}", kind.to_uppercase());
    let ended = |(at, _): (usize, &str)| {
        let rest = at + opening.len();
        text.get(rest..).and_then(ending).map(|end| at..rest + end)
    };
    text.match_indices(&opening).filter_map(ended).collect()
}

/// Length of what ends a placeholder behind its kind: a number or a pseudonym, where it has one, and `>`.
fn ending(rest: &str) -> Option<usize> {
    let digits = |from: usize, most: usize, is: fn(&u8) -> bool| {
        rest.as_bytes().iter().skip(from).take(most + 1).take_while(|byte| is(byte)).count()
    };
    let length = match rest.as_bytes().first()? {
        b'_' => {
            1 + Some(digits(1, NUMBER_DIGITS, u8::is_ascii_digit))
                .filter(|n| (1..=NUMBER_DIGITS).contains(n))?
        }
        b':' => {
            rest.as_bytes().get(1).filter(|first| first.is_ascii_alphabetic())?;
            1 + Some(digits(1, PSEUDONYM_DIGITS, u8::is_ascii_hexdigit)).filter(|n| *n == PSEUDONYM_DIGITS)?
        }
        _ => 0,
    };
    (rest.as_bytes().get(length) == Some(&b'>')).then_some(length + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts<'a>(text: &'a str, kind: &str) -> Vec<&'a str> {
        find(text, kind).into_iter().map(|placeholder| placeholder.text).collect()
    }

    #[test]
    fn what_is_written_is_found() {
        let text = format!(
            "é {} and {}, {}",
            numbered("card", 1),
            numbered("card", 12),
            pseudonym("card", "a123456789abcdef")
        );
        assert_eq!(texts(&text, "card"), ["<CARD>", "<CARD_12>", "<CARD:a123456789abcdef>"]);
        assert_eq!(find(&text, "card")[0], Placeholder { start: 2, end: 8, text: "<CARD>" });
        assert_eq!(text.chars().skip(find(&text, "card")[1].start).take(9).collect::<String>(), "<CARD_12>");
    }

    #[test]
    fn other_kinds_and_other_brackets_are_none() {
        for text in [
            "<CARDS>",
            "<CARD",
            "<CARD_>",
            "<CARD_1x>",
            "<CARD:01>",
            "<card>",
            "<CARD_1234567>",
            "<CARD:4111111111111111>",
            "<CARD ",
        ] {
            assert_eq!(texts(text, "card"), [""; 0], "{text}");
        }
        assert_eq!(texts("<URL_SECRET>", "url"), [""; 0]);
        assert_eq!(texts("<<CARD>>", "card"), ["<CARD>"]);
    }
}
