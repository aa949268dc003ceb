//! What is never shown to a judge, because it says nothing and some judges call it right all the same: "master keys"
//! (Zhao et al., arXiv 2507.08794, table 1).

/// Openings of a reasoning without one, in small letters and without what surrounds words.
const MASTER_KEYS: [&str; 18] = [
    "thought process",
    "let's solve this problem step by step",
    "let us solve this problem step by step",
    "let's think step by step",
    "solution",
    "the answer is",
    "answer",
    "final answer",
    "reasoning",
    "explanation",
    "解",
    "解答",
    "答案",
    "かいせつ",
    "respuesta",
    "réponse",
    "antwort",
    "lösung",
];

/// Whether a text has no letter and no digit, or is nothing but a master key.
pub fn is_empty_talk(text: &str) -> bool {
    let words = text.trim_matches(|c: char| !c.is_alphanumeric());
    let folded = words.replace('’', "'").to_lowercase();
    folded.is_empty()
        || MASTER_KEYS.contains(&folded.split_whitespace().collect::<Vec<_>>().join(" ").as_str())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_nothing_is_told_from_what_does() {
        for nothing in [
            "",
            " \n",
            ":",
            "...",
            "—",
            "**",
            "Thought process:",
            "Let’s solve this  problem step by step.",
            "Solution",
            "解",
            "\"Answer\":",
        ] {
            assert!(is_empty_talk(nothing), "{nothing:?}");
        }
        for something in ["42", "The solution is salt water.", "No.", "解は三です", "Answer: 7"] {
            assert!(!is_empty_talk(something), "{something:?}");
        }
    }
}
