//! What windows hold, and which are chosen.

use std::convert::Infallible;

use proptest::prelude::*;

use super::*;
use crate::growth::assert_linear;

/// Takes each word and each mark as a token.
fn tokens(text: &str) -> Result<Vec<(usize, usize)>, Infallible> {
    Ok(text
        .split_word_bound_indices()
        .filter(|(_, word)| !word.trim().is_empty())
        .map(|(at, word)| (at, at + word.len()))
        .collect())
}

fn contexts(texts: &[String]) -> Vec<Context> {
    let context = |(index, text): (usize, &String)| Context {
        id: format!("chk_{index}"),
        text: text.clone(),
        score: None,
    };
    texts.iter().enumerate().map(context).collect()
}

fn small(window_tokens: usize, overlap_tokens: usize) -> WindowConfig {
    WindowConfig { window_tokens, overlap_tokens, ..WindowConfig::default() }
}

fn cut(texts: &[&str], config: &WindowConfig) -> (Windows, Vec<String>) {
    let texts: Vec<String> = texts.iter().map(ToString::to_string).collect();
    let found = windows(&contexts(&texts), &tokens, config).unwrap();
    let pieces = found.all.iter().map(|window| texts[window.context][window.bytes.clone()].into()).collect();
    (found, pieces)
}

#[test]
fn short_sentences_are_packed_and_overlap() {
    let (_, pieces) = cut(&["It is big. It is old. It is far. It is new."], &small(8, 4));
    assert_eq!(pieces, ["It is big. It is old.", "It is old. It is far.", "It is far. It is new."]);
    let (_, pieces) = cut(&["It is big. It is old. It is far."], &small(8, 0));
    assert_eq!(pieces, ["It is big. It is old.", "It is far."]);
    let (_, pieces) = cut(&["It is big.", "It is old."], &small(70, 20));
    assert_eq!(pieces, ["It is big.", "It is old."]);
}

#[test]
fn long_sentences_are_cut_into_overlapping_pieces() {
    let (_, pieces) = cut(&["a b c d e f g h i j"], &small(4, 2));
    assert_eq!(pieces, ["a b c d", "c d e f", "e f g h", "g h i j"]);
}

#[test]
fn what_the_cap_leaves_out_is_counted() {
    let config = WindowConfig { max_windows: 2, ..small(4, 0) };
    let (found, _) = cut(&["It is big. It is old. It is far.", "It is new."], &config);
    assert_eq!((found.all.len(), found.tokens_cut), (2, 8));
}

#[test]
fn the_rarest_common_words_choose() {
    let texts = ["The city is big.", "The wars ended in 1990.", "The city has a river.", "Nothing here."];
    let (found, _) = cut(&texts, &small(20, 0));
    assert_eq!(found.best_for("the war ended", None, 2), [1, 0]);
    assert_eq!(found.best_for("cities with rivers", None, 1), [2]);
    assert_eq!(found.best_for("zzz", None, 3), [0, 1, 2]);
    assert_eq!(found.best_for("the war ended", Some(&[3, 9]), 2), [3, 1]);
    assert_eq!(found.best_for("the war ended", None, 9).len(), 4);
    assert!(found.best_for("the war ended", None, 0).is_empty());
}

#[test]
fn repeated_passages_do_not_crowd_out_others() {
    let texts = ["The war ended.", "The war ended.", "A war began.", "Rain fell."];
    let (found, _) = cut(&texts, &small(20, 0));
    assert_eq!(found.best_for("the war ended", None, 2), [0, 2]);
    assert_eq!(found.best_for("the war ended", None, 4), [0, 2, 3, 1]);
}

#[test]
fn many_claims_against_many_windows_are_quick() {
    let text: String = (0..40_000).map(|n| format!("The word{} of w{} is here. ", n % 997, n % 89)).collect();
    let (found, _) = cut(&[&text], &WindowConfig::default());
    assert!(found.all.len() > 5000, "{}", found.all.len());
    for n in 0..200 {
        let claim = format!("The word{n} of w{n} is here and there and the end is the end");
        assert_eq!(found.best_for(&claim, None, 4).len(), 4);
    }
}

#[test]
fn hostile_contexts_take_linear_time() {
    for unit in [".", "a ", "a. ", "\n", "\"", "(a. "] {
        assert_linear(unit, |text| drop(cut(&[text], &WindowConfig::default())));
    }
}

#[test]
fn the_last_of_many_contexts_is_found() {
    let mut texts = vec!["Rain fell in the north on that day.".to_owned(); 9_999];
    texts.push("Refunds take thirty days.".to_owned());
    let found = windows(&contexts(&texts), &tokens, &WindowConfig::default()).unwrap();
    assert_eq!((found.tokens_cut, found.best_for("A refund takes thirty days.", None, 1)), (0, vec![9_999]));
}

#[test]
fn a_context_that_cannot_be_tokenised_is_an_error() {
    let refuse = |_: &str| Err("refused");
    assert_eq!(windows(&contexts(&["a".into()]), &refuse, &small(3, 1)).unwrap_err(), "refused");
}

#[test]
fn invisible_characters_are_no_text() {
    for text in ["", " \n\t", "\u{200b}", "\u{feff}\u{200d} \u{2060}", "\u{ad}\u{0}", "\u{e0041}", "\u{2800}"]
    {
        assert!(!has_text(text), "{text:?}");
    }
    for text in ["a", "\u{200b}.", "語", "🙂"] {
        assert!(has_text(text), "{text:?}");
    }
}

#[test]
fn characters_are_counted() {
    assert_eq!(char_range("Köln ist groß", 6..9), 5..8);
    assert_eq!(char_range("Köln", 2..90), 1..4);
    assert_eq!(char_range("Köln", Range { start: 90, end: 2 }), 4..4);
}

proptest! {
    #[test]
    fn windows_hold_every_token_within_the_budget(
        texts in proptest::collection::vec("([a-cA-C]{1,3}[.!?]? ?\n?|\\PC){0,60}", 0..4),
        window in 1_usize..12,
        overlap in 0_usize..14,
        max in 0_usize..40,
        k in 0_usize..6,
    ) {
        let config = WindowConfig { max_windows: max, ..small(window, overlap) };
        let passages = contexts(&texts);
        let found = windows(&passages, &tokens, &config).unwrap();
        let mut missing = 0;
        for (index, text) in texts.iter().enumerate() {
            for (start, end) in tokens(text).unwrap() {
                let held = |w: &&Window| w.context == index && w.bytes.start <= start && end <= w.bytes.end;
                missing += u64::from(!found.all.iter().any(|window| held(&window)));
            }
        }
        prop_assert_eq!(missing, found.tokens_cut);
        prop_assert!(found.all.len() <= max && (max < 40 || missing == 0 || found.all.len() == max));
        for piece in &found.all {
            let text = &texts[piece.context][piece.bytes.clone()];
            prop_assert!(piece.tokens <= window && piece.tokens > 0 && !text.is_empty());
        }
        let best = found.best_for("a b ab CC", Some(&[1, 0, 7]), k);
        let distinct: HashSet<usize> = best.iter().copied().collect();
        prop_assert!(distinct.len() == best.len() && best.len() == k.min(found.all.len()));
        prop_assert!(best.iter().all(|index| *index < found.all.len()));
    }

    #[test]
    fn any_offsets_are_read(text in any::<String>(), offsets in proptest::collection::vec((0_usize..90, 0_usize..90), 0..20)) {
        let found = windows(&contexts(&[text]), &|_| Ok::<_, Infallible>(offsets.clone()), &small(3, 1)).unwrap();
        let _ = found.best_for("a", None, 3);
    }
}
