//! International bank account numbers (ISO 13616): length by country and modulo 97.

use super::text::Text;

/// Countries with the lengths of their numbers (SWIFT IBAN registry, release 99), ascending.
const LENGTHS: [(&[u8; 2], usize); 89] = [
    (b"AD", 24),
    (b"AE", 23),
    (b"AL", 28),
    (b"AT", 20),
    (b"AZ", 28),
    (b"BA", 20),
    (b"BE", 16),
    (b"BG", 22),
    (b"BH", 22),
    (b"BI", 27),
    (b"BR", 29),
    (b"BY", 28),
    (b"CH", 21),
    (b"CR", 22),
    (b"CY", 28),
    (b"CZ", 24),
    (b"DE", 22),
    (b"DJ", 27),
    (b"DK", 18),
    (b"DO", 28),
    (b"EE", 20),
    (b"EG", 29),
    (b"ES", 24),
    (b"FI", 18),
    (b"FK", 18),
    (b"FO", 18),
    (b"FR", 27),
    (b"GB", 22),
    (b"GE", 22),
    (b"GI", 23),
    (b"GL", 18),
    (b"GR", 27),
    (b"GT", 28),
    (b"HN", 28),
    (b"HR", 21),
    (b"HU", 28),
    (b"IE", 22),
    (b"IL", 23),
    (b"IQ", 23),
    (b"IS", 26),
    (b"IT", 27),
    (b"JO", 30),
    (b"KW", 30),
    (b"KZ", 20),
    (b"LB", 28),
    (b"LC", 32),
    (b"LI", 21),
    (b"LT", 20),
    (b"LU", 20),
    (b"LV", 21),
    (b"LY", 25),
    (b"MC", 27),
    (b"MD", 24),
    (b"ME", 22),
    (b"MK", 19),
    (b"MN", 20),
    (b"MR", 27),
    (b"MT", 31),
    (b"MU", 30),
    (b"NI", 28),
    (b"NL", 18),
    (b"NO", 15),
    (b"OM", 23),
    (b"PK", 24),
    (b"PL", 28),
    (b"PS", 29),
    (b"PT", 25),
    (b"QA", 29),
    (b"RO", 24),
    (b"RS", 22),
    (b"RU", 33),
    (b"SA", 24),
    (b"SC", 31),
    (b"SD", 18),
    (b"SE", 24),
    (b"SI", 19),
    (b"SK", 24),
    (b"SM", 27),
    (b"SO", 23),
    (b"ST", 25),
    (b"SV", 28),
    (b"TL", 23),
    (b"TN", 24),
    (b"TR", 26),
    (b"UA", 29),
    (b"VA", 22),
    (b"VG", 24),
    (b"XK", 20),
    (b"YE", 30),
];

/// End of the account number that begins at this letter; one blank or hyphen may stand between its characters.
pub(super) fn iban(text: &Text, at: usize) -> Option<usize> {
    let numbered = text.digit(at + 2).is_some() && text.digit(at + 3).is_some();
    if !numbered || !text.begins(at) {
        return None;
    }
    let country = [text.at(at).to_ascii_uppercase(), text.at(at + 1).to_ascii_uppercase()];
    let entry = LENGTHS.binary_search_by_key(&country, |(country, _)| **country).ok()?;
    let (_, length) = *LENGTHS.get(entry)?;
    let (mut place, mut count) = (at, 0);
    // The first four characters count last (ISO 13616).
    let (mut head, mut rest) = (0, 0);
    while count < length {
        let byte = text.at(place);
        if let Some(value) = char::from(byte).to_digit(36) {
            let sum = if count < 4 { &mut head } else { &mut rest };
            *sum = if value > 9 { *sum * 100 + value } else { *sum * 10 + value };
            // Two letters and two digits are less than a u32 holds.
            if count >= 4 {
                rest %= 97;
            }
            count += 1;
        } else if !is_gap(byte) || is_gap(text.at(place + 1)) {
            return None;
        }
        place += 1;
    }
    (text.ends(place) && (rest * 1_000_000 + head) % 97 == 1).then_some(place)
}

/// What stands between the groups of an account number.
fn is_gap(byte: u8) -> bool {
    matches!(byte, b' ' | b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn examples_of_the_registry() {
        for number in [
            "GB82WEST12345698765432",
            "DE89 3704 0044 0532 0130 00",
            "fr14 2004 1010 0505 0001 3m02 606",
            "NO93 8601 1117 947",
            "MT84MALT011000012345MTLCAST001S",
            "LC55HEMM000100010012001200023015",
            "NL91-ABNA-0417-1643-00",
        ] {
            assert_eq!(iban(&Text::new(number), 0), Some(number.len()), "{number}");
        }
    }

    #[test]
    fn near_misses() {
        for number in [
            "GB82WEST12345698765433",
            "GB82WEST1234569876543",
            "GB82WEST123456987654321",
            "US64SVBKUS6S3300958879",
            "DE89  3704 0044 0532 0130 00",
            "DEA9 3704 0044 0532 0130 00",
        ] {
            assert_eq!(iban(&Text::new(number), 0), None, "{number}");
        }
    }

    #[test]
    fn the_registry_is_ascending() {
        assert!(LENGTHS.is_sorted_by_key(|(country, _)| **country));
    }
}
