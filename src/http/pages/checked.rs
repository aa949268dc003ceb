//! `/calls`: the newest calls that were checked, by verdict, feature and rule: where the numbers of the overview lead to.

use askama::Template;
use axum::{http::StatusCode, response::Response};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

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

/// Most bytes of the page for what is of calls in its rows.
const ROWS_BYTES: usize = 60_000;

/// Which calls are looked at; an empty text lets all through.
#[derive(Default, Deserialize)]
pub(super) struct Wish {
    #[serde(default)]
    verdict: String,
    #[serde(default)]
    feature: String,
    #[serde(default)]
    rule: String,
    /// Where the page before ended.
    #[serde(default)]
    before: String,
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
    verdict: String,
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
        verdict: Some(wish.verdict.as_str()).filter(|word| !word.is_empty()),
        feature: Some(wish.feature.as_str()).filter(|name| !name.is_empty()),
        rule: Some(wish.rule.as_str()).filter(|name| !name.is_empty()),
        before: wish.before.parse().ok(),
        limit: PAGE_ROWS,
        ..Sought::default()
    };
    let found = house.checked(person, &sought).await?;
    let rows = rows(&found);
    let last = rows.len().checked_sub(1).and_then(|at| found.get(at));
    let is_all = found.len() < PAGE_ROWS as usize && rows.len() == found.len();
    let next = last.filter(|_| !is_all).map_or_else(String::new, |last| behind(&wish, last));
    let chosen = |word: &'static str| (word, plain(word), Some(word) == verdict);
    let verdicts = Verdict::ALL.map(Verdict::as_str).map(chosen).into();
    let (top, Wish { feature, rule, .. }) = (Top::of(person, "/calls"), wish);
    Ok(page(StatusCode::OK, &CheckedPage { top, verdicts, feature, rule, rows, next }))
}

/// The address of the page behind a call.
fn behind(wish: &Wish, last: &Checked) -> String {
    let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    format!(
        "/calls?verdict={}&feature={}&rule={}&before={}",
        encoded(&wish.verdict),
        encoded(&wish.feature),
        encoded(&wish.rule),
        last.place()
    )
}

/// As many calls as rows as a page holds: ids of letters that an address has as nine or twelve fill it.
fn rows(found: &[Checked]) -> Vec<Row> {
    let mut used = 0;
    let fits = |row: &Row| {
        used += row.path.len() + row.request.bytes + row.feature.bytes + row.tenant.bytes + row.why.len();
        used <= ROWS_BYTES
    };
    found.iter().map(row).take_while(fits).collect()
}

/// A call as a row.
fn row(one: &Checked) -> Row {
    let reasons: Vec<String> = one.reasons.iter().take(20).map(|reason| plain(reason)).collect();
    Row {
        request: shown(&one.request_id, 200),
        path: calls::path(&one.tenant_id, &one.request_id),
        verdict: one.verdict.clone(),
        why: reasons.join(", "),
        faithfulness: one.faithfulness.map_or_else(String::new, |share| format!("{share:.2}")),
        feature: shown(&one.feature, 200),
        tenant: shown(&one.tenant_id, 200),
        at: moment(one.evaluated_ms),
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    #[test]
    fn a_page_of_the_longest_ids_is_not_too_large() {
        let id = "\u{1d11e}".repeat(200);
        let one = Checked {
            evaluation_id: Uuid::nil(),
            tenant_id: id.clone(),
            request_id: id.clone(),
            feature: id,
            verdict: "fail".to_owned(),
            decided_by: "nli".to_owned(),
            reasons: vec!["not_supported".to_owned()],
            faithfulness: Some(0.5),
            evaluated_ms: 0,
        };
        let rows = rows(&vec![one; PAGE_ROWS as usize]);
        assert!((5..PAGE_ROWS as usize).contains(&rows.len()), "{}", rows.len());
        let (top, next) = (Top::default(), String::new());
        let page = CheckedPage {
            top,
            verdicts: Vec::new(),
            feature: String::new(),
            rule: String::new(),
            rows,
            next,
        };
        // With the files that it loads it is below 150 kB.
        assert!(page.render().unwrap().len() < 75_000);
    }

    #[test]
    fn names_are_no_part_of_an_address() {
        assert_eq!(path("rule", "a&b=c"), "/calls?rule=a%26b%3Dc");
        assert_eq!(path("feature", "ä"), "/calls?feature=%C3%A4");
    }
}
