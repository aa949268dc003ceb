//! Tells the notices of one route, message by message, until each is told or given up.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{
    config::{NotifyConfig, RouteConfig},
    quiet::Quiet,
    routing::{Condition, Routes},
    watch::named,
};
use crate::{
    domain::{Message, Severity},
    faults::{broken, crash_point},
    metrics,
    pipeline::retry::backoff,
    sinks::destination::{Destination, Told},
    store::{
        Store, StoreError,
        notices::{Sending, Untold, Wanted},
    },
};

/// How often a route without notices is looked at.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// How long a message in delivery is hidden from other workers; longer than it takes.
const LEASE: Duration = Duration::from_secs(180);
/// How long one message may take with all its parts, whatever its destination's own deadline is.
const DEADLINE: Duration = Duration::from_secs(120);
/// Attempts on one message before it is given up; with the backoff about a day and a half.
const MAX_ATTEMPTS: u32 = 200;
/// Longest rest of a route after a message failed, where the receiver asks for none: then the message that was tried least is
/// tried.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// One route, as it is run.
pub struct Courier {
    name: String,
    destination: Box<dyn Destination>,
    quiet: Option<Quiet>,
    digest: Duration,
    /// Least time between two messages: of the digest, or what the receiver takes.
    spacing: Duration,
    store: Arc<dyn Store>,
    routes: Arc<Routes>,
}

/// A courier for each route.
///
/// # Errors
/// The route, the key and the remedy.
pub fn couriers(
    config: &NotifyConfig,
    store: &Arc<dyn Store>,
    routes: &Arc<Routes>,
) -> Result<Vec<Courier>, String> {
    let courier = |(name, route): (&String, &RouteConfig)| {
        let wrong = |wrong: String| format!("[notify.routes.{name}] {wrong}");
        let destination = route.to.build().map_err(|error| wrong(format!("to: {error}")))?;
        let quiet = route.quiet.as_ref().map(Quiet::new).transpose().map_err(wrong)?;
        let asked = route.digest_minutes.map(|minutes| Duration::from_secs(minutes * 60));
        let digest = asked.unwrap_or(destination.digest());
        let spacing = digest.max(destination.spacing());
        let (store, routes) = (Arc::clone(store), Arc::clone(routes));
        Ok(Courier { name: name.clone(), destination, quiet, digest, spacing, store, routes })
    };
    config.routes.iter().map(courier).collect()
}

/// Tells until it is told to stop, or, when `drain`, until nothing is due.
pub async fn run(courier: Courier, stop: CancellationToken, drain: bool) {
    let mut renewed = None;
    loop {
        let told = courier.tell_next().await;
        // Before the next message: what lasts would be forgotten while many wait.
        if !drain && !stop.is_cancelled() {
            courier.renew(&mut renewed).await;
        }
        match told {
            Ok(true) if !stop.is_cancelled() => continue,
            Ok(_) => {}
            Err(error) => tracing::error!(route = courier.name, %error, "notices cannot be read or marked"),
        }
        if drain || stop.is_cancelled() {
            return;
        }
        tokio::select! {
            () = sleep(POLL_INTERVAL) => {}
            () = stop.cancelled() => return,
        }
    }
}

impl Courier {
    /// Tells one message, where one is due; says whether one was.
    ///
    /// # Errors
    /// [`StoreError`]; a message that was told and not marked comes again with its lease, and is the same.
    pub async fn tell_next(&self) -> Result<bool, StoreError> {
        let wanted = Wanted {
            route: self.name.clone(),
            together: if self.digest.is_zero() { 1 } else { self.destination.together() },
            spacing_ms: millis(self.spacing),
            critical_only: self.is_quiet(),
            lease_ms: millis(LEASE),
        };
        let Some(sending) = self.store.next_message(&wanted).await? else { return Ok(false) };
        let told = timeout(DEADLINE, self.destination.tell(&sending.message)).await;
        let told = told.unwrap_or_else(|_| Told::Again {
            reason: format!("no answer within {} s", DEADLINE.as_secs()),
            after: None,
        });
        self.mark(&sending, told).await?;
        Ok(true)
    }

    /// Whether only what is critical may be told now.
    fn is_quiet(&self) -> bool {
        self.quiet.as_ref().is_some_and(|quiet| quiet.holds(Timestamp::now()))
    }

    /// Marks what became of a message.
    async fn mark(&self, sending: &Sending, told: Told) -> Result<(), StoreError> {
        let (route, message_id, notices) =
            (self.name.as_str(), sending.message.message_id, sending.message.notices.len());
        let (outcome, after, rest, reason) = match told {
            Told::Delivered { note } => {
                crash_point("K10");
                self.store.told(route, message_id, millis(self.spacing)).await?;
                metrics::notified(route, "told", notices);
                if !note.is_empty() {
                    tracing::warn!(route, %message_id, note, "told");
                }
                return Ok(());
            }
            Told::Gone { reason } if !broken("deaf_to_410") => {
                // What it was to be told stays, for when somebody switches the route on again.
                self.store.switch_route(route, Some(&reason)).await?;
                tracing::error!(
                    route,
                    reason,
                    remedy = "mend the receiver, then `aftercheck notify on`",
                    "route is switched off"
                );
                ("off", Some(Duration::ZERO), Duration::ZERO, reason)
            }
            Told::Never { reason } => ("dead", None, Duration::ZERO, reason),
            Told::Gone { reason } => self.later(sending, reason, None),
            Told::Again { reason, after } => self.later(sending, reason, after),
        };
        tracing::warn!(route, %message_id, notices, outcome, reason, "not told");
        metrics::notified(route, outcome, notices);
        let (after_ms, rest_ms) = (after.map(millis), millis(rest));
        self.store.untold(&Untold { route, message_id, after_ms, rest_ms, error: &reason }).await
    }

    /// When a message is tried again, and how long its route rests.
    fn later(
        &self,
        sending: &Sending,
        reason: String,
        asked: Option<Duration>,
    ) -> (&'static str, Option<Duration>, Duration, String) {
        let attempt = sending.attempts + 1;
        let pause = backoff(attempt, &sending.message.message_id.to_string());
        let rest = asked.unwrap_or(pause.min(LONGEST_REST));
        match attempt < MAX_ATTEMPTS {
            true => ("retry", Some(pause.max(asked.unwrap_or_default())), rest, reason),
            false => ("dead", None, rest, reason),
        }
    }

    /// Tells a destination again of conditions that last, where it would forget them otherwise. A failure is one that the next
    /// renewal makes good.
    async fn renew(&self, renewed: &mut Option<Instant>) {
        let Some(every) = self.destination.renews() else { return };
        if renewed.is_some_and(|last| last.elapsed() < every) {
            return;
        }
        *renewed = Some(Instant::now());
        let lasting = match self.store.conditions().await {
            Ok(lasting) => lasting,
            Err(error) => return tracing::warn!(route = self.name, %error, "conditions cannot be read"),
        };
        let is_quiet = self.is_quiet();
        let notices = lasting.iter().filter_map(|lasting| {
            let condition = Condition { details: lasting.details.clone(), ..named(&lasting.condition)? };
            let notice = self.routes.condition(&condition, lasting.began_ms, None);
            let is_ours = self.routes.address(&notice).iter().any(|one| one.route == self.name);
            (is_ours && (!is_quiet || notice.severity == Severity::Critical)).then_some(notice)
        });
        let notices: Vec<_> = notices.collect();
        if notices.is_empty() {
            return;
        }
        let message = Message::of(&self.name, notices);
        match timeout(DEADLINE, self.destination.tell(&message)).await {
            Ok(Told::Delivered { note }) if note.is_empty() => {}
            told => tracing::warn!(route = self.name, ?told, "conditions were not renewed everywhere"),
        }
    }
}

/// A time in milliseconds.
fn millis(time: Duration) -> i64 {
    i64::try_from(time.as_millis()).unwrap_or(i64::MAX)
}
