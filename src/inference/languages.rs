//! The languages that a model was made for, as `aftercheck.languages` in its `config.json` lists them.

use whatlang::Lang;

/// ISO 639-1 codes of the languages that can be told apart, with their ISO 639-3 codes; `zh` and `no` stand for their
/// largest members.
#[rustfmt::skip]
const SHORT_CODES: &[(&str, &str)] = &[
    ("eo", "epo"), ("en", "eng"), ("ru", "rus"), ("zh", "cmn"), ("es", "spa"), ("pt", "por"), ("it", "ita"),
    ("bn", "ben"), ("fr", "fra"), ("de", "deu"), ("uk", "ukr"), ("ka", "kat"), ("ar", "ara"), ("hi", "hin"),
    ("ja", "jpn"), ("he", "heb"), ("yi", "yid"), ("pl", "pol"), ("am", "amh"), ("jv", "jav"), ("ko", "kor"),
    ("nb", "nob"), ("no", "nob"), ("da", "dan"), ("sv", "swe"), ("fi", "fin"), ("tr", "tur"), ("nl", "nld"),
    ("hu", "hun"), ("cs", "ces"), ("el", "ell"), ("bg", "bul"), ("be", "bel"), ("mr", "mar"), ("kn", "kan"),
    ("ro", "ron"), ("sl", "slv"), ("hr", "hrv"), ("sr", "srp"), ("mk", "mkd"), ("lt", "lit"), ("lv", "lav"),
    ("et", "est"), ("ta", "tam"), ("vi", "vie"), ("ur", "urd"), ("th", "tha"), ("gu", "guj"), ("uz", "uzb"),
    ("pa", "pan"), ("az", "aze"), ("id", "ind"), ("te", "tel"), ("fa", "pes"), ("ml", "mal"), ("or", "ori"),
    ("my", "mya"), ("ne", "nep"), ("si", "sin"), ("km", "khm"), ("tk", "tuk"), ("ak", "aka"), ("zu", "zul"),
    ("sn", "sna"), ("af", "afr"), ("la", "lat"), ("sk", "slk"), ("ca", "cat"), ("tl", "tgl"), ("hy", "hye"),
    ("cy", "cym"),
];

/// Reads a language code, ISO 639-1 or 639-3, in any case; `None` for a language that cannot be told from others.
fn language(code: &str) -> Option<Lang> {
    let code = code.trim().to_ascii_lowercase();
    let long = SHORT_CODES.iter().find(|(short, _)| *short == code).map(|(_, long)| *long);
    Lang::from_code(long.unwrap_or(&code))
}

/// Reads language codes.
///
/// # Errors
/// The first code that is none, or whose language cannot be told from others.
pub(super) fn languages(codes: &[String]) -> Result<Vec<Lang>, &str> {
    codes.iter().map(|code| language(code).ok_or(code.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_of_both_lengths_are_read() {
        let codes = ["en", "DEU", " zh "].map(str::to_owned);
        assert_eq!(languages(&codes), Ok(vec![Lang::Eng, Lang::Deu, Lang::Cmn]));
        assert_eq!(languages(&["en".to_owned(), "english".to_owned()]), Err("english"));
    }

    #[test]
    fn every_language_has_a_short_code_that_leads_to_it() {
        for lang in Lang::all() {
            assert!(SHORT_CODES.iter().any(|(short, _)| language(short) == Some(*lang)), "{lang}");
        }
        assert!(SHORT_CODES.iter().all(|(short, _)| language(short).is_some()));
    }
}
