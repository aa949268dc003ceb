//! Who hears of what. `config` says which routes there are, `routing` which notices go where, `quiet` when people sleep, `watch`
//! what is wrong with the service itself, and `deliver` tells it, again and again until it is told.
//!
//! ```text
//! verdict ─► notices of each route, in the verdict's transaction ─┐
//! watch ───► a condition begins or ends ─► the same table ────────┴─► deliver ─► webhook · Slack · PagerDuty · Alertmanager
//! ```

pub mod config;
pub mod deliver;
pub mod quiet;
pub mod routing;
pub mod watch;

pub use config::NotifyConfig;
pub use routing::{Promoted, Routes};
