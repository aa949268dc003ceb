//! `[notify]`: which routes there are, and what is worth a notice.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::quiet::{Quiet, QuietConfig};
use crate::{
    domain::{Event, Severity},
    sinks::destination::DestinationConfig,
};

/// What routes ask for that want notices about no dimension.
pub const GENERAL: &str = "general";
/// Longest digest, in minutes: a day.
const LONGEST_DIGEST: u64 = 1440;

/// `[notify]`: who hears of what.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NotifyConfig {
    /// Rules whose failure is about a dimension, by its name. Notices about one go only to routes that ask for it.
    pub dimensions: BTreeMap<String, Vec<String>>,
    /// Severities of events, in place of those that they have.
    pub severities: BTreeMap<Event, Severity>,
    /// What is wrong with the service itself.
    pub watch: WatchConfig,
    /// The routes by name.
    pub routes: BTreeMap<String, RouteConfig>,
}

/// `[notify.watch]`: what is wrong with the service itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WatchConfig {
    /// Seconds between two looks, 1 to 3600.
    pub every_secs: u64,
    /// Minutes for which dead letters, and deliveries that were given up, count.
    pub window_minutes: u64,
    /// So many dead letters within the window are a spike; it is over at less than half of them.
    pub dead_letters: u64,
    /// A sink whose oldest open delivery has waited for it for so many minutes, while it took nothing, is dead; it is alive again at
    /// less than half of them.
    pub sink_minutes: u64,
    /// So is one with so many deliveries that were given up within the window.
    pub dead_deliveries: u64,
}

/// `[notify.routes.NAME]`: which notices go where, and when.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// Where they go.
    pub to: DestinationConfig,
    /// Which events; absent: all.
    #[serde(default)]
    pub events: Vec<Event>,
    /// Calls of which features; absent: all. What is about no call goes to every route.
    #[serde(default)]
    pub features: Vec<String>,
    /// Calls of which tenants; absent: all. What is about no tenant goes to every route.
    #[serde(default)]
    pub tenants: Vec<String>,
    /// From which severity on.
    #[serde(default)]
    pub severity: Severity,
    /// About which dimensions; absent: `["general"]`, notices about none.
    #[serde(default = "general")]
    pub dimensions: Vec<String>,
    /// At most one message in so many minutes, which then sums up; 0: each notice is one. Absent: 10 for Slack, else 0.
    #[serde(default)]
    pub digest_minutes: Option<u64>,
    /// When only what is critical is told; the rest waits.
    #[serde(default)]
    pub quiet: Option<QuietConfig>,
}

/// What a route hears of that names no dimensions.
fn general() -> Vec<String> {
    vec![GENERAL.to_owned()]
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self { every_secs: 60, window_minutes: 15, dead_letters: 20, sink_minutes: 30, dead_deliveries: 10 }
    }
}

impl Default for NotifyConfig {
    fn default() -> Self {
        let rules = |rules: &[&str]| rules.iter().map(|rule| (*rule).to_owned()).collect();
        Self {
            dimensions: BTreeMap::from([
                ("injection".to_owned(), rules(&["safety.prompt_leak"])),
                ("personal_data".to_owned(), rules(&["safety.payment_and_identity", "safety.contact"])),
                ("secrets".to_owned(), rules(&["safety.secrets"])),
            ]),
            severities: BTreeMap::new(),
            watch: WatchConfig::default(),
            routes: BTreeMap::new(),
        }
    }
}

impl NotifyConfig {
    /// Checks names, ranges and relations; destinations are checked where they are built, because that reads secrets.
    ///
    /// # Errors
    /// The key and the remedy.
    pub fn check(&self) -> Result<(), String> {
        let watch = &self.watch;
        let ranges = [
            ((1..=3600).contains(&watch.every_secs), "every_secs: need 1 to 3600"),
            ((1..=1440).contains(&watch.window_minutes), "window_minutes: need 1 to 1440"),
            (watch.dead_letters >= 1, "dead_letters: need at least 1"),
            ((1..=10_080).contains(&watch.sink_minutes), "sink_minutes: need 1 to 10080"),
            (watch.dead_deliveries >= 1, "dead_deliveries: need at least 1"),
        ];
        if let Some((_, wrong)) = ranges.iter().find(|(holds, _)| !holds) {
            return Err(format!("[notify.watch] {wrong}"));
        }
        self.routes.iter().try_for_each(|(name, route)| {
            self.check_route(name, route).map_err(|wrong| format!("[notify.routes.{name}] {wrong}"))
        })
    }

    /// Checks one route.
    fn check_route(&self, name: &str, route: &RouteConfig) -> Result<(), String> {
        let is_name = (1..=60).contains(&name.len())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        if !is_name {
            return Err("its name: need 1 to 60 letters, digits, '-', '_' and '.'".into());
        }
        if route.events.contains(&Event::Test) {
            return Err("events: a test is asked for with `aftercheck notify test`".into());
        }
        let known = |name: &&String| *name == GENERAL || self.dimensions.contains_key(*name);
        if let Some(unknown) = route.dimensions.iter().find(|name| !known(name)) {
            return Err(format!("dimensions: {unknown:?} is not in [notify.dimensions]"));
        }
        if route.dimensions.is_empty() {
            return Err("dimensions: need one at least; leave them out for \"general\"".into());
        }
        if route.digest_minutes.is_some_and(|minutes| minutes > LONGEST_DIGEST) {
            return Err(format!("digest_minutes: need 0 to {LONGEST_DIGEST}"));
        }
        route.quiet.as_ref().map_or(Ok(()), |quiet| Quiet::new(quiet).map(drop))
    }

    /// Dimensions that no route asks for, with the rules that guard them: nobody hears of them.
    pub fn unheard(&self) -> Vec<(&str, &[String])> {
        let asked =
            |name: &str| self.routes.values().any(|route| route.dimensions.iter().any(|asked| asked == name));
        let unheard = self.dimensions.iter().filter(|(name, _)| !asked(name));
        unheard.map(|(name, rules)| (name.as_str(), rules.as_slice())).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(route: serde_json::Value) -> NotifyConfig {
        serde_json::from_value(serde_json::json!({"routes": {"r": route}})).unwrap()
    }

    #[test]
    fn a_route_says_what_is_wrong_with_it() {
        let to = serde_json::json!({"kind": "slack", "url_env": "X"});
        assert_eq!(config(serde_json::json!({"to": to})).check(), Ok(()));
        for (key, value, wrong) in [
            ("dimensions", serde_json::json!(["tone"]), "[notify.routes.r] dimensions: \"tone\""),
            ("dimensions", serde_json::json!([]), "dimensions: need one"),
            ("events", serde_json::json!(["notify.test"]), "notify test"),
            ("digest_minutes", serde_json::json!(9999), "digest_minutes: need 0 to 1440"),
            (
                "quiet",
                serde_json::json!({"from": "22:00", "to": "07:00", "zone": "Europe/Nowhere"}),
                "Europe/Nowhere",
            ),
        ] {
            let error = config(serde_json::json!({"to": to, key: value})).check().unwrap_err();
            assert!(error.contains(wrong), "{error}");
        }
    }

    #[test]
    fn a_destination_takes_its_own_keys_and_no_other() {
        let read = |to: serde_json::Value| serde_json::from_value::<DestinationConfig>(to);
        assert!(read(serde_json::json!({"kind": "webhook", "url": "https://a.example/"})).is_ok());
        assert!(read(serde_json::json!({"kind": "webhook", "uri": "https://a.example/"})).is_err());
        assert!(read(serde_json::json!({"kind": "alertmanager", "urls": ["http://127.0.0.1:9093"]})).is_ok());
        assert!(read(serde_json::json!({"kind": "carrier_pigeon"})).is_err());
    }
}
