//! `/`: how it stands.

use std::collections::BTreeMap;

use askama::Template;
use axum::{Extension, Router, extract::State, http::StatusCode, response::Response, routing::get};
use jiff::Timestamp;

use super::{
    away::{Away, needs},
    chart::{Chart, share},
    checked, page,
    text::{Shown, shown},
    top::{Top, lasting, plain},
};
use crate::{
    domain::{Person, Role},
    http::house::{House, scope, sees_all},
    monitor::audit::Share,
    store::SinkState,
};

/// Most rows of a table of this page.
const MAX_ROWS: usize = 12;

/// The routes.
pub(super) fn router() -> Router<House> {
    Router::new().route("/", get(overview))
}

/// The page.
#[derive(Template)]
#[template(path = "overview.html")]
struct OverviewPage {
    top: Top,
    chart: Chart,
    tiles: Vec<Tile>,
    features: Vec<Feature>,
    rules: Vec<Rule>,
    newest: u64,
    letters: Vec<(String, u64)>,
    sinks: Option<Vec<Sink>>,
    audit: Audit,
}

/// A number with what it is of.
struct Tile {
    name: &'static str,
    value: String,
    beside: String,
    to: &'static str,
}

/// A feature with its verdicts.
struct Feature {
    name: Shown,
    /// Where its calls are.
    path: String,
    calls: u64,
    fail: u64,
    review: u64,
    pass: u64,
    failed: String,
}

/// A rule with how often it did not pass.
struct Rule {
    name: Shown,
    /// Where the calls are that it does not let pass.
    path: String,
    fail: u64,
    unsure: u64,
    error: u64,
}

/// A sink with how it stands.
struct Sink {
    name: String,
    state: &'static str,
    pending: u64,
    oldest: String,
    dead: u64,
    error: Shown,
}

/// What the audit slice tells, in words.
struct Audit {
    false_pass: String,
    beside: String,
    features: Vec<(Shown, String)>,
}

/// Shows how it stands, within what the person may see.
async fn overview(
    State(house): State<House>,
    Extension(person): Extension<Person>,
) -> Result<Response, Away> {
    needs(&person, Role::Read)?;
    let scope = scope(&person);
    let glance = house.glances.of(&*house.store, &scope).await?;
    let queue = house.store.review_state(&scope).await?;
    let now_ms = Timestamp::now().as_millisecond();
    let oldest = queue.oldest_ms.map_or_else(String::new, |at| format!("oldest {}", lasting(now_ms - at)));
    let letters: u64 = glance.overview.dead_letters.values().sum();
    let today = glance.days.last().and_then(|day| glance.overview.days.get(day));
    let today_checked: u64 = today.map_or(0, |verdicts| verdicts.values().sum());
    let failed = today.and_then(|verdicts| verdicts.get("fail")).copied().unwrap_or(0);
    let audit = audit(&glance.audit.false_pass, &glance.audit.false_pass_by_feature, glance.audit.labelled);
    let tile = |name, value: String, beside: String, to| Tile { name, value, beside, to };
    let mut tiles = vec![
        tile("Checked today", today_checked.to_string(), format!("{failed} failed"), "/calls"),
        tile("Wait for a label", queue.open.to_string(), oldest, "/review"),
        tile(
            "Labels differ",
            queue.disputed.to_string(),
            "wait for a decision".into(),
            "/review?disputed=true",
        ),
        tile("Dead letters", letters.to_string(), "could not be checked".into(), "/dead"),
        tile("False passes", audit.false_pass.clone(), audit.beside.clone(), ""),
    ];
    // Of what no tenant is known, only those see the number who see all.
    if sees_all(&person) {
        tiles.insert(
            3,
            tile("Wait for a judge", glance.overview.deferred.to_string(), "in every tenant".into(), ""),
        );
    }
    Ok(page(
        StatusCode::OK,
        &OverviewPage {
            top: Top::of(&person, "/"),
            chart: Chart::of(&glance.days, &glance.overview.days),
            tiles,
            features: features(&glance.overview.features),
            rules: rules(&glance.overview.rules),
            newest: glance.overview.newest,
            letters: glance
                .overview
                .dead_letters
                .iter()
                .map(|(class, count)| (plain(class), *count))
                .collect(),
            sinks: sinks(&house, &person).await?,
            audit,
        },
    ))
}

/// Features by how many calls they have.
fn features(counts: &BTreeMap<String, BTreeMap<String, u64>>) -> Vec<Feature> {
    let of = |verdicts: &BTreeMap<String, u64>, verdict| verdicts.get(verdict).copied().unwrap_or(0);
    let mut rows: Vec<(u64, &String)> =
        counts.iter().map(|(name, verdicts)| (verdicts.values().sum(), name)).collect();
    rows.sort_by_key(|(calls, name)| (std::cmp::Reverse(*calls), *name));
    let rows = rows.into_iter().take(MAX_ROWS);
    rows.filter_map(|(calls, name)| {
        let verdicts = counts.get(name)?;
        let fail = of(verdicts, "fail");
        Some(Feature {
            name: shown(name, 300),
            path: checked::path("feature", name),
            calls,
            fail,
            review: of(verdicts, "review"),
            pass: of(verdicts, "pass"),
            failed: format!("{:.1} %", share(fail, calls) * 100.0),
        })
    })
    .collect()
}

/// Rules by how often they failed.
fn rules(counts: &BTreeMap<String, BTreeMap<String, u64>>) -> Vec<Rule> {
    let row = |(name, outcomes): (&String, &BTreeMap<String, u64>)| {
        let of = |outcome| outcomes.get(outcome).copied().unwrap_or(0);
        let path = checked::path("rule", name);
        Rule { name: shown(name, 300), path, fail: of("fail"), unsure: of("unsure"), error: of("error") }
    };
    let mut rows: Vec<Rule> = counts.iter().map(row).collect();
    rows.sort_by_key(|rule| std::cmp::Reverse((rule.fail, rule.error, rule.unsure)));
    rows.truncate(MAX_ROWS);
    rows
}

/// Every sink that is configured, and what is still there of others; none for who does not see all: they stand so over all tenants,
/// and what one said last may quote a call.
async fn sinks(house: &House, person: &Person) -> Result<Option<Vec<Sink>>, Away> {
    if !sees_all(person) {
        return Ok(None);
    }
    let states = house.standing().await?;
    let row = |state: SinkState| Sink {
        state: match (state.paused_ms.is_some(), state.dead > 0, state.last_error.is_some()) {
            (true, ..) => "paused",
            (_, true, _) => "gives up",
            (_, _, true) => "tries again",
            _ => "well",
        },
        name: state.sink,
        pending: state.pending,
        oldest: state.oldest_ms.map_or_else(String::new, lasting),
        dead: state.dead,
        error: shown(state.last_error.as_deref().unwrap_or_default(), 1_000),
    };
    Ok(Some(states.into_iter().take(100).map(row).collect()))
}

/// The estimate in words.
fn audit(whole: &Option<Share>, by_feature: &BTreeMap<String, Share>, labelled: u64) -> Audit {
    let interval = |share: &Share| format!("{:.1} to {:.1} %", share.lo * 100.0, share.hi * 100.0);
    let (false_pass, beside) = match whole {
        Some(share) => (format!("{:.1} %", share.share * 100.0), interval(share)),
        None => ("–".to_owned(), format!("{labelled} of the audit slice labelled")),
    };
    let told =
        |share: &Share| format!("{:.1} % ({}, {} calls)", share.share * 100.0, interval(share), share.n);
    let features =
        by_feature.iter().take(MAX_ROWS).map(|(name, share)| (shown(name, 300), told(share))).collect();
    Audit { false_pass, beside, features }
}
