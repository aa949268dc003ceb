use jiff::Timestamp;
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::domain::{DecidedBy, Reason, RuleResult, Verdict};

fn routes(routes: Value) -> Routes {
    let config: NotifyConfig = serde_json::from_value(json!({"routes": routes})).unwrap();
    config.check().unwrap();
    Routes::new(&config, "https://a.example/x/".parse().ok(), &Redactor::shipped())
}

fn to() -> Value {
    json!({"kind": "slack", "url_env": "X"})
}

fn evaluation(failed: &[&str]) -> Evaluation {
    let rule = |rule: &&str| RuleResult {
        rule: (*rule).to_owned(),
        outcome: RuleOutcome::Fail,
        detail: "two: \"a secret\"".into(),
        spans: Vec::new(),
    };
    Evaluation {
        evaluation_id: Uuid::from_u128(5),
        tenant_id: "acme".into(),
        request_id: "order/4711?x".into(),
        evaluator_version: "v".into(),
        trace_id: "t".into(),
        span_id: None,
        feature: "shop".into(),
        occurred_at: "2026-11-20T10:15:31Z".parse().unwrap(),
        evaluated_at: "2026-11-20T10:16:00Z".parse().unwrap(),
        verdict: Verdict::Review,
        decided_by: DecidedBy::Policy,
        reasons: vec![Reason::UnsureBand],
        faithfulness: Some(0.5),
        truncated: false,
        tokens_cut: 0,
        claims: Vec::new(),
        rules: failed.iter().map(rule).collect(),
        judge: None,
        stages: Vec::new(),
        cost_usd: None,
        judge_avoided_usd: None,
        probability: 1.0,
    }
}

fn review(reason: Reason) -> ReviewItem {
    ReviewItem::new(reason, 1.0)
}

fn told(routes: &Routes, failed: &[&str], item: Option<Reason>) -> Vec<(String, Event, Severity)> {
    let addressed = routes.of_verdict(&evaluation(failed), item.map(review).as_ref());
    addressed.into_iter().map(|one| (one.route, one.notice.event, one.notice.severity)).collect()
}

#[test]
fn what_is_about_a_dimension_goes_to_who_asks_for_it_and_to_nobody_else() {
    let routes = routes(json!({
        "general": {"to": to()},
        "privacy": {"to": to(), "dimensions": ["personal_data"]},
        "security": {"to": to(), "dimensions": ["injection", "secrets"]},
        "both": {"to": to(), "dimensions": ["general", "personal_data"]},
    }));
    let unsure = Some(Reason::UnsureBand);
    let names = |failed: &[&str], item| {
        told(&routes, failed, item).into_iter().map(|(route, ..)| route).collect::<Vec<_>>()
    };
    assert_eq!(names(&[], unsure), ["both", "general"]);
    assert_eq!(names(&["safety.contact"], unsure), ["both", "privacy"]);
    assert_eq!(names(&["safety.contact"], None), ["both", "privacy"], "without a review it is a finding");
    assert_eq!(names(&["safety.prompt_leak"], unsure), ["security"]);
    assert_eq!(names(&["safety.secrets", "safety.contact"], None), ["both", "privacy", "security"]);
    assert!(names(&["format.json"], None).is_empty(), "a failed rule without a dimension is no notice");
}

#[test]
fn a_route_hears_once_of_a_verdict_and_of_what_it_asks_for() {
    let routes = routes(json!({
        "findings": {"to": to(), "dimensions": ["secrets"], "events": ["finding.recorded"]},
        "all": {"to": to(), "dimensions": ["secrets"]},
        "bad": {"to": to(), "severity": "error"},
        "other": {"to": to(), "tenants": ["globex"]},
        "shop": {"to": to(), "features": ["shop"], "tenants": ["acme"]},
    }));
    let unsure = Some(Reason::UnsureBand);
    assert_eq!(
        told(&routes, &["safety.secrets"], unsure),
        [
            ("all".to_owned(), Event::ReviewCreated, Severity::Critical),
            ("findings".to_owned(), Event::FindingRecorded, Severity::Critical),
        ]
    );
    assert_eq!(told(&routes, &[], unsure), [("shop".to_owned(), Event::ReviewCreated, Severity::Warning)]);
    assert_eq!(told(&routes, &[], Some(Reason::AuditSlice))[0].2, Severity::Info);
    assert!(told(&routes, &[], None).is_empty());
}

#[test]
fn a_notice_is_the_same_each_time_and_quotes_nothing() {
    let routes = routes(json!({"r": {"to": to(), "dimensions": ["secrets"]}}));
    let mut again = evaluation(&["safety.secrets"]);
    let first = routes.of_verdict(&again, Some(&review(Reason::UnsureBand)));
    again.evaluated_at = "2026-11-20T11:00:00Z".parse().unwrap();
    let second = routes.of_verdict(&again, Some(&review(Reason::UnsureBand)));
    assert_eq!(first[0].notice.notice_id, second[0].notice.notice_id);
    assert_eq!(first[0].notice.notice_id.get_version_num(), 5);
    let text = serde_json::to_string(&first[0].notice).unwrap();
    assert!(!text.contains("a secret"), "{text}");
    assert_eq!(first[0].notice.link.as_deref(), Some("https://a.example/x/calls/acme/order%2F4711%3Fx"));
}

#[test]
fn a_condition_that_comes_again_is_another_and_its_end_is_another_notice() {
    let routes = routes(json!({"r": {"to": to()}}));
    let lasts = Condition {
        name: "sink.dead/a".into(),
        event: Event::SinkDead,
        tenant_id: None,
        summary: "s".into(),
        details: Map::new(),
    };
    let end = Some(Timestamp::UNIX_EPOCH);
    let ids = [(1, None), (2, None), (1, end), (2, end)]
        .map(|(at, end)| routes.condition(&lasts, at, end).notice_id);
    let distinct: std::collections::BTreeSet<Uuid> = ids.into_iter().collect();
    assert_eq!(distinct.len(), 4);
    assert_eq!(routes.condition(&lasts, 1, None).subject(), routes.condition(&lasts, 2, end).subject());
}

#[test]
fn a_row_of_the_golden_set_is_told_of() {
    let promoted = Promoted {
        golden_id: Uuid::from_u128(3),
        dataset: "d",
        tenant_id: "acme",
        request_id: "r",
        feature: "shop",
        at: Timestamp::UNIX_EPOCH,
    };
    let routes = routes(
        json!({"r": {"to": to(), "events": ["gold.promoted"]}, "s": {"to": to(), "severity": "error"}}),
    );
    let addressed = routes.gold_promoted(&promoted);
    assert_eq!(addressed.len(), 1);
    assert_eq!((addressed[0].route.as_str(), addressed[0].notice.event), ("r", Event::GoldPromoted));
}
