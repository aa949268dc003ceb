//! `[source.kafka]`: where the topic is, how one signs in, and which of librdkafka's own properties are ours to set.

use std::{collections::BTreeMap, env, fs, path::PathBuf};

use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

use crate::sources::SourceError;

/// The variable that holds the password. It is read as it is: no file of ours, no log and no error message has it.
pub const PASSWORD_VARIABLE: &str = "AFTERCHECK_KAFKA_PASSWORD";

/// `[source.kafka]`: the topic that calls are read from.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KafkaConfig {
    /// Some of the brokers, `host:port` with commas between; the others are learnt from them.
    pub brokers: String,
    /// The topic.
    pub topic: String,
    /// The consumer group; workers of one group share the partitions among them.
    pub group: String,
    /// Create the topic when it is absent. Otherwise it is only looked for.
    pub declare: bool,
    /// Partitions of a topic that is created. No more workers than these have work, and tenants that share one wait for
    /// each other.
    pub partitions: u16,
    /// Brokers that keep a copy of a topic that is created.
    pub replication: u16,
    /// Whether the connection is encrypted and signed in.
    pub security_protocol: SecurityProtocol,
    /// How one signs in, with the two `sasl` protocols.
    pub sasl_mechanism: Option<SaslMechanism>,
    /// Who signs in. The password is in the environment (`AFTERCHECK_KAFKA_PASSWORD`) or in `password_file`.
    pub username: Option<String>,
    /// A file that holds the password and nothing else.
    pub password_file: Option<PathBuf>,
    /// Records of one partition that may be in hand or finished beyond its oldest unfinished one; then the partition
    /// waits for that one. A crash repeats at most as many.
    pub max_ahead: usize,
    /// Seconds without any sign of life while records wait and none is in work; then the consumer is built anew.
    pub stall_secs: u64,
    /// Further properties of librdkafka, such as `"ssl.ca.location"` or `"session.timeout.ms"`.
    pub properties: BTreeMap<String, String>,
}

/// How the connection is secured.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SecurityProtocol {
    /// Not at all: for a network that is yours.
    #[default]
    Plaintext,
    /// TLS.
    Ssl,
    /// Signed in, without TLS.
    SaslPlaintext,
    /// Signed in, over TLS.
    SaslSsl,
}

/// How one signs in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub enum SaslMechanism {
    /// The password is sent: over TLS only.
    #[serde(rename = "PLAIN")]
    Plain,
    /// Salted challenge and response.
    #[serde(rename = "SCRAM-SHA-256")]
    ScramSha256,
    /// The same with a longer hash.
    #[serde(rename = "SCRAM-SHA-512")]
    ScramSha512,
}

impl Default for KafkaConfig {
    fn default() -> Self {
        Self {
            brokers: "127.0.0.1:9092".into(),
            topic: "aftercheck.calls".into(),
            group: "aftercheck".into(),
            declare: false,
            partitions: 12,
            replication: 3,
            security_protocol: SecurityProtocol::Plaintext,
            sasl_mechanism: None,
            username: None,
            password_file: None,
            max_ahead: 10_000,
            stall_secs: 20,
            properties: BTreeMap::new(),
        }
    }
}

impl SecurityProtocol {
    /// As librdkafka names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Ssl => "ssl",
            Self::SaslPlaintext => "sasl_plaintext",
            Self::SaslSsl => "sasl_ssl",
        }
    }

    /// Whether one signs in.
    pub fn signs_in(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }
}

impl SaslMechanism {
    /// As Kafka names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// Properties that our promises rest on, or that have a key of their own.
const OURS: [(&str, &str); 30] = [
    ("bootstrap.servers", "set [source.kafka] brokers"),
    ("metadata.broker.list", "set [source.kafka] brokers"),
    ("group.id", "set [source.kafka] group"),
    ("group.instance.id", "workers share one configuration, and two of one id throw each other out"),
    ("group.protocol", "offsets are committed by the rules of the classic one"),
    ("group.remote.assignor", "partitions are assigned by cooperative-sticky"),
    ("partition.assignment.strategy", "workers of one group must agree, and use cooperative-sticky"),
    ("enable.auto.commit", "what was stored must be committed"),
    ("enable.auto.offset.store", "an offset is stored once its call is finished, and not before"),
    ("auto.offset.reset", "a new group must read what waits"),
    ("auto.commit.enable", "what was stored must be committed"),
    ("offset.store.method", "offsets are kept by the brokers"),
    ("enable.partition.eof", "the depth of the queue rests on it"),
    ("statistics.interval.ms", "the depth of the queue rests on it"),
    ("allow.auto.create.topics", "a misspelt topic must not appear; set [source.kafka] declare"),
    ("acks", "a message is accepted once every copy has it"),
    ("request.required.acks", "a message is accepted once every copy has it"),
    ("enable.idempotence", "a message that is sent again must not stand twice"),
    ("transactional.id", "the producer is not transactional"),
    ("message.timeout.ms", "publishing has a deadline of its own"),
    ("delivery.timeout.ms", "publishing has a deadline of its own"),
    ("delivery.report.only.error", "a message is accepted once its report has come"),
    ("enabled_events", "the client rests on them"),
    ("log.queue", "the client rests on it"),
    ("security.protocol", "set [source.kafka] security_protocol"),
    ("sasl.mechanism", "set [source.kafka] sasl_mechanism"),
    ("sasl.mechanisms", "set [source.kafka] sasl_mechanism"),
    ("sasl.username", "set [source.kafka] username"),
    (
        "sasl.password",
        "put it into AFTERCHECK_KAFKA_PASSWORD or a file that [source.kafka] password_file names",
    ),
    ("test.mock.num.brokers", "it would keep calls in memory"),
];

/// Parts of names of properties that hold secrets.
const SECRETS: [&str; 5] = ["password", "secret", "passphrase", ".pem", "oauthbearer.config"];

impl KafkaConfig {
    /// Checks ranges and relations that types cannot say.
    ///
    /// # Errors
    /// [`SourceError::Settings`] that names the key and what to do; never a value that may be secret.
    pub fn check(&self) -> Result<(), SourceError> {
        let (signs_in, mechanism) = (self.security_protocol.signs_in(), self.sasl_mechanism);
        let checks = [
            (!self.brokers.trim().is_empty(), "kafka.brokers: name at least one host:port"),
            (!self.topic.trim().is_empty(), "kafka.topic: name the topic"),
            (!self.group.trim().is_empty(), "kafka.group: name the consumer group"),
            ((1..=10_000).contains(&self.partitions), "kafka.partitions: need 1 to 10000"),
            ((1..=100).contains(&self.replication), "kafka.replication: need 1 to 100"),
            ((2..=1_000_000).contains(&self.max_ahead), "kafka.max_ahead: need 2 to 1000000"),
            ((1..=3600).contains(&self.stall_secs), "kafka.stall_secs: need 1 to 3600"),
            (
                !signs_in || mechanism.is_some() && self.username.is_some(),
                "kafka.security_protocol: a sasl protocol needs sasl_mechanism and username",
            ),
            (
                signs_in || mechanism.is_none() && self.username.is_none(),
                "kafka.sasl_mechanism and username: need security_protocol sasl_ssl or sasl_plaintext",
            ),
        ];
        if let Some((_, remedy)) = checks.iter().find(|(holds, _)| !holds) {
            return Err(SourceError::Settings((*remedy).to_owned()));
        }
        self.properties.keys().try_for_each(|name| refused(name))
    }

    /// The password, where one signs in: the environment goes over the file.
    ///
    /// # Errors
    /// When there is none, or the file cannot be read.
    pub fn password(&self) -> Result<Option<SecretString>, SourceError> {
        if !self.security_protocol.signs_in() {
            return Ok(None);
        }
        if let Ok(password) = env::var(PASSWORD_VARIABLE) {
            return Ok(Some(password.into()));
        }
        let Some(file) = &self.password_file else {
            return Err(SourceError::Settings(format!(
                "kafka.password_file: name a file that holds the password, or set {PASSWORD_VARIABLE}"
            )));
        };
        let password = fs::read_to_string(file).map_err(|error| {
            SourceError::Settings(format!("kafka.password_file {}: {error}", file.display()))
        })?;
        Ok(Some(password.trim_end_matches(['\r', '\n']).to_owned().into()))
    }
}

/// Refuses a property that is not the user's to set.
fn refused(name: &str) -> Result<(), SourceError> {
    let refuse =
        |why: &str| Err(SourceError::Settings(format!("kafka.properties \"{name}\": {why}; remove it")));
    if let Some((_, why)) = OURS.iter().find(|(ours, _)| *ours == name) {
        return refuse(why);
    }
    match SECRETS.iter().any(|part| name.contains(part)) {
        true => refuse("a secret does not belong here: name a file with a property that ends in .location"),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use secrecy::ExposeSecret;

    use super::*;

    fn with(change: impl FnOnce(&mut KafkaConfig)) -> KafkaConfig {
        let mut config = KafkaConfig::default();
        change(&mut config);
        config
    }

    fn complaint(change: impl FnOnce(&mut KafkaConfig)) -> String {
        with(change).check().unwrap_err().to_string()
    }

    #[test]
    fn the_defaults_can_be_used_and_other_ranges_are_told() {
        KafkaConfig::default().check().unwrap();
        assert!(complaint(|config| config.brokers = " ".into()).contains("[source] kafka.brokers"));
        assert!(complaint(|config| config.max_ahead = 1).contains("kafka.max_ahead"));
        let sasl = complaint(|config| config.security_protocol = SecurityProtocol::SaslSsl);
        assert!(sasl.contains("sasl_mechanism and username"), "{sasl}");
        let plain = complaint(|config| config.username = Some("worker".into()));
        assert!(plain.contains("security_protocol sasl_ssl"), "{plain}");
    }

    #[test]
    fn properties_that_promises_rest_on_are_refused_by_name() {
        let set =
            |name: &str| complaint(|config| drop(config.properties.insert(name.into(), "hunter2".into())));
        for (name, why) in OURS {
            let complaint = set(name);
            assert!(complaint.contains(name) && complaint.contains(why), "{complaint}");
        }
        let secret = set("ssl.key.password");
        assert!(secret.contains("ssl.key.password") && !secret.contains("hunter2"), "{secret}");
        with(|config| drop(config.properties.insert("session.timeout.ms".into(), "6000".into())))
            .check()
            .unwrap();
    }

    #[test]
    fn the_password_comes_from_a_file_and_shows_nowhere() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "hunter2\n").unwrap();
        let config = with(|config| {
            config.security_protocol = SecurityProtocol::SaslSsl;
            config.sasl_mechanism = Some(SaslMechanism::ScramSha512);
            config.username = Some("worker".into());
            config.password_file = Some(file);
        });
        config.check().unwrap();
        let password = config.password().unwrap().unwrap();
        assert_eq!(password.expose_secret(), "hunter2");
        assert!(!format!("{config:?} {password:?}").contains("hunter2"));
        let none = SourceError::to_string(
            &with(|config| config.security_protocol = SecurityProtocol::SaslSsl).password().unwrap_err(),
        );
        assert!(none.contains("password_file") && none.contains(PASSWORD_VARIABLE), "{none}");
    }
}
