//! Texts, ordinary and not, with what the shipped rules have to make of them.

use super::tests::call;
use super::*;

/// Outcome of a shipped rule for an answer with sources.
fn outcome(rule: &str, answer: &str, contexts: &[&str]) -> RuleOutcome {
    let results = Rules::shipped().unwrap().check(&call(answer, None, contexts));
    results.into_iter().find(|r| r.rule == rule).unwrap().outcome
}

/// Every answer passes, or the rule has nothing to say about it.
fn passes(rule: &str, contexts: &[&str], answers: &[&str]) {
    for answer in answers {
        assert_ne!(outcome(rule, answer, contexts), RuleOutcome::Fail, "{rule}: {answer:?}");
    }
}

/// Every answer fails.
fn fails(rule: &str, contexts: &[&str], answers: &[&str]) {
    for answer in answers {
        assert_eq!(outcome(rule, answer, contexts), RuleOutcome::Fail, "{rule}: {answer:?}");
    }
}

#[test]
fn brackets_that_cite_nothing_are_no_citations() {
    let ordinary = [
        "Use arr[0] or f(x)[7].",
        "Take arr[9] then.",
        r#"{"quantities":[12,5,7]}"#,
        r#"Here: {"quantities": [12,5,7]}"#,
        "```json\n{\"quantities\": [12,5,7]}\n```",
        "x lies in [0, 1] or [5, 10].",
        "We follow [ISO-9001].",
        "Fixed in [CVE-2024-1234].",
        "At [2026-03-12T10:00:00Z] it began.",
        "See [https://example.com/a1] and [404] or [2024].",
        "Refunds take 30 days. [CHK_0]",
        "Refunds take 30 days[1].",
    ];
    passes("citations.known", &["Refunds take 30 days."], &ordinary);
}

#[test]
fn wrong_citations_are_found() {
    let wrong = [
        "Refunds take 30 days. [chk_9]",
        "Refunds take 30 days. [chk_refund_policy]",
        "Refunds take 30 days [2].",
        "Refunds take 30 days [1][9].",
        "Refunds take 30 days [1, 4].",
        "Refunds take 30 days【4】.",
    ];
    fails("citations.known", &["Refunds take 30 days."], &wrong);
}

#[test]
fn positions_count_contexts_though_retrieval_names_documents() {
    let rules = Rules::shipped().unwrap();
    let mut call = call("Refunds take 30 days. [2] Fees apply. [doc-7]", None, &["a", "b"]);
    call.retrieval_ids = Some(vec!["doc-7".into()]);
    let results = rules.check(&call);
    let cited: Vec<String> = rules.citations(&results).into_iter().map(|s| s.note).collect();
    assert_eq!(cited, ["chk_1", "doc-7"]);
    assert!(results.iter().all(|r| r.rule != "citations.known" || r.outcome == RuleOutcome::Pass));
}

#[test]
fn schemas_of_calls_are_refused_where_they_cost_too_much() {
    let constants: Vec<_> = (0..700).map(|i| serde_json::json!({"const": i})).collect();
    let references = vec![serde_json::json!({"$ref": "#/$defs/a"}); 20];
    let schema = serde_json::json!({
        "$defs": {"a": {"anyOf": constants}}, "items": {"allOf": references}, "type": "array",
    });
    let unique = serde_json::json!({"uniqueItems": true});
    let outcome = |schema: serde_json::Value, items: usize| {
        let mut call = call(&format!("[{}1]", "1,".repeat(items)), None, &[]);
        call.content.output_schema = Some(schema);
        let results = Rules::shipped().unwrap().check(&call);
        results.into_iter().find(|r| r.rule == "format.output_schema").unwrap().outcome
    };
    assert_eq!(outcome(schema.clone(), 3), RuleOutcome::Pass);
    assert_eq!(outcome(schema, 100_000), RuleOutcome::Error);
    assert_eq!(outcome(unique.clone(), 100), RuleOutcome::Fail);
    assert_eq!(outcome(unique, 100_000), RuleOutcome::Error);
}

#[test]
fn typed_errors_and_turns_of_tool_calls_owe_no_json() {
    let mut call = call("", None, &[]);
    call.content.output_schema = Some("titled".into());
    let outcome = |call: &Call| {
        let results = Rules::shipped().unwrap().check(call);
        results.into_iter().find(|r| r.rule == "format.output_schema").unwrap().outcome
    };
    assert_eq!(outcome(&call), RuleOutcome::Fail);
    call.error_class = Some("timeout".into());
    assert_eq!(outcome(&call), RuleOutcome::NotApplicable);
}

#[test]
fn what_was_taken_out_of_the_answer_is_known_only_as_the_same() {
    let rule = "safety.payment_and_identity";
    fails(
        rule,
        &["Your card is <CARD>."],
        &["It is <CARD_2>.", "<CARD> and <SSN>", "<IBAN:a123456789abcdef>"],
    );
    passes(rule, &["Your card is <CARD>."], &["It is <CARD>.", "<CARDS> <card> <CARD", "<EMAIL>"]);
    fails(
        "safety.secrets",
        &["The key is <KEY>."],
        &["Use <KEY>.", "postgres://<URL_SECRET>@db.example.com/app"],
    );
}

#[test]
fn links_are_found_and_compared_as_they_are_read() {
    let source =
        ["Pay at https://example.com/pay?a=1&b=2 or https://example.com/faq, www.example.com/x&amp;y"];
    let known = [
        "See https://example.com/faq—it helps.",
        "See https://example.com/pay?a=1&amp;b=2.",
        "See https://example.com/x&y and example.com/faq.",
        r#"{"text": "See https://example.com/faq\nBye"}"#,
        "See src/main.rs/x, and/or 24/7 or read.me.py/here.",
    ];
    passes("grounding.urls", &source, &known);
    let unknown =
        ["Log in at evil.com/login.", "Get ftp://example.org/a.", r"See https://example.com\@evil.com/."];
    fails("grounding.urls", &source, &unknown);
}

#[test]
fn a_backslash_leads_to_no_allowed_domain() {
    let pack =
        "[[rule]]\nid='u'\nkind='urls_grounded'\ndescription='d'\non_fail='fail'\nallow=['example.com']";
    let rules = Rules::from_texts(vec![("p.toml".into(), pack.into())]).unwrap();
    let outcome = |answer: &str| rules.check(&call(answer, Some("?"), &[]))[0].outcome;
    assert_eq!(outcome("https://a.example.com/x"), RuleOutcome::Pass);
    assert_eq!(outcome(r"https://example.com\@evil.com"), RuleOutcome::Fail);
}

#[test]
fn numbers_are_compared_whatever_their_form() {
    let pairs = [
        ("It starts on Mar. 12, 2026.", "12 March 2026"),
        ("It starts on 03/12/2026.", "Start: 2026-03-12"),
        ("It starts on 2026-12-03.", "Start: 03/12/2026"),
        ("Es beginnt am 27.11.2026.", "27. November 2026"),
        ("Until 2026-12-09.", "9 de diciembre de 2026"),
        ("Open from 9am to 9:00 p.m.", "9:00 to 21:00"),
        ("Open until 17:00.", "until 5 p.m."),
        ("On the 3rd and the 21st.", "the third and the twenty-first"),
        ("It lasts 12 months, then 7 days.", "a year and a week"),
        ("It takes 1 hour 30 minutes.", "90 minutes"),
        ("It takes 90 minutes.", "1 hour and 30 minutes"),
        ("Use v2.3.1.", "version 2.3.1"),
        ("A 5m cable for 10m users.", "5 m, ten million users"),
        ("In the first year, on the second day.", "Open it and pay."),
        ("On the 3rd day.", "day three"),
        ("Open until 9:30.", "until 9.30"),
        ("10 of them until 2026-12-01.", "炊飯器を10台、2026年12月1日まで"),
        ("Step 1: open it. Step 2: pay.", "Open it and pay."),
        ("First (1) open it, then (2) pay.", "Open it and pay."),
        ("1. Open it.\n2. Pay.", "Open it and pay."),
        ("| 1 | Open |\n| 2 | Pay |", "Open it and pay."),
        ("Call 555-010-9999.", "5550109999"),
        ("Call 5550109999.", "555-010-9999"),
        ("May 5 people come?", "up to 5 people"),
    ];
    for (answer, source) in pairs {
        passes("grounding.numbers", &[source], &[answer]);
    }
}

#[test]
fn numbers_that_no_source_has_are_found() {
    let wrong =
        ["60.", "60)", "27.11.2099", "May 5th", "On May 5 we open.", "9 p.m.", "$5m", "1 hour 31 minutes"];
    fails("grounding.numbers", &["Refunds take 30 days, 1 hour 30 minutes or 5 m."], &wrong);
    fails("grounding.numbers", &["555-010-9999"], &["Call 555-010-9998."]);
}
