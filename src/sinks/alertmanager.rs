//! `kind = "alertmanager"`: the API v2 of Alertmanager. Every member of a cluster is told, because they do not tell each other
//! of alerts; a condition that lasts is told again before it would end by itself.

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;
use futures_lite::future::zip;
use jiff::{SignedDuration, Timestamp};
use reqwest::{Client, RequestBuilder, StatusCode, Url, header::CONTENT_TYPE};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::destination::{ANSWER_BYTES, Destination, Told, by_subject, cut, deadline};
use super::wire::secret;
use crate::{
    domain::{Event, Message, Notice},
    outbound,
};

/// How often a condition that lasts is told again.
const RENEWAL: Duration = Duration::from_secs(60);
/// How long an alert lasts that is not told again: some renewals may be missed.
const LASTS: SignedDuration = SignedDuration::from_secs(300);
/// Longest value of a label or annotation, in characters.
const VALUE: usize = 500;
/// Most members of a cluster.
const MOST: usize = 16;

/// A cluster of Alertmanagers.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AlertmanagerConfig {
    /// Every member by itself, such as `http://alertmanager-0:9093`; never a load balancer.
    pub urls: Vec<String>,
    /// Whether plain http leads to other machines.
    pub allow_http: bool,
    /// File with `user:password`, where something before it asks for them.
    pub login_file: Option<std::path::PathBuf>,
    /// Variable of the environment with it, in place of a file.
    pub login_env: Option<String>,
    /// More labels of every alert, such as `{ team = "llm" }`.
    pub labels: BTreeMap<String, String>,
    /// Longest wait for an answer, in milliseconds; 10,000 where it is 0.
    pub timeout_ms: u64,
}

/// A cluster of Alertmanagers.
pub struct Alertmanager {
    members: Vec<(Url, Client)>,
    login: Option<(String, SecretString)>,
    labels: BTreeMap<String, String>,
    deadline: Duration,
}

/// What one member made of the alerts.
enum Heard {
    /// It has all of them.
    All,
    /// It refused these, by their places.
    But(Vec<usize>, String),
    /// It may hear them later.
    Not(String),
}

impl Alertmanager {
    /// A cluster by its configuration.
    ///
    /// # Errors
    /// The key and the remedy.
    pub fn new(config: &AlertmanagerConfig) -> Result<Self, String> {
        if !(1..=MOST).contains(&config.urls.len()) {
            return Err(format!("urls: need 1 to {MOST}, one for each member"));
        }
        if let Some(name) = config.labels.keys().find(|name| !is_label(name)) {
            return Err(format!("labels: {name:?} is no name of a label, which has letters, digits and _"));
        }
        // Its place, and not its text, which may hold a password.
        let member = |(at, text): (usize, &String)| {
            let url =
                outbound::url(text, config.allow_http).map_err(|error| format!("urls[{at}]: {error}"))?;
            let client = outbound::client(&url, 1).map_err(|error| format!("no client: {error}"))?;
            Ok::<_, String>((url, client))
        };
        let members = config.urls.iter().enumerate().map(member).collect::<Result<_, _>>()?;
        let login = secret("login", config.login_file.as_deref(), config.login_env.as_deref())?;
        let login = match login {
            None => None,
            Some(login) => {
                let split = login.expose_secret().split_once(':');
                let (user, password) = split.ok_or("login_file or login_env: need user:password")?;
                Some((user.to_owned(), password.into()))
            }
        };
        let deadline = deadline(if config.timeout_ms == 0 { 10_000 } else { config.timeout_ms })?;
        Ok(Self { members, login, labels: config.labels.clone(), deadline })
    }

    /// A request with what it is let in by.
    fn let_in(&self, request: RequestBuilder) -> RequestBuilder {
        match &self.login {
            Some((user, password)) => request.basic_auth(user, Some(password.expose_secret())),
            None => request,
        }
    }

    /// Posts alerts to one member: status and, for the log, nothing more.
    async fn post(&self, (url, client): &(Url, Client), alerts: &[Value]) -> Result<StatusCode, String> {
        let request =
            client.post(outbound::below(url, "api/v2/alerts")).header(CONTENT_TYPE, "application/json");
        let body = Value::Array(alerts.to_vec()).to_string();
        let answer = outbound::exchange(self.let_in(request).body(body), self.deadline, ANSWER_BYTES).await;
        answer.map(|answer| answer.status).map_err(|error| error.to_string())
    }

    /// Tells one member. Where it refuses, which may be some of the alerts, each goes alone to tell which.
    async fn hears(&self, member: &(Url, Client), alerts: &[Value]) -> Heard {
        match self.post(member, alerts).await {
            Ok(status) if status.is_success() => Heard::All,
            Ok(StatusCode::BAD_REQUEST) if alerts.len() > 1 => {
                let mut refused = Vec::new();
                for (place, alert) in alerts.iter().enumerate() {
                    match self.post(member, std::slice::from_ref(alert)).await {
                        Ok(status) if status.is_success() => {}
                        Ok(StatusCode::BAD_REQUEST) => refused.push(place),
                        Ok(status) => return Heard::Not(format!("status {}", status.as_u16())),
                        Err(reason) => return Heard::Not(reason),
                    }
                }
                match refused.is_empty() {
                    true => Heard::All,
                    false => Heard::But(refused, "status 400".into()),
                }
            }
            Ok(StatusCode::BAD_REQUEST) => Heard::But(vec![0], "status 400".into()),
            Ok(status) => Heard::Not(format!("status {}", status.as_u16())),
            Err(reason) => Heard::Not(reason),
        }
    }

    /// What all members made of the alerts, told at the same time: one that hangs keeps no other from hearing.
    async fn all_hear(&self, alerts: &[Value]) -> Vec<Heard> {
        let mut all: std::pin::Pin<Box<dyn Future<Output = Vec<Heard>> + Send + '_>> =
            Box::pin(async { Vec::new() });
        for member in &self.members {
            let before = all;
            all = Box::pin(async move {
                let (mut heard, last) = zip(before, self.hears(member, alerts)).await;
                heard.push(last);
                heard
            });
        }
        all.await
    }
}

#[async_trait]
impl Destination for Alertmanager {
    async fn tell(&self, message: &Message) -> Told {
        let now = Timestamp::now();
        let subjects = by_subject(message);
        let alerts: Vec<Value> =
            subjects.iter().map(|(notice, count)| alert(notice, *count, &self.labels, now)).collect();
        outcome(self.all_hear(&alerts).await, alerts.len())
    }

    fn renews(&self) -> Option<Duration> {
        Some(RENEWAL)
    }

    async fn check(&self) -> Result<String, String> {
        for (url, client) in &self.members {
            let request = self.let_in(client.get(outbound::below(url, "api/v2/status")));
            let place = url.host_str().unwrap_or_default();
            match outbound::status(request, self.deadline).await {
                Ok((StatusCode::OK, _)) => {}
                Ok((StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN, _)) => {
                    return Err(format!("member {place} lets nobody in: set login_file or login_env"));
                }
                Ok((status, _)) => {
                    return Err(format!(
                        "member {place} answers {}: is it an Alertmanager?",
                        status.as_u16()
                    ));
                }
                Err(error) => return Err(format!("member {place} cannot be reached: {error}")),
            }
        }
        Ok(format!("{} members answer", self.members.len()))
    }
}

/// What a message has come to: it has arrived where one member has it; the others hear of what lasts at the next renewal.
fn outcome(heard: Vec<Heard>, alerts: usize) -> Told {
    let members = heard.len();
    let (mut down, mut refused, mut arrived) = (Vec::new(), Vec::new(), 0);
    for one in heard {
        match one {
            Heard::All => arrived += 1,
            Heard::But(places, reason) => {
                arrived += usize::from(places.len() < alerts);
                refused.push(reason);
            }
            Heard::Not(reason) => down.push(reason),
        }
    }
    let note = match (down.first(), refused.first()) {
        (None, None) => String::new(),
        (Some(reason), _) => format!("{} of {members} members did not hear: {reason}", down.len()),
        (None, Some(reason)) => format!("{} of {members} members refused alerts: {reason}", refused.len()),
    };
    match (arrived, down.is_empty()) {
        (0, true) => Told::Never { reason: note },
        (0, false) => Told::Again { reason: note, after: None },
        _ => Told::Delivered { note },
    }
}

/// Whether this may be called so.
fn is_label(name: &str) -> bool {
    name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        && !name.starts_with(|c: char| c.is_ascii_digit())
        && !name.is_empty()
}

/// One alert. Its labels are what it is: whatever changes from one notice to the next about the same thing is an annotation.
fn alert(notice: &Notice, count: usize, more: &BTreeMap<String, String>, now: Timestamp) -> Value {
    let mut labels = Map::new();
    let mut label = |name: &str, value: &str| {
        if !value.is_empty() {
            labels.insert(name.into(), cut(value, VALUE).into());
        }
    };
    more.iter().for_each(|(name, value)| label(name, value));
    label("alertname", name(notice.event));
    label("event", notice.event.as_str());
    label("severity", notice.severity.as_str());
    label("condition", notice.condition.as_deref().unwrap_or_default());
    label("tenant", notice.tenant_id.as_deref().unwrap_or_default());
    label("feature", notice.feature.as_deref().unwrap_or_default());
    label("dimensions", &notice.dimensions.join(","));
    let mut annotations = Map::new();
    let mut annotate =
        |name: &str, value: String| drop(annotations.insert(name.into(), cut(&value, VALUE).into()));
    annotate("summary", notice.summary.clone());
    annotate("notice_id", notice.notice_id.to_string());
    annotate("notices", count.to_string());
    if let Some(request) = &notice.request_id {
        annotate("request_id", request.clone());
    }
    for (name, value) in &notice.details {
        if is_label(name) {
            annotate(name, value.as_str().map_or_else(|| value.to_string(), str::to_owned));
        }
    }
    // An end before the start would be refused: clocks differ.
    let starts = notice.occurred_at.min(now);
    let ends = if notice.resolved || notice.event == Event::Test { now } else { now + LASTS };
    let stamp = |at: Timestamp| at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string();
    let mut alert = json!({
        "labels": labels,
        "annotations": annotations,
        "startsAt": stamp(if notice.resolved { starts.min(ends) } else { starts }),
        "endsAt": stamp(ends),
    });
    if let (Some(link), Value::Object(alert)) = (&notice.link, &mut alert) {
        alert.insert("generatorURL".into(), link.as_str().into());
    }
    alert
}

/// What an alert is called.
fn name(event: Event) -> &'static str {
    match event {
        Event::ReviewCreated => "AftercheckReviewCreated",
        Event::FindingRecorded => "AftercheckFinding",
        Event::DeadLetterSpike => "AftercheckDeadLetterSpike",
        Event::SinkDead => "AftercheckSinkDead",
        Event::BudgetSpent => "AftercheckBudgetSpent",
        Event::GoldPromoted => "AftercheckGoldPromoted",
        Event::Test => "AftercheckTest",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::destination::tests::{condition, numbered};

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn notices_about_the_same_thing_have_the_same_labels() {
        let now = at("2026-11-20T10:20:00Z");
        let none = BTreeMap::new();
        let one = alert(&numbered(1), 1, &none, now);
        let other = alert(&numbered(2), 7, &none, now);
        assert_eq!(one["labels"], other["labels"]);
        assert_ne!(one["annotations"], other["annotations"]);
        assert_eq!(
            alert(&condition(false), 1, &none, now)["labels"],
            alert(&condition(true), 1, &none, now)["labels"]
        );
    }

    #[test]
    fn it_lasts_some_renewals_and_ends_at_once_when_it_is_over() {
        let now = at("2026-11-20T10:20:00Z");
        let one = alert(&condition(false), 1, &BTreeMap::new(), now);
        assert_eq!(one["startsAt"], "2026-11-20T10:15:31.000Z");
        assert_eq!(one["endsAt"], "2026-11-20T10:25:00.000Z");
        let over = alert(&condition(true), 1, &BTreeMap::new(), now);
        assert_eq!(over["endsAt"], "2026-11-20T10:20:00.000Z");
        let early = alert(&condition(true), 1, &BTreeMap::new(), at("2026-11-20T10:00:00Z"));
        assert!(early["startsAt"].as_str() <= early["endsAt"].as_str(), "{early}");
    }

    #[test]
    fn one_member_is_enough_and_a_refusal_of_all_is_final() {
        let not = || Heard::Not("down".into());
        let but = |places: &[usize]| Heard::But(places.to_vec(), "status 400".into());
        assert!(
            matches!(outcome(vec![Heard::All, not()], 1), Told::Delivered { note } if note.contains("1 of 2"))
        );
        assert!(matches!(outcome(vec![not(), not()], 1), Told::Again { .. }));
        assert!(matches!(outcome(vec![but(&[0])], 1), Told::Never { .. }));
        assert!(matches!(outcome(vec![but(&[0])], 2), Told::Delivered { .. }));
        assert!(matches!(outcome(vec![but(&[0]), not()], 1), Told::Again { .. }));
    }

    #[test]
    fn what_is_wrong_with_an_address_is_said_without_it() {
        let urls = vec!["http://127.0.0.1:9093".to_owned(), "http://admin:secret@am.example:9093".to_owned()];
        let error = Alertmanager::new(&AlertmanagerConfig { urls, ..AlertmanagerConfig::default() });
        let error = error.err().unwrap();
        assert!(error.starts_with("urls[1]") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn a_cluster_has_members_and_labels_have_names() {
        let config = |urls: &[&str], label: &str| AlertmanagerConfig {
            urls: urls.iter().map(|url| (*url).to_owned()).collect(),
            labels: BTreeMap::from([(label.to_owned(), "x".to_owned())]),
            ..AlertmanagerConfig::default()
        };
        assert!(Alertmanager::new(&config(&["http://127.0.0.1:9093"], "team")).is_ok());
        assert!(Alertmanager::new(&config(&[], "team")).err().unwrap().contains("one for each member"));
        assert!(
            Alertmanager::new(&config(&["http://127.0.0.1:9093"], "my-team"))
                .err()
                .unwrap()
                .contains("my-team")
        );
        assert!(
            Alertmanager::new(&config(&["http://am.example:9093"], "t"))
                .err()
                .unwrap()
                .contains("allow_http")
        );
    }
}
