//! Notices that wait for their routes, routes that rest, and conditions that last. A verdict's notices are written in its
//! transaction; all others by whoever notices, because a repeat changes nothing.

use std::collections::BTreeMap;

use async_trait::async_trait;
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{JudgeLimits, StoreError};
use crate::domain::{Addressed, Message, Notice};

/// Milliseconds of a day.
pub(super) const DAY_MS: i64 = 86_400_000;
/// Milliseconds for which a notice that was told, or given up, is kept.
pub(super) const KEPT_MS: i64 = 30 * DAY_MS;
/// Milliseconds after which one goes that was neither: its route is gone, or has been off all the time.
pub(super) const LEFT_MS: i64 = 90 * DAY_MS;
/// How long a message that failed waits, in milliseconds, until it goes before what is new.
pub(super) const OVERDUE_MS: i64 = 60_000;
/// Longest that a message whose telling failed waits because of its route's spacing, in milliseconds: a digest of a day that failed
/// once is not put off for a day.
const RETRY_MS: i64 = 3_600_000;
/// Deliveries of a sink that are looked at for the oldest, those that are due first: of a backlog of millions not each is read
/// once a minute.
pub const OPEN_ROWS: i64 = 20_000;
/// Tenants with a spent budget that are told of.
pub(super) const MOST_SPENT: i64 = 1000;
/// Longest error that is kept, in bytes.
const ERROR_BYTES: usize = 500;

/// What a route wants to send next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Name of the route.
    pub route: String,
    /// Most notices of one message.
    pub together: u32,
    /// Least time between two messages, in milliseconds; a message that failed counts, too, but for an hour at most.
    pub spacing_ms: i64,
    /// Whether only what is critical may be sent now.
    pub critical_only: bool,
    /// How long nobody else takes the message, in milliseconds.
    pub lease_ms: i64,
}

impl Wanted {
    /// Least time until the next attempt, whichever message it is of, where nobody hears that this one was told.
    pub(super) fn retry_ms(&self) -> i64 {
        self.spacing_ms.min(RETRY_MS)
    }
}

/// A message that is this worker's to send.
#[derive(Debug, Clone, PartialEq)]
pub struct Sending {
    /// What is sent.
    pub message: Message,
    /// Attempts before this one.
    pub attempts: u32,
}

/// An attempt that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Untold<'a> {
    /// Name of the route.
    pub route: &'a str,
    /// The message.
    pub message_id: Uuid,
    /// When to try again, in milliseconds from now; none when it is given up.
    pub after_ms: Option<i64>,
    /// How long the route rests, in milliseconds from now.
    pub rest_ms: i64,
    /// Why; no secret and no word of a call.
    pub error: &'a str,
}

/// How a route is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RouteState {
    /// Its name.
    pub route: String,
    /// Notices that wait.
    pub waiting: u64,
    /// Notices that were told, of the last 30 days.
    pub told: u64,
    /// Notices that were given up, of the last 30 days.
    pub dead: u64,
    /// When the last message arrived, in Unix milliseconds.
    pub last_told_ms: Option<i64>,
    /// Why the last attempt failed, where it did.
    pub last_error: Option<String>,
    /// Why the route is off; none where it is on.
    pub off: Option<String>,
}

/// What is watched.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Watched {
    /// Names of the sinks.
    pub sinks: Vec<String>,
    /// How long dead letters and deliveries that were given up count, in milliseconds.
    pub recent_ms: i64,
    /// Budgets of judges.
    pub limits: JudgeLimits,
}

/// How the store's outgoing side is, for whoever watches it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Vitals {
    /// Unix time by the store's clock, in milliseconds.
    pub now_ms: i64,
    /// Dead letters that were written within the window.
    pub dead_letters: u64,
    /// Of each sink with deliveries that are open, for how long the oldest has waited for the sink, in milliseconds: not while the
    /// sink was paused, and not while it took others.
    pub oldest_open_ms: BTreeMap<String, i64>,
    /// Of each sink, deliveries that were given up within the window.
    pub given_up: BTreeMap<String, u64>,
    /// Routes that are off.
    pub off: Vec<String>,
    /// Tenants whose budget of judges is spent today (UTC), the first thousand; the empty name stands for all.
    pub spent: Vec<String>,
}

/// A condition that lasts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lasting {
    /// What it is called.
    pub condition: String,
    /// When it began, in Unix milliseconds: a condition that comes again is another one.
    pub began_ms: i64,
    /// What was known of it when it began; numbers and codes, no word of a call.
    pub details: Map<String, Value>,
}

/// A place for what people should hear of.
#[async_trait]
pub trait Notices: Send + Sync {
    /// Writes notices that are not there; a repeat changes nothing. Returns how many were new.
    async fn notify(&self, notices: &[Addressed]) -> Result<u64, StoreError>;

    /// What a route sends next: a message that failed before and is due, or the notices that wait, put together into one message
    /// for ever, so that every repeat sends the same. None where nothing is due, the route is off, it rests, or its last message
    /// was sent a short time ago. Where messages sum up, nothing new is put together while one is neither told nor given up.
    /// Notices about one condition keep their order: the next waits for the one before.
    async fn next_message(&self, wanted: &Wanted) -> Result<Option<Sending>, StoreError>;

    /// Marks a message as told; the route's next one waits for so many milliseconds.
    async fn told(&self, route: &str, message_id: Uuid, spacing_ms: i64) -> Result<(), StoreError>;

    /// Puts a message off or gives it up, and lets its route rest.
    async fn untold(&self, untold: &Untold<'_>) -> Result<(), StoreError>;

    /// Switches a route off, because of this, or on again; what waits stays. False where it was so already.
    async fn switch_route(&self, route: &str, off: Option<&str>) -> Result<bool, StoreError>;

    /// Routes that the store knows of, by name.
    async fn routes(&self) -> Result<Vec<RouteState>, StoreError>;

    /// How the outgoing side is. Of a sink at most [`OPEN_ROWS`] deliveries are looked at.
    async fn vitals(&self, watched: &Watched) -> Result<Vitals, StoreError>;

    /// Begins a condition of which this is known, unless it lasts already; gives back when it began, in Unix milliseconds.
    async fn begin_condition(&self, condition: &str, details: &Map<String, Value>)
    -> Result<i64, StoreError>;

    /// Conditions that last, by name.
    async fn conditions(&self) -> Result<Vec<Lasting>, StoreError>;

    /// Ends a condition that began then. False where another has ended it.
    async fn end_condition(&self, lasting: &Lasting) -> Result<bool, StoreError>;

    /// Notices that wait for one of these routes and could be sent now or later; those of routes that are off count not.
    async fn notices_open(&self, routes: &[String]) -> Result<u64, StoreError>;
}

/// An error as it is kept.
pub(super) fn short(error: &str) -> &str {
    &error[..error.floor_char_boundary(ERROR_BYTES)]
}

/// A notice as it is stored.
fn read(text: &str) -> Result<Notice, StoreError> {
    serde_json::from_str(text)
        .map_err(|error| StoreError::Corrupt { what: "notice", detail: error.to_string() })
}

/// Conditions as they are kept: what cannot be read of their details is left out.
pub(super) fn lasting(rows: Vec<(String, i64, String)>) -> Vec<Lasting> {
    let one = |(condition, began_ms, details): (String, i64, String)| Lasting {
        condition,
        began_ms,
        details: serde_json::from_str(&details).unwrap_or_default(),
    };
    rows.into_iter().map(one).collect()
}

/// Notices that read back, and the places of those that do not: another version has written them, perhaps.
pub(super) fn read_all(rows: &[(i64, String)]) -> (Vec<Notice>, Vec<i64>) {
    let (mut notices, mut unreadable) = (Vec::new(), Vec::new());
    for (place, text) in rows {
        match read(text) {
            Ok(notice) => notices.push(notice),
            Err(error) => {
                tracing::error!(place, %error, "a notice cannot be read, it is given up");
                unreadable.push(*place);
            }
        }
    }
    (notices, unreadable)
}
