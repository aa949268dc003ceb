//! National ids with known form and check digits, each only where the configuration asks for it.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Kind;
use super::cards::luhn;
use super::scan::Found;
use super::text::Text;

/// Longest id with its separators, in bytes.
const LONGEST: usize = 24;

/// A national id that can be looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NationalId {
    /// Brazil: Cadastro de Pessoas Físicas, two check digits modulo 11.
    BrCpf,
    /// Canada: Social Insurance Number, Luhn.
    CaSin,
    /// Germany: Steuer-Identifikationsnummer, ISO 7064 modulo 11, 10.
    DeTaxId,
    /// Spain: DNI and NIE, a letter modulo 23.
    EsDni,
    /// France: numéro d'inscription au répertoire, modulo 97.
    FrNir,
    /// India: Aadhaar, Verhoeff.
    InAadhaar,
    /// Poland: PESEL, weights modulo 10.
    PlPesel,
    /// United Kingdom: National Insurance number, by its form.
    UkNino,
}

impl NationalId {
    /// The word used in configuration and masks.
    pub fn name(self) -> &'static str {
        match self {
            Self::BrCpf => "br_cpf",
            Self::CaSin => "ca_sin",
            Self::DeTaxId => "de_tax_id",
            Self::EsDni => "es_dni",
            Self::FrNir => "fr_nir",
            Self::InAadhaar => "in_aadhaar",
            Self::PlPesel => "pl_pesel",
            Self::UkNino => "uk_nino",
        }
    }

    /// Characters without separators.
    fn length(self) -> usize {
        match self {
            Self::BrCpf | Self::DeTaxId | Self::PlPesel => 11,
            Self::CaSin | Self::EsDni | Self::UkNino => 9,
            Self::FrNir => 15,
            Self::InAadhaar => 12,
        }
    }

    /// Adds all such ids in a folded text.
    pub(super) fn find(self, text: &str, found: &mut Vec<Found>) {
        let (read, kind) = (Text::new(text), Kind::Custom(Arc::from(self.name())));
        let mut at = 0;
        while at < read.bytes.len() {
            let end = self.at(&read, at);
            found.extend(end.map(|end| Found { kind: kind.clone(), start: at, end }));
            at = end.unwrap_or(at + 1);
        }
    }

    /// End of the id that begins here; single blanks, hyphens, stops and slashes may stand within it.
    fn at(self, text: &Text, at: usize) -> Option<usize> {
        if !text.at(at).is_ascii_alphanumeric() || !text.begins(at) {
            return None;
        }
        let mut characters = [0; 16];
        let (mut count, mut place) = (0, at);
        while count < self.length() {
            let byte = text.at(place);
            if byte.is_ascii_alphanumeric() {
                *characters.get_mut(count)? = byte.to_ascii_uppercase();
                count += 1;
            } else if !matches!(byte, b' ' | b'-' | b'.' | b'/')
                || !text.back(place, 1).is_ascii_alphanumeric()
            {
                return None;
            }
            place += 1;
            if place - at > LONGEST {
                return None;
            }
        }
        (text.ends(place) && self.is_valid(characters.get(..count)?)).then_some(place)
    }

    /// Form and check digits.
    fn is_valid(self, id: &[u8]) -> bool {
        let digits: Vec<u32> =
            id.iter().filter(|b| b.is_ascii_digit()).map(|b| u32::from(b - b'0')).collect();
        let numeric = digits.len() == id.len() && digits.iter().any(|d| Some(d) != digits.first());
        match self {
            Self::BrCpf => numeric && cpf(&digits),
            Self::CaSin => numeric && !matches!(digits.first(), Some(0 | 8)) && luhn(&digits),
            Self::DeTaxId => numeric && digits.first() != Some(&0) && mod_11_10(&digits),
            Self::EsDni => dni(id),
            Self::FrNir => nir(id),
            Self::InAadhaar => numeric && !matches!(digits.first(), Some(0 | 1)) && verhoeff(&digits),
            Self::PlPesel => {
                numeric && weighted(&digits, &[1, 3, 7, 9, 1, 3, 7, 9, 1, 3, 1]).is_multiple_of(10)
            }
            Self::UkNino => nino(id),
        }
    }
}

/// Sum of digits times weights.
fn weighted(digits: &[u32], weights: &[u32]) -> u32 {
    digits.iter().zip(weights).map(|(digit, weight)| digit * weight).sum()
}

/// Two check digits modulo 11.
fn cpf(digits: &[u32]) -> bool {
    let check = |n: usize| {
        let sum: u32 =
            digits.iter().take(n).zip((2..=n as u32 + 1).rev()).map(|(d, weight)| d * weight).sum();
        sum * 10 % 11 % 10
    };
    digits.get(9) == Some(&check(9)) && digits.get(10) == Some(&check(10))
}

/// ISO 7064, modulo 11, 10.
fn mod_11_10(digits: &[u32]) -> bool {
    let Some((last, body)) = digits.split_last() else { return false };
    let product = body.iter().fold(10, |product, digit| {
        let sum = (digit + product) % 10;
        (if sum == 0 { 10 } else { sum }) * 2 % 11
    });
    (11 - product) % 10 == *last
}

/// Eight digits, or a letter for the first of them, and a letter that is their sum modulo 23.
fn dni(id: &[u8]) -> bool {
    let Some((letter, body)) = id.split_last() else { return false };
    let value = body.iter().enumerate().try_fold(0_usize, |sum, (place, byte)| match (place, byte) {
        (0, b'X' | b'Y' | b'Z') => Some(usize::from(byte - b'X')),
        (_, b'0'..=b'9') => Some(sum * 10 + usize::from(byte - b'0')),
        _ => None,
    });
    value.and_then(|value| b"TRWAGMYFPDXBNJZSQVHLCKE".get(value % 23)) == Some(letter)
}

/// Thirteen digits, Corsica's departments with a letter, and their complement modulo 97.
fn nir(id: &[u8]) -> bool {
    let corsica = match id.get(5..7) {
        Some(b"2A") => 1_000_000,
        Some(b"2B") => 2_000_000,
        _ => 0,
    };
    let digit = |(place, byte): (usize, &u8)| match byte {
        b'0'..=b'9' => Some(u64::from(byte - b'0')),
        _ if place == 6 && corsica > 0 => Some(0),
        _ => None,
    };
    let digits: Option<Vec<u64>> = id.iter().enumerate().map(digit).collect();
    let Some(digits) = digits.filter(|digits| matches!(digits.first(), Some(1 | 2))) else { return false };
    let number =
        |part: Option<&[u64]>| part.unwrap_or_default().iter().fold(0, |sum, digit| sum * 10 + digit);
    let (body, key) = (number(digits.get(..13)), number(digits.get(13..)));
    key == 97 - (body - corsica) % 97
}

/// Verhoeff's check, by the dihedral group of order ten.
fn verhoeff(digits: &[u32]) -> bool {
    const PERMUTED: [u32; 10] = [1, 5, 7, 6, 2, 8, 3, 0, 9, 4];
    let times = |a: u32, b: u32| match (a < 5, b < 5) {
        (true, true) => (a + b) % 5,
        (true, false) => 5 + (a + b) % 5,
        (false, true) => 5 + (a + 5 - b) % 5,
        (false, false) => (a + 5 - b) % 5,
    };
    let permuted = |digit: u32, rounds: usize| {
        (0..rounds % 8).fold(digit, |d, _| PERMUTED.get(d as usize).copied().unwrap_or_default())
    };
    digits.iter().rev().enumerate().fold(0, |sum, (place, digit)| times(sum, permuted(*digit, place))) == 0
}

/// Two letters of those in use, six digits, a letter from A to D.
fn nino(id: &[u8]) -> bool {
    let [first, second, digits @ .., last] = id else { return false };
    let unused = [*b"BG", *b"GB", *b"KN", *b"NK", *b"NT", *b"TN", *b"ZZ"];
    let letter = |b: &u8, not: &[u8]| b.is_ascii_uppercase() && !not.contains(b);
    letter(first, b"DFIQUV")
        && letter(second, b"DFIOQUV")
        && !unused.contains(&[*first, *second])
        && digits.iter().all(u8::is_ascii_digit)
        && matches!(last, b'A'..=b'D')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn published_examples_and_near_misses() {
        for (id, good, bad) in [
            (NationalId::BrCpf, "529.982.247-25", "529.982.247-24"),
            (NationalId::CaSin, "130 692 544", "130 692 545"),
            (NationalId::DeTaxId, "86 095 742 719", "86 095 742 718"),
            (NationalId::EsDni, "12345678Z", "12345678A"),
            (NationalId::EsDni, "X1234567L", "X1234567M"),
            (NationalId::FrNir, "2 55 08 14 168 025 38", "2 55 08 14 168 025 39"),
            (NationalId::InAadhaar, "2341 2341 2346", "2341 2341 2345"),
            (NationalId::PlPesel, "44051401359", "44051401358"),
            (NationalId::UkNino, "AB 12 34 56 C", "GB 12 34 56 C"),
        ] {
            for (text, expected) in [(good, true), (bad, false), (&format!("1{good}"), false)] {
                let mut found = Vec::new();
                id.find(&format!("id {text}."), &mut found);
                assert_eq!(!found.is_empty(), expected, "{id:?} {text}");
            }
        }
    }
}
