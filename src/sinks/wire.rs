//! What sinks that speak HTTP share: where the backend is, how much it is asked at a time, and what its answers mean where the
//! backend says nothing else.

use std::{
    fs,
    num::NonZeroU32,
    path::Path,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use jiff::Timestamp;
use reqwest::{
    Client, Method, RequestBuilder, StatusCode, Url,
    header::{HeaderMap, HeaderName, HeaderValue},
};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::{Outcome, SinkError};
use crate::outbound::{self, Answer};

/// Most bytes of an answer that are read.
const MAX_ANSWER_BYTES: usize = 1 << 20;

/// Seconds that the requests of one batch may take by the rate alone.
const RATED_SECS: u32 = 5;
/// Requests of one batch for each that may be in flight. Four batches side by side (`[delivery] batches`) end within the deadline
/// of a batch, 50 s, where a request takes a quarter of a second.
const IN_TURN: u32 = 50;
/// Longest wait for a trace, in seconds.
const MAX_TRACE_WAIT_SECS: u64 = 86_400;

/// Keys that every HTTP sink has, flattened into its own.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
pub struct WireConfig {
    /// Where the backend is, such as `https://cloud.langfuse.com`. Without user, password and query.
    pub url: String,
    /// Whether plain http may lead to another machine.
    #[serde(default)]
    pub allow_http: bool,
    /// Requests a second, of one worker; 0: no limit of ours.
    #[serde(default)]
    pub rate: u32,
    /// Requests in flight at a time, of one worker; 1 to 256.
    #[serde(default = "default_concurrency")]
    pub concurrency: usize,
    /// Longest that one request may take, in milliseconds; 100 to 30,000.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u64,
    /// Whether comments quote the worst claim and the chunk that it was compared with.
    #[serde(default = "default_quotes")]
    pub quotes: bool,
}

/// Requests at once.
fn default_concurrency() -> usize {
    8
}

/// Milliseconds for one request, with its answer.
fn default_timeout_ms() -> u64 {
    10_000
}

/// Comments quote unless somebody says no.
fn default_quotes() -> bool {
    true
}

/// One backend over HTTP.
pub struct Wire {
    client: Client,
    base: Url,
    headers: HeaderMap,
    rate: u32,
    limiter: Option<DefaultDirectRateLimiter>,
    concurrency: u32,
    in_flight: Semaphore,
    deadline: Duration,
    /// Since when it answers again, where it did not before.
    up_since: Mutex<UpSince>,
}

/// Whether a backend answers, and since when it does again.
#[derive(Default)]
struct UpSince {
    is_down: bool,
    since: Option<Timestamp>,
}

impl Wire {
    /// A backend of this configuration, with headers that go with each request. Nothing is connected yet.
    ///
    /// # Errors
    /// The key, and what to write there.
    pub fn new(config: &WireConfig, headers: HeaderMap) -> Result<Self, String> {
        Self::with(config, headers, outbound::client)
    }

    /// The same for a backend that speaks HTTP/2 from the first byte on, as gRPC does.
    ///
    /// # Errors
    /// The key, and what to write there.
    pub fn http2(config: &WireConfig, headers: HeaderMap) -> Result<Self, String> {
        Self::with(config, headers, outbound::client_http2)
    }

    /// Checks the configuration, and makes the client as it is told.
    fn with(
        config: &WireConfig,
        headers: HeaderMap,
        client: fn(&Url, usize) -> Result<Client, reqwest::Error>,
    ) -> Result<Self, String> {
        if !(1..=256).contains(&config.concurrency) {
            return Err("concurrency: need 1 to 256".into());
        }
        if !(100..=30_000).contains(&config.timeout_ms) {
            return Err("timeout_ms: need 100 to 30000".into());
        }
        let base = outbound::url(&config.url, config.allow_http).map_err(|error| format!("url: {error}"))?;
        let client = client(&base, config.concurrency).map_err(|error| format!("url: {error}"))?;
        Ok(Self {
            client,
            base,
            headers,
            rate: config.rate,
            limiter: NonZeroU32::new(config.rate).map(|rate| RateLimiter::direct(Quota::per_second(rate))),
            concurrency: u32::try_from(config.concurrency).unwrap_or(u32::MAX),
            in_flight: Semaphore::new(config.concurrency),
            deadline: Duration::from_millis(config.timeout_ms),
            up_since: Mutex::default(),
        })
    }

    /// Items of one batch, of at most `most`, where each needs about so many requests: what the rate allows in five seconds, and
    /// what few requests at a time can get through, so that several batches side by side, and their repeats, end before the
    /// deadline of a batch.
    pub fn batch(&self, most: u32, requests: u32) -> u32 {
        let rated = match self.rate {
            0 => u32::MAX,
            rate => rate.saturating_mul(RATED_SECS),
        };
        let allowed = rated.min(self.concurrency.saturating_mul(IN_TURN));
        (allowed / requests.max(1)).clamp(1, most.max(1))
    }

    /// Where the backend is.
    pub fn base(&self) -> &Url {
        &self.base
    }

    /// A request to a path below the backend's address, with the headers that every request has.
    pub fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.request_to(method, outbound::below(&self.base, path))
    }

    /// The same to an address that is put together otherwise, such as with an id in its path or with a query.
    pub fn request_to(&self, method: Method, url: Url) -> RequestBuilder {
        self.client.request(method, url).headers(self.headers.clone())
    }

    /// Sends a request once there is a place for it and the rate allows it. The answer may have any status.
    ///
    /// # Errors
    /// [`SinkError::Again`] where there is no answer; whether the request was acted on is not known then.
    pub async fn send(&self, request: RequestBuilder) -> Result<Answer, SinkError> {
        // It is never closed; an error would only mean one more request at a time.
        let _place = self.in_flight.acquire().await.ok();
        if let Some(limiter) = &self.limiter {
            limiter.until_ready().await;
        }
        let answer = outbound::exchange(request, self.deadline, MAX_ANSWER_BYTES).await;
        self.note(answer.as_ref().is_ok_and(|answer| !answer.status.is_server_error()));
        answer.map_err(|error| SinkError::Again { reason: format!("no answer: {error}"), after: None })
    }

    /// Notes whether the backend answers.
    fn note(&self, is_up: bool) {
        let mut state = self.up_since.lock().unwrap_or_else(PoisonError::into_inner);
        if is_up && state.is_down {
            state.since = Some(Timestamp::now());
        }
        state.is_down = !is_up;
    }

    /// What it means that the backend does not have a trace, or something of one: it may still come, until so long after the call
    /// was evaluated. While the backend was down it could not come: then it is until so long after it was back.
    pub fn no_trace(&self, what: &str, evaluated: Timestamp, wait: Duration) -> Outcome {
        let up = self.up_since.lock().unwrap_or_else(PoisonError::into_inner).since;
        no_trace(what, up.map_or(evaluated, |up| up.max(evaluated)), wait)
    }
}

/// An answer with a status of success; what any other means where the backend says nothing else.
///
/// # Errors
/// As [`fault`] says.
pub fn accepted(answer: Answer) -> Result<Answer, SinkError> {
    if answer.status.is_success() { Ok(answer) } else { Err(fault(&answer)) }
}

/// What an answer without success means where the backend says nothing else: 408, 425, 429 and 5xx may pass, 401 and 403
/// need a person, as does a redirect, which is not followed; anything else is about what was sent. Its body is not repeated,
/// because it may repeat what was sent.
pub fn fault(answer: &Answer) -> SinkError {
    let status = answer.status;
    let said = format!("status {status}");
    match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS => {
            SinkError::Again { reason: said, after: outbound::retry_after(&answer.headers, Timestamp::now()) }
        }
        status if status.is_server_error() => {
            SinkError::Again { reason: said, after: outbound::retry_after(&answer.headers, Timestamp::now()) }
        }
        StatusCode::UNAUTHORIZED => {
            SinkError::Denied(format!("{said}: the backend does not know this key, check it"))
        }
        StatusCode::FORBIDDEN => {
            SinkError::Denied(format!("{said}: this key may not do that, give it the right to write scores"))
        }
        status if status.is_redirection() => SinkError::Denied(format!(
            "{said}: redirects are not followed, write in url where the backend is"
        )),
        _ => SinkError::Refused(said),
    }
}

/// How long a trace may be missing, where the configuration says nothing: exporters batch and collectors retry.
pub(super) fn default_trace_wait_secs() -> u64 {
    900
}

/// How long a trace may be missing.
///
/// # Errors
/// The key, and what to write there.
pub(super) fn trace_wait(secs: u64) -> Result<Duration, String> {
    match secs <= MAX_TRACE_WAIT_SECS {
        true => Ok(Duration::from_secs(secs)),
        false => Err(format!("trace_wait_secs: need 0 to {MAX_TRACE_WAIT_SECS}")),
    }
}

/// The same, counted from a time.
fn no_trace(what: &str, evaluated: Timestamp, wait: Duration) -> Outcome {
    let waited = Timestamp::now().duration_since(evaluated);
    if waited.as_secs_f64() < wait.as_secs_f64() {
        return Outcome::Again { reason: format!("no such {what} yet"), after: None };
    }
    let reason = format!(
        "no such {what}, {} s after the evaluation or the backend's return: is it traced there, under these ids? trace_wait_secs says how long to wait",
        waited.as_secs()
    );
    Outcome::Never { reason }
}

/// A secret from a file or from the environment; none where neither is named. `key` is the name of the secret: the keys of the
/// configuration are `{key}_file` and `{key}_env`.
///
/// # Errors
/// The key, and what to write there.
pub fn secret(key: &str, file: Option<&Path>, env: Option<&str>) -> Result<Option<SecretString>, String> {
    let read = match (file, env) {
        (Some(_), Some(_)) => return Err(format!("{key}_file and {key}_env: only one of them")),
        (Some(path), None) => {
            fs::read_to_string(path).map_err(|error| format!("{key}_file {}: {error}", path.display()))?
        }
        (None, Some(name)) => std::env::var(name).map_err(|_| format!("{key}_env {name}: it is not set"))?,
        (None, None) => return Ok(None),
    };
    match read.trim() {
        "" => Err(format!("{key}_file or {key}_env: it is empty")),
        word if word.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(Some(word.into())),
        _ => Err(format!("{key}_file or {key}_env: it has to be one word of ASCII characters")),
    }
}

/// A header whose value is a secret behind a prefix, such as `Bearer `; no log shows it.
///
/// # Errors
/// Where it cannot stand in a header.
pub fn secret_header(
    name: HeaderName,
    prefix: &str,
    secret: &SecretString,
) -> Result<(HeaderName, HeaderValue), String> {
    let value = HeaderValue::from_str(&format!("{prefix}{}", secret.expose_secret()));
    let mut value = value.map_err(|_| format!("{name}: the key cannot stand in a header"))?;
    value.set_sensitive(true);
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &str)]) -> Answer {
        let headers = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap()));
        let status = StatusCode::from_u16(status).unwrap();
        Answer { status, headers: headers.collect(), body: b"the secret text of a call".to_vec() }
    }

    #[test]
    fn statuses_have_their_meaning() {
        for status in [408, 425, 429, 500, 502, 503, 504] {
            assert!(matches!(fault(&answer(status, &[])), SinkError::Again { after: None, .. }), "{status}");
        }
        for (said, secs) in [("7", 7), ("99999999", 3600)] {
            let SinkError::Again { after, .. } = fault(&answer(429, &[("retry-after", said)])) else {
                panic!()
            };
            assert_eq!(after, Some(Duration::from_secs(secs)));
        }
        for status in [301, 307, 401, 403] {
            assert!(matches!(fault(&answer(status, &[])), SinkError::Denied(_)), "{status}");
        }
        for status in [400, 404, 409, 413, 422] {
            let fault = fault(&answer(status, &[]));
            assert!(matches!(fault, SinkError::Refused(_)), "{status}");
            assert!(!fault.to_string().contains("secret"));
        }
        assert!(accepted(answer(207, &[])).is_ok());
        assert!(accepted(answer(400, &[])).is_err());
    }

    #[test]
    fn a_trace_is_waited_for_and_not_for_ever() {
        let wait = Duration::from_secs(60);
        let since = |secs| Timestamp::now() - jiff::SignedDuration::from_secs(secs);
        assert!(matches!(no_trace("trace", since(50), wait), Outcome::Again { .. }));
        // A clock that is behind is no reason to give up.
        assert!(matches!(no_trace("trace", since(-50), wait), Outcome::Again { .. }));
        assert!(
            matches!(no_trace("trace", since(70), wait), Outcome::Never { reason } if reason.contains("70 s"))
        );
    }

    #[test]
    fn what_could_not_come_while_the_backend_was_down_is_waited_for_anew() {
        let config: WireConfig = serde_json::from_str(r#"{"url": "https://backend.example"}"#).unwrap();
        let (wire, wait) = (Wire::new(&config, HeaderMap::new()).unwrap(), Duration::from_secs(60));
        let long_ago = Timestamp::now() - jiff::SignedDuration::from_hours(5);
        let is_given_up = || matches!(wire.no_trace("trace", long_ago, wait), Outcome::Never { .. });
        wire.note(true);
        assert!(is_given_up(), "it was never down");
        wire.note(false);
        wire.note(true);
        assert!(!is_given_up());
        wire.note(true);
        assert!(!is_given_up(), "the next answer is no new return");
    }

    #[test]
    fn a_secret_is_one_word_and_stays_out_of_messages() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        std::fs::write(&file, "sk-secret\n").unwrap();
        let key = secret("key", Some(&file), None).unwrap().unwrap();
        let (name, value) = secret_header(reqwest::header::AUTHORIZATION, "Bearer ", &key).unwrap();
        assert_eq!((name.as_str(), value.to_str().unwrap()), ("authorization", "Bearer sk-secret"));
        assert!(!format!("{value:?}{key:?}").contains("sk-secret"));
        std::fs::write(&file, "sk secret").unwrap();
        let wrong = secret("key", Some(&file), None).unwrap_err();
        assert!(wrong.contains("key_file") && !wrong.contains("sk secret"), "{wrong}");
        assert!(secret("key", Some(&file), Some("A")).is_err());
        assert!(secret("key", None, Some("AFTERCHECK_TEST_NOT_SET")).unwrap_err().contains("not set"));
        assert!(secret("key", None, None).unwrap().is_none());
    }

    #[test]
    fn the_shared_keys_are_flattened_and_checked() {
        #[derive(Debug, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Own {
            project: String,
            #[serde(flatten)]
            wire: WireConfig,
        }
        let own: Own = toml::from_str("project = 'p'\nurl = 'https://h.example'\nrate = 5\n").unwrap();
        assert_eq!((own.project.as_str(), own.wire.rate, own.wire.concurrency), ("p", 5, 8));
        assert!(own.wire.quotes);
        let unknown = toml::from_str::<Own>("project = 'p'\nurl = 'https://h.example'\nrates = 5\n");
        assert!(unknown.unwrap_err().to_string().contains("rates"));
        let wrong = |change: fn(&mut WireConfig)| {
            let mut config = own.wire.clone();
            change(&mut config);
            Wire::new(&config, HeaderMap::new()).err().unwrap()
        };
        assert!(wrong(|config| config.concurrency = 0).contains("concurrency"));
        assert!(wrong(|config| config.timeout_ms = 0).contains("timeout_ms"));
        assert_eq!(
            [(40, 1), (40, 5), (200, 1), (40, 1000)]
                .map(|(most, each)| { Wire::new(&own.wire, HeaderMap::new()).unwrap().batch(most, each) }),
            [25, 5, 25, 1],
            "five requests a second are twenty-five in five"
        );
        let one_by_one = |concurrency, (most, each)| {
            let config = WireConfig { rate: 0, concurrency, ..own.wire.clone() };
            Wire::new(&config, HeaderMap::new()).unwrap().batch(most, each)
        };
        assert_eq!([(20, 20), (20, 10), (50, 1)].map(|batch| one_by_one(1, batch)), [2, 5, 50]);
        assert_eq!([(20, 20), (20, 10), (50, 1)].map(|batch| one_by_one(8, batch)), [20, 20, 50]);
        assert!(wrong(|config| config.url = "http://h.example".into()).contains("allow_http"));
    }
}
