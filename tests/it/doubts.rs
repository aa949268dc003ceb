//! What the model cannot judge goes to a person with the reason, and never with a confident number.

use aftercheck::{
    config::Config,
    domain::{ClaimLabel, Doubt, Reason, Stage, StageOutcome, Verdict},
    pipeline::{cascade::Judged, decode::decode},
    redaction::Redactor,
};

use super::models::tiny;

/// The judgement of an answer on this context by the starter, which has no calibration, where ONNX Runtime is there.
async fn judged(answer: &str, context: &str) -> Option<Judged> {
    let library = tiny("three_labels")?.library;
    let mut config = Config::default();
    config.inference.library = library;
    config.inference.model = "models/starter".into();
    config.inference.embedding = "".into();
    let mut message = super::service::call(1);
    message["content"]["answer"] = answer.into();
    message["content"]["contexts"] = serde_json::json!([{ "id": "c", "text": context }]);
    let call = decode(message.to_string().as_bytes(), &Redactor::shipped()).unwrap().call;
    Some(aftercheck::service::cascade(&config).unwrap().judge(&call.into()).await.unwrap())
}

#[tokio::test]
async fn what_cannot_be_judged_is_unsure_and_reviewed() {
    let german = "Der Dispozins beträgt 9,75 Prozent pro Jahr, und das Konto kostet 2,90 Euro im Monat.";
    let table = "| City | Standard fee in euros | Express fee in euros | Days until the delivery |\n|---|---|---|---|\n"
        .to_owned()
        + &"| Amsterdam | 12 euros | 24 euros | delivered within 3 days |\n".repeat(9)
        + "| Paris | 9 euros | 19 euros | delivered within 2 days |";
    for (answer, context, doubt, reason) in [
        (german, german, Doubt::Language, Reason::Language),
        ("Gift cards never expire.", german, Doubt::Language, Reason::Language),
        ("Run `cargo build --release`.", "Run `cargo build --release`.", Doubt::Code, Reason::Code),
        ("3 × 4 + 2 = 14", "3 × 4 + 2 = 14", Doubt::Formula, Reason::Formula),
        (
            "Paris costs 9 euros and 19 euros and is delivered within 2 days.",
            &table,
            Doubt::Table,
            Reason::TableCut,
        ),
        (
            "It was founded in 1940 in Paris.",
            "Acme was founded in 1940 in Paris.",
            Doubt::Pronoun,
            Reason::Pronoun,
        ),
        ("Paris", "Paris is the capital of France.", Doubt::Short, Reason::TooShort),
    ] {
        let Some(Judged { evaluation, review, .. }) = judged(answer, context).await else { return };
        assert_eq!(
            (evaluation.verdict, &evaluation.reasons[..]),
            (Verdict::Review, &[reason][..]),
            "{answer}"
        );
        assert_eq!(review.unwrap().reason, reason);
        assert!(evaluation.claims.iter().all(|claim| claim.doubt == Some(doubt)), "{answer}");
        assert!(evaluation.claims.iter().all(|claim| claim.label == ClaimLabel::Unsure));
        assert!((0.2..=0.8).contains(&evaluation.faithfulness.unwrap()), "{:?}", evaluation.faithfulness);
        let nli = evaluation.stages.iter().find(|stage| stage.stage == Stage::Nli).unwrap();
        assert_eq!((nli.outcome, nli.detail.as_str()), (StageOutcome::Unsure, doubt.as_str()));
    }
}

#[tokio::test]
async fn one_doubt_among_many_claims_leaves_the_number_alone() {
    let context =
        "Refunds are paid within 30 days of the return. Gift cards never expire and carry no fees. It is so.";
    let answer = "Refunds are paid within 30 days. Gift cards never expire. It is so.";
    let Some(Judged { evaluation, .. }) = judged(answer, context).await else { return };
    let doubts: Vec<_> = evaluation.claims.iter().map(|claim| claim.doubt).collect();
    assert_eq!(doubts, [None, None, Some(Doubt::Short)]);
    assert_eq!(evaluation.claims[2].label, ClaimLabel::Unsure);
    assert!(evaluation.claims[0].label == ClaimLabel::Supported, "{:?}", evaluation.claims[0]);
}
