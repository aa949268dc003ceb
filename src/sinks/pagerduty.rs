//! `kind = "pagerduty"`: the Events API v2 of PagerDuty. A condition opens an alert and, when it is over, resolves it; notices
//! about the same thing are one alert, by its `dedup_key`.

use std::{cmp::Reverse, path::PathBuf, time::Duration};

use async_trait::async_trait;
use reqwest::{Client, StatusCode, Url, header::CONTENT_TYPE};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{
    destination::{ANSWER_BYTES, Destination, Told, by_subject, cut, deadline, need},
    said,
    webhook::reach,
};
use crate::{
    domain::{Event, Message, Notice, id::sha256_hex},
    outbound::{self, Answer},
};

/// Where accounts of the United States send their events.
const URL: &str = "https://events.pagerduty.com/v2/enqueue";
/// PagerDuty takes about 120 events a minute for a key.
const SPACING: Duration = Duration::from_millis(550);
/// Longest key of an alert, in characters.
const DEDUP_KEY: usize = 255;
/// Longest summary, in characters.
const SUMMARY: usize = 1024;
/// Most things that a message tells of by themselves, conditions not counted: each is a request.
const SUBJECTS: usize = 20;
/// Length of a routing key.
const ROUTING_KEY: usize = 32;

/// A service of PagerDuty.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PagerDutyConfig {
    /// Where to; absent: `https://events.pagerduty.com/v2/enqueue`. Accounts of the EU:
    /// `https://events.eu.pagerduty.com/v2/enqueue`.
    pub url: Option<String>,
    /// Whether it may be plain http to another machine.
    pub allow_http: bool,
    /// File with the integration key and nothing else.
    pub key_file: Option<PathBuf>,
    /// Variable of the environment with it, in place of a file.
    pub key_env: Option<String>,
    /// Longest wait for an answer, in milliseconds; 15,000 where it is 0.
    pub timeout_ms: u64,
}

/// A service of PagerDuty.
pub struct PagerDuty {
    url: Url,
    key: SecretString,
    client: Client,
    deadline: Duration,
}

impl PagerDuty {
    /// A service by its configuration.
    ///
    /// # Errors
    /// The key and the remedy.
    pub fn new(config: &PagerDutyConfig) -> Result<Self, String> {
        let url = outbound::url(config.url.as_deref().unwrap_or(URL), config.allow_http);
        let url = url.map_err(|error| format!("url {error}"))?;
        let key = need("key", config.key_file.as_deref(), config.key_env.as_deref())?;
        let is_key =
            |key: &str| key.len() == ROUTING_KEY && key.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if !is_key(key.expose_secret()) {
            return Err(
                "key_file or key_env: an integration key of Events API v2 has 32 letters and digits".into()
            );
        }
        let client = outbound::client(&url, 1).map_err(|error| format!("no client: {error}"))?;
        let deadline = deadline(if config.timeout_ms == 0 { 15_000 } else { config.timeout_ms })?;
        Ok(Self { url, key, client, deadline })
    }

    /// Sends one event.
    async fn send(&self, event: &Value) -> Told {
        let request = self.client.post(self.url.clone()).header(CONTENT_TYPE, "application/json");
        match outbound::exchange(request.body(event.to_string()), self.deadline, ANSWER_BYTES).await {
            Ok(answer) => outcome(&answer, event),
            Err(error) => Told::unanswered(&error),
        }
    }
}

#[async_trait]
impl Destination for PagerDuty {
    fn spacing(&self) -> Duration {
        SPACING
    }

    async fn tell(&self, message: &Message) -> Told {
        let mut refused = Vec::new();
        let subjects = summed(by_subject(message));
        for (notice, count) in &subjects {
            match self.send(&event(notice, *count, self.key.expose_secret())).await {
                Told::Delivered { .. } => {}
                Told::Never { reason } => refused.push(reason),
                // Those before it may come again: each opens the same alert.
                other => return other,
            }
            // An attempt opens an alert; nobody should be called by it.
            if notice.event == Event::Test {
                let over = Notice { resolved: true, ..notice.clone() };
                return self.send(&event(&over, 1, self.key.expose_secret())).await;
            }
        }
        match refused.pop() {
            None => Told::delivered(),
            Some(reason) if refused.len() + 1 == subjects.len() => Told::Never { reason },
            Some(reason) => Told::Delivered {
                note: format!("{} of {} events refused: {reason}", refused.len() + 1, subjects.len()),
            },
        }
    }

    async fn check(&self) -> Result<String, String> {
        reach(&self.client, &self.url, self.deadline).await?;
        let found = "its host answers; PagerDuty has no way to check a key without an event: `aftercheck notify test` opens an \
                     alert and resolves it";
        Ok(found.into())
    }
}

/// What the answer to an event means. It names fields of ours; where it repeats the key or what stands in the event, it is not
/// shown.
fn outcome(answer: &Answer, event: &Value) -> Told {
    match answer.status {
        status if status.is_success() => Told::delivered(),
        StatusCode::BAD_REQUEST => {
            let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
            let key = event["routing_key"].as_str().unwrap_or_default();
            let said = body["errors"][0].as_str().and_then(|said| said::line(said, &[key], &texts(event)));
            Told::Never { reason: format!("status 400: {}", said.unwrap_or_else(|| "invalid event".into())) }
        }
        status if status.is_client_error() && !matches!(status.as_u16(), 408 | 425 | 429) => {
            Told::Never { reason: format!("status {}", status.as_u16()) }
        }
        status => Told::again(status, &answer.headers),
    }
}

/// All texts of a JSON value.
fn texts(value: &Value) -> Vec<&str> {
    match value {
        Value::String(text) => vec![text],
        Value::Array(all) => all.iter().flat_map(texts).collect(),
        Value::Object(all) => all.values().flat_map(texts).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) => Vec::new(),
    }
}

/// What is told of so many things, an event each: every condition, because only its end closes its alert, and the worst of the
/// others; the rest as one.
fn summed(subjects: Vec<(Notice, usize)>) -> Vec<(Notice, usize)> {
    let (mut told, mut others): (Vec<_>, Vec<_>) =
        subjects.into_iter().partition(|(notice, _)| notice.condition.is_some());
    others.sort_by_key(|(notice, _)| Reverse(notice.severity));
    let rest = others.split_off(others.len().min(SUBJECTS));
    told.extend(others);
    if let Some((worst, _)) = rest.first() {
        let count = rest.iter().map(|(_, count)| count).sum();
        let summary = format!("{count} more notices about {} things", rest.len());
        let (tenant_id, feature, request_id, evaluation_id, link) = (None, None, None, None, None);
        let (dimensions, details, worst) = (Vec::new(), Map::new(), worst.clone());
        let sum = Notice {
            summary,
            tenant_id,
            feature,
            request_id,
            evaluation_id,
            link,
            dimensions,
            details,
            ..worst
        };
        told.push((sum, count));
    }
    told
}

/// One event as PagerDuty wants it.
fn event(notice: &Notice, count: usize, key: &str) -> Value {
    let dedup_key = dedup_key(notice);
    if notice.resolved {
        return json!({"routing_key": key, "event_action": "resolve", "dedup_key": dedup_key});
    }
    let mut details = notice.details.clone();
    let ids = [
        ("notice_id", Some(notice.notice_id.to_string())),
        ("tenant_id", notice.tenant_id.clone()),
        ("request_id", notice.request_id.clone()),
        ("evaluation_id", notice.evaluation_id.map(|id| id.to_string())),
    ];
    details.extend(ids.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?)))));
    details.insert("notices".into(), count.into());
    let mut payload = Map::new();
    let mut put = |name: &str, value: Value| drop(payload.insert(name.into(), value));
    put("summary", cut(&notice.summary, SUMMARY).into());
    put("source", "aftercheck".into());
    put("severity", notice.severity.as_str().into());
    put("timestamp", notice.occurred_at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string().into());
    put("component", cut(notice.feature.as_deref().unwrap_or("aftercheck"), DEDUP_KEY).into());
    put("group", cut(notice.tenant_id.as_deref().unwrap_or("aftercheck"), DEDUP_KEY).into());
    put("class", notice.event.as_str().into());
    put("custom_details", Value::Object(details));
    let mut event = json!({
        "routing_key": key,
        "event_action": "trigger",
        "dedup_key": dedup_key,
        "payload": payload,
        "client": "aftercheck",
    });
    if let (Some(link), Value::Object(event)) = (&notice.link, &mut event) {
        event.insert("links".into(), json!([{"href": link, "text": "aftercheck"}]));
    }
    event
}

/// Which alert it is: what the notice is about, of 255 characters at most.
fn dedup_key(notice: &Notice) -> String {
    let key = match notice.event {
        // An attempt is about itself.
        Event::Test => format!("aftercheck/{}/{}", notice.event.as_str(), notice.notice_id),
        _ => format!("aftercheck/{}", notice.subject()),
    };
    match key.chars().count() <= DEDUP_KEY {
        true => key,
        false => {
            let digest = &sha256_hex(key.as_bytes())[..32];
            format!("{}/{digest}", key.chars().take(DEDUP_KEY - 33).collect::<String>())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::Severity;
    use crate::sinks::destination::tests::{condition, notice, numbered};

    #[test]
    fn the_same_thing_is_the_same_alert_and_ends_it() {
        let (began, over) = (event(&condition(false), 1, "k"), event(&condition(true), 1, "k"));
        assert_eq!(began["event_action"], "trigger");
        assert_eq!(over["event_action"], "resolve");
        assert_eq!(began["dedup_key"], over["dedup_key"]);
        assert_eq!(event(&numbered(1), 1, "k")["dedup_key"], event(&numbered(2), 1, "k")["dedup_key"]);
        assert_ne!(began["dedup_key"], event(&notice(), 1, "k")["dedup_key"]);
    }

    #[test]
    fn many_things_are_a_few_events_and_no_condition_is_left_out() {
        let other = |number: usize| {
            let severity = if number == 70 { Severity::Critical } else { Severity::Info };
            let feature = Some(format!("feature-{number}"));
            (Notice { feature, severity, ..notice() }, 3)
        };
        let conditions = (0..30)
            .map(|number| (Notice { condition: Some(format!("sink.dead/{number}")), ..condition(true) }, 1));
        let told = summed((0..100).map(other).chain(conditions).collect());
        assert_eq!(told.len(), 30 + SUBJECTS + 1);
        assert!(told[..30].iter().all(|(notice, _)| notice.resolved));
        assert_eq!(told[30].0.severity, Severity::Critical, "the worst are named");
        let (rest, count) = told.last().unwrap();
        assert_eq!((*count, rest.summary.as_str()), (240, "240 more notices about 80 things"));
        assert!(rest.feature.is_none() && rest.link.is_none(), "it is about none of them");
        assert_eq!(summed(vec![other(1)]), vec![other(1)]);
    }

    #[test]
    fn nothing_is_over_a_limit_and_long_keys_differ() {
        let long = |end: &str| Notice {
            feature: Some("ä".repeat(900) + end),
            summary: "s".repeat(5000),
            ..notice()
        };
        let (a, b) = (event(&long("a"), 1, "k"), event(&long("b"), 1, "k"));
        let length = |value: &Value| value.as_str().unwrap().chars().count();
        assert!(length(&a["dedup_key"]) <= 255 && a["dedup_key"] != b["dedup_key"]);
        assert!(length(&a["payload"]["summary"]) <= 1024);
    }

    #[test]
    fn an_answer_means_what_the_contract_says() {
        let answer = |status: u16, body: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            let event = event(&notice(), 1, "0123456789abcdef");
            outcome(&Answer { status, headers: Default::default(), body: body.into() }, &event)
        };
        assert_eq!(answer(202, r#"{"status":"success"}"#), Told::delivered());
        let refused = answer(400, r#"{"status":"invalid event","errors":["'payload.severity' is invalid"]}"#);
        assert!(matches!(refused, Told::Never { reason } if reason.contains("payload.severity")));
        for repeats in ["no key 0123456789abcdef", "no group <https://evil.example|shop>"] {
            let body = json!({"errors": [repeats]}).to_string();
            let reason = "status 400: invalid event".to_owned();
            assert_eq!(answer(400, &body), Told::Never { reason }, "{repeats}");
        }
        let long = json!({"errors": [format!("two\nlines {}", "x".repeat(500))]}).to_string();
        assert!(
            matches!(answer(400, &long), Told::Never { reason } if reason.len() < 220 && !reason.contains('\n'))
        );
        assert!(matches!(answer(429, ""), Told::Again { .. }));
        assert!(matches!(answer(500, ""), Told::Again { .. }));
    }

    #[test]
    fn a_key_is_32_letters() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        let config = PagerDutyConfig { key_file: Some(file.clone()), ..PagerDutyConfig::default() };
        std::fs::write(&file, "too-short").unwrap();
        let wrong = PagerDuty::new(&config).err().unwrap();
        assert!(wrong.contains("32 letters") && !wrong.contains("too-short"), "{wrong}");
        std::fs::write(&file, "0123456789abcdef0123456789abcdef").unwrap();
        assert!(PagerDuty::new(&config).is_ok());
    }
}
