//! A notice: something that somebody should hear of. It holds ids, codes and numbers, and no word of a call.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::id;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum Event {
    /// A call waits for a person.
    #[serde(rename = "review.created")]
    ReviewCreated,
    /// A rule failed that guards a dimension, such as personal data.
    #[serde(rename = "finding.recorded")]
    FindingRecorded,
    /// More calls than usual become dead letters.
    #[serde(rename = "dead_letters.spike")]
    DeadLetterSpike,
    /// A sink takes no scores, or a route no notices.
    #[serde(rename = "sink.dead")]
    SinkDead,
    /// A budget of the judge is spent for the day.
    #[serde(rename = "budget.spent")]
    BudgetSpent,
    /// A call became a row of the golden set.
    #[serde(rename = "gold.promoted")]
    GoldPromoted,
    /// Somebody tries a route.
    #[serde(rename = "notify.test")]
    Test,
}

/// How bad it is, mildest first.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// Nothing has to be done.
    #[default]
    Info,
    /// Somebody should look within days.
    Warning,
    /// Somebody should look today.
    Error,
    /// Somebody should look now: it passes quiet hours.
    Critical,
}

/// Something that somebody should hear of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Notice {
    /// UUIDv5 of what it is about: a repeat is the same notice.
    pub notice_id: Uuid,
    /// What happened.
    pub event: Event,
    /// How bad it is.
    pub severity: Severity,
    /// The condition that began or ended; none where something happened once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// Whether the condition has ended.
    #[serde(default)]
    pub resolved: bool,
    /// When it happened, or the condition began or ended.
    pub occurred_at: Timestamp,
    /// Tenant of the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant_id: Option<String>,
    /// Feature of the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub feature: Option<String>,
    /// The producer's id of the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
    /// The evaluation that it comes of: it goes where that is erased.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation_id: Option<Uuid>,
    /// What rules failed about: `injection`, `personal_data`, …; empty where none did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dimensions: Vec<String>,
    /// What happened, in a sentence of ours without a full stop.
    pub summary: String,
    /// More ids and numbers, by name.
    #[serde(default)]
    pub details: Map<String, Value>,
    /// Where to look.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
}

/// A notice, and one route that it takes.
#[derive(Debug, Clone, PartialEq)]
pub struct Addressed {
    /// Name of the route.
    pub route: String,
    /// The notice.
    pub notice: Notice,
}

/// What is sent to a destination at a time: one notice, or several that are summed up.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// The receiver's idempotency key: the same on every repeat. Of one notice its own id.
    pub message_id: Uuid,
    /// The notices, oldest first; never empty.
    pub notices: Vec<Notice>,
}

impl Event {
    /// All that routes may name.
    pub const ALL: [Self; 6] = [
        Self::ReviewCreated,
        Self::FindingRecorded,
        Self::DeadLetterSpike,
        Self::SinkDead,
        Self::BudgetSpent,
        Self::GoldPromoted,
    ];

    /// The word used in JSON, configuration and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReviewCreated => "review.created",
            Self::FindingRecorded => "finding.recorded",
            Self::DeadLetterSpike => "dead_letters.spike",
            Self::SinkDead => "sink.dead",
            Self::BudgetSpent => "budget.spent",
            Self::GoldPromoted => "gold.promoted",
            Self::Test => "notify.test",
        }
    }
}

impl Severity {
    /// The word used in JSON, configuration and messages.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

impl Notice {
    /// What notices about the same thing share: the condition, or event, tenant, feature and dimensions.
    pub fn subject(&self) -> String {
        let Some(condition) = &self.condition else {
            let whose = [self.tenant_id.as_deref(), self.feature.as_deref()].map(Option::unwrap_or_default);
            return [self.event.as_str(), whose[0], whose[1], &self.dimensions.join(",")].join("/");
        };
        condition.clone()
    }
}

impl Message {
    /// A message of these notices, oldest first, on a route.
    pub fn of(route: &str, notices: Vec<Notice>) -> Self {
        let message_id = match &notices[..] {
            [one] => one.notice_id,
            several => {
                let ids: Vec<String> = several.iter().map(|notice| notice.notice_id.to_string()).collect();
                let parts: Vec<&str> = [route].into_iter().chain(ids.iter().map(String::as_str)).collect();
                id::derived("message", &parts)
            }
        };
        Self { message_id, notices }
    }

    /// The worst of its severities.
    pub fn severity(&self) -> Severity {
        self.notices.iter().map(|notice| notice.severity).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_called_the_same_everywhere() {
        for event in Event::ALL.into_iter().chain([Event::Test]) {
            assert_eq!(serde_json::to_value(event).unwrap(), event.as_str());
        }
        for severity in [Severity::Info, Severity::Warning, Severity::Error, Severity::Critical] {
            assert_eq!(serde_json::to_value(severity).unwrap(), severity.as_str());
        }
        assert!(Severity::Info < Severity::Warning && Severity::Error < Severity::Critical);
    }
}
