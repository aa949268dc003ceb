//! `/golden`: the golden set: browse it, say what is expected, take it away as a file.

use askama::Template;
use axum::{
    Extension, Form, Router,
    extract::{Path, Query, State},
    http::{StatusCode, header},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use serde::Deserialize;
use uuid::Uuid;

use super::{
    away::{Away, needs},
    calls, page,
    text::{Shown, shown},
    top::{Top, moment},
};
use crate::{
    domain::{Person, Role},
    golden::{GoldenError, Wanted, alike},
    http::house::{House, scope},
    store::golden::{GoldenEntry, GoldenRow},
};

/// Rows of a page.
const PAGE_ROWS: u32 = 50;
/// Most data sets, contexts and entries of a history that a page shows.
const MAX_ROWS: usize = 50;
/// Most bytes of the page for all contexts of a row.
const CONTEXT_BYTES: usize = 30_000;
/// Most bytes of the page for each text that may be edited on it.
const EDIT_BYTES: usize = 25_000;

/// The routes.
pub(super) fn router() -> Router<House> {
    Router::new()
        .route("/golden", get(list))
        .route("/golden/export", get(export))
        .route("/golden/{id}", get(one))
        .route("/golden/{id}/edit", post(edit))
        .route("/golden/{id}/remove", post(remove))
}

/// Which rows are looked at.
#[derive(Default, Deserialize)]
struct Wish {
    #[serde(default)]
    dataset: String,
    after: Option<Uuid>,
    /// Whether a file may hold rows that are alike.
    #[serde(default)]
    alike: bool,
    said: Option<String>,
}

/// The form of what is expected.
#[derive(Deserialize)]
struct Filled {
    #[serde(default)]
    expected: String,
    #[serde(default)]
    policy: String,
    /// Digest of the row that was read; empty of a form that has none.
    #[serde(default)]
    digest: String,
}

/// The page of all.
#[derive(Template)]
#[template(path = "golden.html")]
struct GoldenPage {
    top: Top,
    message: &'static str,
    /// Name, rows, and how many of them a file has without their being compared with others.
    datasets: Vec<(String, u64, usize)>,
    dataset: String,
    rows: Vec<Row>,
    /// Behind which row the next page begins.
    next: Option<Uuid>,
}

/// A row of the list.
struct Row {
    id: Uuid,
    label: &'static str,
    dataset: String,
    input: Shown,
    feature: Shown,
    expected: bool,
    at: String,
}

/// The page of one.
#[derive(Template)]
#[template(path = "golden_row.html")]
struct RowPage {
    top: Top,
    message: String,
    id: Uuid,
    label: &'static str,
    facts: Vec<(&'static str, Shown)>,
    path: String,
    input: Shown,
    actual: Shown,
    contexts: Vec<(Shown, Shown)>,
    /// What is in the form; none where it is not offered.
    form: Option<Filled>,
    /// What the row has beside a form that would say something else, or without one.
    expected: Shown,
    policy: Shown,
    history: Vec<(String, &'static str, Shown)>,
}

/// What speaks against a file.
#[derive(Template)]
#[template(path = "export.html")]
struct RefusedPage {
    top: Top,
    dataset: String,
    personal: Vec<(Uuid, Shown)>,
    alike: Vec<(Uuid, Uuid, String)>,
    /// Rows that were not compared with others.
    not_compared: usize,
}

/// Shows the rows of a data set, or of all.
async fn list(
    State(house): State<House>,
    Extension(person): Extension<Person>,
    Query(wish): Query<Wish>,
) -> Result<Response, Away> {
    needs(&person, Role::Read)?;
    let mut datasets = house.store.datasets(&scope(&person)).await?;
    datasets.truncate(MAX_ROWS);
    let datasets = datasets.into_iter().map(|(name, count)| {
        let not_compared = alike::not_compared(usize::try_from(count).unwrap_or(usize::MAX));
        (name, count, not_compared)
    });
    let datasets = datasets.collect();
    let chosen = Some(wish.dataset.as_str()).filter(|name| !name.is_empty());
    let rows = house.shelf(&person).list(chosen, wish.after, PAGE_ROWS).await?;
    let next = rows.last().filter(|_| rows.len() == PAGE_ROWS as usize).map(|row| row.golden.golden_id);
    let message =
        if wish.said.as_deref() == Some("removed") { "The row is out; its history stays." } else { "" };
    let (top, rows) = (Top::of(&person, "/golden"), rows.iter().map(row).collect());
    Ok(page(StatusCode::OK, &GoldenPage { top, message, datasets, dataset: wish.dataset, rows, next }))
}

/// The file of a data set, or what speaks against it.
async fn export(
    State(house): State<House>,
    Extension(person): Extension<Person>,
    Query(wish): Query<Wish>,
) -> Result<Response, Away> {
    needs(&person, Role::Read)?;
    let export = house.export(&person, &wish.dataset).await?;
    if !export.is_clean(wish.alike) {
        let personal = export.personal.iter().take(MAX_ROWS);
        let alike = export.alike.iter().take(MAX_ROWS);
        let refused = RefusedPage {
            top: Top::of(&person, "/golden"),
            dataset: export.dataset,
            not_compared: export.not_compared,
            personal: personal.map(|one| (one.golden_id, shown(&one.field, 400))).collect(),
            alike: alike.map(|one| (one.one, one.other, format!("{:.2}", one.resemblance))).collect(),
        };
        return Ok(page(StatusCode::CONFLICT, &refused));
    }
    // A name of a data set is letters, digits, dots, dashes and underscores.
    let name = format!("attachment; filename=\"{}.jsonl\"", export.dataset);
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson".to_owned()),
        (header::CONTENT_DISPOSITION, name),
        (header::ETAG, format!("\"{}\"", export.sha256)),
    ];
    Ok((headers, export.content).into_response())
}

/// Shows one row.
async fn one(
    State(house): State<House>,
    Extension(person): Extension<Person>,
    Path(id): Path<Uuid>,
) -> Result<Response, Away> {
    needs(&person, Role::Read)?;
    let (row, history) = house.shelf(&person).show(id).await?;
    let (expected, policy) = (row.golden.expected.clone(), row.golden.policy.clone());
    let filled = Filled {
        expected: expected.unwrap_or_default(),
        policy: policy.unwrap_or_default(),
        digest: row.digest.clone(),
    };
    let (expected, policy) = (shown(&filled.expected, EDIT_BYTES), shown(&filled.policy, EDIT_BYTES));
    // A form holds a text as a whole, or it would cut it: one that fills the page is edited elsewhere.
    let fits = expected.left_off == 0 && policy.left_off == 0;
    let told = match fits || !person.may(Role::Review) {
        true => "",
        false => "What is expected is too long for a form on this page: see `aftercheck gold edit --help`.",
    };
    let said = Away::new(StatusCode::OK, told);
    let asked = match fits && person.may(Role::Review) {
        true => (Some(filled), Shown::default(), Shown::default()),
        false => (None, expected, policy),
    };
    Ok(row_page(&person, (&row, &history), said, asked))
}

/// Changes what is expected of a row. Where it is refused, what was typed stays; where somebody else was first, beside what they
/// wrote, and over which it is then saved.
async fn edit(
    State(house): State<House>,
    Extension(person): Extension<Person>,
    Path(id): Path<Uuid>,
    Form(mut filled): Form<Filled>,
) -> Result<Response, Away> {
    needs(&person, Role::Review)?;
    let shelf = house.shelf(&person);
    let (expected, policy) = (Some(filled.expected.clone()), Some(filled.policy.clone()));
    let over = Some(filled.digest.clone()).filter(|digest| !digest.is_empty());
    match shelf.edit(id, Wanted { expected, policy }, over).await {
        Ok(_) => Ok(Redirect::to(&format!("/golden/{id}")).into_response()),
        Err(error @ (GoldenError::Store(_) | GoldenError::Missing(_))) => Err(error.into()),
        Err(refused) => {
            let (row, history) = shelf.show(id).await?;
            let (mut expected, mut policy) = (Shown::default(), Shown::default());
            if matches!(refused, GoldenError::Stale) {
                let read = |text: &Option<String>| shown(text.as_deref().unwrap_or_default(), EDIT_BYTES);
                (expected, policy) = (read(&row.golden.expected), read(&row.golden.policy));
                filled.digest.clone_from(&row.digest);
            }
            let told: Away = refused.into();
            let told = Away::new(told.status, format!("Not saved. {}", told.message));
            Ok(row_page(&person, (&row, &history), told, (Some(filled), expected, policy)))
        }
    }
}

/// Takes a row out.
async fn remove(
    State(house): State<House>,
    Extension(person): Extension<Person>,
    Path(id): Path<Uuid>,
) -> Result<Response, Away> {
    needs(&person, Role::Admin)?;
    house.shelf(&person).remove(id).await?;
    Ok(Redirect::to("/golden?said=removed").into_response())
}

/// A row of the list.
fn row(row: &GoldenRow) -> Row {
    let golden = &row.golden;
    Row {
        id: golden.golden_id,
        label: golden.label.as_str(),
        dataset: golden.dataset.clone(),
        input: shown(&golden.input, 400),
        feature: shown(&golden.feature, 200),
        expected: golden.expected.is_some() || golden.policy.is_some(),
        at: moment(row.changed_ms),
    }
}

/// The page of a row, after something was said.
fn row_page(
    person: &Person,
    (row, history): (&GoldenRow, &[GoldenEntry]),
    said: Away,
    (form, expected, policy): (Option<Filled>, Shown, Shown),
) -> Response {
    let golden = &row.golden;
    let agreement = golden.agreement.map_or_else(String::new, |share| format!(", agreement {share:.2}"));
    let mut left = CONTEXT_BYTES;
    let contexts = golden.contexts.iter().take(MAX_ROWS).map(|context| {
        let text = shown(&context.text, left.min(6_000));
        left = left.saturating_sub(text.bytes);
        (shown(&context.id, 200), text)
    });
    let short = |text: &str| shown(text, 600);
    let told = RowPage {
        top: Top::of(person, "/golden"),
        message: said.message,
        id: golden.golden_id,
        label: golden.label.as_str(),
        facts: vec![
            ("Data set", short(&golden.dataset)),
            ("Tenant", short(&golden.tenant_id)),
            ("Request", short(&golden.request_id)),
            ("Feature", short(&golden.feature)),
            ("Model", short(&golden.model)),
            ("Prompt", short(&golden.prompt_version)),
            ("Reviewers", short(&format!("{}{agreement}", golden.reviewers.join(", ")))),
            ("Notes", short(&golden.notes)),
        ],
        path: calls::path(&golden.tenant_id, &golden.request_id),
        input: shown(&golden.input, 10_000),
        actual: shown(&golden.actual, 20_000),
        contexts: contexts.collect(),
        form,
        expected,
        policy,
        history: history
            .iter()
            .take(MAX_ROWS)
            .map(|entry| (moment(entry.at_ms), entry.change.as_str(), shown(&entry.by, 400)))
            .collect(),
    };
    page(said.status, &told)
}
