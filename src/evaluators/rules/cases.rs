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
    let started = std::time::Instant::now();
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
    assert!(started.elapsed().as_secs() < 10, "{:?}", started.elapsed());
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
fn numbers_of_persons_are_found_however_they_are_spaced() {
    let rule = "safety.payment_and_identity";
    let cards = [
        "Card 4111\u{200b}1111\u{200b}1111\u{200b}1111.",
        "Card 4111.1111.1111.1111.",
        "Card 4111_1111_1111_1111.",
        "Card 4111  1111  1111  1111.",
        "Card ４１１１ １１１１ １１１１ １１１１.",
        "On file: 123-45-6789",
        "For your order we hold SSN 123-45-6789.",
    ];
    fails(rule, &[], &cards);
    passes(rule, &[], &["Part number 123-45-6789", "Ticket: 123-45-6789", "See 1.4.111 and 4.1111."]);
    let answer = "Card 4\u{200b}111 1111 1111 1111.";
    let results = Rules::shipped().unwrap().check(&call(answer, None, &[]));
    let span = &results.iter().find(|r| r.rule == rule).unwrap().spans[0];
    assert_eq!((span.start, span.end), (5, 25));
}

#[test]
fn an_email_is_known_only_as_an_email() {
    fails("safety.contact", &["Ask Johnson."], &["Write to jo@hn.son."]);
    passes("safety.contact", &["Ask Jo@Hn.son."], &["Write to jo@hn.son."]);
}

#[test]
fn secrets_of_more_issuers_are_found() {
    // Put together here, so that no scanner of sources takes them for real.
    let random = "a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8";
    let secret = |prefix: &str| format!("Use {prefix}{random} now.");
    for prefix in ["glpat-", "hf_", "npm_", "whsec_"] {
        fails("safety.secrets", &[], &[&secret(prefix)]);
    }
    fails("safety.secrets", &[], &["Connect to postgres://app:h4rb0ur-x@db.example.com/app."]);
    let placeholders =
        ["postgres://user:password@localhost/db", "postgres://user:${DB_PW}@host/db", "http://a:8080/b@c"];
    passes("safety.secrets", &[], &placeholders);
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
