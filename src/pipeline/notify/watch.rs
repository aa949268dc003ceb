//! Looks at the service itself: dead letters, sinks, budgets. Every worker looks, and all of them see the same tables: a
//! condition begins once and ends once, whoever notices, and whoever is killed in between.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use serde_json::json;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::{
    config::WatchConfig,
    routing::{Condition, Routes, object},
};
use crate::{
    domain::Event,
    store::{
        JudgeLimits, Store, StoreError,
        notices::{Lasting, Vitals, Watched},
    },
};

/// Milliseconds of a day.
const DAY_MS: i64 = 86_400_000;
/// Milliseconds of a minute.
const MINUTE_MS: i64 = 60_000;

/// Watches the service.
pub struct Watch {
    /// Where it is seen.
    pub store: Arc<dyn Store>,
    /// Who is told.
    pub routes: Arc<Routes>,
    /// What is too much.
    pub config: WatchConfig,
    /// Names of the sinks.
    pub sinks: Vec<String>,
    /// Budgets of judges.
    pub limits: JudgeLimits,
}

/// Whether something is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    /// It is.
    Wrong,
    /// It is neither: what was wrong stays so, so that nobody is told twice a minute.
    Between,
}

/// Looks again and again, until it is told to stop.
pub async fn run(watch: Watch, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            looked = watch.look() => if let Err(error) = looked {
                tracing::warn!(%error, "the service cannot be watched, looking again");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = sleep(Duration::from_secs(watch.config.every_secs)) => {}
        }
    }
}

impl Watch {
    /// Looks once: what is wrong begins, what is wrong no more ends. A notice is written before the mark that it was: killed in
    /// between, the next look writes the same notice.
    ///
    /// # Errors
    /// [`StoreError`]; the next look does the rest.
    pub async fn look(&self) -> Result<(), StoreError> {
        let watched = Watched {
            sinks: self.sinks.clone(),
            recent_ms: minutes(self.config.window_minutes),
            limits: self.limits,
        };
        let vitals = self.store.vitals(&watched).await?;
        let seen = seen(&vitals, &self.config);
        for (condition, level) in &seen {
            if *level == Level::Wrong {
                let began_ms = self.store.begin_condition(&condition.name, &condition.details).await?;
                let notice = self.routes.condition(condition, began_ms, None);
                if self.store.notify(&self.routes.address(&notice)).await? > 0 {
                    tracing::error!(condition = condition.name, "{}", condition.summary);
                }
            }
        }
        for lasting in self.store.conditions().await? {
            let is_seen = seen.iter().any(|(condition, _)| condition.name == lasting.condition);
            if !is_seen && let Some(condition) = self.ended(&lasting, &vitals) {
                let now = Timestamp::from_millisecond(vitals.now_ms).unwrap_or_default();
                let notice = self.routes.condition(&condition, lasting.began_ms, Some(now));
                self.store.notify(&self.routes.address(&notice)).await?;
                if self.store.end_condition(&lasting).await? {
                    tracing::info!(condition = lasting.condition, "over");
                }
            }
        }
        Ok(())
    }

    /// A condition that lasts and is not wrong any more; none where it lasts all the same.
    fn ended(&self, lasting: &Lasting, vitals: &Vitals) -> Option<Condition> {
        let condition = named(&lasting.condition)?;
        // What a question was thought to cost is corrected: a budget that was spent is, for its day.
        let is_spent =
            condition.event == Event::BudgetSpent && lasting.began_ms / DAY_MS == vitals.now_ms / DAY_MS;
        (!is_spent).then_some(condition)
    }
}

/// What is wrong, and what is neither wrong nor right.
fn seen(vitals: &Vitals, config: &WatchConfig) -> Vec<(Condition, Level)> {
    let mut seen = Vec::new();
    let mut see = |name: String, level: Option<Level>, details| {
        if let (Some(level), Some(condition)) = (level, named(&name)) {
            seen.push((Condition { details: object(details), ..condition }, level));
        }
    };
    let letters = vitals.dead_letters;
    let details = json!({"dead_letters": letters, "window_minutes": config.window_minutes});
    see(name(Event::DeadLetterSpike, "all"), level(letters, config.dead_letters), details);
    let sinks: std::collections::BTreeSet<&String> =
        vitals.oldest_open_ms.keys().chain(vitals.given_up.keys()).collect();
    for sink in sinks {
        let oldest_ms = vitals.oldest_open_ms.get(sink).copied().unwrap_or(0);
        let given_up = vitals.given_up.get(sink).copied().unwrap_or(0);
        let late = level(oldest_ms.max(0).unsigned_abs(), minutes(config.sink_minutes).unsigned_abs());
        let worst = [late, level(given_up, config.dead_deliveries)];
        let worst = worst.into_iter().flatten().min_by_key(|level| *level == Level::Between);
        let details = json!({"oldest_minutes": oldest_ms / MINUTE_MS, "given_up": given_up});
        see(name(Event::SinkDead, sink), worst, details);
    }
    for route in &vitals.off {
        see(name(Event::SinkDead, &format!("{ROUTE}{route}")), Some(Level::Wrong), json!({}));
    }
    for tenant in &vitals.spent {
        let whose = if tenant.is_empty() { "all".to_owned() } else { format!("{TENANT}{tenant}") };
        see(name(Event::BudgetSpent, &whose), Some(Level::Wrong), json!({}));
    }
    seen
}

/// What a route is called among sinks.
const ROUTE: &str = "notify.";
/// What precedes the name of a tenant.
const TENANT: &str = "tenant ";

/// How much is too much: from the limit on; at less than half of it, it is over.
fn level(count: u64, limit: u64) -> Option<Level> {
    match count {
        _ if count >= limit => Some(Level::Wrong),
        _ if count.saturating_mul(2) >= limit => Some(Level::Between),
        _ => None,
    }
}

/// So many minutes in milliseconds.
fn minutes(minutes: u64) -> i64 {
    i64::try_from(minutes).unwrap_or(i64::MAX).saturating_mul(MINUTE_MS)
}

/// What a condition is called.
fn name(event: Event, subject: &str) -> String {
    format!("{}/{subject}", event.as_str())
}

/// A condition by its name; none where this version knows none like it.
pub(super) fn named(name: &str) -> Option<Condition> {
    let (event, subject) = name.split_once('/')?;
    let event = Event::ALL.into_iter().find(|known| known.as_str() == event)?;
    let tenant_id = subject.strip_prefix(TENANT).map(str::to_owned);
    let summary = match (event, subject.strip_prefix(ROUTE)) {
        (Event::DeadLetterSpike, _) => "more calls than usual become dead letters".to_owned(),
        (Event::SinkDead, Some(route)) => format!("route {route} is switched off and tells nobody"),
        (Event::SinkDead, None) => format!("sink {subject} takes no scores"),
        (Event::BudgetSpent, _) if tenant_id.is_some() => {
            "a tenant's budget of judges is spent for today".to_owned()
        }
        (Event::BudgetSpent, _) => "the budget of judges is spent for today".to_owned(),
        _ => return None,
    };
    Some(Condition { name: name.to_owned(), event, tenant_id, summary, details: Default::default() })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn wrong(vitals: &Vitals) -> Vec<String> {
        let seen = seen(vitals, &WatchConfig::default()).into_iter();
        seen.filter(|(_, level)| *level == Level::Wrong).map(|(condition, _)| condition.name).collect()
    }

    #[test]
    fn what_is_wrong_begins_at_the_limit_and_ends_at_less_than_half_of_it() {
        assert_eq!(
            (level(20, 20), level(19, 20), level(10, 20), level(9, 20)),
            (Some(Level::Wrong), Some(Level::Between), Some(Level::Between), None)
        );
        assert_eq!((level(1, 1), level(0, 1)), (Some(Level::Wrong), None));
    }

    #[test]
    fn everything_that_is_wrong_is_seen() {
        assert!(wrong(&Vitals::default()).is_empty());
        let vitals = Vitals {
            now_ms: 0,
            dead_letters: 20,
            oldest_open_ms: BTreeMap::from([("slow".into(), 30 * MINUTE_MS), ("fast".into(), MINUTE_MS)]),
            given_up: BTreeMap::from([("refusing".into(), 10), ("fast".into(), 1)]),
            off: vec!["oncall".into()],
            spent: vec![String::new(), "acme".into()],
        };
        let expected = [
            "dead_letters.spike/all",
            "sink.dead/refusing",
            "sink.dead/slow",
            "sink.dead/notify.oncall",
            "budget.spent/all",
            "budget.spent/tenant acme",
        ];
        assert_eq!(wrong(&vitals), expected);
        for name in expected {
            assert!(!named(name).unwrap().summary.is_empty());
        }
        assert_eq!(named("budget.spent/tenant acme").unwrap().tenant_id.as_deref(), Some("acme"));
        assert!(named("review.created/x").is_none() && named("nonsense").is_none());
    }
}
