//! What says nothing that evidence could support: questions, greetings, lead-ins, refusals.
//!
//! A claim that is dropped here is never checked, so every pattern is narrow: one claim too many costs less.

use crate::evaluators::nli::phrases::{
    ASKED, ASKING, COURTESIES, COURTESY_STARTS, FINITE, HANDED_OVER, INTERJECTIONS, JOINS, LACKS, LEAD_INS,
    REFUSALS, RETRIEVED, TURNS, WEAK,
};

/// What a sentence is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Worth {
    /// It states something.
    Claim,
    /// It is checked only when the answer holds nothing better: `Yes.`, `I agree.`, a bare address.
    Weak,
    /// It states nothing.
    Nothing,
}

/// Longest greeting, sign-off or lead-in, in words.
const MAX_COURTESY_WORDS: usize = 30;
/// Longest refusal, in words.
const MAX_REFUSAL_WORDS: usize = 45;

/// Longest refusal, in bytes: a word may have any length.
const MAX_REFUSAL_BYTES: usize = 1000;

/// Judges a sentence.
pub(super) fn worth(sentence: &str) -> Worth {
    let folded = fold(sentence);
    let words = folded.split(' ').count();
    let core = folded.trim_matches(|c: char| !c.is_alphanumeric()).replace(',', "");
    if core.is_empty() || is_question(&folded, sentence) {
        return Worth::Nothing;
    }
    if COURTESIES.contains(&core.as_str()) {
        return Worth::Nothing;
    }
    if WEAK.contains(&core.as_str()) || is_address(sentence) || is_bare_number(sentence) {
        return Worth::Weak;
    }
    let body = strip_interjections(&core);
    let starts = |text: &str| COURTESY_STARTS.iter().any(|start| starts_with_words(text, start));
    let courtesy = words <= MAX_COURTESY_WORDS && (body.is_empty() || starts(&core) || starts(body));
    if courtesy
        || is_lead_in(&folded, body, words)
        || (words <= MAX_REFUSAL_WORDS && body.len() <= MAX_REFUSAL_BYTES && is_refusal(body))
    {
        return Worth::Nothing;
    }
    Worth::Claim
}

/// Folds case, white space, apostrophes and the spaces of tokenised text.
pub(super) fn fold(sentence: &str) -> String {
    let mut folded = String::with_capacity(sentence.len());
    for word in sentence.split_whitespace() {
        if !folded.is_empty() {
            folded.push(' ');
        }
        folded.extend(word.chars().flat_map(char::to_lowercase).map(|c| if c == '’' { '\'' } else { c }));
    }
    let folded = folded.replace(" ' ", "'").replace(" '", "'").replace(" n't", "n't");
    folded.replace(" ,", ",").replace(" .", ".").replace(" !", "!").replace(" ?", "?").replace(" :", ":")
}

/// Tells whether a sentence, folded, asks.
fn is_question(folded: &str, sentence: &str) -> bool {
    let bare = folded.trim_end_matches([')', '*', '_', ' ', '!']);
    let quoted = bare.ends_with(['"', '”']) && !sentence.trim_start().starts_with(['"', '“', '*', '_']);
    let asks = bare.trim_end_matches(['"', '”', ' ']).ends_with(['?', '？', '؟']);
    // `He wrote "Who am I?"` states something.
    asks && !quoted && !is_tagged_statement(folded) && !tells_by_asking(folded)
}

/// Tells whether a question states what it asks for: `did you know that it is the oldest?`.
fn tells_by_asking(folded: &str) -> bool {
    let told = ["did you know ", "do you know that "].iter().find_map(|start| folded.split_once(start));
    told.is_some_and(|(_, told)| {
        let first = told.split(' ').next().unwrap_or_default();
        let open = ASKING.contains(&first) || first == "about" || first == "of";
        !open && told.split(' ').count() >= 3
    })
}

/// Tells whether a question states something first: `it is the oldest, isn't it?`.
fn is_tagged_statement(folded: &str) -> bool {
    let Some((head, tag)) = folded.rsplit_once(", ") else { return false };
    let first = head.split([' ', ',']).next().unwrap_or_default();
    let asked = tag.split(' ').next().unwrap_or_default().trim_end_matches(['?', ' ']);
    head.split(' ').count() >= 4 && !ASKING.contains(&first) && ASKING.contains(&asked)
}

/// Tells whether a sentence is nothing but a web address.
fn is_address(sentence: &str) -> bool {
    let bare = sentence.trim_matches(|c: char| matches!(c, '<' | '>' | '(' | ')' | '.' | '*' | ' '));
    !bare.contains(char::is_whitespace) && (bare.starts_with("http://") || bare.starts_with("https://"))
}

/// Tells whether a sentence is nothing but the number of a list item whose text is missing: `1.`.
fn is_bare_number(sentence: &str) -> bool {
    let digits = sentence.strip_suffix(['.', ')']).unwrap_or_default();
    (1..=3).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())
}

/// Tells whether a folded sentence only leads in what follows it.
fn is_lead_in(folded: &str, body: &str, words: usize) -> bool {
    if words > MAX_COURTESY_WORDS {
        return false;
    }
    let starts = LEAD_INS.iter().any(|start| starts_with_words(body, start));
    if folded.trim_end_matches(['*', '_', ' ']).ends_with([':', '：']) && starts {
        return true;
    }
    let handed = [
        "here is a ",
        "here's a ",
        "here is an ",
        "here's an ",
        "here is the ",
        "here's the ",
        "here are the ",
    ];
    let rest = handed.iter().find_map(|start| body.strip_prefix(start));
    rest.is_some_and(|rest| {
        let noun = rest.split(' ').take(3).any(|word| HANDED_OVER.contains(&word));
        noun && !rest.contains([':', ';']) && !rest.contains(|c: char| c.is_ascii_digit())
    })
}

/// Tells whether the body of a sentence refuses, and states nothing besides: a number or a clause behind a turn does.
fn is_refusal(body: &str) -> bool {
    let mut clauses = clauses(body).into_iter();
    let refused = clauses.next().is_some_and(|(_, clause)| refuses(clause));
    refused && !has_number(body) && clauses.all(|(joined, clause)| states_nothing(joined, clause))
}

/// Tells whether a clause begins as a refusal, or says that what was retrieved lacks something.
fn refuses(clause: &str) -> bool {
    REFUSALS.iter().any(|start| starts_with_words(clause, start))
        || (RETRIEVED.iter().any(|name| clause.starts_with(name))
            && LACKS.iter().any(|verb| clause.contains(verb)))
}

/// Tells whether what follows a turn states nothing: another refusal, a courtesy, a question put indirectly. Behind a
/// word that also joins nouns (`joined`), it has to be a clause at all.
fn states_nothing(joined: bool, clause: &str) -> bool {
    let clause = strip_interjections(clause);
    let words = || clause.split(' ');
    let body = ["it ", "they "].iter().find_map(|subject| clause.strip_prefix(subject)).unwrap_or(clause);
    let lacking = ["does", "do", "did"].iter().find_map(|verb| body.strip_prefix(verb));
    refuses(clause)
        || lacking.is_some_and(|rest| LACKS.iter().any(|verb| rest.starts_with(verb)))
        || COURTESY_STARTS.iter().any(|start| starts_with_words(clause, start))
        || words().next().is_some_and(|first| ASKED.contains(&first))
        || (joined && !words().any(|word| FINITE.contains(&word)))
}

/// Splits a body at its turns; each clause comes with whether a word that also joins nouns stands before it.
fn clauses(body: &str) -> Vec<(bool, &str)> {
    let mut clauses = Vec::new();
    let (mut rest, mut joined) = (body, false);
    let first = |text: &str| {
        let joins = JOINS.iter().map(|turn| (turn, true));
        let turns = TURNS.iter().map(|turn| (turn, false)).chain(joins);
        turns.filter_map(|(turn, joins)| Some((text.find(turn)?, turn.len(), joins))).min()
    };
    // A refusal has few words, so that looking for each turn again costs little.
    while let Some((at, length, joins)) = first(rest) {
        clauses.push((joined, rest[..at].trim()));
        rest = &rest[at + length..];
        joined = joins;
    }
    clauses.push((joined, rest.trim()));
    clauses
}

/// Tells whether a body has a digit outside of brackets, where it would be a citation's.
fn has_number(body: &str) -> bool {
    let mut depth = 0_usize;
    body.chars().any(|c| {
        match c {
            '[' | '【' => depth += 1,
            ']' | '】' => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && c.is_ascii_digit()
    })
}

/// Takes interjections off the beginning of a sentence.
fn strip_interjections(core: &str) -> &str {
    let mut body = core;
    // Three at most: `Hello, I'm sorry, unfortunately …`.
    for _ in 0..3 {
        let Some(found) = INTERJECTIONS.iter().find(|word| starts_with_words(body, word)) else { break };
        body = body[found.len()..].trim_start_matches(|c: char| !c.is_alphanumeric());
    }
    body
}

/// Tells whether `text` begins with whole words.
fn starts_with_words(text: &str, words: &str) -> bool {
    text.strip_prefix(words).is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '\''))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[rustfmt::skip]
    #[test]
    fn what_states_nothing_is_dropped() {
        for sentence in [
            "Hello!", "Hi there", "Hope this helps!", "I hope this helps.",
            "Let me know if you have any questions.", "Thank you for reaching out!",
            "Sure, here is the list you asked for:", "Sure!", "Sure thing !",
            "Here's a summary of the article.", "Here are the key points:", "do you like yoga ?",
            "Who is he?", "did you know about that?", "Do you know who wrote it?", "What is the capital of France？", "I'm sorry, I can't help with that.",
            "I’m sorry, but I can’t assist with that request.",
            "I don't know based on the provided context.", "I do n't know .", "i don ' t know .",
            "Unfortunately, I couldn't find any information about that.",
            "Based on the provided context, I cannot answer this question.",
            "The provided context does not mention the price.",
            "The context doesn't contain information about Berlin.",
            "As an AI language model, I don't have access to real-time data.", "---", "...",
            "Best regards,", "Would you like me to explain further?", "Thanks, let me know if it works!",
            "me too, do you like it?",
            "The provided document does not mention taxes and does not state a fee.",
            "I don't have any information about prices and taxes.",
            "The context does not say who he was and where he is from.",
            "I cannot provide that information because the context does not include it.",
            "I couldn't find any information about that [1]; please let me know if it helps.",
        ] {
            assert_eq!(worth(sentence), Worth::Nothing, "{sentence}");
        }
    }

    #[rustfmt::skip]
    #[test]
    fn what_states_something_stays() {
        for sentence in [
            "Paris", "did you know that chrome is a free browser ?", "Hello Kitty was created in 1974.", "Sure, the capital is Paris.",
            "The answer is 42.",
            "I don't know the name of the drummer , but i do know that they had the longest lasting one .",
            "i ' m not sure , but i do know it ' s called biscuits in the united states .",
            "it is the most popular drug in the world , isn ' t it ?", "He wrote the book \"Who Am I?\"",
            "The contract does not include a penalty clause.", "Thanks to Edison, streets were lit.",
            "I agree that Honda is the largest.", "No country has won it twice.",
            "I can't recommend it because it is toxic.",
            "i've never heard of them, but they've been around for a long time.",
            "Best Buy was founded in 1966.", "Here is Berlin's oldest church.",
            "Sorry is a song by Justin Bieber.", "Let it be is by the Beatles.",
            "The following year, he moved to Rome.", "Welcome to Night Vale is a podcast.", "3.5",
            "The provided document states that the fee is $5 and does not mention taxes.",
            "The context does not mention taxes and the fee is $5.",
            "The context does not mention taxes and the fee is five dollars.",
            "The context does not mention taxes, so it's free.",
            "There is no information fee; the price is $5.", "I cannot provide refunds after 30 days.",
            "There is no information fee; refunds take long.", "I don't know, but probably Paris.",
            "巴黎是法国的首都。", "The scorecard of the final between India and Sri Lanka is as follows:",
        ] {
            assert_eq!(worth(sentence), Worth::Claim, "{sentence}");
        }
    }

    #[test]
    fn small_talk_is_weak() {
        for sentence in ["Yes.", "that ' s awesome !", "i agree .", "1.", "https://example.com/a.", "me too!"]
        {
            assert_eq!(worth(sentence), Worth::Weak, "{sentence}");
        }
    }
}
