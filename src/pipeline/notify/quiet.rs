//! Quiet hours: when people sleep, by the clock on their wall.

use jiff::{Timestamp, civil::Time, tz::TimeZone};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `quiet` of `[notify.routes.NAME]`: each day from one time to another, past midnight where the second is the earlier one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuietConfig {
    /// When they begin, such as `22:00`.
    pub from: String,
    /// When they end, such as `07:00`.
    pub to: String,
    /// Whose clock it is, such as `Europe/Berlin`; absent: UTC.
    #[serde(default = "utc")]
    pub zone: String,
    /// Whether all of Saturday and Sunday is quiet too.
    #[serde(default)]
    pub weekend: bool,
}

/// The zone of quiet hours that name none.
fn utc() -> String {
    "UTC".to_owned()
}

/// Quiet hours, read.
#[derive(Debug, Clone)]
pub struct Quiet {
    from: Time,
    to: Time,
    zone: TimeZone,
    weekend: bool,
}

impl Quiet {
    /// Reads them.
    ///
    /// # Errors
    /// The key and the remedy.
    pub fn new(config: &QuietConfig) -> Result<Self, String> {
        let time = |key: &str, text: &str| {
            let read = Time::strptime("%H:%M", text);
            read.map_err(|_| format!("quiet.{key}: {text:?} is no time like 22:00"))
        };
        let (from, to) = (time("from", &config.from)?, time("to", &config.to)?);
        if from == to {
            return Err("quiet: from and to are the same; leave quiet out for none".into());
        }
        let zone = TimeZone::get(&config.zone);
        let zone =
            zone.map_err(|_| format!("quiet.zone: {:?} is no time zone like Europe/Berlin", config.zone))?;
        Ok(Self { from, to, zone, weekend: config.weekend })
    }

    /// Whether it is quiet at a time.
    pub fn holds(&self, at: Timestamp) -> bool {
        let there = self.zone.to_datetime(at);
        let time = there.time();
        let within = match self.from < self.to {
            true => self.from <= time && time < self.to,
            false => time >= self.from || time < self.to,
        };
        // Monday is 0.
        within || (self.weekend && there.weekday().to_monday_zero_offset() >= 5)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quiet(from: &str, to: &str, zone: &str, weekend: bool) -> Quiet {
        Quiet::new(&QuietConfig { from: from.into(), to: to.into(), zone: zone.into(), weekend }).unwrap()
    }

    #[test]
    fn the_night_goes_past_midnight_by_the_clock_on_the_wall() {
        let night = quiet("22:00", "07:00", "Europe/Berlin", false);
        for (at, is_quiet) in [
            ("2026-01-15T20:59:59Z", false),
            ("2026-01-15T21:00:00Z", true),
            ("2026-01-15T23:30:00Z", true),
            ("2026-01-16T05:59:59Z", true),
            ("2026-01-16T06:00:00Z", false),
            // Summer: an hour earlier by UTC.
            ("2026-07-15T20:00:00Z", true),
            ("2026-07-16T05:00:00Z", false),
        ] {
            assert_eq!(night.holds(at.parse().unwrap()), is_quiet, "{at}");
        }
        let lunch = quiet("12:00", "13:00", "UTC", false);
        assert!(lunch.holds("2026-01-15T12:30:00Z".parse().unwrap()));
        assert!(!lunch.holds("2026-01-15T13:00:00Z".parse().unwrap()));
    }

    #[test]
    fn a_weekend_is_quiet_where_that_is_asked_for() {
        let noon = |day: &str| format!("{day}T12:00:00Z").parse().unwrap();
        let with = quiet("22:00", "07:00", "UTC", true);
        assert!(with.holds(noon("2026-11-28")) && with.holds(noon("2026-11-29")));
        assert!(!with.holds(noon("2026-11-27")) && !with.holds(noon("2026-11-30")));
        assert!(!quiet("22:00", "07:00", "UTC", false).holds(noon("2026-11-28")));
    }

    #[test]
    fn what_is_no_time_is_told() {
        let wrong = |from: &str, to: &str| {
            Quiet::new(&QuietConfig { from: from.into(), to: to.into(), zone: utc(), weekend: false })
                .unwrap_err()
        };
        assert!(wrong("late", "07:00").contains("quiet.from"));
        assert!(wrong("22:00", "25:00").contains("quiet.to"));
        assert!(wrong("22:00", "22:00").contains("the same"));
    }
}
