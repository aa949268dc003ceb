//! US social security numbers, after the rules of the Social Security Administration.

use super::context::{Context, Topic};
use super::text::Text;

/// Bytes before a number in which a word can say that it is one.
const NAMED_WITHIN: usize = 72;
/// Bytes before a number in which a word can say that it is something else.
const DENIED_WITHIN: usize = 40;
/// Numbers that became public as samples and were never anybody's since: a wallet's insert of 1938, a leaflet of 1940,
/// and the one that everybody types.
const SAMPLES: [u32; 3] = [78_051_120, 219_099_999, 123_456_789];

/// End of the social security number that begins at this digit. With hyphens nothing else may be said of it; without
/// them something near has to say that it is one.
pub(super) fn ssn(text: &Text, at: usize, context: &Context) -> Option<usize> {
    if !text.begins(at) || matches!(text.back(at, 1), b'-' | b'+') {
        return None;
    }
    let separator = Some(text.at(at + 3)).filter(|b| matches!(b, b'-' | b' ' | b'.'));
    let gap = usize::from(separator.is_some());
    let same = |place: usize| separator.is_none_or(|b| text.at(place) == b);
    let (area, group) = (number(text, at, 3)?, number(text, at + 3 + gap, 2)?);
    let serial = number(text, at + 5 + 2 * gap, 4)?;
    let end = at + 9 + 2 * gap;
    let goes_on = !text.ends(end) || (text.at(end) == b'-' && text.at(end + 1).is_ascii_alphanumeric());
    if goes_on || !same(at + 5 + gap) || !is_assigned(area, group, serial) {
        return None;
    }
    let before = context.before(text, at, NAMED_WITHIN);
    let others = [Topic::Record, Topic::Phone, Topic::Version];
    let denied = before.distance(Topic::Record).min(before.distance(Topic::Version)) <= DENIED_WITHIN;
    let named = before.says(Topic::Ssn, &others) || context.after(text, end, DENIED_WITHIN).has(Topic::Ssn);
    (named || (separator == Some(b'-') && !denied)).then_some(end)
}

/// The number in so many digits.
fn number(text: &Text, at: usize, digits: usize) -> Option<u32> {
    (at..at + digits).try_fold(0, |sum, place| Some(sum * 10 + text.digit(place)?))
}

/// Whether such a number can have been given out: areas 000, 666 and from 900, group 00 and serial 0000 never were.
fn is_assigned(area: u32, group: u32, serial: u32) -> bool {
    let whole = area * 1_000_000 + group * 10_000 + serial;
    !matches!(area, 0 | 666 | 900..)
        && group != 0
        && serial != 0
        && !whole.is_multiple_of(111_111_111)
        && !SAMPLES.contains(&whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a number of the text is recognised.
    fn is_found(text: &str) -> bool {
        let (read, context) = (Text::new(text), Context::new());
        (0..text.len()).any(|at| ssn(&read, at, &context).is_some())
    }

    #[test]
    fn hyphens_suffice_and_so_does_a_word() {
        for text in [
            "536-90-4399",
            "remove 536-90-4399 please",
            "SSN 536 90 4399",
            "ssn=536904399",
            "social security number on the W-9: it should be 536904399.",
            "536904399 is my SSN",
            "reference of the phone, SSN 536904399",
        ] {
            assert!(is_found(text), "{text}");
        }
    }

    #[test]
    fn what_was_never_given_out() {
        for text in [
            "000-12-3456",
            "666-12-3456",
            "900-12-3456",
            "999-99-9999",
            "536-00-4399",
            "536-90-0000",
            "078-05-1120",
            "219-09-9999",
            "123-45-6789",
            "111-11-1111",
            "SSN 987-65-4321",
        ] {
            assert!(!is_found(text), "{text}");
        }
    }

    #[test]
    fn numbers_of_other_things() {
        for text in [
            "part no. 536-90-4399",
            "536904399",
            "536 90 4399",
            "536-904399",
            "536-90 4399",
            "536-90-43991",
            "536-90-4399-1",
            "SKU 536-90-4399",
        ] {
            assert!(!is_found(text), "{text}");
        }
    }
}
