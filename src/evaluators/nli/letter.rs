//! What frames an answer that is written as a letter: salutation, closing and signature, which claim nothing.

use std::collections::HashSet;

use super::{
    abbreviations::{Ending, ending},
    boundaries::is_terminator,
    lines::{Block, LineKind},
    phrases::{CLOSINGS, FINITE, SALUTATIONS},
};

/// Longest salutation that ends in a comma, in words.
const MAX_SALUTATION_WORDS: usize = 8;
/// Longest salutation without that comma, in words.
const MAX_BARE_SALUTATION_WORDS: usize = 4;
/// How many blocks may come before the salutation: a subject line.
const MAX_BEFORE_SALUTATION: usize = 1;
/// Longest line of a signature, in words.
const MAX_SIGNATURE_WORDS: usize = 6;
/// Most lines of a signature.
const MAX_SIGNATURE_LINES: usize = 5;
/// Longest name that signs without a closing, in words.
const MAX_NAME_WORDS: usize = 3;

/// Gives the indices of the blocks that frame a letter.
pub(super) fn frame(answer: &str, blocks: &[Block]) -> HashSet<usize> {
    let line = |index: usize| &answer[blocks[index].bytes.clone()];
    let mut framing = HashSet::new();
    let salutation = (0..blocks.len().saturating_sub(1))
        .take(MAX_BEFORE_SALUTATION + 1)
        .find(|index| blocks[*index].kind == LineKind::Text && is_salutation(line(*index), *index == 0));
    framing.extend(salutation);
    let mut signed = 0;
    for (index, block) in blocks.iter().enumerate().skip(1) {
        if block.kind == LineKind::Text && is_closing(line(index)) {
            framing.insert(index);
            signed = MAX_SIGNATURE_LINES;
        } else if signed > 0 && blocks[index].kind == LineKind::Text && is_signature(line(index)) {
            framing.insert(index);
            signed -= 1;
        } else {
            signed = 0;
        }
    }
    // A letter may end in a name alone; without a salutation such a line may be the answer itself.
    if let (Some(salutation), Some(last)) = (salutation, blocks.len().checked_sub(1))
        && last > salutation + 1
        && blocks[last].kind == LineKind::Text
        && line(last - 1).ends_with(['.', '!'])
        && is_name(line(last))
    {
        framing.insert(last);
    }
    framing
}

/// Takes markdown's emphasis off a line.
fn bare(line: &str) -> &str {
    line.trim_matches(|c: char| matches!(c, '*' | '_') || c.is_whitespace())
}

/// Counts words, as far as it matters.
fn words(line: &str) -> usize {
    line.split_whitespace().take(MAX_SALUTATION_WORDS + 1).count()
}

/// Tells whether a short line has a digit or a verb, and so states something.
fn states(line: &str) -> bool {
    line.contains(|c: char| c.is_ascii_digit())
        || line.split_whitespace().any(|word| FINITE.contains(&word.to_lowercase().as_str()))
}

/// Tells whether a line greets: `Dear Ms Jones,` anywhere near the start, `Hi Anna!` as the very first.
fn is_salutation(line: &str, first: bool) -> bool {
    let (line, words) = (bare(line), words(line));
    if words > MAX_SALUTATION_WORDS || states(line) || !starts_with_one_of(line, SALUTATIONS) {
        return false;
    }
    line.ends_with([',', '，'])
        || (first && words <= MAX_BARE_SALUTATION_WORDS && !line.ends_with(['.', '?']))
}

/// Tells whether a line closes a letter: `Kind regards,`, also with the name behind it.
fn is_closing(line: &str) -> bool {
    let line = bare(line);
    if words(line) > MAX_SIGNATURE_WORDS || states(line) {
        return false;
    }
    let closes =
        |text: &str| CLOSINGS.contains(&text.trim_matches(['!', '.', ',', ' ']).to_lowercase().as_str());
    closes(line) || line.split_once(',').is_some_and(|(head, name)| closes(head) && is_name(name.trim()))
}

/// Tells whether a line may stand in a signature: short, and no sentence.
fn is_signature(line: &str) -> bool {
    let line = bare(line);
    let last = line.trim_end_matches('.').rsplit(' ').next().unwrap_or_default().to_lowercase();
    let sentence = line.ends_with(is_terminator) && ending(&last) == Ending::Usual;
    let verb = line.split_whitespace().any(|word| FINITE.contains(&word.to_lowercase().as_str()));
    words(line) <= MAX_SIGNATURE_WORDS && !sentence && !verb && !line.ends_with(':')
}

/// Tells whether a line is a name: few words, each with a capital or in brackets.
fn is_name(line: &str) -> bool {
    let line = bare(line).trim_start_matches(['-', '–', '—', '~', ' ']);
    let named = |word: &str| word.starts_with(|c: char| c.is_uppercase() || c == '[') || word.ends_with(']');
    (1..=MAX_NAME_WORDS).contains(&words(line))
        && line.split_whitespace().all(|word| named(word) || matches!(word, "the" | "of" | "and"))
        && !line.contains([':', '|', '?', '!'])
        && is_signature(line)
        && !states(line)
}

/// Tells whether a line begins with one of these words, whatever its case.
fn starts_with_one_of(line: &str, starts: &[&str]) -> bool {
    starts.iter().any(|start| {
        let head = line.get(..start.len()).is_some_and(|head| head.eq_ignore_ascii_case(start));
        head && !line[start.len()..].starts_with(char::is_alphanumeric)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluators::nli::lines::blocks;

    fn left(answer: &str) -> Vec<&str> {
        let blocks = blocks(answer);
        let framing = frame(answer, &blocks);
        let kept = blocks.iter().enumerate().filter(|(index, _)| !framing.contains(index));
        kept.map(|(_, block)| &answer[block.bytes.clone()]).collect()
    }

    #[test]
    fn letters_lose_their_frame() {
        for (answer, expected) in [
            (
                "Dear customer,\nRefunds take 30 days.\nKind regards,\nThe Support Team",
                vec!["Refunds take 30 days."],
            ),
            ("Hi Anna,\n\nRefunds take 30 days.\n\nBob", vec!["Refunds take 30 days."]),
            ("Hello there!\nIt is big.\nThanks,\nBob Smith\nAcme Inc.", vec!["It is big."]),
            (
                "Subject: Refunds\n\nDear Ms. Jones,\nIt is big.\nBest, Bob",
                vec!["Subject: Refunds", "It is big."],
            ),
            (
                "It is big.\n\nSincerely,\n[Your Name]\n\nP.S. It is old.",
                vec!["It is big.", "P.S. It is old."],
            ),
        ] {
            assert_eq!(left(answer), expected, "{answer}");
        }
    }

    #[test]
    fn statements_stay() {
        for answer in [
            "Hello Kitty is Japanese,\nand it is old.",
            "Hello World",
            "Thanks,\nRefunds take 30 days.",
            "The capital is:\nParis",
            "It is big.\nParis",
            "Hi Anna,\nIt is big.\nRefunds take 30 days",
            "It is the best.\nBest practices are old.\nParis",
            "It is big.\nThanks,\nRefunds take 30 days.",
        ] {
            let dropped: Vec<&str> = answer.lines().filter(|line| !left(answer).contains(line)).collect();
            let states = |line: &&str| !matches!(*line, "Thanks," | "Hi Anna,");
            assert_eq!(
                dropped.into_iter().filter(states).collect::<Vec<_>>(),
                Vec::<&str>::new(),
                "{answer}"
            );
        }
    }
}
