//! The whole at a glance, kept for a moment: many people that look, and pages that renew themselves, ask the store once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use jiff::Timestamp;

use crate::{
    monitor::audit::{self, AuditReport},
    pipeline::retention::DAY_MS,
    store::{Overview, Store, StoreError, reviewing::Scope},
};

/// Days that are looked back on, today included.
pub(super) const DAYS: i64 = 14;
/// Days over which the audit slice is read: labels are few.
const AUDIT_DAYS: i64 = 90;
/// For how long a glance is kept.
const FRESH: Duration = Duration::from_secs(30);
/// Most scopes of which one is kept.
const MAX_KEPT: usize = 100;

/// The whole at a glance.
#[derive(Debug)]
pub(super) struct Glance {
    /// Verdicts, features, rules.
    pub overview: Overview,
    /// What the audit slice tells of the last 90 days.
    pub audit: AuditReport,
    /// Today and the days before it, oldest first, as the overview names them.
    pub days: Vec<String>,
}

/// What is kept, by scope.
#[derive(Default)]
pub struct Glances {
    kept: Mutex<HashMap<Scope, (Instant, Arc<Glance>)>>,
    /// One is made at a time: who wants the same waits for it, and finds it there. Who wants what is kept waits for nobody.
    making: tokio::sync::Mutex<()>,
}

impl Glances {
    /// What a scope holds, as it was within the last half minute.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn of(&self, store: &dyn Store, scope: &Scope) -> Result<Arc<Glance>, StoreError> {
        if let Some(glance) = self.kept(scope) {
            return Ok(glance);
        }
        let _turn = self.making.lock().await;
        if let Some(glance) = self.kept(scope) {
            return Ok(glance);
        }
        let glance = Arc::new(look(store, scope).await?);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.retain(|_, (made, _)| made.elapsed() < FRESH);
        if kept.len() < MAX_KEPT {
            kept.insert(scope.clone(), (Instant::now(), Arc::clone(&glance)));
        }
        Ok(glance)
    }

    /// What is kept of a scope and fresh.
    fn kept(&self, scope: &Scope) -> Option<Arc<Glance>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let (made, glance) = kept.get(scope).filter(|(made, _)| made.elapsed() < FRESH)?;
        tracing::trace!(age = ?made.elapsed(), "glance is kept");
        Some(Arc::clone(glance))
    }
}

/// When the day began, in Unix milliseconds.
fn today_ms() -> i64 {
    Timestamp::now().as_millisecond().div_euclid(DAY_MS) * DAY_MS
}

/// When the days began that are looked back on.
pub(super) fn begin_ms() -> i64 {
    today_ms() - (DAYS - 1) * DAY_MS
}

/// Asks the store. A day of UTC is as long as any other.
async fn look(store: &dyn Store, scope: &Scope) -> Result<Glance, StoreError> {
    // Once: at midnight it is another day.
    let today = today_ms();
    let before = |days: i64| today - days * DAY_MS;
    let overview = store.overview(scope, before(DAYS - 1)).await?;
    let audited = store.audited(scope, before(AUDIT_DAYS)).await?;
    let day = |at_ms| {
        Timestamp::from_millisecond(at_ms).map(|at| at.strftime("%Y-%m-%d").to_string()).unwrap_or_default()
    };
    let days = (0..DAYS).rev().map(|back| day(before(back))).collect();
    Ok(Glance { overview, audit: audit::estimate(&audited), days })
}
