//! Which claims are doubted and for what, and what hostile texts cost.

use proptest::prelude::*;

use super::{tables::Tables, *};
use crate::{
    evaluators::nli::{
        claims::{ClaimKind, split},
        lines::blocks,
    },
    growth::assert_linear,
};

const ENGLISH: &[Lang] = &[Lang::Eng];

/// The doubt of each claim of an answer.
fn doubts_of(answer: &str, languages: &[Lang]) -> Vec<Option<Doubt>> {
    let spans = split(answer).spans;
    let text = |span: &ClaimSpan| &answer[span.bytes.clone()];
    let doubts = Doubts::of(answer, spans.iter().map(text), languages);
    spans.iter().map(|span| doubts.of_claim(text(span), span)).collect()
}

/// Expects this doubt of the only claim of each answer.
fn check(expected: Option<Doubt>, answers: &[&str]) {
    for answer in answers {
        assert_eq!(doubts_of(answer, ENGLISH), [expected], "{answer}");
    }
}

#[test]
fn what_can_be_judged_has_no_doubt() {
    check(
        None,
        &[
            "Refunds take 30 days.",
            "The fee is $9.99, or 50% of the price from 2026-11-02 to 12/24.",
            "the queen ' s guard slipped on a manhole cover at buckingham palace .",
            "Call +49 30 123456 or open 24/7, 50+ staff answer.",
            "The iPhone 15 Pro costs 999 euros at McDonald's and YouTube.",
            "The mayor said ` so it goes ` and ' wow ' to the officers .",
            "- Standard shipping: 3-5 days, 10 × 15 cm at most",
            "Vanessa Müller trabaja for Deutsche Bahn in Frankfurt.",
            "**Paris** is the capital of **France**, not **Lyon**.",
        ],
    );
}

#[test]
fn other_languages_are_doubted() {
    check(
        Some(Doubt::Language),
        &[
            "Sie können Ihre Bestellung innerhalb von 30 Tagen nach Erhalt zurücksenden.",
            "Une nouvelle carte coûte 12 euros, sauf en cas de vol déclaré à la police.",
            "La Brisa alcanza 85 km en modo Turbo y la asistencia llega hasta los 45 km/h.",
            "早炊きモードでは約28分で炊き上がります。",
            "是的。",
            "Возврат занимает тридцать дней.",
            "환불은 30일이 걸립니다.",
        ],
    );
    let answer = "Das Konto ist kostenlos, wenn monatlich mindestens 700 Euro eingehen. Girocard inklusive.";
    assert_eq!(doubts_of(answer, ENGLISH), [Some(Doubt::Language); 2], "the whole decides for a short claim");
    assert_eq!(doubts_of(answer, &[Lang::Deu]), [None, Some(Doubt::Short)]);
    assert_eq!(doubts_of(answer, &[]), [None, Some(Doubt::Short)], "no list, no check");
    assert_eq!(doubts_of("Refunds take 30 days.", &[Lang::Jpn]), [None], "nothing is sure of few words");
    let japanese = "早炊きモードでは約28分で炊き上がります。";
    assert_eq!(doubts_of(japanese, &[Lang::Eng, Lang::Jpn]), [None]);
}

#[test]
fn code_is_doubted() {
    check(
        Some(Doubt::Code),
        &[
            "Run `cargo build --release` now.",
            "Use `get_user(id)` or `getUser()`.",
            "parse_config() -> Result<Config>",
            "user_id = get_user(\"anna\")",
            "std::fs::read_to_string(path) && drop_all()",
        ],
    );
    check(
        None,
        &[
            "The `--force` flag overwrites the files that are already there.",
            "King Dingane kaSenzangakhona ruled the Zulu kingdom.",
            "The list is in /etc/hosts/allow, and the support team at help@acme.example knows the file.",
            "Refunds take 30 days [chk_unknown_document_of_refunds].",
        ],
    );
}

#[test]
fn formulas_are_doubted() {
    check(
        Some(Doubt::Formula),
        &[
            "E = mc^2",
            "The energy is E = mc^2.",
            "$\\frac{a}{b}$",
            "3 × 4 + 2 = 14",
            "The total is 3 × 4 + 2 = 14.",
            "x² + y² = r²",
            "$$a + b$$ and $c$",
            "\\(\\sum_{i} x_i\\)",
            "10 + 5 + 2.50 = 17.50 €",
        ],
    );
    check(
        None,
        &[
            "The fee is $5 - $10 a month.",
            "Shipping costs $5 and returns cost $10 each.",
            "The score was 3 - 2 for Arsenal.",
            "Prices rose 20 % in 2024 and 5 % in 2025.",
            "The C++ and C# teams moved on 11/24/2026.",
            "The frame measures 3 × 4 cm inside.",
        ],
    );
}

#[test]
fn pronouns_without_a_name_are_doubted() {
    check(
        Some(Doubt::Pronoun),
        &[
            "It was founded in 1940 by two brothers.",
            "it ' s a sport that involves performing tricks .",
            "But they have 23,768 locations worldwide.",
            "This means that refunds take 30 days.",
            "that's filmed in seattle , washington .",
            "Yes, he was born in Paris and died in Rome.",
            "They were made in France, Italy and Germany.",
            "These include historical performance and recent form.",
        ],
    );
    check(
        None,
        &[
            "It is possible that refunds take longer.",
            "it ' s likely that refunds take longer .",
            "It takes 30 days to get a refund.",
            "It often rains in northern Germany.",
            "There is a pool behind the hotel.",
            "This policy covers water damage.",
            "Those customers get refunds within days.",
            "I like the hotel and the garden.",
            "It runs large, so we recommend one size smaller.",
            "They are old, and the museum was opened in 1990.",
            "It and the museum were built in 1990.",
            "Its battery lasts 45 km in turbo mode.",
        ],
    );
}

#[test]
fn an_earlier_name_resolves_a_pronoun() {
    use Doubt::Pronoun;
    for (answer, expected) in [
        ("McDonalds is old and big. It was founded in Illinois in 1940.", vec![None, None]),
        ("# Paris\n\nIt was founded by the Parisii tribe.", vec![None]),
        ("do you like yoga ? it is a group of practices from india .", vec![None]),
        ("That's cool! It was founded by two brothers in 1940.", vec![Some(Pronoun)]),
        ("It was big. It was sold to Acme in 1995.", vec![Some(Pronoun); 2]),
        ("It was built of steel in 1990. It was sold to Acme in 1995.", vec![Some(Pronoun), None]),
    ] {
        let found = doubts_of(answer, ENGLISH);
        assert!(found.ends_with(&expected), "{answer}: {found:?}");
    }
}

#[test]
fn few_content_words_are_doubted() {
    check(
        Some(Doubt::Short),
        &[
            "Paris",
            "King Shaka",
            "The house is big.",
            "i love them too !",
            "| Paris | big |",
            "You can return it.",
        ],
    );
    check(None, &["Gift cards never expire.", "The fee is 9 euros.", "| Paris | big | old |"]);
}

#[test]
fn a_window_in_another_language_is_no_evidence() {
    let doubts = Doubts::of("", std::iter::empty(), ENGLISH);
    let french = "En cas de perte ou de vol de votre carte, bloquez-la immédiatement dans l'application.";
    assert_eq!(doubts.of_window(french, true), Some(Doubt::Language));
    assert_eq!(doubts.of_window("Refunds are paid within thirty days.", true), Some(Doubt::Table));
    assert_eq!(doubts.of_window("Refunds are paid within thirty days.", false), None);
    let any = Doubts::of("", std::iter::empty(), &[]);
    assert_eq!(any.of_window(french, false), None);
}

#[test]
fn a_table_is_cut_where_its_header_is_not_in_the_window() {
    let text = "Prices.\n\n| City | Fee |\n|---|---|\n| Paris | 9 |\n| Rome | 8 |\n\nThey rise.\n\n| x | 1 |\n| y | 2 |";
    let tables = Tables::of(text);
    let cut = |from: &str, to: &str| {
        let start = text.find(from).unwrap();
        tables.are_cut_by(&(start..text.find(to).unwrap() + to.len()))
    };
    for (from, to, expected) in [
        ("Prices", "| Rome | 8 |", false),
        ("| City", "| Paris", false),
        ("| Paris", "| Rome | 8 |", true),
        ("Rome", "They rise.", true),
        ("They", "rise.", false),
        ("They", "| x | 1 |", false),
        ("| x", "| y", false),
        ("| y", "2 |", true),
        ("Prices", "They rise.", false),
    ] {
        assert_eq!(cut(from, to), expected, "{from} .. {to}");
    }
}

#[test]
fn hostile_texts_take_linear_time() {
    for unit in [
        "`",
        "`a` ",
        "``a`",
        "$",
        "$a$ ",
        "$$",
        "\\a",
        "a = ",
        "* ",
        "(",
        "it is ",
        ", and ",
        "it's ",
        "| a |\n",
        "|--|\n",
        "a_b ",
        "aA ",
        "-",
        "^",
        "語",
        "ß",
        ". ",
        "é é ",
        "so ",
        "' ",
        "that that ",
    ] {
        assert_linear(unit, |text| {
            let whole = 0..text.len();
            let span = ClaimSpan { chars: whole.clone(), bytes: whole, kind: ClaimKind::Sentence };
            let doubts = Doubts::of(text, std::iter::once(text), ENGLISH);
            assert!(doubts.of_claim(text, &span).is_none_or(|doubt| Doubt::ALL.contains(&doubt)));
        });
        assert_linear(unit, |text| {
            let tables = Tables::of(text);
            assert!(
                blocks(text).iter().filter(|block| tables.are_cut_by(&block.bytes)).count() <= text.len()
            );
        });
    }
}

proptest! {
    #[test]
    fn any_text_is_read(text in "\\PC{0,80}|([a-z`$=*|\\-\n\\\\^. 0-9'é語]{1,3} ?){0,60}", from in 0_usize..60, to in 0_usize..60) {
        for languages in [ENGLISH, &[], &[Lang::Cmn, Lang::Rus]] {
            prop_assert_eq!(doubts_of(&text, languages).len(), split(&text).spans.len());
        }
        let whole = 0..text.len();
        let span = ClaimSpan { chars: whole.clone(), bytes: whole, kind: ClaimKind::Sentence };
        let doubts = Doubts::of(&text, std::iter::once(text.as_str()), ENGLISH);
        let _ = (doubts.of_claim(&text, &span), doubts.of_window(&text, false));
        let _ = Tables::of(&text).are_cut_by(&(from..to));
    }
}
