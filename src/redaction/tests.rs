use std::sync::LazyLock;

use proptest::prelude::*;

use super::*;
use crate::growth::assert_linear;

/// Built once: building takes longer than reading.
static SHIPPED: LazyLock<Recognisers> = LazyLock::new(Recognisers::shipped);

/// Kinds and values found in a text by the shipped recognisers.
fn found(text: &str) -> Vec<(String, &str)> {
    let findings = SHIPPED.find(text);
    findings.into_iter().map(|f| (f.kind.name().to_owned(), &text[f.start..f.end])).collect()
}

#[test]
fn what_hides_a_digit_hides_nothing() {
    for card in [
        "4111\u{200b}1111\u{200d}1111\u{2060}1111",
        "４１１１ １１１１ １１１１ １１１１",
        "٤١١١١١١١١١١١١١١١",
        "४१११११११११११११११",
    ] {
        assert_eq!(found(&format!("é {card}。")), [("card".to_owned(), card)]);
    }
}

#[test]
fn all_kinds_at_once() {
    let text = "Mail a@b.example from 203.0.113.7 or 2001:db8::1, SSN 536-90-4399, card 4111 1111 1111 1111, \
                IBAN DE89 3704 0044 0532 0130 00, call (212) 555-0178, https://x.example/?token=3297dabaff4a8f22";
    let kinds: Vec<String> = found(text).into_iter().map(|(kind, _)| kind).collect();
    assert_eq!(kinds, ["email", "ipv4", "ipv6", "ssn", "card", "iban", "phone", "url_secret"]);
}

#[test]
fn precedence_settles_overlaps() {
    assert_eq!(
        found("https://bob:hunter2x@mail.example.com/"),
        [("url_secret".to_owned(), "bob:hunter2x")],
        "not the address bob:hunter2x@mail.example.com"
    );
}

#[test]
fn patterns_lists_and_national_ids_are_added() {
    let config: RecogniserConfig = toml::from_str(
        r#"
        national_ids = ["br_cpf"]
        patterns = [{ name = "customer", regex = 'cust-(\d{6})' }]
        deny_lists = [{ name = "project", words = ["Blue Heron", "ＯＲＩＯＮ"] }]
        "#,
    )
    .unwrap();
    let text = "CPF 529.982.247-25 of cust-123456 in blue heron and orion, not orionid";
    let findings = Recognisers::new(&config).unwrap().find(text);
    let found: Vec<_> = findings.iter().map(|f| (f.kind.name(), &text[f.start..f.end])).collect();
    assert_eq!(
        found,
        [
            ("br_cpf", "529.982.247-25"),
            ("customer", "123456"),
            ("project", "blue heron"),
            ("project", "orion")
        ]
    );
}

#[test]
fn a_pattern_that_cannot_be_used_is_named() {
    for (regex, said) in [
        ("(", "\"mine\": "),
        (r"\d{1,1000}{1,1000}{1,1000}", "\"mine\": "),
        ("a*", "empty text"),
        (&"a".repeat(2000), "2000 bytes"),
    ] {
        let patterns = vec![Pattern { name: "mine".into(), regex: regex.into() }];
        let error = Recognisers::new(&RecogniserConfig { patterns, ..Default::default() }).unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
    let deny_lists = vec![DenyList { name: "mine".into(), words: vec![String::new()] }];
    assert!(Recognisers::new(&RecogniserConfig { deny_lists, ..Default::default() }).is_err());
}

#[test]
fn time_is_linear_whatever_the_text() {
    for unit in [
        "4",
        "4111 ",
        "1-",
        "536904399 ",
        "555 010 0177 ",
        "1.2.3.4.",
        "@",
        "a.b-c@d.",
        ":",
        "2001:db8:1:2:3:4:5:",
        "a://b:c",
        "?key=",
        "?token=a&",
        "&key=",
        "sk-",
        "sk-a/",
        "SG.",
        "ya29.a-",
        "4111111111111111½2223003122003222 ",
        "eyJ.",
        "eyJ",
        "key A7bK9cQ2Zx4LmP8t ",
        "-----BEGIN PRIVATE KEY-----",
        "-----BEGIN PRIVATE KEY-----a-",
        "DE89 3704 0044 ",
        "\u{200b}4",
        "e\u{301}",
        "\u{301}",
        "ﬁ",
        "_",
        "%41",
        "\\n",
        "(",
        "+1(",
    ] {
        assert_linear(unit, |text| drop(SHIPPED.find(text)));
    }
}

/// Texts of what recognisers look at.
fn hostile() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        any::<char>().prop_map(String::from),
        "[0-9 .@:/+()_-]{1,20}",
        "[a-f0-9:]{1,12}",
        prop::sample::select(vec![
            "4111 1111 1111 1111",
            "sk-",
            "phone ",
            "ssn 536904399",
            "key=",
            "eyJ",
            "a@b.example",
            "\u{200d}",
            "１２３",
            "-----BEGIN ",
            "PRIVATE KEY-----",
            "://",
            "?token=",
            "DE89 3704 0044 0532 0130 00",
            "é",
            "e\u{301}",
            "ﬁ",
            "½",
            "㎏",
            "4111111111111111½2223003122003222",
            "２００１:db8::1",
            "\\n",
        ])
        .prop_map(String::from),
    ];
    prop::collection::vec(part, 0..40).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn findings_slice_the_text_ascending_and_apart(text in prop_oneof![hostile(), any::<String>()]) {
        let mut end = 0;
        for finding in SHIPPED.find(&text) {
            prop_assert!(end <= finding.start && finding.start < finding.end);
            prop_assert!(text.get(finding.start..finding.end).is_some());
            end = finding.end;
        }
    }

    #[test]
    fn digits_with_marks_are_found(mark in prop::sample::select(vec!["\u{336}", "\u{332}", "\u{fe0f}\u{20e3}", "\u{3164}"])) {
        let card: String = "4111111111111111".chars().map(|digit| format!("{digit}{mark}")).collect();
        let text = format!("x {card} y");
        prop_assert!(found(&text).iter().any(|(kind, _)| kind == "card"), "{card}");
    }

    #[test]
    fn what_is_between_invisible_characters_is_found(places in prop::collection::vec(0..19_usize, 0..6)) {
        let mut card: Vec<char> = "4111-1111-1111-1111".chars().collect();
        for place in places {
            card.insert(place.max(1), '\u{200b}');
        }
        let card: String = card.into_iter().collect();
        let text = format!("x {card} y");
        prop_assert_eq!(found(&text), [("card".to_owned(), card.as_str())]);
    }
}
