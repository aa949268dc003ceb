//! What splits into claims, and what hostile answers cost.

use proptest::prelude::*;

use super::*;
use crate::growth::assert_linear;

fn texts(answer: &str) -> Vec<&str> {
    split(answer).spans.into_iter().map(|span| &answer[span.bytes]).collect()
}

/// Splits `marked` at each `|`, and expects the same pieces of the text without the marks.
fn check_sentences(marked: &str) {
    let text = marked.replace('|', "");
    let expected: Vec<&str> = marked.split('|').map(str::trim).collect();
    let found: Vec<&str> = sentences(&text).into_iter().map(|span| &text[span]).collect();
    assert_eq!(found, expected, "{marked}");
}

#[test]
fn sentences_end_where_they_end() {
    for marked in [
        "Paris",
        "It is big. |It is old.",
        "caffeine is the drug . |it ' s popular .",
        "that ' s awesome ! |i ' ve never heard of them , but i know .",
        "Dr. Smith met Mrs. Jones in St. Louis. |They talked.",
        "dr . smith met mr . jones . |they talked .",
        "Use fruit, e.g. Apples or i.e. Pears. |Then stop.",
        "He lives in the U.S. |He works in the U.S. Senate.",
        "in the u . s . senate he spoke . |it was late .",
        "See No. 5 and p. 3 of Fig. 2. |The answer is no. |He left.",
        "Apple Inc. was founded at 5 a.m. on Monday. |It grew.",
        "It costs approx. five dollars. |That is cheap.",
        "It weighs 3.5 kg in v1.2.3. |Version 2.0 is lighter.",
        "See https://a.example.com/x?q=1.5&y=A.B. |Then write to bob.m@example.com. |Done.",
        "J. K. Rowling wrote it. |George R. R. Martin did not.",
        "i love the song by george r . r . martin . |he is good .",
        "Well... maybe. |He waited… |Then he left.",
        "so . . . maybe it is . |he left .",
        "He said \"Go. Now.\" and left. |She stayed.",
        "he said \" go . now . \" and left . |she stayed .",
        "\"Go.\" |\"No.\" |He left.",
        "\"Go!\" he said. |\"Why?\" she asked.",
        "It opened (see p. 4. It is long.) in 1990. |It closed.",
        "(It is one. |It is two.) |It is three.",
        "巴黎是法国的首都。|柏林很大！|真的？|是。",
        "It is big.[1] |It is old. [2, 3] |It is far.【4†source】 |It ends.",
        "It is the end.|The next one came in 1990.|Then it rained.",
        "Use Node.js and System.Text here. |It works.",
        "Steps: 1. Wait. |2. Go.",
        "He chose vitamin C. |It is good.",
        "I like Yahoo! and Google. |Wow! |Great!! |Really?!",
        "paris is nice. |it is big. |cats are ok",
        "The film (2019) won.* |It did.",
        "**Bold one.** |Two.",
        "The law, no. 5, passed. |100 ms. |The end.",
        "He earned a Ph.D. in Bonn. |However, he left.",
        "Items, etc. |The rest.",
        "that ' s awesome ! |:) it is a browser .",
        "It rose 5%. |3 people saw it.",
    ] {
        check_sentences(marked);
    }
}

#[test]
fn answers_are_split_into_claims() {
    for (answer, expected) in [
        ("Paris", vec!["Paris"]),
        ("", vec![]),
        (" \n\t\n", vec![]),
        ("Hello! Paris is big. Hope this helps!", vec!["Paris is big."]),
        ("I'm sorry, I can't help with that.", vec![]),
        ("I don't know based on the provided context.", vec![]),
        ("Yes. It is big.", vec!["It is big."]),
        ("Yes.", vec!["Yes."]),
        ("do you like yoga ? it is a group of practices .", vec!["it is a group of practices ."]),
        (
            "that's awesome! i've never heard of them, but they've been around for a long time.",
            vec!["i've never heard of them, but they've been around for a long time."],
        ),
        (
            "Sure, here is the list:\n\n- Paris\n* Berlin is big. It is old.\n  1) Rome\n",
            vec!["Paris", "Berlin is big.", "It is old.", "Rome"],
        ),
        ("# France\n\nThe largest cities are:\n1. Paris\n2. Lyon", vec!["Paris", "Lyon"]),
        ("| City | Size |\n|---|---|\n| Paris | big |\n| | |", vec!["| Paris | big |"]),
        ("It runs.\n```sh\nrun. it.\n```\nIt stops.", vec!["It runs.", "It stops."]),
        ("**Cause**\nIt broke.\n\n**Cure**\nMend it.", vec!["It broke.", "Mend it."]),
        ("**Cause**\nIt broke.\n**Cure**\nMend it.", vec!["It broke.", "Mend it."]),
        (
            "**It is big.**\n\n**It is old.**\n\nSo it is.",
            vec!["**It is big.**", "**It is old.**", "So it is."],
        ),
        ("It has:\n**Paris**\n**Lyon**", vec!["**Paris**", "**Lyon**"]),
        ("{\"answer\": \"It is big. It is old.\", \"n\": [1, 2]}", vec![]),
        (" [\"It is big.\", {\"a\": \"It is old.\"}]\n", vec![]),
        ("```json\n{\"answer\": \"It is big.\"}\n```", vec![]),
        ("[sic] It is big.", vec!["[sic] It is big."]),
        ("{name} is big.", vec!["{name} is big."]),
        ("Dear customer,\nIt is big.\nKind regards,\nThe Support Team", vec!["It is big."]),
        (
            "It is big. [chk_1] It is old. [doc-2, doc-3]",
            vec!["It is big. [chk_1]", "It is old. [doc-2, doc-3]"],
        ),
        ("**Paris**\n\nIt is the capital.", vec!["**Paris**", "It is the capital."]),
        ("Key Findings\n\nIt is big.\n\nSources:\n- https://a.example", vec!["It is big."]),
        ("The scorecard of 2014 is as follows:", vec!["The scorecard of 2014 is as follows:"]),
        ("Paris: the capital\r\nRome: old\r\n", vec!["Paris: the capital", "Rome: old"]),
    ] {
        assert_eq!(texts(answer), expected, "{answer}");
    }
}

#[test]
fn kinds_and_characters_are_told() {
    let answer = "Zürich ist groß.\n- Köln auch\n| a | b |";
    let found = split(answer);
    let kinds: Vec<_> = found.spans.iter().map(|span| (span.kind, span.chars.clone())).collect();
    let expected =
        vec![(ClaimKind::Sentence, 0..16), (ClaimKind::ListItem, 19..28), (ClaimKind::TableRow, 29..38)];
    assert_eq!(kinds, expected);
}

#[test]
fn what_the_cap_drops_is_counted() {
    let found = split(&"It is big. ".repeat(MAX_CLAIMS + 7));
    assert_eq!((found.spans.len(), found.dropped), (MAX_CLAIMS, 7));
}

#[test]
fn hostile_answers_take_linear_time() {
    for head in ["(", " "] {
        assert_linear("A! b 1. c. d", |text| drop(split(&(head.repeat(text.len()) + text))));
    }
    assert_linear(";", |text| drop(split(&("I cannot help".to_owned() + text))));
    for unit in [
        ".",
        "\"",
        "\n",
        " ",
        ". ",
        "\" . ",
        "? ",
        "!a",
        "(",
        ")",
        "(a. b) ",
        "|",
        "a.A",
        "- \n",
        "[1",
        "```\n",
        "1. ",
        "'",
        "a",
        "“",
        "e.g. ",
        ".\n",
        "> ",
        "**",
        "|--|\n",
        "。",
        "http://a.",
        " . . a",
        "\u{301}",
        ", is",
        "i'm ",
        "[",
        "{\"a\":",
        "Dear x,\n",
        "Thanks,\n",
        "**a**\n",
        " and ",
        "i can't help; ",
    ] {
        assert_linear(unit, |text| assert!(split(text).spans.len() <= MAX_CLAIMS));
    }
}

fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        any::<char>().prop_map(String::from),
        proptest::sample::select(vec![
            ".",
            "!",
            "?",
            "\"",
            "'",
            "“",
            "”",
            "(",
            ")",
            "[1]",
            "\n",
            "\n\n",
            " ",
            " . ",
            "- ",
            "# ",
            "| ",
            "|--|",
            "```",
            "e.g.",
            "Dr.",
            "the",
            "The",
            "a",
            "1.",
            "。",
            "「",
            "」",
            ":",
            "**",
            "é",
            "I don't know",
            ",",
            "http://",
        ])
        .prop_map(String::from),
    ];
    proptest::collection::vec(piece, 0..60).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn claims_slice_their_answer(answer in pieces()) {
        let mut end = 0;
        for span in split(&answer).spans {
            let claim = &answer[span.bytes.clone()];
            prop_assert!(span.bytes.start >= end && !claim.is_empty() && claim.trim() == claim);
            let chars: String = answer.chars().skip(span.chars.start).take(span.chars.len()).collect();
            prop_assert_eq!(claim, chars);
            end = span.bytes.end;
        }
    }

    #[test]
    fn sentences_are_ordered_and_keep_every_word(text in pieces()) {
        let found = sentences(&text);
        prop_assert!(found.windows(2).all(|pair| pair[0].end <= pair[1].start));
        // Only list markers such as `a)` and check boxes hold letters that no sentence keeps.
        if !text.contains([')', '[']) {
            let count = |text: &str| text.chars().filter(|c| c.is_alphabetic()).count();
            let kept: usize = found.iter().map(|span| count(&text[span.clone()])).sum();
            prop_assert_eq!(kept, count(&text));
        }
    }

    #[test]
    fn any_text_is_read(text in any::<String>()) {
        let _ = (split(&text), sentences(&text));
    }
}

#[test]
fn a_list_after_thanks_is_no_signature() {
    let answer = "It is big.\nThanks!\n- Refund window: 45 days\n- Shipping fee: $20";
    let found: Vec<&str> = split(answer).spans.into_iter().map(|span| &answer[span.bytes]).collect();
    assert_eq!(found.len(), 3, "{found:?}");
}
