//! HTTP to others. No redirect and no proxy of the environment leads elsewhere what is sent; every exchange has a deadline
//! and every answer a limit; no error repeats a URL, which may hold a secret, or what was sent or answered.

use std::{error::Error, time::Duration};

use http_body_util::BodyExt;
use jiff::{Timestamp, ZonedDateTime, fmt::rfc2822};
use reqwest::{
    Body, Client, ClientBuilder, RequestBuilder, StatusCode, Url, header::HeaderMap, redirect::Policy,
};

/// How often an HTTP/2 connection is asked whether it is still there, and how long the answer may take: one that leads nowhere
/// would hold all requests of a client for as long as TCP believes in it.
const ALIVE_INTERVAL: Duration = Duration::from_secs(20);
const ALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest wait that is believed: what asks for more is taken for a server that is out.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// Why a URL is not one that things are sent to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadUrl {
    /// It cannot be read.
    #[error("not an http or https URL; write it like https://host.example/path")]
    Unreadable,
    /// It holds what has no place in a file.
    #[error("takes no user, password, query or fragment; leave them out")]
    Parts,
    /// What is sent would be read on the way.
    #[error("plain http to another machine; use https, or set allow_http where the network is trusted")]
    Plain,
}

/// Reads the address of a service. Plain http leads to this machine only, unless it is allowed.
///
/// # Errors
/// [`BadUrl`].
pub fn url(text: &str, allow_http: bool) -> Result<Url, BadUrl> {
    let url: Url = text.trim().parse().map_err(|_| BadUrl::Unreadable)?;
    if !matches!(url.scheme(), "http" | "https") || url.cannot_be_a_base() || !url.has_host() {
        return Err(BadUrl::Unreadable);
    }
    if url.query().or(url.fragment()).or(url.password()).is_some() || !url.username().is_empty() {
        return Err(BadUrl::Parts);
    }
    let is_here = url.host_str().is_some_and(|host| {
        host == "localhost"
            || host.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
    });
    match url.scheme() == "https" || allow_http || is_here {
        true => Ok(url),
        false => Err(BadUrl::Plain),
    }
}

/// The address of something below a service's own, whatever slash it ends with.
pub fn below(base: &Url, path: &str) -> Url {
    below_segments(base, path.split('/'))
}

/// The same with the parts of the path each for itself: whatever stands in one, it leads no further. But `.` and `..` mean
/// something in an address however they are written; they are left out.
pub fn below_segments<'a>(base: &Url, parts: impl IntoIterator<Item = &'a str>) -> Url {
    let mut url = base.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(parts);
    }
    url
}

/// A client for one service, with at most so many idle connections. It has not connected yet.
///
/// # Errors
/// Where https has no certificates to trust.
pub fn client(url: &Url, idle: usize) -> Result<Client, reqwest::Error> {
    builder(url, idle).build()
}

/// The same for a service that speaks HTTP/2 from the first byte on, as gRPC does.
///
/// # Errors
/// Where https has no certificates to trust.
pub fn client_http2(url: &Url, idle: usize) -> Result<Client, reqwest::Error> {
    builder(url, idle)
        .http2_prior_knowledge()
        .http2_keep_alive_interval(ALIVE_INTERVAL)
        .http2_keep_alive_timeout(ALIVE_TIMEOUT)
        .build()
}

/// What such a client is made of, for one that resolves names in its own way.
pub fn builder(url: &Url, idle: usize) -> ClientBuilder {
    let builder: ClientBuilder = Client::builder()
        .http1_only()
        .redirect(Policy::none())
        .no_proxy()
        .referer(false)
        .pool_max_idle_per_host(idle)
        .user_agent(concat!("aftercheck/", env!("CARGO_PKG_VERSION")));
    match url.scheme() {
        // Without TLS nobody needs certificates, which a small image may lack.
        "http" => builder.tls_certs_only([]),
        _ => builder,
    }
}

/// An answer, whatever its status.
#[derive(Debug)]
pub struct Answer {
    /// HTTP status.
    pub status: StatusCode,
    /// Headers, and what came behind the body, as gRPC has it.
    pub headers: HeaderMap,
    /// All of the body.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// The deadline is over.
    #[error("not within {} s", .0.as_secs_f64())]
    Late(Duration),
    /// There is no connection: nobody has seen the request.
    #[error("no connection: {0}")]
    Unreached(String),
    /// The connection broke.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// More than is read.
    #[error("more than {0} bytes")]
    TooLarge(usize),
}

/// Sends a request and reads the answer, of at most `limit` bytes, within a deadline over all of it.
///
/// # Errors
/// [`Unanswered`]; whether the request was acted on is not known then, but for [`Unanswered::Unreached`].
pub async fn exchange(
    request: RequestBuilder,
    deadline: Duration,
    limit: usize,
) -> Result<Answer, Unanswered> {
    let failed = |error: reqwest::Error| unanswered(error, deadline);
    let mut response = request.timeout(deadline).send().await.map_err(failed)?;
    let (status, mut headers) = (response.status(), std::mem::take(response.headers_mut()));
    let (mut frames, mut body) = (Body::from(response), Vec::new());
    while let Some(frame) = frames.frame().await {
        match frame.map_err(failed)?.into_data() {
            Ok(chunk) if body.len() + chunk.len() > limit => return Err(Unanswered::TooLarge(limit)),
            Ok(chunk) => body.extend_from_slice(&chunk),
            Err(frame) => headers.extend(frame.into_trailers().unwrap_or_default()),
        }
    }
    Ok(Answer { status, headers, body })
}

/// What `retry-after-ms` says, else `retry-after` in seconds or as an HTTP date; none where neither says anything that can
/// be read. At most an hour.
pub fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let word = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).map(str::trim);
    let number = |text: &str| text.parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
    let ms = word("retry-after-ms").and_then(number).map(|ms| ms / 1000.0);
    let secs = ms.or_else(|| word("retry-after").and_then(number)).or_else(|| {
        let until = rfc2822::parse(word("retry-after")?).ok()?;
        Some(seconds_until(&until, now))
    })?;
    Some(Duration::from_secs_f64(secs.min(MAX_WAIT.as_secs_f64())))
}

/// Seconds until a time, 0 where it has passed.
fn seconds_until(until: &ZonedDateTime, now: Timestamp) -> f64 {
    until.timestamp().duration_since(now).as_secs_f64().max(0.0)
}

/// Sends a request and reads no more of the answer than its status and headers, within a deadline.
///
/// # Errors
/// As [`exchange`].
pub async fn status(
    request: RequestBuilder,
    deadline: Duration,
) -> Result<(StatusCode, HeaderMap), Unanswered> {
    let response = request.timeout(deadline).send().await.map_err(|error| unanswered(error, deadline))?;
    Ok((response.status(), response.headers().clone()))
}

/// Why there is no answer, without the URL.
fn unanswered(error: reqwest::Error, deadline: Duration) -> Unanswered {
    match (error.is_timeout(), error.is_connect()) {
        (true, _) => Unanswered::Late(deadline),
        (false, true) => Unanswered::Unreached(root(&error.without_url())),
        (false, false) => Unanswered::Broken(root(&error.without_url())),
    }
}

/// What an error began with: that of the client says no more than that there is one.
fn root(error: &dyn Error) -> String {
    let mut root = error;
    while let Some(deeper) = root.source() {
        root = deeper;
    }
    root.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_leads_where_it_may() {
        let read = |text| url(text, false).map(|url| url.to_string());
        assert_eq!(read("https://api.example.com/v1").unwrap(), "https://api.example.com/v1");
        for here in ["http://127.0.0.1:8000", "http://localhost:11434/v1", "http://[::1]/"] {
            assert!(read(here).is_ok(), "{here}");
        }
        for (text, wrong) in [
            ("api.example.com", BadUrl::Unreadable),
            ("file:///etc/passwd", BadUrl::Unreadable),
            ("https://", BadUrl::Unreadable),
            ("https://me:secret@api.example.com", BadUrl::Parts),
            ("https://api.example.com/?key=1", BadUrl::Parts),
            ("http://api.example.com", BadUrl::Plain),
            ("http://127.0.0.1.example.com", BadUrl::Plain),
        ] {
            assert_eq!(read(text), Err(wrong), "{text}");
        }
        assert!(url("http://llm.internal:8000", true).is_ok());
    }

    #[test]
    fn what_is_below_has_one_slash_between() {
        for base in ["https://h.example/v1", "https://h.example/v1/"] {
            let base = url(base, false).unwrap();
            assert_eq!(below(&base, "chat/completions").as_str(), "https://h.example/v1/chat/completions");
        }
    }
}
