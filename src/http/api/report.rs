//! Totals over all that is stored, and how often verdicts are wrong.

use std::collections::BTreeMap;

use aide::axum::{ApiRouter, routing::get_with};
use axum::{extract::State, http::StatusCode};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    asked::{Reads, Who, Wish},
    told::{Told, described, failed},
};
use crate::{
    domain::Person,
    http::{
        House, house,
        refusal::{Away, plain},
    },
    monitor::audit::{self, AuditReport},
    store::{
        Overview, Report,
        overview::Verdicts,
        reviewing::{QueueState, Scope},
    },
};

/// Since when.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Since {
    /// Only evaluations since this time.
    #[serde(default)]
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    since: Option<Timestamp>,
}

/// The totals, and what the audit slice tells.
#[derive(Debug, Serialize, JsonSchema)]
struct Whole {
    #[serde(flatten)]
    report: Report,
    /// How often verdicts are wrong, by the calls that were drawn for people to look at, with 95 % intervals.
    audit: AuditReport,
}

/// What somebody sees at a glance.
#[derive(Debug, Serialize, JsonSchema)]
struct Glance {
    /// Verdicts by day (UTC), of fourteen days; a day without any is not there.
    days: BTreeMap<String, Verdicts>,
    /// The newest evaluations of these days, which are counted by feature and rule.
    newest: u64,
    /// Of the newest by feature, then verdict.
    features: BTreeMap<String, Verdicts>,
    /// Of the newest by rule, then outcome, those that failed, could not tell or could not run.
    rules: BTreeMap<String, BTreeMap<String, u64>>,
    /// How often verdicts are wrong, by the calls of the last 90 days that were drawn for people to look at.
    audit: AuditReport,
    /// How the queue of reviews stands, now.
    queue: QueueState,
}

/// The routes.
pub(super) fn routes() -> ApiRouter<House> {
    let report = get_with(report, |operation| {
        let summary =
            "Totals over all tenants, and how often verdicts are wrong; for those who see all of it";
        described(operation, "report", summary, &[])
    });
    let overview = get_with(overview, |operation| {
        let summary = "What who asks sees at a glance, and how often verdicts are wrong of it, half a minute old at most; and the queue";
        described(operation, "overview", summary, &[])
    });
    ApiRouter::new().api_route("/v1/report", report).api_route("/v1/overview", overview)
}

/// What somebody sees at a glance.
async fn overview(Who { person, .. }: Who<Reads>, State(house): State<House>) -> Result<Told<Glance>, Away> {
    let scope = house::scope(&person);
    let glance = house.glances.of(&*house.store, &scope).await.map_err(|error| failed(&error))?;
    let queue = house.store.review_state(&scope).await.map_err(|error| failed(&error))?;
    let Overview { days, newest, features, rules, .. } = glance.overview.clone();
    Ok(Told(Glance { days, newest, features, rules, audit: glance.audit.clone(), queue }))
}

/// The totals.
async fn report(
    Who { person, .. }: Who<Reads>,
    State(house): State<House>,
    Wish(Since { since }): Wish<Since>,
) -> Result<Told<Whole>, Away> {
    whole_view(&person)?;
    let since_ms = since.map_or(0, Timestamp::as_millisecond);
    let report = house.store.report(since_ms, 0).await.map_err(|error| failed(&error))?;
    let slice = house.store.audited(&Scope::default(), since_ms).await.map_err(|error| failed(&error))?;
    Ok(Told(Whole { report, audit: audit::estimate(&slice) }))
}

/// Refuses who does not see all tenants and features: what is counted over all of them tells of those that they do not see.
pub(super) fn whole_view(person: &Person) -> Result<(), Away> {
    let remedy = "this is about all tenants and features, and you are held to some: ask with a key made without --tenant";
    match house::sees_all(person) {
        true => Ok(()),
        false => Err(plain(StatusCode::FORBIDDEN, remedy).into()),
    }
}
