//! Who asks: every request but those for health and for signing in gets its [`Person`], or an answer that says how to be one.
//!
//! A page of another site can have a browser send requests here, with the cookie or, where nobody signs in, from the machine
//! itself: what changes something is therefore refused where it comes from elsewhere, and without sign-in every request must
//! name loopback as its host, which a name that is rebound to loopback does not.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use axum::{
    extract::{ConnectInfo, Request, State},
    http::{Extensions, HeaderMap, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Redirect, Response},
};

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

use super::{
    config::{Auth, HttpConfig, ProxyConfig},
    refusal::{Away, plain},
};
use crate::{
    access::{AccessError, Gate},
    domain::{Person, Role},
};

/// Paths that nobody has to sign in for; none tells anything of a call.
const OPEN: [&str; 4] = ["/healthz", "/readyz", "/metrics", "/sign-in"];
/// The cookie of a session; over TLS under the prefix with which a browser takes it from nobody but this host.
pub(super) const COOKIE: &str = "aftercheck";

/// What tells who asks.
#[derive(Clone)]
pub struct Doors {
    /// Who is let in.
    pub(super) gate: Arc<Gate>,
    auth: Auth,
    proxy: ProxyConfig,
    is_secure: bool,
}

impl Doors {
    /// The doors of this configuration over a gate.
    pub fn new(config: &HttpConfig, gate: Arc<Gate>) -> Self {
        Self { gate, auth: config.auth, proxy: config.proxy.clone(), is_secure: config.is_secure() }
    }

    /// Whether nobody signs in.
    pub(super) fn are_open(&self) -> bool {
        self.auth == Auth::Off
    }

    /// Whose address a request comes from: behind a trusted proxy, what that says.
    pub(super) fn address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let told = headers.get_all("x-forwarded-for").iter().next_back();
        let told = told.and_then(|told| told.to_str().ok()?.rsplit(',').next()?.trim().parse().ok());
        told.filter(|_| self.proxy.trusts(peer)).unwrap_or(peer)
    }

    /// The cookie that holds a token, or, without one, that takes it away.
    pub(super) fn cookie(&self, token: Option<&str>) -> Option<HeaderValue> {
        let (prefix, secure) = if self.is_secure { ("__Host-", "; Secure") } else { ("", "") };
        let over = if token.is_none() { "; Max-Age=0" } else { "" };
        let token = token.unwrap_or_default();
        HeaderValue::from_str(&format!(
            "{prefix}{COOKIE}={token}; Path=/; HttpOnly; SameSite=Strict{secure}{over}"
        ))
        .ok()
    }

    /// The token of a request's cookie.
    pub(super) fn token<'h>(&self, headers: &'h HeaderMap) -> Option<&'h str> {
        let prefix = if self.is_secure { "__Host-" } else { "" };
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
        let mut cookies = cookies.flat_map(|cookies| cookies.split(';')).map(str::trim);
        cookies.find_map(|cookie| cookie.strip_prefix(prefix)?.strip_prefix(COOKIE)?.strip_prefix('='))
    }

    /// Who asks; none where nobody is signed in. A key that is wrong is not made good by a cookie.
    async fn who(&self, peer: IpAddr, headers: &HeaderMap) -> Result<Option<Person>, AccessError> {
        if let Some(authorization) = headers.get(header::AUTHORIZATION) {
            let told = authorization.to_str().ok().and_then(|told| told.split_once(' '));
            return match told.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")) {
                Some((_, key)) => self.gate.key(key.trim()).await,
                None => Ok(None),
            };
        }
        if let Some(header) = self.proxy.header.as_ref().filter(|_| self.proxy.trusts(peer)) {
            let mut names = headers.get_all(header).iter();
            // Two would be one of the proxy and one of somebody else.
            if let (Some(name), None) = (names.next(), names.next()) {
                return match name.to_str() {
                    Ok(name) => self.gate.named(name).await,
                    Err(_) => Ok(None),
                };
            }
        }
        match self.token(headers) {
            Some(token) => self.gate.session(token).await,
            None => Ok(None),
        }
    }
}

/// Lets a request in with its [`Person`], or says why not.
pub(super) async fn enter(
    State(doors): State<Doors>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let (path, headers) = (request.uri().path(), request.headers());
    let changes = !matches!(*request.method(), Method::GET | Method::HEAD);
    // Calls are taken from no browser at all, as their route says itself.
    if changes && path != "/v1/calls" && is_foreign(headers) {
        return plain(StatusCode::FORBIDDEN, "this request comes from a page of another site");
    }
    if OPEN.contains(&path) || path.starts_with("/static/") {
        return next.run(request).await;
    }
    if doors.are_open() {
        if !names_loopback(headers) {
            let remedy = "without sign-in only requests to localhost are answered; ask 127.0.0.1, or set [http] auth = \"on\"";
            return plain(StatusCode::MISDIRECTED_REQUEST, remedy);
        }
        request.extensions_mut().insert(Person::local());
        return next.run(request).await;
    }
    match doors.who(peer.ip(), headers).await {
        Ok(Some(person)) => {
            request.extensions_mut().insert(person);
            next.run(request).await
        }
        Ok(None) => sign_in_first(&request),
        Err(error) => {
            tracing::error!(%error, "who asks cannot be told");
            plain(StatusCode::SERVICE_UNAVAILABLE, "who you are cannot be told now, try again")
        }
    }
}

/// How to become somebody: a program by a key, a person on the page for it.
fn sign_in_first(request: &Request) -> Response {
    let path = request.uri().path();
    if path.starts_with("/v1/") || request.headers().contains_key(header::AUTHORIZATION) {
        let remedy = "sign in, or send a key as `Authorization: Bearer KEY`; `aftercheck keys add` makes one";
        let mut answer = plain(StatusCode::UNAUTHORIZED, remedy);
        answer.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        return answer;
    }
    // What changes something cannot be gone back to; the page that it was sent from is one above, but for what has none.
    let next = match *request.method() {
        Method::GET | Method::HEAD => request.uri().path_and_query().map_or(path, |whole| whole.as_str()),
        _ => path.rsplit_once('/').map_or("/", |(page, _)| page),
    };
    let next = utf8_percent_encode(next, NON_ALPHANUMERIC);
    Redirect::to(&format!("/sign-in?next={next}")).into_response()
}

/// Who asks, where they have a role; where none is needed, whoever is in.
pub(super) fn with_role(extensions: &Extensions, role: Option<Role>) -> Result<Person, Away> {
    let Some(person) = extensions.get::<Person>() else {
        return Err(plain(StatusCode::UNAUTHORIZED, "nobody is signed in").into());
    };
    match role {
        Some(role) if !person.may(role) => {
            let (needed, name, has) = (role.as_str(), &person.name, person.role.as_str());
            let error = format!("this needs the role {needed}, {name} has {has}");
            Err(plain(StatusCode::FORBIDDEN, &error).into())
        }
        _ => Ok(person.clone()),
    }
}

/// Whether a request comes from a page of another site. What sends neither header is no browser, or one of before 2020 that sends
/// no cookie along either, because the cookie is for the same site only.
fn is_foreign(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site != "same-origin" && site != "none";
    }
    let Some(origin) = headers.get(header::ORIGIN) else { return false };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    match (origin, host) {
        (Some((_, origin)), Some(host)) => !origin.eq_ignore_ascii_case(host),
        _ => true,
    }
}

/// Whether a request names loopback as its host.
fn names_loopback(headers: &HeaderMap) -> bool {
    let Some(host) = headers.get(header::HOST).and_then(|host| host.to_str().ok()) else { return false };
    if let Ok(address) = host.parse::<SocketAddr>() {
        return address.ip().is_loopback();
    }
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(name);
    name.eq_ignore_ascii_case("localhost")
        || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
            .collect::<HeaderMap>()
    }

    #[test]
    fn only_loopback_is_loopback() {
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:8080", "[::1]", "[::1]:8080"] {
            assert!(names_loopback(&headers(&[("host", host)])), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example:80", "127.0.0.1.evil.example", "192.0.2.1:80", ""]
        {
            assert!(!names_loopback(&headers(&[("host", host)])), "{host}");
        }
        assert!(!names_loopback(&headers(&[])));
    }

    #[test]
    fn another_site_is_foreign() {
        let host = ("host", "a.example:8080");
        for own in [
            &[host][..],
            &[host, ("origin", "https://a.example:8080")],
            &[host, ("sec-fetch-site", "same-origin")],
            &[host, ("sec-fetch-site", "none")],
        ] {
            assert!(!is_foreign(&headers(own)), "{own:?}");
        }
        for foreign in [
            &[host, ("origin", "https://b.example")][..],
            &[host, ("origin", "https://a.example")],
            &[host, ("origin", "null")],
            &[("origin", "https://a.example")],
            &[host, ("sec-fetch-site", "cross-site")],
            &[host, ("sec-fetch-site", "same-site"), ("origin", "https://a.example:8080")],
        ] {
            assert!(is_foreign(&headers(foreign)), "{foreign:?}");
        }
    }
}
