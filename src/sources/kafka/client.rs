//! How librdkafka is set up, what it says, and what its errors are to us.

use rdkafka::{
    ClientConfig, ClientContext,
    config::RDKafkaLogLevel,
    error::{KafkaError, RDKafkaErrorCode},
};
use secrecy::{ExposeSecret, SecretString};

use super::KafkaConfig;
use crate::sources::SourceError;

/// Longest message that is sent, in bytes. A broker takes 1 MiB unless it is told to take more.
const MESSAGE_BYTES: &str = "2097152";
/// Records of a partition that librdkafka fetches ahead, and all it fetches ahead, in KiB. Beyond its own defaults
/// (100 000 and 64 MiB) memory would go to records that wait anyway.
const FETCH_AHEAD: (&str, &str) = ("1000", "16384");
/// How often finished offsets are committed: a crash repeats what was finished since.
const COMMIT_INTERVAL_MS: &str = "1000";
/// How often the client tells where it met the end of the log.
const STATISTICS_INTERVAL_MS: &str = "2000";
/// How long a message may wait for its report. Shorter than the deadline of publishing, so that its reason is heard.
const MESSAGE_TIMEOUT_MS: &str = "7000";
/// How long a request may wait for its answer.
const SOCKET_TIMEOUT_MS: &str = "10000";

/// The settings of every client, checked.
#[derive(Clone)]
pub struct Clients {
    config: KafkaConfig,
    password: Option<SecretString>,
}

impl Clients {
    /// Checks the settings; nothing is connected.
    ///
    /// # Errors
    /// [`SourceError::Settings`] naming the key, a property that librdkafka does not know included.
    pub fn new(config: &KafkaConfig) -> Result<Self, SourceError> {
        config.check()?;
        let clients = Self { config: config.clone(), password: config.password()? };
        for client in [clients.consumer(), clients.producer()] {
            client.create_native_config().map_err(failed)?;
        }
        Ok(clients)
    }

    /// What the user has set.
    pub fn config(&self) -> &KafkaConfig {
        &self.config
    }

    /// For looking at topics and offsets, without joining the group.
    pub fn plain(&self) -> ClientConfig {
        let config = &self.config;
        let mut client = ClientConfig::new();
        client
            .set("bootstrap.servers", &config.brokers)
            .set("client.id", "aftercheck")
            .set("security.protocol", config.security_protocol.as_str())
            .set("socket.timeout.ms", SOCKET_TIMEOUT_MS)
            .set("socket.connection.setup.timeout.ms", SOCKET_TIMEOUT_MS)
            .set("socket.keepalive.enable", "true")
            .set("reconnect.backoff.max.ms", "2000")
            .set("message.max.bytes", MESSAGE_BYTES);
        if let (Some(mechanism), Some(username)) = (config.sasl_mechanism, &config.username) {
            client.set("sasl.mechanism", mechanism.as_str()).set("sasl.username", username);
        }
        if let Some(password) = &self.password {
            client.set("sasl.password", password.expose_secret());
        }
        for (name, value) in &config.properties {
            client.set(name, value);
        }
        let verbose = config.properties.contains_key("debug");
        client.set_log_level(if verbose { RDKafkaLogLevel::Debug } else { RDKafkaLogLevel::Info });
        client.set("allow.auto.create.topics", "false");
        client
    }

    /// For reading as a member of the group.
    pub fn consumer(&self) -> ClientConfig {
        let mut client = self.plain();
        let mine = |name: &str, value: &str| match self.config.properties.get(name) {
            Some(set) => set.clone(),
            None => value.to_owned(),
        };
        client
            .set("group.id", &self.config.group)
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", mine("auto.commit.interval.ms", COMMIT_INTERVAL_MS))
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("queued.min.messages", mine("queued.min.messages", FETCH_AHEAD.0))
            .set("queued.max.messages.kbytes", mine("queued.max.messages.kbytes", FETCH_AHEAD.1))
            .set("enable.partition.eof", "true")
            .set("statistics.interval.ms", STATISTICS_INTERVAL_MS);
        client
    }

    /// For publishing.
    pub fn producer(&self) -> ClientConfig {
        let mut client = self.plain();
        client
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("message.timeout.ms", MESSAGE_TIMEOUT_MS);
        if !self.config.properties.contains_key("partitioner") {
            // CRC-32 of the key: the lane of the tenant.
            client.set("partitioner", "consistent_random");
        }
        client
    }
}

/// Writes what librdkafka says into our log.
pub struct Logged;

impl ClientContext for Logged {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::warn!(%error, reason, "kafka client");
    }

    fn stats_raw(&self, _: &[u8]) {}
}

/// Writes one line of librdkafka into our log.
pub fn log(level: RDKafkaLogLevel, facility: &str, message: &str) {
    match level {
        RDKafkaLogLevel::Emerg
        | RDKafkaLogLevel::Alert
        | RDKafkaLogLevel::Critical
        | RDKafkaLogLevel::Error
        | RDKafkaLogLevel::Warning => tracing::warn!(facility, message, "librdkafka"),
        RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info | RDKafkaLogLevel::Debug => {
            tracing::debug!(facility, message, "librdkafka")
        }
    }
}

/// An error of librdkafka as one of ours. The value of a property is left out: it may be the password.
pub fn failed(error: KafkaError) -> SourceError {
    match error {
        KafkaError::ClientConfig(_, what, name, _) if name.starts_with("sasl.") => {
            drop(what);
            SourceError::Settings(format!("kafka: {name} cannot be used"))
        }
        KafkaError::ClientConfig(_, what, name, _) => {
            SourceError::Settings(format!("kafka.properties \"{name}\": {what}"))
        }
        KafkaError::ClientCreation(what) => SourceError::Settings(format!("kafka: {what}")),
        KafkaError::Nul(_) => SourceError::Settings("kafka: a setting contains a NUL character".into()),
        error => SourceError::Broker { queue: "kafka", source: Box::new(error) },
    }
}

/// An error in words of ours, with what to do.
pub fn unavailable(config: &KafkaConfig, what: impl std::fmt::Display) -> SourceError {
    let remedy = format!(
        "{what}; see that the brokers run and that [source.kafka] brokers = \"{}\" names them",
        config.brokers
    );
    SourceError::Broker { queue: "kafka", source: remedy.into() }
}

/// What to do about an error that lasts until someone does something; none where the client gets over it by itself.
pub fn lasting(config: &KafkaConfig, code: RDKafkaErrorCode) -> Option<SourceError> {
    use RDKafkaErrorCode as Code;
    let KafkaConfig { topic, group, .. } = config;
    Some(match code {
        Code::AllBrokersDown | Code::Resolve => unavailable(config, code),
        Code::UnknownTopic | Code::UnknownTopicOrPartition | Code::UnknownPartition => absent(topic),
        Code::TopicAuthorizationFailed => SourceError::Refused(format!(
            "kafka: topic {topic} may not be used; allow it, or set [source.kafka] username to one who may"
        )),
        Code::GroupAuthorizationFailed => SourceError::Refused(format!(
            "kafka: group {group} may not be used; allow it, or set [source.kafka] group"
        )),
        Code::Authentication | Code::SaslAuthenticationFailed => SourceError::Refused(
            "kafka: sign-in failed; see [source.kafka] sasl_mechanism, username and the password".into(),
        ),
        Code::SSL => SourceError::Refused(
            "kafka: no TLS with this broker; see [source.kafka] security_protocol and properties \"ssl.ca.location\""
                .into(),
        ),
        _ => return None,
    })
}

/// What to do about a topic that is not there.
pub fn absent(topic: &str) -> SourceError {
    SourceError::Refused(format!(
        "kafka: topic {topic} does not exist; create it, or set [source.kafka] declare = true"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_never_has_the_value_of_a_property() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "hunter2\0").unwrap();
        let mut config = KafkaConfig {
            security_protocol: super::super::SecurityProtocol::SaslPlaintext,
            sasl_mechanism: Some(super::super::SaslMechanism::Plain),
            username: Some("worker".into()),
            password_file: Some(file.clone()),
            ..KafkaConfig::default()
        };
        let error = Clients::new(&config).err().unwrap();
        assert!(error.to_string().contains("NUL") && !format!("{error:?}").contains("hunter2"), "{error:?}");
        std::fs::write(&file, "hunter2").unwrap();
        let clients = Clients::new(&config).unwrap();
        assert_eq!(clients.consumer().get("sasl.password"), Some("hunter2"));
        assert!(
            !format!("{:?} {:?}", clients.consumer(), clients.producer().config_map()).contains("hunter2")
        );
        config.properties.insert("no.such.property".into(), "hunter2".into());
        let error = Clients::new(&config).err().unwrap();
        assert!(error.to_string().contains("no.such.property"), "{error}");
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }

    #[test]
    fn what_promises_rest_on_is_set() {
        let clients = Clients::new(&KafkaConfig::default()).unwrap();
        let consumer = clients.consumer().create_native_config().unwrap();
        for (name, value) in [
            ("enable.auto.offset.store", "false"),
            ("enable.auto.commit", "true"),
            ("auto.offset.reset", "smallest"),
            ("partition.assignment.strategy", "cooperative-sticky"),
            ("queued.min.messages", "1000"),
            ("allow.auto.create.topics", "false"),
        ] {
            assert_eq!(consumer.get(name).unwrap(), value, "{name}");
        }
        let producer = clients.producer().create_native_config().unwrap();
        for (name, value) in [("acks", "-1"), ("enable.idempotence", "true"), ("message.timeout.ms", "7000")]
        {
            assert_eq!(producer.get(name).unwrap(), value, "{name}");
        }
    }
}
