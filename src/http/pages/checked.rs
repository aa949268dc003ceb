//! `/calls`: the newest calls that were checked, by verdict, feature and rule: where the numbers of the overview lead to.

use askama::Template;
use axum::{http::StatusCode, response::Response};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use uuid::Uuid;

use super::{
    away::Away,
    calls, page,
    text::{Shown, shown},
    top::{Top, moment, plain},
};
use crate::{
    domain::{Person, Verdict},
    http::house::House,
    store::{Checked, Sought},
};

/// Rows of a page.
const PAGE_ROWS: u32 = 50;

/// Which calls are looked at; an empty text lets all through.
#[derive(Default, Deserialize)]
pub(super) struct Wish {
    #[serde(default)]
    verdict: String,
    #[serde(default)]
    feature: String,
    #[serde(default)]
    rule: String,
    /// The last one of the page before, by time and id.
    before_ms: Option<i64>,
    before_id: Option<Uuid>,
}

/// The page.
#[derive(Template)]
#[template(path = "checked.html")]
struct CheckedPage {
    top: Top,
    verdicts: Vec<(&'static str, String, bool)>,
    feature: String,
    rule: String,
    rows: Vec<Row>,
    /// Where the next page is; empty where there is none.
    next: String,
}

/// A call of the list.
struct Row {
    request: Shown,
    path: String,
    verdict: &'static str,
    why: String,
    faithfulness: String,
    feature: Shown,
    tenant: Shown,
    at: String,
}

/// The address of the list by `feature` or by `rule`.
pub(super) fn path(by: &str, name: &str) -> String {
    format!("/calls?{by}={}", utf8_percent_encode(name, NON_ALPHANUMERIC))
}

/// Shows a page of them, newest first.
pub(super) async fn list(house: &House, person: &Person, wish: Wish) -> Result<Response, Away> {
    let verdict = Verdict::ALL.map(Verdict::as_str).into_iter().find(|word| *word == wish.verdict);
    let sought = Sought {
        verdict,
        feature: Some(wish.feature.as_str()).filter(|name| !name.is_empty()),
        rule: Some(wish.rule.as_str()).filter(|name| !name.is_empty()),
        before: wish.before_ms.map(|at| (at, wish.before_id.unwrap_or(Uuid::nil()))),
        limit: PAGE_ROWS,
        ..Sought::default()
    };
    let found = house.checked(person, &sought).await?;
    let is_full = found.len() >= PAGE_ROWS as usize;
    let next = found.last().filter(|_| is_full).map_or_else(String::new, |last| behind(&wish, last));
    let chosen = |word: &'static str| (word, plain(word), Some(word) == verdict);
    let verdicts = Verdict::ALL.map(Verdict::as_str).map(chosen).into();
    let (top, rows) = (Top::of(person, "/calls"), found.iter().map(row).collect());
    let Wish { feature, rule, .. } = wish;
    Ok(page(StatusCode::OK, &CheckedPage { top, verdicts, feature, rule, rows, next }))
}

/// The address of the page behind a call.
fn behind(wish: &Wish, last: &Checked) -> String {
    let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    format!(
        "/calls?verdict={}&feature={}&rule={}&before_ms={}&before_id={}",
        encoded(&wish.verdict),
        encoded(&wish.feature),
        encoded(&wish.rule),
        last.evaluated_ms,
        last.evaluation_id
    )
}

/// A call as a row.
fn row(one: &Checked) -> Row {
    let reasons: Vec<String> = one.reasons.iter().map(|reason| plain(reason.as_str())).collect();
    Row {
        request: shown(&one.request_id, 200),
        path: calls::path(&one.tenant_id, &one.request_id),
        verdict: one.verdict.as_str(),
        why: reasons.join(", "),
        faithfulness: one.faithfulness.map_or_else(String::new, |share| format!("{share:.2}")),
        feature: shown(&one.feature, 200),
        tenant: shown(&one.tenant_id, 200),
        at: moment(one.evaluated_ms),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_no_part_of_an_address() {
        assert_eq!(path("rule", "a&b=c"), "/calls?rule=a%26b%3Dc");
        assert_eq!(path("feature", "ä"), "/calls?feature=%C3%A4");
    }
}
