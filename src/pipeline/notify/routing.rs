//! Which notices go where. Pure: the same verdict makes the same notices, however often it is made.

use std::collections::BTreeMap;

use jiff::Timestamp;
use reqwest::Url;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::config::{GENERAL, NotifyConfig, RouteConfig};
use crate::{
    domain::{Addressed, Evaluation, Event, Notice, Reason, RuleOutcome, Severity, id},
    pipeline::dispatch::page,
    redaction::Redactor,
    store::ReviewItem,
};

/// Rules that a notice names.
const MOST_RULES: usize = 10;

/// The routing table.
#[derive(Debug, Clone, Default)]
pub struct Routes {
    routes: Vec<(String, Filter)>,
    /// Dimensions by rule.
    dimensions: BTreeMap<String, Vec<String>>,
    severities: BTreeMap<Event, Severity>,
    pages: Option<Url>,
}

/// What a route asks for.
#[derive(Debug, Clone)]
struct Filter {
    events: Vec<Event>,
    features: Vec<String>,
    tenants: Vec<String>,
    severity: Severity,
    dimensions: Vec<String>,
}

/// A row of the golden set that a call has become.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promoted<'a> {
    /// Its id.
    pub golden_id: Uuid,
    /// The set.
    pub dataset: &'a str,
    /// Tenant of the call.
    pub tenant_id: &'a str,
    /// The producer's id of the call.
    pub request_id: &'a str,
    /// Feature of the call.
    pub feature: &'a str,
    /// When it became one.
    pub at: Timestamp,
}

impl Filter {
    /// What a route asks for; tenants and features as calls have them after redaction.
    fn of(route: &RouteConfig, redactor: &Redactor) -> Self {
        let ids = |ids: &[String]| ids.iter().map(|id| redactor.identity(id).into_owned()).collect();
        Self {
            events: route.events.clone(),
            features: ids(&route.features),
            tenants: ids(&route.tenants),
            severity: route.severity,
            dimensions: route.dimensions.clone(),
        }
    }

    /// Whether the route wants a notice.
    fn wants(&self, notice: &Notice) -> bool {
        let of = |wanted: &[String], value: &Option<String>| {
            wanted.is_empty() || value.as_ref().is_none_or(|value| wanted.contains(value))
        };
        let about = match notice.dimensions.is_empty() {
            true => self.dimensions.iter().any(|name| name == GENERAL),
            false => notice.dimensions.iter().any(|name| self.dimensions.contains(name)),
        };
        about
            && (self.events.is_empty() || self.events.contains(&notice.event))
            && of(&self.features, &notice.feature)
            && of(&self.tenants, &notice.tenant_id)
            && notice.severity >= self.severity
    }
}

impl Routes {
    /// The routing table of a configuration that was checked, where our pages are there.
    pub fn new(config: &NotifyConfig, pages: Option<Url>, redactor: &Redactor) -> Self {
        let mut dimensions = BTreeMap::<String, Vec<String>>::new();
        for (name, rules) in &config.dimensions {
            for rule in rules {
                dimensions.entry(rule.clone()).or_default().push(name.clone());
            }
        }
        Self {
            routes: config
                .routes
                .iter()
                .map(|(name, route)| (name.clone(), Filter::of(route, redactor)))
                .collect(),
            dimensions,
            severities: config.severities.clone(),
            pages,
        }
    }

    /// A notice for each route that wants it.
    pub fn address(&self, notice: &Notice) -> Vec<Addressed> {
        let wants = self.routes.iter().filter(|(_, filter)| filter.wants(notice));
        wants.map(|(route, _)| Addressed { route: route.clone(), notice: notice.clone() }).collect()
    }

    /// What people should hear of a verdict: at most one notice a route, of the review where the route wants that, else of the
    /// finding.
    pub fn of_verdict(&self, evaluation: &Evaluation, review: Option<&ReviewItem>) -> Vec<Addressed> {
        if self.routes.is_empty() {
            return Vec::new();
        }
        let failed: Vec<&str> = evaluation
            .rules
            .iter()
            .filter(|rule| rule.outcome == RuleOutcome::Fail && self.dimensions.contains_key(&rule.rule))
            .map(|rule| rule.rule.as_str())
            .collect();
        let mut dimensions: Vec<String> =
            failed.iter().filter_map(|rule| self.dimensions.get(*rule)).flatten().cloned().collect();
        dimensions.sort();
        dimensions.dedup();
        let mut addressed = Vec::new();
        if let Some(review) = review {
            let notice = self.review(evaluation, review, &dimensions, &failed);
            addressed = self.address(&notice);
        }
        if !dimensions.is_empty() {
            let notice = self.finding(evaluation, dimensions, &failed);
            let told = |route: &str, before: &[Addressed]| before.iter().any(|one| one.route == route);
            let others: Vec<Addressed> =
                self.address(&notice).into_iter().filter(|one| !told(&one.route, &addressed)).collect();
            addressed.extend(others);
        }
        addressed
    }

    /// A call waits for a person.
    fn review(
        &self,
        evaluation: &Evaluation,
        review: &ReviewItem,
        dimensions: &[String],
        failed: &[&str],
    ) -> Notice {
        let evaluation_id = evaluation.evaluation_id.to_string();
        let review_id = id::derived_at(evaluation.occurred_at, "review", &[&evaluation_id]);
        let usual = match (review.reason, dimensions.is_empty()) {
            (Reason::AuditSlice, true) => Severity::Info,
            (_, true) => Severity::Warning,
            (_, false) => Severity::Critical,
        };
        let details = json!({
            "review_id": review_id,
            "reason": review.reason,
            "verdict": evaluation.verdict,
            "faithfulness": evaluation.faithfulness,
            "trace_id": evaluation.trace_id,
            "rules": failed.iter().take(MOST_RULES).collect::<Vec<_>>(),
        });
        let notice = Notice {
            dimensions: dimensions.to_vec(),
            summary: "a call waits for a person".to_owned(),
            details: object(details),
            ..self.of_call(Event::ReviewCreated, usual, evaluation)
        };
        // The dimension is what makes it critical, whatever reviews usually are.
        Notice {
            severity: if dimensions.is_empty() { notice.severity } else { notice.severity.max(usual) },
            ..notice
        }
    }

    /// A rule failed that guards a dimension.
    fn finding(&self, evaluation: &Evaluation, dimensions: Vec<String>, failed: &[&str]) -> Notice {
        let details = json!({
            "verdict": evaluation.verdict,
            "trace_id": evaluation.trace_id,
            "rules": failed.iter().take(MOST_RULES).collect::<Vec<_>>(),
        });
        Notice {
            summary: format!("an answer failed a rule about {}", dimensions.join(", ").replace('_', " ")),
            dimensions,
            details: object(details),
            ..self.of_call(Event::FindingRecorded, Severity::Critical, evaluation)
        }
    }

    /// A call became a row of the golden set.
    pub fn gold_promoted(&self, promoted: &Promoted<'_>) -> Vec<Addressed> {
        let golden_id = promoted.golden_id.to_string();
        let notice = Notice {
            tenant_id: Some(promoted.tenant_id.to_owned()),
            feature: Some(promoted.feature.to_owned()),
            request_id: Some(promoted.request_id.to_owned()),
            summary: "a call became a row of the golden set".to_owned(),
            details: object(json!({"golden_id": golden_id, "dataset": promoted.dataset})),
            link: self.page(promoted.tenant_id, promoted.request_id),
            ..self.bare(Event::GoldPromoted, Severity::Info, promoted.at, &[&golden_id])
        };
        self.address(&notice)
    }

    /// A condition began, or ended. The time at which it began is part of what it is: one that comes again is another.
    pub fn condition(&self, lasts: &Condition, began_ms: i64, ended: Option<Timestamp>) -> Notice {
        let began = Timestamp::from_millisecond(began_ms).unwrap_or_default();
        let parts =
            [lasts.name.as_str(), &began_ms.to_string(), if ended.is_some() { "over" } else { "begun" }];
        Notice {
            condition: Some(lasts.name.clone()),
            resolved: ended.is_some(),
            tenant_id: lasts.tenant_id.clone(),
            summary: lasts.summary.clone(),
            details: lasts.details.clone(),
            link: self.pages.as_ref().map(Url::to_string),
            ..self.bare(lasts.event, usual(lasts.event), ended.unwrap_or(began), &parts)
        }
    }

    /// Somebody tries a route.
    pub fn test(&self, route: &str, at: Timestamp) -> Notice {
        Notice {
            summary: format!("this is a test of route {route}; nothing has happened"),
            link: self.pages.as_ref().map(Url::to_string),
            ..self.bare(Event::Test, Severity::Info, at, &[route, &at.to_string()])
        }
    }

    /// A notice about a call.
    fn of_call(&self, event: Event, usual: Severity, evaluation: &Evaluation) -> Notice {
        Notice {
            tenant_id: Some(evaluation.tenant_id.clone()),
            feature: Some(evaluation.feature.clone()),
            request_id: Some(evaluation.request_id.clone()),
            evaluation_id: Some(evaluation.evaluation_id),
            link: self.page(&evaluation.tenant_id, &evaluation.request_id),
            ..self.bare(event, usual, evaluation.evaluated_at, &[&evaluation.evaluation_id.to_string()])
        }
    }

    /// A notice with nothing but its event, by what it is about.
    fn bare(&self, event: Event, usual: Severity, at: Timestamp, parts: &[&str]) -> Notice {
        let parts: Vec<&str> = [event.as_str()].into_iter().chain(parts.iter().copied()).collect();
        Notice {
            notice_id: id::derived("notice", &parts),
            event,
            severity: self.severities.get(&event).copied().unwrap_or(usual),
            condition: None,
            resolved: false,
            occurred_at: at,
            tenant_id: None,
            feature: None,
            request_id: None,
            evaluation_id: None,
            dimensions: Vec::new(),
            summary: String::new(),
            details: Map::new(),
            link: None,
        }
    }

    /// The page of a call.
    fn page(&self, tenant_id: &str, request_id: &str) -> Option<String> {
        page(self.pages.as_ref()?, tenant_id, request_id)
    }
}

/// Something that is wrong with the service.
#[derive(Debug, Clone, PartialEq)]
pub struct Condition {
    /// What it is called: the event and what it is about.
    pub name: String,
    /// What happened.
    pub event: Event,
    /// Tenant that it is about.
    pub tenant_id: Option<String>,
    /// What is wrong, in a sentence.
    pub summary: String,
    /// Numbers.
    pub details: Map<String, Value>,
}

/// How bad a condition is, where the configuration says nothing.
fn usual(event: Event) -> Severity {
    match event {
        Event::DeadLetterSpike | Event::SinkDead => Severity::Error,
        Event::BudgetSpent => Severity::Warning,
        _ => Severity::Info,
    }
}

/// The members of an object.
pub(super) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{DecidedBy, RuleResult, Verdict};

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
        assert_eq!(
            told(&routes, &[], unsure),
            [("shop".to_owned(), Event::ReviewCreated, Severity::Warning)]
        );
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
}
