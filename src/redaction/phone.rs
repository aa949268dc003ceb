//! Telephone numbers: international ones (E.164) by their country code, national ones by their shape and the words near.
//!
//! The crate `phonenumber` is not used. Measured on the corpus with its release 0.3: 27 µs to check one international
//! number, 119 µs for a national one in seven countries, which is half a megabyte a second where numbers are dense;
//! 17 of 85 labelled international numbers are not valid to it, as it knows the ranges that carriers use and not the
//! new or mistyped ones, which are personal too; and 11 of 13 order numbers and dates are valid in one of the seven.

use super::context::{Context, Topic};
use super::text::Text;

/// Bytes before a number in which words are looked for.
const BEFORE: usize = 64;
/// Bytes after a number in which words are looked for.
const AFTER: usize = 48;
/// Most bytes of a number with its separators.
const LONGEST: usize = 32;
/// Most digits (E.164).
const MAX_DIGITS: usize = 15;
/// Most groups of digits.
const MAX_GROUPS: usize = 8;

/// A run of digits with separators, as read from a text.
struct Shape {
    /// One past its last digit.
    end: usize,
    /// Digits in each group.
    groups: [usize; MAX_GROUPS],
    /// How many groups there are.
    count: usize,
    /// What stands between the groups, where it is always the same.
    separator: Option<u8>,
    /// Its first two digits.
    head: (u32, u32),
}

/// Beginning and end of the telephone number with its first digit here.
pub(super) fn phone(text: &Text, at: usize, context: &Context) -> Option<(usize, usize)> {
    // What goes on a number or an amount ends here, before its shape is read.
    if matches!(text.back(at, 1), b'-' | b'.' | b'$' | b'#' | b'*') {
        return None;
    }
    let shape = Shape::read(text, at)?;
    let start = start(text, at, shape.end)?;
    let plus = text.back(at, 1) == b'+';
    let brackets = |bracket| text.part(start, shape.end).iter().filter(|b| **b == bracket).count();
    if !text.ends(shape.end) || brackets(b'(') != brackets(b')') {
        return None;
    }
    let digits = shape.digits();
    if plus {
        let fits = (8..=MAX_DIGITS).contains(&digits) && is_country(text, at);
        return fits.then_some((start, shape.end));
    }
    if !(7..=MAX_DIGITS).contains(&digits) || shape.is_date(text, at) || shape.is_decimal() {
        return None;
    }
    let others = [Topic::Record, Topic::Version, Topic::Ssn];
    let before = context.before(text, start, BEFORE);
    let named = before.says(Topic::Phone, &others);
    let denied = others.iter().any(|topic| before.has(*topic));
    let known = shape.is_national(start < at);
    let after = || context.after(text, shape.end, AFTER).has(Topic::Phone);
    (named || (!denied && (known || ((9..=13).contains(&digits) && after())))).then_some((start, shape.end))
}

/// Where a number with its first digit here begins: at a plus sign before it, or a bracket that it closes.
fn start(text: &Text, at: usize, end: usize) -> Option<usize> {
    let mut start = at;
    if text.back(start, 1) == b'+' {
        start -= 1;
    }
    if text.back(start, 1) == b'(' && text.part(at, end).contains(&b')') {
        start -= 1;
    }
    let before = text.back(start, 1);
    let continued = matches!(before, b' ' | b'/') && text.back(start, 2).is_ascii_digit() && start == at;
    (!continued && !matches!(before, b'+' | b'-') && text.begins(start)).then_some(start)
}

impl Shape {
    /// Reads digits and single separators.
    fn read(text: &Text, at: usize) -> Option<Self> {
        let mut shape = Self {
            end: at,
            groups: [0; MAX_GROUPS],
            count: 0,
            separator: None,
            head: (text.digit(at)?, text.digit(at + 1).unwrap_or(10)),
        };
        let mut place = at;
        while place < at + LONGEST {
            let end = text.run(place, MAX_DIGITS + 1, |b| b.is_ascii_digit());
            let digits = shape.digits() + (end - place);
            if shape.count > 0 && digits > MAX_DIGITS {
                break;
            }
            *shape.groups.get_mut(shape.count)? = end - place;
            shape.count += 1;
            shape.end = end;
            let gap = gap(text, end);
            if gap == 0 || shape.count == MAX_GROUPS {
                break;
            }
            let separator = text.at(end);
            shape.separator = (shape.count == 1 || shape.separator == Some(separator)).then_some(separator);
            place = end + gap;
        }
        Some(shape)
    }

    /// Digits in all groups.
    fn digits(&self) -> usize {
        self.groups.iter().sum()
    }

    /// The groups.
    fn groups(&self) -> &[usize] {
        self.groups.get(..self.count).unwrap_or_default()
    }

    /// Whether it is a date: a year with month and day.
    fn is_date(&self, text: &Text, at: usize) -> bool {
        let year = |place: usize| matches!((text.at(place), text.at(place + 1)), (b'1', b'9') | (b'2', b'0'));
        match self.groups() {
            [4, 1..=2, 1..=2, ..] => year(at),
            [1..=2, 1..=2, 4, ..] => year(self.end - 4),
            [4, 4] => year(at) && year(self.end - 4),
            _ => false,
        }
    }

    /// Whether it is a decimal fraction or a number with groups of thousands.
    fn is_decimal(&self) -> bool {
        match self.groups() {
            [_, _] => self.separator == Some(b'.'),
            [1..=3, rest @ ..] => self.separator == Some(b'.') && rest.iter().all(|group| *group == 3),
            _ => false,
        }
    }

    /// Whether it has the shape of a country's own numbers, one that other numbers do not have.
    fn is_national(&self, bracketed: bool) -> bool {
        let american = |area: &[usize]| self.head.0 >= 2 && area == [3, 3, 4] && self.separator.is_some();
        match self.groups() {
            // 0049 30 1234567
            [_, _, ..] if self.head == (0, 0) => self.digits() >= 11,
            // (212) 555-0178
            [3, 3, 4] if bracketed => self.head.0 >= 2,
            [1, rest @ ..] if self.head.0 == 1 => rest == [3, 3, 4],
            // 06 39 98 95 56
            [2, 2, 2, 2, 2] => self.head.0 == 0 && self.separator.is_some(),
            // 090-9077-8602
            [3, 4, 4] => self.head.0 == 0 && matches!(self.head.1, 5 | 7..=9),
            // 07700 900663
            [5, 6] => self.head == (0, 7),
            // (030) 23125-149, (11) 96948-4262
            [2..=5, ..] if bracketed => (9..=12).contains(&self.digits()),
            groups => american(groups),
        }
    }
}

/// Bytes between two groups of digits: one separator, a bracket with a blank, `(0)` within a number.
fn gap(text: &Text, at: usize) -> usize {
    let length = text.run(at, 3, |b| matches!(b, b' ' | b'-' | b'.' | b'(' | b')' | b'/')) - at;
    let part = text.part(at, at + length);
    let shaped = matches!(
        part,
        [_] | [b')' | b' ', b'(' | b' ' | b'-'] | [b')', b' ', b'('] | [b' ', b'-' | b'/', b' ']
    );
    if shaped && text.digit(at + length).is_some() { length } else { 0 }
}

/// Whether an assigned country code (ITU-T E.164) begins here.
fn is_country(text: &Text, at: usize) -> bool {
    let (Some(first), second) = (text.digit(at), text.digit(at + 1).unwrap_or(10)) else { return false };
    match (first, second) {
        (0, _) => false,
        (2, 1) => matches!(text.digit(at + 2), Some(1..=3 | 6 | 8)),
        (2, 8) => false,
        (8, 3 | 9) => false,
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is recognised, trying each digit in turn.
    fn found(text: &str) -> Option<&str> {
        let (read, context) = (Text::new(text), Context::new());
        let digits = text.char_indices().filter(|(_, c)| c.is_ascii_digit());
        let (start, end) = digits.filter_map(|(at, _)| phone(&read, at, &context)).next()?;
        text.get(start..end)
    }

    #[test]
    fn numbers_that_speak_for_themselves() {
        for number in [
            "+44 (0)20 7946 0114",
            "+12125550155",
            "+1 (404) 555-0184",
            "(212) 555-0178",
            "1-303-555-0137",
            "06 39 98 95 56",
            "090-9077-8602",
        ] {
            assert_eq!(found(&format!("x {number}, y")), Some(number));
        }
    }

    #[test]
    fn numbers_that_a_word_names() {
        for (text, number) in [
            ("call 9894121695 now", "9894121695"),
            ("Tel. 030/23125850.", "030/23125850"),
            ("080-2661 9686 पर कॉल करें", "080-2661 9686"),
            ("Handynummer: (030) 23125-149", "(030) 23125-149"),
            ("phone=07023985982 x", "07023985982"),
        ] {
            assert_eq!(found(text), Some(number), "{text}");
        }
    }

    #[test]
    fn near_misses() {
        for text in [
            "order 920-204-9204-92",
            "the phone is here, order no. 5550100177",
            "call on 2024-08-12",
            "call on 12.08.2024",
            "phone 1234567.89",
            "9894121695",
            "+0123456789",
            "+1234567",
            "+1234567890123456",
            "article number 555-010-0177 is not a telephone number",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }
}
