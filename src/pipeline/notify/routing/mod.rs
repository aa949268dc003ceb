//! Which notices go where. Pure: the same verdict makes the same notices, however often it is made. `making`: what they say.

mod making;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use reqwest::Url;
use serde_json::{Map, Value};

pub use self::making::{Condition, Promoted};
use super::config::{GENERAL, NotifyConfig, RouteConfig};
use crate::{
    domain::{Addressed, Evaluation, Event, Notice, RuleOutcome, Severity},
    redaction::Redactor,
    store::ReviewItem,
};

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
}

/// The members of an object.
pub(in crate::pipeline::notify) fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
