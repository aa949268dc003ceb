//! How long a provider asks to wait, in the ways in which they say it.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::HeaderMap;

pub use crate::outbound::retry_after;

/// Longest wait that is believed.
const MAX_WAIT: Duration = Duration::from_secs(3600);

/// Whether the provider says that the same request may, or may not, be made again, whatever the status is.
pub fn should_retry(headers: &HeaderMap) -> Option<bool> {
    match headers.get("x-should-retry")?.to_str().ok()?.trim() {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

/// When a limit that is used up is there again: what remains of requests or tokens, and the time until it is full.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Remaining {
    /// Requests or tokens that are left.
    pub left: u64,
    /// Until there are more.
    pub reset: Duration,
}

/// What OpenAI's headers say of requests (`what` is `requests`) or tokens: resets are durations such as `6m0s` or `12ms`, from
/// some servers bare seconds.
pub fn openai_remaining(headers: &HeaderMap, what: &str) -> Option<Remaining> {
    let word = |name: String| headers.get(name).and_then(|value| value.to_str().ok());
    let left = word(format!("x-ratelimit-remaining-{what}"))?.parse().ok()?;
    let reset = duration(word(format!("x-ratelimit-reset-{what}"))?)?;
    Some(Remaining { left, reset: reset.min(MAX_WAIT) })
}

/// What Anthropic's headers say: resets are times.
pub fn anthropic_remaining(headers: &HeaderMap, what: &str, now: Timestamp) -> Option<Remaining> {
    let word = |name: String| headers.get(name).and_then(|value| value.to_str().ok());
    let left = word(format!("anthropic-ratelimit-{what}-remaining"))?.parse().ok()?;
    let until: Timestamp = word(format!("anthropic-ratelimit-{what}-reset"))?.parse().ok()?;
    let secs = until.duration_since(now).as_secs_f64().max(0.0);
    Some(Remaining { left, reset: Duration::from_secs_f64(secs).min(MAX_WAIT) })
}

/// A duration such as `1h2m3.5s`, `12ms` or `7`, which are seconds.
fn duration(text: &str) -> Option<Duration> {
    let (mut rest, mut secs) = (text.trim(), 0.0);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest.get(..digits)?.parse().ok()?;
        let unit = rest.get(digits..)?;
        let (scale, length) = match unit {
            unit if unit.starts_with("ms") => (0.001, 2),
            unit if unit.starts_with('h') => (3600.0, 1),
            unit if unit.starts_with('m') => (60.0, 1),
            unit if unit.starts_with('s') => (1.0, 1),
            "" => (1.0, 0),
            _ => return None,
        };
        secs += number * scale;
        rest = unit.get(length..)?;
    }
    Duration::try_from_secs_f64(secs).ok()
}

#[cfg(test)]
mod tests {
    use reqwest::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        let header = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        pairs.iter().map(header).collect()
    }

    #[test]
    fn a_wait_is_read_in_each_of_its_forms() {
        let now: Timestamp = "2026-11-02T10:00:00Z".parse().unwrap();
        let wait =
            |pairs: &[(&'static str, &str)]| retry_after(&headers(pairs), now).map(|wait| wait.as_secs_f64());
        assert_eq!(wait(&[("retry-after", "7")]), Some(7.0));
        assert_eq!(wait(&[("retry-after", "0.25")]), Some(0.25));
        assert_eq!(wait(&[("retry-after-ms", "1500"), ("retry-after", "7")]), Some(1.5));
        assert_eq!(wait(&[("retry-after", "Mon, 02 Nov 2026 10:00:30 GMT")]), Some(30.0));
        assert_eq!(wait(&[("retry-after", "Mon, 02 Nov 2026 09:00:00 GMT")]), Some(0.0));
        assert_eq!(wait(&[("retry-after", "86400000")]), Some(3600.0), "an absurd one is capped");
        for unreadable in ["", "soon", "-1", "NaN", "inf"] {
            assert_eq!(wait(&[("retry-after", unreadable)]), None, "{unreadable}");
        }
        assert_eq!(wait(&[]), None);
        assert_eq!(should_retry(&headers(&[("x-should-retry", "false")])), Some(false));
        assert_eq!(should_retry(&headers(&[("x-should-retry", "perhaps")])), None);
    }

    #[test]
    fn what_remains_is_read_from_both_providers() {
        let seconds = |text| duration(text).map(|duration| duration.as_secs_f64());
        assert_eq!(seconds("6m0s"), Some(360.0));
        assert_eq!(seconds("12ms"), Some(0.012));
        assert_eq!(seconds("1h2m3.5s"), Some(3723.5));
        assert_eq!(seconds("9"), Some(9.0));
        assert_eq!(seconds("-1"), None);
        let of = headers(&[("x-ratelimit-remaining-tokens", "0"), ("x-ratelimit-reset-tokens", "6m0s")]);
        let remaining = openai_remaining(&of, "tokens").unwrap();
        assert_eq!(remaining, Remaining { left: 0, reset: Duration::from_secs(360) });
        assert_eq!(openai_remaining(&of, "requests"), None);
        let now: Timestamp = "2026-11-02T10:00:00Z".parse().unwrap();
        let of = headers(&[
            ("anthropic-ratelimit-requests-remaining", "3"),
            ("anthropic-ratelimit-requests-reset", "2026-11-02T10:00:05Z"),
        ]);
        let remaining = anthropic_remaining(&of, "requests", now).unwrap();
        assert_eq!(remaining, Remaining { left: 3, reset: Duration::from_secs(5) });
    }
}
