//! RabbitMQ: quorum queues, manual acks, at-least-once on both sides.
//!
//! ```text
//! receive ── no live connection? ─► connect ─► declare or look ─► qos ─► consume
//!    │ any error, end of a stream, death of a channel: drop the connection, say so, be asked again
//!    └─ held deliveries that are due, then each lane in turn
//! ```
//! Nothing runs in the background that could give up: the pipeline asks again every second for ever, and is not ready
//! meanwhile. Consumers and publishers have connections of their own, because the broker stops one that publishes while
//! it is short of memory, acks included.

mod connection;
mod consumer;
mod delivery;
mod publisher;
mod topology;

use std::{path::PathBuf, time::Duration};

use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use self::{connection::Address, topology::Topology};
pub use self::{consumer::RabbitmqSource, publisher::RabbitmqPublisher};
use super::SourceError;

/// Longest name in bytes; the protocol allows 255, and ours get an ending.
const MAX_NAME: usize = 200;
/// Most lanes; each is a queue that every worker consumes.
const MAX_LANES: u16 = 64;
/// Most unacked deliveries of one consumer that a quorum queue allows.
const MAX_PREFETCH: usize = 2000;

/// `[source.rabbitmq]`: the broker, where calls come from RabbitMQ.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RabbitmqConfig {
    /// `amqp://user@host:5672/vhost`, or `amqps://` where the network is not yours. A password belongs in the
    /// environment (`AFTERCHECK__SOURCE__RABBITMQ__URL`) or in `password_file`.
    #[serde(skip_serializing)]
    #[schemars(with = "Option<String>")]
    pub url: Option<SecretString>,
    /// A file that holds the password and nothing else.
    pub password_file: Option<PathBuf>,
    /// Certificates to trust beside those of the system, in PEM.
    pub ca_file: Option<PathBuf>,
    /// The queue; with several lanes the first part of their names.
    pub queue: String,
    /// How many queues the tenants are spread over, `<queue>.0` and so on, from each of which a worker takes in turn; 1
    /// is one queue. The workers' share of `[pipeline] in_flight` is split among them.
    pub lanes: u16,
    /// Exchange that we publish to, bound to the queue under the routing key; empty for the default exchange. Where it is
    /// declared it is a direct one.
    pub exchange: String,
    /// Routing key that we publish with; absent: the name of the queue.
    pub routing_key: Option<String>,
    /// Dead-letter exchange, and the queue behind it; absent: `<queue>.dead`.
    pub dead_letter: Option<String>,
    /// Whether queues and exchanges are declared; false: they have to be there.
    pub declare: bool,
    /// Deliveries of one message until the broker takes it for poison and moves it to `dead_letter`. A crash counts
    /// for every call in work, so this lies far above `[pipeline] max_attempts`, which counts the call's own.
    pub delivery_limit: u32,
    /// Most messages of a queue, then publishing is refused; absent: as many as there is room for.
    pub max_length: Option<u32>,
    /// Seconds between signs of life; a connection is given up after two without.
    pub heartbeat_secs: u16,
}

impl Default for RabbitmqConfig {
    fn default() -> Self {
        Self {
            url: None,
            password_file: None,
            ca_file: None,
            queue: "aftercheck.calls".into(),
            lanes: 1,
            exchange: String::new(),
            routing_key: None,
            dead_letter: None,
            declare: true,
            delivery_limit: 1000,
            max_length: None,
            heartbeat_secs: 10,
        }
    }
}

impl RabbitmqConfig {
    /// Whether a queue of calls, or their exchange, has this name.
    fn uses(&self, name: &str) -> bool {
        let of_lane = |rest: &str| rest.strip_prefix('.').is_some_and(|lane| lane.parse::<u16>().is_ok());
        name == self.exchange || name == self.queue || name.strip_prefix(&self.queue).is_some_and(of_lane)
    }

    /// Checks every key, and puts together what the connections need.
    fn settings(&self) -> Result<Settings, SourceError> {
        let settings = |text: String| SourceError::Settings(format!("rabbitmq.{text}"));
        let named = |name: &str| (1..=MAX_NAME).contains(&name.len()) && !name.starts_with("amq.");
        let checks = [
            (named(&self.queue), "queue: need 1 to 200 bytes, and not `amq.` in front"),
            ((1..=MAX_LANES).contains(&self.lanes), "lanes: need 1 to 64"),
            (self.exchange.len() <= MAX_NAME, "exchange: need at most 200 bytes"),
            (
                self.routing_key.as_ref().is_none_or(|key| key.len() <= MAX_NAME),
                "routing_key: need at most 200 bytes",
            ),
            (
                self.routing_key.is_none() || (self.lanes == 1 && !self.exchange.is_empty()),
                "routing_key: only with an exchange and one lane; otherwise it is the name of the queue",
            ),
            (
                self.dead_letter.as_deref().is_none_or(|name| named(name) && !self.uses(name)),
                "dead_letter: need 1 to 200 bytes, not `amq.` in front, and a name that nothing else here has",
            ),
            (self.delivery_limit >= 1, "delivery_limit: need at least 1"),
            (self.max_length.is_none_or(|length| length >= 1), "max_length: need at least 1"),
            ((5..=60).contains(&self.heartbeat_secs), "heartbeat_secs: need 5 to 60"),
        ];
        if let Some((_, remedy)) = checks.iter().find(|(holds, _)| !holds) {
            return Err(settings((*remedy).into()));
        }
        let url = self.url.as_ref().ok_or_else(|| settings("url: say where the broker is".into()))?;
        let address = Address::new(url.expose_secret(), self).map_err(settings)?;
        Ok(Settings { address, topology: Topology::new(self) })
    }
}

/// What a checked configuration comes to.
struct Settings {
    address: Address,
    topology: Topology,
}

/// A broker's time stamps count seconds since 1970, as this does.
fn unix_secs() -> u64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs())
}

/// How long ago a message was published, by its time stamp.
fn age(published: u64) -> Duration {
    Duration::from_secs(unix_secs().saturating_sub(published))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(url: &str) -> RabbitmqConfig {
        RabbitmqConfig { url: Some(url.into()), ..RabbitmqConfig::default() }
    }

    /// What is wrong with a configuration.
    fn wrong(config: &RabbitmqConfig) -> String {
        config.settings().err().map_or_else(String::new, |error| error.to_string())
    }

    #[test]
    fn settings_name_the_key_and_never_the_password() {
        assert!(wrong(&RabbitmqConfig::default()).contains("rabbitmq.url: say where"));
        for url in ["amqp:sesame", "http://u:sesame@h/", "u:sesame@h", "amqp://u:sesame@h:port/"] {
            let error = wrong(&config(url));
            assert!(error.contains("rabbitmq.url: need amqp://") && !error.contains("sesame"), "{error}");
        }
        assert!(wrong(&config("amqp://u@h/")).contains("password_file"));
        assert_eq!(wrong(&config("amqp://u:sesame@h/")), "");
        let debug = format!("{:?}", config("amqp://u:sesame@h/"));
        assert!(!debug.contains("sesame"), "{debug}");
        let mut lanes = config("amqp://h");
        lanes.lanes = 65;
        assert!(wrong(&lanes).contains("rabbitmq.lanes"));
        let mut ca = config("amqp://h");
        ca.ca_file = Some("Cargo.toml".into());
        assert!(wrong(&ca).contains("amqps://"), "{}", wrong(&ca));
        ca.ca_file = Some("not-there.pem".into());
        assert!(wrong(&ca).contains("rabbitmq.ca_file: not-there.pem cannot be read"), "{}", wrong(&ca));
        for name in ["aftercheck.calls", "aftercheck.calls.3", "calls", "amq.dead", ""] {
            let dead = RabbitmqConfig {
                exchange: "calls".into(),
                dead_letter: Some(name.into()),
                ..config("amqp://h")
            };
            assert!(wrong(&dead).contains("rabbitmq.dead_letter"), "{name}");
        }
        let mut key = config("amqp://h");
        key.routing_key = Some("calls".into());
        assert!(wrong(&key).contains("only with an exchange"));
    }

    #[test]
    fn a_tenant_has_one_queue_and_the_lanes_have_all() {
        let mut lanes = config("amqp://h");
        lanes.lanes = 4;
        let topology = Topology::new(&lanes);
        assert_eq!(topology.queues, ["0", "1", "2", "3"].map(|lane| format!("aftercheck.calls.{lane}")));
        let keys: std::collections::BTreeSet<_> = (0..100)
            .map(|tenant| topology.routing_key(Some(&format!("tenant-{tenant}"))).to_owned())
            .collect();
        assert_eq!(keys, topology.queues.iter().cloned().collect());
        assert_eq!(topology.routing_key(None), "aftercheck.calls.0");
    }
}
