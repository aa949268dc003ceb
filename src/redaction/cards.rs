//! Payment cards: issuer's range, length, grouping and Luhn's check.

use super::text::Text;

/// Most bytes between two groups of a card's digits.
const MAX_GAP: usize = 3;
/// Digits of the longest card numbers (ISO/IEC 7812-1).
const MAX_DIGITS: usize = 19;

/// End of the card number that begins at this digit: the longest one that passes all checks.
pub(super) fn card(text: &Text, at: usize) -> Option<usize> {
    if !text.begins(at) {
        return None;
    }
    let mut digits = [0; MAX_DIGITS];
    let (mut count, mut group, mut groups) = (0, 0, 0);
    let (mut place, mut best) = (at, None);
    loop {
        while let (Some(value), Some(digit)) = (text.digit(place), digits.get_mut(count)) {
            *digit = value;
            (count, group, place) = (count + 1, group + 1, place + 1);
        }
        groups += 1;
        // A decimal fraction, such as 4532.719000001634, has one long group behind its stop.
        let shaped = groups == 1 || (3..=7).contains(&group);
        if shaped && text.ends(place) && is_card(digits.get(..count)?) {
            best = Some(place);
        }
        let gap = text.run(place, MAX_GAP, is_gap) - place;
        let goes_on = gap > 0 && text.digit(place + gap).is_some();
        if !goes_on || (groups == 1 && group != 4) || group > 7 || count == MAX_DIGITS {
            break;
        }
        group = 0;
        place += gap;
    }
    best
}

/// What stands between the groups of a card's digits.
fn is_gap(byte: u8) -> bool {
    matches!(byte, b' ' | b'-' | b'.' | b'_' | b'/')
}

/// Issuer's range, length and Luhn's check.
fn is_card(digits: &[u32]) -> bool {
    let head = |n: usize| digits.iter().take(n).fold(0, |sum, d| sum * 10 + d);
    let fits = match (head(1), head(2), head(3), head(4)) {
        // Visa.
        (4, ..) => matches!(digits.len(), 13 | 16 | 19),
        // American Express.
        (_, 34 | 37, ..) => digits.len() == 15,
        // Mastercard, with the range that was added in 2017.
        (_, 51..=55, ..) | (_, _, _, 2221..=2720) => digits.len() == 16,
        // UnionPay and Discover, JCB.
        (_, 62 | 65, ..) | (_, _, 644..=649, _) | (_, _, _, 6011 | 3528..=3589) => {
            (16..=MAX_DIGITS).contains(&digits.len())
        }
        // Diners Club.
        (_, 36 | 38 | 39, ..) | (_, _, 300..=305, _) => (14..=MAX_DIGITS).contains(&digits.len()),
        // Mir.
        (_, _, _, 2200..=2204) => (16..=MAX_DIGITS).contains(&digits.len()),
        // Maestro.
        (_, _, _, 5018 | 5020 | 5038 | 5893 | 6304 | 6759 | 6761..=6763) => {
            (13..=MAX_DIGITS).contains(&digits.len())
        }
        _ => false,
    };
    fits && luhn(digits)
}

/// Luhn's check (ISO/IEC 7812-1).
pub(super) fn luhn(digits: &[u32]) -> bool {
    let doubled = |d: u32| if d > 4 { d * 2 - 9 } else { d * 2 };
    let places = digits.iter().rev().enumerate();
    places.map(|(i, d)| if i % 2 == 1 { doubled(*d) } else { *d }).sum::<u32>() % 10 == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is recognised at the first digit.
    fn found(text: &str) -> Option<&str> {
        let at = text.find(|c: char| c.is_ascii_digit())?;
        card(&Text::new(text), at).and_then(|end| text.get(at..end))
    }

    #[test]
    fn published_test_numbers() {
        for number in [
            "4111111111111111",
            "4222222222222",
            "4012 8888 8888 1881",
            "5555-5555-5555-4444",
            "2223003122003222",
            "2223 0000 4841 0010",
            "3714 496353 98431",
            "378282246310005",
            "6011.1111.1111.1117",
            "3056 930902 5904",
            "38520000023237",
            "3530111333300000",
            "6200 0000 0000 0005",
            "6304000000000000",
        ] {
            assert_eq!(found(number), Some(number));
        }
    }

    #[test]
    fn near_misses() {
        for text in [
            "4111111111111112",
            "411111111111111",
            "2721000000000004",
            "41111111111111111111",
            "a4111111111111111",
            "4111111111111111a",
            "0.4111111111111111",
            "12 4111 1111 1111 1112",
            "4 111111111111111",
            "4532.719000001634",
            "4111.111111111111",
            "1234567890123452",
        ] {
            assert_eq!(found(text), None, "{text}");
        }
    }

    #[test]
    fn one_card_after_another() {
        assert_eq!(found("4111 1111 1111 1111 4012 8888 8888 1881"), Some("4111 1111 1111 1111"));
        assert_eq!(found("4111111111111111/4012888888881881"), Some("4111111111111111"));
    }

    #[test]
    fn a_card_between_signs() {
        assert_eq!(found("visa4111111111111111."), Some("4111111111111111"));
        assert_eq!(found("_4111 1111 1111 1111_"), Some("4111 1111 1111 1111"));
        assert_eq!(found("4111 1111 1111 1111, 12/27"), Some("4111 1111 1111 1111"));
        assert_eq!(found(r"\n4111111111111111\n"), Some("4111111111111111"));
    }
}
