//! `/calls/{tenant}/{request_id}`: the whole story of a call, and its way into the golden set.

use askama::Template;
use axum::{
    Extension, Form, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;
use uuid::Uuid;

use super::{
    away::{Away, needs},
    checked, page,
    story::Told,
    text::{Shown, shown},
    top::{Top, moment},
};
use crate::{
    domain::{Person, Role, Said},
    golden::{GoldenError, Wanted, Which},
    http::house::House,
    store::Story,
};

/// Most calls that a search shows.
const MAX_FOUND: usize = 15;

/// The routes.
pub(super) fn router() -> Router<House> {
    Router::new()
        .route("/calls", get(calls))
        .route("/calls/{tenant}/{request_id}", get(one))
        .route("/calls/{tenant}/{request_id}/ask", post(ask))
        .route("/calls/{tenant}/{request_id}/promote", post(promote))
}

/// What is looked for.
#[derive(Deserialize)]
struct Sought {
    request_id: Option<String>,
}

/// Which evaluation of a call is shown; none: the newest.
#[derive(Deserialize)]
struct Chosen {
    evaluation: Option<Uuid>,
}

/// The form of a promotion.
#[derive(Default, Deserialize)]
struct Filled {
    #[serde(default)]
    evaluation: Uuid,
    #[serde(default)]
    dataset: String,
    #[serde(default)]
    expected: String,
    #[serde(default)]
    policy: String,
}

/// Calls that were found.
#[derive(Template)]
#[template(path = "calls.html")]
struct FoundPage {
    top: Top,
    sought: Shown,
    found: Vec<Found>,
}

/// A call that was found.
struct Found {
    tenant: Shown,
    path: String,
    received: String,
}

/// The page of a call.
#[derive(Template)]
#[template(path = "call.html")]
struct CallPage {
    top: Top,
    message: String,
    path: String,
    told: Told,
    /// Whether what people said of the evaluation counts as pass or fail, so that it can go into the golden set.
    is_decided: bool,
    filled: Filled,
}

/// The address of a call's page; where its ids would lead elsewhere, that of looking for it.
pub(super) fn path(tenant: &str, request_id: &str) -> String {
    let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    // In an address they mean this folder and the one above, however they are written, and nothing is no part of one.
    match [tenant, request_id].iter().any(|id| matches!(*id, "" | "." | "..")) {
        true => format!("/calls?request_id={}", encoded(request_id)),
        false => format!("/calls/{}/{}", encoded(tenant), encoded(request_id)),
    }
}

/// Shows the newest calls, or those that are sought by their request id.
async fn calls(
    state: State<House>,
    Extension(person): Extension<Person>,
    Query(sought): Query<Sought>,
    Query(wish): Query<checked::Wish>,
) -> Result<Response, Away> {
    needs(&person, Role::Read)?;
    match sought.request_id {
        Some(request_id) => find(&state, &person, &request_id).await,
        None => checked::list(&state, &person, wish).await,
    }
}

/// Looks for a call by its request id, as it is kept or as its producer wrote it, in every tenant that the person sees.
async fn find(house: &House, person: &Person, request_id: &str) -> Result<Response, Away> {
    let stories = house.stories(person, None, request_id).await?;
    let found = |story: &Story| Found {
        tenant: shown(story.tenant_id.as_deref().unwrap_or("–"), 300),
        path: path(story.tenant_id.as_deref().unwrap_or("-"), &story.request_id),
        received: story.received.as_ref().map_or_else(String::new, |received| moment(received.at_ms)),
    };
    let found: Vec<Found> = stories.iter().take(MAX_FOUND).map(found).collect();
    // One whose ids are no part of an address has no page of its own: it would lead back here.
    if let [only] = found.as_slice()
        && !only.path.starts_with("/calls?")
    {
        return Ok(Redirect::to(&only.path).into_response());
    }
    let sought = shown(request_id, 1_000);
    Ok(page(StatusCode::OK, &FoundPage { top: Top::of(person, ""), sought, found }))
}

/// Shows a call.
async fn one(
    State(house): State<House>,
    Extension(person): Extension<Person>,
    Path((tenant, request_id)): Path<(String, String)>,
    Query(chosen): Query<Chosen>,
) -> Result<Response, Away> {
    needs(&person, Role::Read)?;
    let filled = Filled { evaluation: chosen.evaluation.unwrap_or_default(), ..Filled::default() };
    show(&house, &person, (&tenant, &request_id), Away::new(StatusCode::OK, ""), filled).await
}

/// Has a call come to review.
async fn ask(
    State(house): State<House>,
    Extension(person): Extension<Person>,
    Path((tenant, request_id)): Path<(String, String)>,
) -> Result<Response, Away> {
    needs(&person, Role::Review)?;
    house.ask(&person, &tenant, &request_id).await?.ok_or_else(|| Away::missing("evaluated call"))?;
    Ok(Redirect::to(&path(&tenant, &request_id)).into_response())
}

/// Makes a row of the golden set of a call, and shows it. Where it is refused, what was typed stays.
async fn promote(
    State(house): State<House>,
    Extension(person): Extension<Person>,
    Path((tenant, request_id)): Path<(String, String)>,
    Form(filled): Form<Filled>,
) -> Result<Response, Away> {
    needs(&person, Role::Review)?;
    // The evaluation must be one of this call, or another's texts would go under this address.
    let stories = house.stories(&person, Some(&tenant), &request_id).await?;
    let of_this = |story: &Story| story.evaluations.iter().any(|one| one.evaluation_id == filled.evaluation);
    if !stories.iter().any(of_this) {
        return Err(Away::missing("evaluation"));
    }
    let text = |text: &String| Some(text.clone()).filter(|text| !text.trim().is_empty());
    let wanted = Wanted { expected: text(&filled.expected), policy: text(&filled.policy) };
    let which = Which::Evaluation(filled.evaluation);
    match house.shelf(&person).promote(&which, filled.dataset.trim(), wanted).await {
        Ok(promoted) => Ok(Redirect::to(&format!("/golden/{}", promoted.golden.golden_id)).into_response()),
        Err(GoldenError::Store(error)) => Err(error.into()),
        Err(refused) => {
            let told: Away = refused.into();
            let told = Away::new(told.status, format!("Not promoted. {}", told.message));
            show(&house, &person, (&tenant, &request_id), told, filled).await
        }
    }
}

/// The page of a call, after something was said.
async fn show(
    house: &House,
    person: &Person,
    (tenant, request_id): (&str, &str),
    said: Away,
    mut filled: Filled,
) -> Result<Response, Away> {
    // A call whose tenant could not be read has only a dead letter; its address says `-`.
    let stories = house.stories(person, Some(tenant).filter(|tenant| *tenant != "-"), request_id).await?;
    let story = stories.into_iter().find(|story| story.tenant_id.as_deref().unwrap_or("-") == tenant);
    let story = story.ok_or_else(|| Away::missing("call"))?;
    let told = Told::of(&story, filled.evaluation);
    let counts = house.store.final_label(told.evaluation_id).await?;
    let is_decided = counts.is_some_and(|label| label.entry.said != Said::Unsure);
    filled.evaluation = told.evaluation_id;
    if filled.dataset.is_empty() {
        filled.dataset = "golden".to_owned();
    }
    let (top, path) = (Top::of(person, ""), path(tenant, request_id));
    Ok(page(said.status, &CallPage { top, message: said.message, path, told, is_decided, filled }))
}

#[cfg(test)]
mod tests {
    use super::path;

    #[test]
    fn ids_lead_nowhere_else() {
        assert_eq!(path("acme", "order-1"), "/calls/acme/order%2D1");
        assert_eq!(path("a/../b", "?x#y"), "/calls/a%2F%2E%2E%2Fb/%3Fx%23y");
        for (tenant, request) in [("..", "r"), (".", "r"), ("", "r")] {
            assert_eq!(path(tenant, request), "/calls?request_id=r");
        }
    }
}
