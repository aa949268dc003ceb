//! Whether a claim speaks of something that only a pronoun names.

use unicode_segmentation::UnicodeSegmentation;

use crate::evaluators::nli::{
    claims::sentences,
    function_words::is_function_word,
    not_claims::fold,
    phrases::{COURTESIES, FINITE, WEAK},
};

/// Pronouns that always stand for something named elsewhere.
const PERSONAL: &[&str] = &["it", "he", "she", "they"];
/// Words that do so before a verb, and point at a noun before a noun.
const DEMONSTRATIVE: &[&str] = &["this", "that", "these", "those"];
/// Those who speak: they need no resolving.
const PRESENT: &[&str] = &["i", "we", "you"];
/// What may stand before the subject.
#[rustfmt::skip]
const OPENERS: &[&str] = &[
    "and", "but", "so", "or", "yes", "no", "yeah", "yep", "nope", "well", "however", "also", "then", "oh", "wow", "sure",
    "okay", "ok", "actually", "indeed", "although", "though", "because", "moreover", "additionally", "furthermore",
    "therefore", "thus", "still", "yet", "now", "today", "currently", "unfortunately", "fortunately", "besides",
];
/// What may stand between a demonstrative and its verb.
const ADVERBS: &[&str] =
    &["also", "really", "usually", "often", "then", "only", "just", "still", "always", "never", "typically"];
/// Verbs, beside the finite ones of [`FINITE`], that a demonstrative is the subject of.
#[rustfmt::skip]
const VERBS: &[&str] = &[
    "mean", "makes", "happens", "happened", "helps", "helped", "led", "leads", "comes", "came", "refers", "depends",
    "provides", "provided", "works", "explains", "ensures", "covers", "results", "resulted", "occurs", "occurred",
    "seems", "appears", "looks", "sounds", "went", "go", "goes", "include", "use", "uses", "used",
];
/// What joins a clause that may have a subject of its own.
const JOINS: &[&str] = &[
    "and", "but", "because", "while", "although", "though", "whereas", "so", "since", "when", "if", "unless",
];
/// How far behind the beginning of a clause its verb is looked for, in words.
const MAX_SUBJECT_WORDS: usize = 6;
/// Verbs between an `it` that stands for nothing and what it announces.
#[rustfmt::skip]
const ANNOUNCING: &[&str] = &[
    "is", "was", "be", "been", "seems", "seemed", "appears", "appeared", "turns", "turned", "takes", "took", "follows",
    "happens", "happened", "costs", "remains", "became", "becomes", "isn't", "wasn't", "it's",
];
/// What is said of that which such an `it` announces.
#[rustfmt::skip]
const ANNOUNCED: &[&str] = &[
    "possible", "impossible", "likely", "unlikely", "clear", "unclear", "important", "necessary", "unnecessary", "true",
    "false", "known", "unknown", "said", "believed", "thought", "estimated", "reported", "recommended", "advisable",
    "best", "better", "worth", "hard", "difficult", "easy", "common", "uncommon", "rare", "probable", "certain",
    "uncertain", "essential", "crucial", "vital", "good", "bad", "safe", "unsafe", "legal", "illegal", "allowed",
    "forbidden", "expected", "required", "normal", "natural", "obvious", "evident", "notable", "noteworthy",
    "interesting", "customary", "usual", "unusual", "mandatory", "optional", "permitted", "prohibited", "assumed",
    "agreed", "noted", "stated", "mentioned", "claimed", "argued", "suggested", "fact", "case", "idea", "practice",
    "wise", "useful", "helpful", "ok", "okay", "fine", "time",
];
/// Words that begin what is announced.
const ANNOUNCES: &[&str] = &["that", "to", "if", "whether", "how", "why", "when", "what", "who", "where"];
/// Weather and hours, of which `it` is the subject only in grammar.
#[rustfmt::skip]
const IMPERSONAL: &[&str] = &[
    "rains", "rained", "raining", "snows", "snowed", "snowing", "hails", "hailed", "thunders", "o'clock", "midnight",
    "noon", "sunny", "cloudy", "windy", "depends", "seems", "turns",
];

/// Gives the byte from which on a pronoun of an answer may stand for something: the end of its first sentence that
/// names anything.
pub(super) fn named(answer: &str) -> usize {
    let naming = sentences(answer).into_iter().find(|sentence| names(&fold(&answer[sentence.clone()])));
    naming.map_or(usize::MAX, |sentence| sentence.end)
}

/// Tells whether a folded sentence names something that a later pronoun could stand for.
fn names(folded: &str) -> bool {
    let core = folded.trim_matches(|c: char| !c.is_alphanumeric()).replace(',', "");
    if WEAK.contains(&core.as_str()) || COURTESIES.contains(&core.as_str()) {
        return false;
    }
    let (mut content, mut all) = (0, 0);
    for word in folded.unicode_words().filter(|word| !ADVERBS.contains(word)) {
        all += 1;
        content += usize::from(!is_function_word(word));
        if content >= 2 {
            return true;
        }
    }
    // `It's cool` names nothing; a title such as `Paris` does.
    content == 1 && all == 1
}

/// Tells whether the only subject of a folded claim is a pronoun. `it is possible that` has none, `this policy` is a
/// noun, and the first person needs no resolving.
pub(super) fn is_only_subject(folded: &str) -> bool {
    let words: Vec<Word<'_>> = folded.split(' ').filter_map(Word::of).collect();
    let start = words.iter().position(|word| !OPENERS.contains(&word.text)).unwrap_or(words.len());
    let Some(first) = words.get(start) else { return false };
    let (subject, contracted) = match first.text.split_once('\'') {
        Some((subject, _)) => (subject, true),
        None => (first.text, false),
    };
    let rest = &words[start + 1..];
    let verb = rest.iter().map(|word| word.text).find(|word| !ADVERBS.contains(word)).unwrap_or_default();
    let stands = if PERSONAL.contains(&subject) {
        let joined = matches!(verb, "" | "and" | "or");
        let empty = subject == "it" && announces(rest, contracted);
        !joined && !empty
    } else {
        DEMONSTRATIVE.contains(&subject) && !first.ends && (contracted || is_verb(verb))
    };
    stands && !has_another_subject(rest)
}

/// A word of a folded sentence.
#[derive(Debug, Clone, Copy)]
struct Word<'a> {
    /// The word without marks around it; empty for a mark that stands alone.
    text: &'a str,
    /// Whether a mark behind it ends a clause.
    ends: bool,
}

impl<'a> Word<'a> {
    /// Reads what stands between two blanks; nothing for marks that neither are a word nor end a clause.
    fn of(token: &'a str) -> Option<Self> {
        let text = token.trim_matches(|c: char| !c.is_alphanumeric());
        let ends = token.ends_with([',', ';', ':', '—', '–', '(']) || token == "-" || token == "--";
        (ends || !text.is_empty()).then_some(Self { text, ends })
    }
}

/// Tells whether a word is a verb that a demonstrative can be the subject of.
fn is_verb(word: &str) -> bool {
    FINITE.contains(&word) || VERBS.contains(&word)
}

/// Tells whether what follows `it` makes it a subject in grammar only: `is likely that`, `rains`, `takes days to`.
fn announces(rest: &[Word<'_>], contracted: bool) -> bool {
    let near = || rest.iter().take(12).map(|word| word.text);
    if near().take(3).any(|word| IMPERSONAL.contains(&word)) {
        return true;
    }
    let verb = near().next().unwrap_or_default();
    if !contracted && !near().take(3).any(|word| ANNOUNCING.contains(&word)) {
        return false;
    }
    let duration = matches!(verb, "takes" | "took" | "costs");
    let opens = near().position(|word| ANNOUNCES.contains(&word));
    opens.is_some_and(|opens| duration || near().take(opens).any(|word| ANNOUNCED.contains(&word)))
}

/// Tells whether a later clause has a subject that needs no resolving: `they are old, and the museum is new`, `it runs
/// large, so we recommend`.
fn has_another_subject(rest: &[Word<'_>]) -> bool {
    let begins = |at: usize| at > 0 && (rest[at - 1].ends || JOINS.contains(&rest[at - 1].text));
    (1..rest.len()).filter(|at| begins(*at)).any(|at| {
        if PRESENT.contains(&rest[at].text) && !rest[at].ends {
            return true;
        }
        let clause = rest[at..].iter().take(MAX_SUBJECT_WORDS + 1);
        let mut content = false;
        for word in clause {
            let verb = FINITE.contains(&word.text) || word.text.ends_with("ed");
            if verb && !word.text.contains('\'') {
                return content;
            }
            if word.ends || JOINS.contains(&word.text) {
                return false;
            }
            content |= !word.text.is_empty() && !is_function_word(word.text);
        }
        false
    })
}
