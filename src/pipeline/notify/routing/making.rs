//! What notices say: of a verdict, a row of the golden set, a condition, an attempt.

use jiff::Timestamp;
use reqwest::Url;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::{Routes, object};
use crate::{
    domain::{Addressed, Evaluation, Event, Notice, Reason, Severity, id},
    pipeline::dispatch::page,
    store::ReviewItem,
};

/// Rules that a notice names.
const MOST_RULES: usize = 10;

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

impl Routes {
    /// A call waits for a person.
    pub(super) fn review(
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
    pub(super) fn finding(
        &self,
        evaluation: &Evaluation,
        dimensions: Vec<String>,
        failed: &[&str],
    ) -> Notice {
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

/// How bad a condition is, where the configuration says nothing.
fn usual(event: Event) -> Severity {
    match event {
        Event::DeadLetterSpike | Event::SinkDead => Severity::Error,
        Event::BudgetSpent => Severity::Warning,
        _ => Severity::Info,
    }
}
