//! `/sign-in` and `/sign-out`.

use std::net::SocketAddr;

use askama::Template;
use axum::{
    Form, Router,
    extract::{ConnectInfo, DefaultBodyLimit, Query, State},
    http::{HeaderMap, StatusCode, header},
    response::{Html, IntoResponse, Redirect, Response},
    routing::{get, post},
};
use secrecy::SecretString;
use serde::Deserialize;

use super::{doors::Doors, pages::top::Top, refusal::plain};
use crate::access::AccessError;

/// Largest form in bytes.
const MAX_FORM_BYTES: usize = 8 << 10;

/// The page.
#[derive(Template)]
#[template(path = "sign_in.html")]
struct Page<'p> {
    top: Top,
    next: &'p str,
    fault: Option<&'p str>,
}

/// Where to go afterwards.
#[derive(Deserialize)]
struct Wanted {
    #[serde(default)]
    next: String,
}

/// What the page sends.
#[derive(Deserialize)]
struct Credentials {
    name: String,
    password: SecretString,
    #[serde(default)]
    next: String,
}

/// The routes over the doors.
pub(super) fn router(doors: Doors) -> Router {
    Router::new()
        .route("/sign-in", get(show).post(sign_in))
        .route("/sign-out", post(sign_out))
        .layer(DefaultBodyLimit::max(MAX_FORM_BYTES))
        .with_state(doors)
}

/// Shows the form.
async fn show(State(doors): State<Doors>, Query(wanted): Query<Wanted>) -> Response {
    match doors.are_open() {
        true => Redirect::to("/").into_response(),
        false => page(StatusCode::OK, &wanted.next, None),
    }
}

/// Begins a session and goes on to where somebody wanted.
async fn sign_in(
    State(doors): State<Doors>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
    Form(Credentials { name, password, next }): Form<Credentials>,
) -> Response {
    if doors.are_open() {
        return Redirect::to("/").into_response();
    }
    let error = match doors.gate.sign_in(&name, password, doors.address(peer.ip(), &headers)).await {
        Ok(token) => return with_cookie(&doors, Some(&token), own(&next)),
        Err(error) => error,
    };
    let told = error.to_string();
    match &error {
        AccessError::Wrong => page(StatusCode::UNAUTHORIZED, &next, Some(&told)),
        AccessError::TooMany(secs) => {
            let mut answer = page(StatusCode::TOO_MANY_REQUESTS, &next, Some(&told));
            answer.headers_mut().insert(header::RETRY_AFTER, (*secs).into());
            answer
        }
        _ => {
            tracing::error!(%error, "sign-in failed");
            page(StatusCode::SERVICE_UNAVAILABLE, &next, Some("signing in does not work now, try again"))
        }
    }
}

/// Ends the session.
async fn sign_out(State(doors): State<Doors>, headers: HeaderMap) -> Response {
    if let Some(token) = doors.token(&headers)
        && let Err(error) = doors.gate.sign_out(token).await
    {
        tracing::error!(%error, "sign-out failed");
        return plain(StatusCode::SERVICE_UNAVAILABLE, "you are still signed in, try again");
    }
    with_cookie(&doors, None, "/sign-in")
}

/// Goes on with another cookie.
fn with_cookie(doors: &Doors, token: Option<&str>, to: &str) -> Response {
    let mut answer = Redirect::to(to).into_response();
    if let Some(cookie) = doors.cookie(token) {
        answer.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    answer
}

/// A path of ours, or the first page: nobody is sent to another site.
fn own(next: &str) -> &str {
    let ours = next.starts_with('/')
        && !next[1..].starts_with(['/', '\\'])
        && next.bytes().all(|byte| byte.is_ascii_graphic());
    if ours { next } else { "/" }
}

/// The page with this status.
fn page(status: StatusCode, next: &str, fault: Option<&str>) -> Response {
    match (Page { top: Top::default(), next: own(next), fault }).render() {
        Ok(text) => (status, Html(text)).into_response(),
        Err(error) => {
            tracing::error!(%error, "the page for signing in cannot be written");
            plain(StatusCode::INTERNAL_SERVER_ERROR, "the page for signing in cannot be written")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_sent_to_another_site() {
        assert_eq!(own("/review/1?a=b"), "/review/1?a=b");
        for next in
            ["", "//evil.example", "/\\evil.example", "https://evil.example", "/\t/evil.example", "/é"]
        {
            assert_eq!(own(next), "/", "{next:?}");
        }
    }

    #[test]
    fn what_was_wanted_is_text_on_the_page() {
        let text = Page { top: Top::default(), next: "/\"><script>", fault: Some("<b>") }.render().unwrap();
        assert!(!text.contains("<script>") && !text.contains("<b>"), "{text}");
    }
}
