//! Rows that say nearly the same: the resemblance of two texts is the Jaccard index of their word shingles (Broder, "On the
//! resemblance and containment of documents", 1997). Where a script has no spaces between words, a character counts as a word. Every
//! pair is looked at, up to a bound on the rows.

use std::collections::HashSet;

use serde::Serialize;
use uuid::Uuid;

use crate::domain::Golden;

/// Words of a shingle.
const SHINGLE: usize = 3;
/// From this resemblance on two rows are alike.
pub const ALIKE: f64 = 0.9;
/// Most rows whose pairs are all looked at: some two million pairs.
pub const MAX_ROWS: usize = 2000;
/// Most pairs that are told.
const MAX_PAIRS: usize = 100;

/// Two rows that are alike.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Pair {
    /// The first, by its id.
    pub one: Uuid,
    /// The other.
    pub other: Uuid,
    /// Their resemblance, 0..1.
    pub resemblance: f64,
}

/// Pairs of rows whose question and answer are alike, at most a hundred, of the first [`MAX_ROWS`] rows.
pub fn pairs(rows: &[Golden]) -> Vec<Pair> {
    let rows = &rows[..rows.len().min(MAX_ROWS)];
    let shingled: Vec<HashSet<u64>> =
        rows.iter().map(|row| shingles(&format!("{} \u{1f} {}", row.input, row.actual))).collect();
    let mut pairs = Vec::new();
    for (at, one) in shingled.iter().enumerate() {
        for (behind, other) in shingled.iter().enumerate().skip(at + 1) {
            let resemblance = resemblance(one, other);
            if resemblance >= ALIKE {
                pairs.push(Pair { one: rows[at].golden_id, other: rows[behind].golden_id, resemblance });
            }
            if pairs.len() == MAX_PAIRS {
                return pairs;
            }
        }
    }
    pairs
}

/// The Jaccard index. Sets whose sizes differ too much are not counted out.
fn resemblance(one: &HashSet<u64>, other: &HashSet<u64>) -> f64 {
    let (small, large) = if one.len() < other.len() { (one, other) } else { (other, one) };
    if (small.len() as f64) < ALIKE * large.len() as f64 {
        return 0.0;
    }
    let both = small.iter().filter(|shingle| large.contains(shingle)).count();
    both as f64 / (small.len() + large.len() - both).max(1) as f64
}

/// Rows of so many that are compared with no other.
pub fn not_compared(rows: usize) -> usize {
    rows.saturating_sub(MAX_ROWS)
}

/// Hashes of the word shingles of a text, in small letters; of a short text there is one.
fn shingles(text: &str) -> HashSet<u64> {
    let words: Vec<String> = text.split_whitespace().flat_map(words_within).collect();
    let hash = |words: &[String]| {
        use std::hash::{DefaultHasher, Hash, Hasher};
        let mut hasher = DefaultHasher::new();
        words.hash(&mut hasher);
        hasher.finish()
    };
    words.windows(SHINGLE.min(words.len().max(1))).map(hash).collect()
}

/// The words of a text without spaces, in small letters: each character of a script that has none between words, and what is
/// between those.
fn words_within(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut goes_on = false;
    for c in text.to_lowercase().chars() {
        let alone = is_unspaced(c);
        match words.last_mut().filter(|_| goes_on && !alone) {
            Some(word) => word.push(c),
            None => words.push(c.to_string()),
        }
        goes_on = !alone;
    }
    words
}

/// Whether a character is of a script that is written without spaces between words: Thai, Lao, Myanmar, Khmer, Japanese, Chinese.
fn is_unspaced(c: char) -> bool {
    matches!(c, '\u{0e00}'..='\u{0eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{3005}'..='\u{3007}'
        | '\u{3040}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{f900}'..='\u{faff}' | '\u{ff66}'..='\u{ff9f}' | '\u{20000}'..='\u{323af}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_word_of_many_makes_no_difference_and_another_text_does() {
        let words = |last: &str| (0..60).map(|n| format!("Word{n} ")).collect::<String>() + last;
        let [one, near, far] = [words("end"), words("END  other"), "something else altogether".into()];
        let [one, near, far] = [one, near, far].map(|text| shingles(&text));
        assert!(resemblance(&one, &near) >= ALIKE);
        assert!(resemblance(&one, &far) < 0.1);
        assert!(resemblance(&shingles("a"), &shingles("A")) > 0.99);
        assert!(resemblance(&shingles(""), &shingles("")) < 0.1, "of nothing nothing is known");
    }

    #[test]
    fn texts_without_spaces_are_compared_by_their_characters() {
        let chinese = "退货政策规定顾客可以在收到商品之日起三十天内无理由退货并获得全额退款运费由本店承担请保留好原始发票以及完整的包装";
        let thai = "ลูกค้าสามารถคืนสินค้าได้ภายในสามสิบวันนับจากวันที่ได้รับสินค้าโดยไม่ต้องแจ้งเหตุผลใดๆทั้งสิ้น";
        for text in [chinese, thai] {
            let near = format!("{text}吗");
            assert!(shingles(text).len() > 30, "{text}");
            assert!(resemblance(&shingles(text), &shingles(&near)) >= ALIKE, "{text}");
            let far: String = text.chars().rev().collect();
            assert!(resemblance(&shingles(text), &shingles(&far)) < 0.2, "{text}");
        }
        assert_eq!(words_within("GPT-4的答案ok"), ["gpt-4", "的", "答", "案", "ok"]);
    }
}
