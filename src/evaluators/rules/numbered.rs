//! Personal values that are numbers with a check: payment cards, US social security numbers, IBANs.

/// Most characters between two groups of a card's digits.
const MAX_GAP: usize = 3;

/// Value of a digit; other forms are ASCII already, see [`super::fold::Visible`].
pub(super) fn digit(c: char) -> Option<u32> {
    c.to_digit(10)
}

/// Whether a number begins here: no letter, digit or decimal stop before it.
fn begins(text: &[char], at: usize) -> bool {
    let before = at.checked_sub(1).and_then(|i| text.get(i));
    !before.is_some_and(|c| c.is_alphanumeric() || matches!(c, '.' | '_'))
}

/// Blanks and dashes that separate groups of digits.
pub(super) fn is_separator(c: char) -> bool {
    matches!(c, ' ' | '-' | '\u{a0}' | '\u{2010}' | '\u{2011}' | '\u{2013}' | '\u{202f}')
}

/// End of the card number that begins at this character.
pub(super) fn card(text: &[char], at: usize) -> Option<usize> {
    if !begins(text, at) {
        return None;
    }
    let (mut digits, mut group, mut groups) = (Vec::new(), 0, 0);
    let mut best = None;
    let mut place = at;
    while digits.len() <= 19 {
        match text.get(place).copied().map(|c| (c, digit(c))) {
            Some((_, Some(value))) => {
                digits.push(value);
                group += 1;
            }
            other => {
                groups += 1;
                let ended = !other.is_some_and(|(c, _)| c.is_alphanumeric() || c == '_');
                let shaped = groups == 1 || group >= 3;
                if ended && shaped && is_card(&digits) {
                    best = Some(place);
                }
                let gap = gap(text, place);
                let on = gap > 0 && text.get(place + gap).copied().and_then(digit).is_some();
                if !on || (groups == 1 && group != 4) || group > 7 {
                    break;
                }
                group = 0;
                place += gap - 1;
            }
        }
        place += 1;
    }
    best
}

/// Separators that stand here between two groups of a card's digits.
fn gap(text: &[char], at: usize) -> usize {
    let rest = text.get(at..).unwrap_or_default().iter().take(MAX_GAP);
    rest.take_while(|c| is_separator(**c) || matches!(c, '.' | '_')).count()
}

/// Issuer range, length and Luhn's check.
fn is_card(digits: &[u32]) -> bool {
    let head = |n: usize| digits.iter().take(n).fold(0, |sum, d| sum * 10 + d);
    let fits = match (head(1), head(2), head(3), head(4)) {
        (4, ..) => matches!(digits.len(), 13 | 16 | 19),
        (_, 34 | 37, ..) => digits.len() == 15,
        (_, 51..=55, ..) | (_, _, _, 2221..=2720) => digits.len() == 16,
        (_, 62 | 65, ..) | (_, _, 644..=649, _) | (_, _, _, 6011 | 3528..=3589) => {
            (16..=19).contains(&digits.len())
        }
        (_, 36 | 38 | 39, ..) | (_, _, 300..=305, _) => (14..=19).contains(&digits.len()),
        (_, _, _, 5018 | 5020 | 5038 | 5893 | 6304 | 6759 | 6761..=6763) => (13..=19).contains(&digits.len()),
        _ => false,
    };
    fits && luhn(digits)
}

/// Luhn's check (ISO/IEC 7812-1).
fn luhn(digits: &[u32]) -> bool {
    let doubled = |d: u32| if d > 4 { d * 2 - 9 } else { d * 2 };
    let places = digits.iter().rev().enumerate();
    places.map(|(i, d)| if i % 2 == 1 { doubled(*d) } else { *d }).sum::<u32>() % 10 == 0
}

/// What the text before a number says of it.
pub(super) enum Said {
    /// That it is a social security number.
    Ssn,
    /// That it is a number of something else.
    Other,
    /// Nothing.
    Nothing,
}

/// End of the social security number that begins at this character. With dashes, nothing else may be said of it;
/// without, it has to be said.
pub(super) fn ssn(text: &[char], at: usize, said: impl Fn() -> Said) -> Option<usize> {
    let before = at.checked_sub(1).and_then(|i| text.get(i));
    if !begins(text, at) || before == Some(&'-') {
        return None;
    }
    let read =
        |from: usize, n: usize| (from..from + n).try_fold(0, |sum, i| Some(sum * 10 + digit(*text.get(i)?)?));
    let separator = text.get(at + 3).copied().filter(|c| digit(*c).is_none());
    let gap = usize::from(separator.is_some());
    let (area, group) = (read(at, 3)?, read(at + 3 + gap, 2)?);
    if separator.is_some_and(|c| !is_separator(c))
        || text.get(at + 5 + gap).copied().filter(|c| digit(*c).is_none()) != separator
    {
        return None;
    }
    let serial = read(at + 5 + 2 * gap, 4)?;
    let end = at + 9 + 2 * gap;
    let goes_on = text.get(end).is_some_and(|c| c.is_alphanumeric() || matches!(c, '-' | '_'));
    let valid = !matches!(area, 0 | 666 | 900..) && group != 0 && serial != 0;
    let dashed = separator.is_some_and(|c| c != ' ' && c != '\u{a0}');
    let meant = |said| matches!((said, dashed), (Said::Ssn, _) | (Said::Nothing, true));
    (valid && !goes_on && meant(said())).then_some(end)
}

/// Lengths of IBANs by country (SWIFT IBAN registry).
const IBAN_LENGTHS: &str = "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 EE20 ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IS26 IT27 JO30 KW30 KZ20 LB28 LI21 LT20 LU20 LV21 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SE24 SI19 SK24 SM27 TN24 TR26 UA29 VG24 XK20";

/// End of the IBAN that begins at this character.
pub(super) fn iban(text: &[char], at: usize) -> Option<usize> {
    let upper =
        |i: usize| text.get(i).copied().filter(char::is_ascii_alphabetic).map(|c| c.to_ascii_uppercase());
    let country: String = [upper(at)?, upper(at + 1)?].iter().collect();
    if !begins(text, at) || !text.get(at + 2)?.is_ascii_digit() {
        return None;
    }
    let entry = IBAN_LENGTHS.split(' ').find(|e| e.starts_with(&country))?;
    let length: usize = entry.get(2..)?.parse().ok()?;
    let mut characters = Vec::with_capacity(length);
    let mut place = at;
    while characters.len() < length {
        let c = *text.get(place)?;
        if c.is_ascii_alphanumeric() {
            characters.push(c.to_ascii_uppercase());
        } else if !is_separator(c) || text.get(place + 1).copied().is_some_and(is_separator) {
            return None;
        }
        place += 1;
    }
    let goes_on = text.get(place).is_some_and(char::is_ascii_alphanumeric);
    (!goes_on && mod_97(&characters) == 1).then_some(place)
}

/// ISO 13616: the first four characters go last, letters count from 10.
fn mod_97(characters: &[char]) -> u32 {
    let (head, tail) = characters.split_at(4.min(characters.len()));
    tail.iter()
        .chain(head)
        .filter_map(|c| c.to_digit(36))
        .fold(0, |sum, value| (if value > 9 { sum * 100 + value } else { sum * 10 + value }) % 97)
}
