//! Shipped packs hold, and no answer makes a rule panic.

use proptest::prelude::*;

use super::*;
use crate::domain::Context;
use crate::growth::assert_linear;

/// Kinds that packs can use, in the order of the README.
const KINDS: &[&str] = &[
    "empty",
    "refusal",
    "truncated",
    "length",
    "tool_loop",
    "phrases",
    "citations",
    "secrets",
    "personal_data",
    "urls_grounded",
    "numbers_grounded",
    "json_schema",
];

/// A call with this answer, question and passages.
pub(super) fn call(answer: &str, input: Option<&str>, contexts: &[&str]) -> Call {
    let example: Example = toml::from_str("answer = ''").unwrap();
    let mut call = example.call();
    call.content.answer = answer.into();
    call.content.input = input.map(str::to_owned);
    let context =
        |(i, text): (usize, &&str)| Context { id: format!("chk_{i}"), text: (*text).into(), score: None };
    call.content.contexts = contexts.iter().enumerate().map(context).collect();
    call
}

#[test]
fn shipped_examples_hold() {
    let rules = Rules::shipped().unwrap();
    let wrong: Vec<_> = rules.check_examples().into_iter().filter(|e| !e.ok).collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_kind_is_shipped_with_examples_of_both_sorts() {
    let rules = Rules::shipped().unwrap();
    for kind in KINDS {
        assert!(rules.iter().any(|(_, k, _)| k == *kind), "no rule of kind {kind}");
    }
    for entry in &rules.entries {
        assert!(!entry.passes.is_empty() && !entry.fails.is_empty(), "{} lacks examples", entry.id);
    }
}

#[test]
fn a_directory_loads_like_the_shipped_packs() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("rules");
    assert_eq!(Rules::load(&dir).unwrap().digest(), Rules::shipped().unwrap().digest());
}

#[test]
fn an_unknown_key_is_refused_by_name() {
    let rule = "[[rule]]\nid='a'\nkind='empty'\ndescription='d'\non_fail='fail'\n";
    for (text, word) in [("colour=1", "colour"), ("passes=[{answer='', colour=1}]", "colour")] {
        let texts = vec![("p.toml".into(), format!("{rule}{text}"))];
        let message = Rules::from_texts(texts).err().unwrap().to_string();
        assert!(
            message.contains(word) && message.contains("p.toml") && message.contains("\"a\""),
            "{message}"
        );
    }
}

#[test]
fn an_id_that_no_backend_takes_is_refused() {
    let load = |id: &str| {
        let rule = format!("[[rule]]\nid='{id}'\nkind='empty'\ndescription='d'\non_fail='fail'\n");
        Rules::from_texts(vec![("p.toml".into(), rule)]).err().map(|error| error.to_string())
    };
    assert_eq!(load(&"a".repeat(165)), None);
    assert!(load(&"a".repeat(171)).unwrap().contains("too long"));
    assert!(load("a b").unwrap().contains("other characters"));
}

#[test]
fn a_panic_is_an_error_of_its_rule() {
    struct Broken;
    impl Rule for Broken {
        fn check(&self, _: &Call) -> Finding {
            panic!("broken")
        }
    }
    let mut rules = Rules::shipped().unwrap();
    rules.entries[0].rule = Box::new(Broken);
    let results = rules.check(&call("Hello.", None, &[]));
    assert_eq!(results[0].outcome, RuleOutcome::Error);
    assert!(results[1..].iter().all(|r| r.outcome != RuleOutcome::Error));
}

#[test]
fn offsets_lead_back_through_folding() {
    let rules = Rules::shipped().unwrap();
    let answer = "ﬁne… ＬＯＲＥＭ \u{200b} Ipsum!";
    let results = rules.check(&call(answer, None, &[]));
    let span = &results.iter().find(|r| r.rule == "safety.prompt_leak").unwrap().spans[0];
    let found: String = answer.chars().skip(span.start).take(span.end - span.start).collect();
    assert_eq!(found, "ＬＯＲＥＭ \u{200b} Ipsum");
}

#[test]
fn hostile_answers_take_linear_time() {
    let rules = Rules::shipped().unwrap();
    let pieces = [
        "sk-", "eyJ", "eyJ.", "[", "【", "[1", "1 ", "4111 ", "@", "a@", "www.", "twenty-", "1,", "`",
        "\u{301}", "-", "a.", "+1 ", "bearer ", "i can't ", "```", "{\"a\":", "a@b.co ", "[chk_9] ", "$1. ",
        "1-", "1-2-3 ", "jan 1 ", "27.11.", "://a:b", "(1) ", "|1 |\n", "a.com/b ", "x&amp;", "\\@",
        "1 day ", "\u{200b}", "1_ ", "[1][9", "third ", "a.m.", "{", "[\"",
    ];
    for piece in pieces {
        assert_linear(piece, |answer| {
            let mut call = call(answer, Some("x"), &[answer]);
            call.content.output_schema = Some("titled".into());
            assert!(rules.check(&call).iter().all(|r| r.detail != "the rule panicked"), "{piece}");
        });
    }
}

#[test]
fn citations_give_the_sentence_and_the_id() {
    let rules = Rules::shipped().unwrap();
    let answer = "Übrigens: refunds take 30 days. [chk_0] Ask again [2]!\n[9] Nobody said this.";
    let results = rules.check(&call(answer, None, &["30 days", "Ask"]));
    let sentence =
        |s: &Span| (answer.chars().skip(s.start).take(s.end - s.start).collect::<String>(), s.note.clone());
    let found: Vec<_> = rules.citations(&results).iter().map(sentence).collect();
    let expected = [
        ("Übrigens: refunds take 30 days. [chk_0]", "chk_0"),
        ("Ask again [2]!", "chk_1"),
        ("[9] Nobody said this.", "9"),
    ];
    assert_eq!(found, expected.map(|(text, id)| (text.to_owned(), id.to_owned())));
    assert!(!rules.is_refusal(&results));
    assert!(rules.is_refusal(&rules.check(&call("I can’t help with that.", None, &[]))));
    assert_eq!(rules.on_fail("citations.known"), OnFail::Fail);
    assert_eq!(rules.on_fail("no.such"), OnFail::Review);
}

#[test]
fn ordinary_answers_break_no_rule() {
    let rules = Rules::shipped().unwrap();
    let context = "Refunds are issued within 5-7 business days (24 hours for Premium). Fee: 2.5% of $1,050, see \
                   https://example.com/fees. Call +1 (555) 010-9999 from 9:00 to 17:30. In force since March 2026.";
    let answers = [
        "You get it in 5-7 business days; Premium takes 1 day.",
        "The fee is 2.5 percent of 1,050 dollars ([fees](https://www.example.com/fees)).",
        "Call +1 555 010 9999 between 9:00 am and 5:30 pm.",
        "It has been in force since March 2026, so since 2026.",
        "Two things matter:\n1. the fee\n2. the wait",
    ];
    for answer in answers {
        for result in rules.check(&call(answer, None, &[context])) {
            assert_ne!(
                result.outcome,
                RuleOutcome::Fail,
                "{answer:?} breaks {}: {}",
                result.rule,
                result.detail
            );
        }
    }
}

/// Pieces that steer random answers into the scanners.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[0-9 .,:%$€/+()-]{0,20}",
        "\\PC{0,6}",
        prop::sample::select(vec![
            "[chk_0]",
            "【1】",
            "[1]",
            "[9",
            "sk-ant-",
            "eyJ",
            "-----BEGIN ",
            "http://",
            "www.",
            "@a.co",
            "30 days",
            "March 12, 2026",
            "thirty-five",
            "```json\n{\"a\":1}\n```",
            "{\"a\":",
            "lorem ipsum",
            "GB82 WEST",
            "+44 20",
            "4111 1111 1111 1111",
            "\u{301}\u{301}",
            "ﷺ",
            "bearer ",
            "2026-03-12",
            "10:30 pm",
            "million",
        ])
        .prop_map(str::to_owned),
    ]
}

proptest! {
    #[test]
    fn any_answer_is_checked_without_panic_and_spans_slice_it(
        answer in prop::collection::vec(piece(), 0..12), input in piece(), context in piece(),
    ) {
        let rules = Rules::shipped().unwrap();
        let answer = answer.concat();
        let length = answer.chars().count();
        for result in rules.check(&call(&answer, Some(&input), &[&context])) {
            prop_assert_ne!(result.outcome, RuleOutcome::Error, "{} {}", result.rule, result.detail);
            for span in result.spans {
                prop_assert!(span.start <= span.end && span.end <= length, "{} {span:?}", result.rule);
            }
        }
    }
}
