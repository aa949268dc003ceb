//! Destinations of notices: who is told when somebody should look. A destination never sleeps and never retries: it says what
//! became of each message, and a repeat of one does no harm.

use std::{collections::HashMap, path::Path, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use reqwest::{StatusCode, header::HeaderMap};
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use super::{
    alertmanager::{Alertmanager, AlertmanagerConfig},
    pagerduty::{PagerDuty, PagerDutyConfig},
    slack::{Slack, SlackConfig},
    webhook::{Webhook, WebhookConfig},
    wire::secret,
};
use crate::{
    domain::{Message, Notice},
    outbound::{Unanswered, retry_after},
};

/// Most that is read of an answer, in bytes.
pub(super) const ANSWER_BYTES: usize = 20_000;

/// `to` of `[notify.routes.NAME]`: where its notices go.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DestinationConfig {
    /// Signed JSON to a URL of yours, after Standard Webhooks.
    Webhook(WebhookConfig),
    /// An incoming webhook of Slack.
    Slack(SlackConfig),
    /// The Events API v2 of PagerDuty.
    Pagerduty(PagerDutyConfig),
    /// The API v2 of every member of an Alertmanager cluster.
    Alertmanager(AlertmanagerConfig),
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Told {
    /// It arrived. The note says what else is to be known, such as that a member of a cluster is down.
    Delivered {
        /// For the log; empty where there is nothing to say.
        note: String,
    },
    /// It may arrive later; not before `after` where the receiver says so.
    Again {
        /// Why it did not.
        reason: String,
        /// How long the receiver wants to be left alone, an hour at most.
        after: Option<Duration>,
    },
    /// It will never arrive.
    Never {
        /// Why.
        reason: String,
    },
    /// The receiver wants no more messages, of any kind: the route is switched off.
    Gone {
        /// How it said so.
        reason: String,
    },
}

/// Somebody who is told.
#[async_trait]
pub trait Destination: Send + Sync {
    /// Least time between two messages.
    fn spacing(&self) -> Duration {
        Duration::ZERO
    }

    /// Least time between two messages, where the configuration says nothing: a place where people read.
    fn digest(&self) -> Duration {
        Duration::ZERO
    }

    /// Most notices of one message. More than come between two messages, or what waits would grow for ever; a body names the first
    /// and counts the rest.
    fn together(&self) -> u32 {
        10_000
    }

    /// Sends a message, within a deadline over all of it.
    async fn tell(&self, message: &Message) -> Told;

    /// How often it has to be told of conditions that last; none where it remembers them itself.
    fn renews(&self) -> Option<Duration> {
        None
    }

    /// Whether the receiver is there, without a message to anybody: what was found.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    async fn check(&self) -> Result<String, String>;
}

impl DestinationConfig {
    /// The destination that this describes. It has not connected yet.
    ///
    /// # Errors
    /// The key and the remedy; never a secret.
    pub fn build(&self) -> Result<Box<dyn Destination>, String> {
        Ok(match self {
            Self::Webhook(config) => Box::new(Webhook::new(config)?),
            Self::Slack(config) => Box::new(Slack::new(config)?),
            Self::Pagerduty(config) => Box::new(PagerDuty::new(config)?),
            Self::Alertmanager(config) => Box::new(Alertmanager::new(config)?),
        })
    }

    /// The word for its kind.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Webhook(_) => "webhook",
            Self::Slack(_) => "slack",
            Self::Pagerduty(_) => "pagerduty",
            Self::Alertmanager(_) => "alertmanager",
        }
    }
}

impl Told {
    /// It arrived, and there is nothing more to say.
    pub fn delivered() -> Self {
        Self::Delivered { note: String::new() }
    }

    /// What it means that there is no answer: nobody knows whether it arrived.
    pub(super) fn unanswered(error: &Unanswered) -> Self {
        Self::Again { reason: error.to_string(), after: None }
    }

    /// What a status means that says that something is wrong for now.
    pub(super) fn again(status: StatusCode, headers: &HeaderMap) -> Self {
        Self::Again {
            reason: format!("status {}", status.as_u16()),
            after: retry_after(headers, Timestamp::now()),
        }
    }
}

/// A secret that has to be there.
///
/// # Errors
/// The key and the remedy.
pub(super) fn need(key: &str, file: Option<&Path>, env: Option<&str>) -> Result<SecretString, String> {
    secret(key, file, env)?.ok_or_else(|| format!("{key}_file or {key}_env: name one of them"))
}

/// The first so many characters of a text, with an ellipsis for the last where there are more.
pub(super) fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        None => text.to_owned(),
        Some(_) => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// Notices of a message by what they are about, the last of each with their number and as bad as the worst of them: of a condition
/// that began and ended only the end is told.
pub(super) fn by_subject(message: &Message) -> Vec<(Notice, usize)> {
    let (mut subjects, mut places) = (Vec::<(Notice, usize)>::new(), HashMap::<String, usize>::new());
    for notice in &message.notices {
        let place = *places.entry(notice.subject()).or_insert(subjects.len());
        match subjects.get_mut(place) {
            Some((last, count)) => {
                let severity = last.severity.max(notice.severity);
                (*last, *count) = (Notice { severity, ..notice.clone() }, *count + 1);
            }
            None => subjects.push((notice.clone(), 1)),
        }
    }
    subjects
}

/// What is said of a deadline that the configuration sets, in milliseconds.
///
/// # Errors
/// Where it is none.
pub(super) fn deadline(timeout_ms: u64) -> Result<Duration, String> {
    match (100..=30_000).contains(&timeout_ms) {
        true => Ok(Duration::from_millis(timeout_ms)),
        false => Err("timeout_ms: need 100 to 30000".into()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::Map;
    use uuid::Uuid;

    use super::*;
    use crate::domain::{Event, Severity};

    /// A notice in which strangers have written what they could.
    pub fn notice() -> Notice {
        Notice {
            notice_id: Uuid::from_u128(7),
            event: Event::ReviewCreated,
            severity: Severity::Warning,
            condition: None,
            resolved: false,
            occurred_at: "2026-11-20T10:15:31Z".parse().unwrap(),
            tenant_id: Some("<!channel> & co".into()),
            feature: Some("<https://evil.example|shop>".into()),
            request_id: Some("order-1".into()),
            evaluation_id: Some(Uuid::from_u128(9)),
            dimensions: Vec::new(),
            summary: "a call waits for a person".into(),
            details: Map::from_iter([("reason".to_owned(), "unsure_band".into())]),
            link: Some("https://aftercheck.example/calls/acme/order-1".into()),
        }
    }

    /// One of several.
    pub fn numbered(number: u128) -> Notice {
        Notice {
            notice_id: Uuid::from_u128(1000 + number),
            request_id: Some(format!("order-{number}")),
            ..notice()
        }
    }

    /// A condition that began, or ended.
    pub fn condition(resolved: bool) -> Notice {
        Notice {
            notice_id: Uuid::from_u128(if resolved { 12 } else { 11 }),
            event: Event::SinkDead,
            severity: Severity::Error,
            condition: Some("sink.dead/langfuse".into()),
            resolved,
            tenant_id: None,
            feature: None,
            request_id: None,
            evaluation_id: None,
            ..notice()
        }
    }

    #[test]
    fn of_a_condition_that_began_and_ended_the_end_is_told() {
        let message = Message::of("r", vec![numbered(1), condition(false), numbered(2), condition(true)]);
        let told = by_subject(&message);
        assert_eq!(told.len(), 2);
        assert_eq!((told[0].0.notice_id, told[0].1), (numbered(2).notice_id, 2));
        assert!(told[1].0.resolved);
    }

    #[test]
    fn what_is_told_of_one_thing_is_as_bad_as_the_worst_of_it() {
        let mild = |number| Notice { severity: Severity::Info, ..numbered(number) };
        let bad = Notice { severity: Severity::Error, ..numbered(2) };
        let told = by_subject(&Message::of("r", vec![mild(1), bad, mild(3)]));
        assert_eq!((told.len(), told[0].0.severity, told[0].1), (1, Severity::Error, 3));
        assert_eq!(told[0].0.notice_id, numbered(3).notice_id);
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(cut("äöü", 3), "äöü");
        assert_eq!(cut("äöüß", 3), "äö…");
        assert_eq!(cut("", 0), "");
    }
}
