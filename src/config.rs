//! Configuration: one TOML file, the environment over it, unknown keys refused with a suggestion.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use figment::{
    Figment, Source,
    providers::{Env, Format, Serialized, Toml},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    database::{DatabaseKind, postgres::PostgresConfig, sqlite::SqliteConfig},
    evaluators::nli::evidence::WindowConfig,
    http::config::HttpConfig,
    inference::InferenceConfig,
    pipeline::{
        PipelineConfig, decide::CascadeConfig, dispatch::DeliveryConfig, judging::JudgeConfig,
        notify::NotifyConfig, retention::RetentionConfig,
    },
    redaction::RedactionConfig,
    review::ReviewConfig,
    sinks::SinkConfig,
    sources::{SourceConfig, SourceKind},
    store::StoreConfig,
};

/// File read when none is named and it exists.
pub const DEFAULT_FILE: &str = "aftercheck.toml";
/// Prefix of environment variables: `AFTERCHECK__SECTION__KEY`.
const ENV_PREFIX: &str = "AFTERCHECK__";

/// URLs that may hold a password, which has no place in the file.
const URLS: [&str; 2] = ["postgres.url", "source.rabbitmq.url"];

/// The whole configuration, put together from the components' own.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The file, where queue or store live in one.
    pub sqlite: SqliteConfig,
    /// The server, where queue or store live on one.
    pub postgres: PostgresConfig,
    /// Where verdicts are kept.
    pub store: StoreConfig,
    /// The queue.
    pub source: SourceConfig,
    /// What becomes of personal data and secrets.
    pub redaction: RedactionConfig,
    /// How much of a call is kept, and for how long.
    pub retention: RetentionConfig,
    /// How much at a time.
    pub pipeline: PipelineConfig,
    /// The local model.
    pub inference: InferenceConfig,
    /// The rule packs.
    pub rules: RulesConfig,
    /// How evidence is chosen.
    pub nli: WindowConfig,
    /// Thresholds.
    pub cascade: CascadeConfig,
    /// Who is asked where the model is not sure.
    pub judge: JudgeConfig,
    /// How people look at calls.
    pub review: ReviewConfig,
    /// How sinks are delivered to.
    pub delivery: DeliveryConfig,
    /// Where we listen, and who may come in.
    pub http: HttpConfig,
    /// Destinations of scores by name.
    pub sinks: BTreeMap<String, SinkConfig>,
    /// Who hears of what.
    pub notify: NotifyConfig,
}

/// `[rules]`: which packs.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RulesConfig {
    /// Folder of packs; absent: the packs that come with aftercheck.
    pub folder: Option<PathBuf>,
}

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file that was named is not there.
    #[error("config file {}: not found; create it from aftercheck.example.toml", .0.display())]
    Missing(PathBuf),
    /// A key is unknown or a value has another type.
    #[error("config: {0}")]
    Invalid(String),
}

impl Config {
    /// Whether queue or store live in a database of this kind.
    pub fn needs(&self, kind: DatabaseKind) -> bool {
        self.store.kind == kind || self.source.kind.database() == Some(kind)
    }

    /// Reads the file (or [`DEFAULT_FILE`] where it exists), then the environment, then checks.
    ///
    /// # Errors
    /// [`ConfigError`] naming the key and what to do.
    pub fn load(file: Option<&Path>) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        match file {
            Some(file) if !file.exists() => return Err(ConfigError::Missing(file.to_owned())),
            Some(file) => figment = figment.merge(Toml::file_exact(file)),
            None if Path::new(DEFAULT_FILE).exists() => {
                figment = figment.merge(Toml::file_exact(DEFAULT_FILE))
            }
            None => {}
        }
        let figment = figment.merge(Env::prefixed(ENV_PREFIX).split("__"));
        for (name, meant) in std::env::vars_os().filter_map(|(name, _)| misspelt(name.to_str()?)) {
            tracing::warn!(
                name,
                meant,
                "this variable says nothing: two underscores go before each part of a key"
            );
        }
        let config: Self = figment.extract().map_err(|error| ConfigError::Invalid(explain(&error)))?;
        refuse_passwords(&figment, &URLS)?;
        config.check()?;
        Ok(config)
    }

    /// Checks ranges and relations that types cannot say.
    fn check(&self) -> Result<(), ConfigError> {
        let checks = [
            (
                [self.cascade.lo, self.cascade.hi].iter().flatten().all(|at| (0.0..=1.0).contains(at))
                    && self.cascade.lo.zip(self.cascade.hi).is_none_or(|(lo, hi)| lo < hi),
                "[cascade] lo and hi: need 0 <= lo < hi <= 1",
            ),
            ((0.0..=1.0).contains(&self.cascade.audit_rate), "[cascade] audit_rate: need 0 to 1"),
            ((1..=10_000).contains(&self.pipeline.in_flight), "[pipeline] in_flight: need 1 to 10000"),
            (self.pipeline.max_attempts >= 1, "[pipeline] max_attempts: need at least 1"),
            (
                (1..=86_400).contains(&self.pipeline.call_deadline_secs),
                "[pipeline] call_deadline_secs: need 1 to 86400",
            ),
            ((1..=43_200).contains(&self.source.lease_secs), "[source] lease_secs: need 1 to 43200"),
            ((16..=8192).contains(&self.nli.window_tokens), "[nli] window_tokens: need 16 to 8192"),
            (
                self.nli.overlap_tokens < self.nli.window_tokens,
                "[nli] overlap_tokens: need less than window_tokens",
            ),
            ((1..=100).contains(&self.nli.windows_per_claim), "[nli] windows_per_claim: need 1 to 100"),
            ((1..=100_000).contains(&self.nli.max_windows), "[nli] max_windows: need 1 to 100000"),
            (
                (1..=3600).contains(&self.inference.run_deadline_secs),
                "[inference] run_deadline_secs: need 1 to 3600",
            ),
            (self.inference.sessions <= 64, "[inference] sessions: need 0 to 64"),
            (self.inference.batch_tokens <= 65_536, "[inference] batch_tokens: need 0 to 65536"),
            (
                self.inference.enabled || !self.judge.enabled,
                "[judge] enabled: judges are asked where the model is unsure; set [inference] enabled = true, too",
            ),
        ];
        if let Some((_, remedy)) = checks.iter().find(|(holds, _)| !holds) {
            return Err(ConfigError::Invalid((*remedy).to_owned()));
        }
        self.delivery.check().map_err(|remedy| ConfigError::Invalid(remedy.to_owned()))?;
        self.review.check().map_err(|remedy| ConfigError::Invalid(remedy.to_owned()))?;
        self.retention.check().map_err(|remedy| ConfigError::Invalid(remedy.to_owned()))?;
        self.check_destinations()?;
        self.http.check().map_err(ConfigError::Invalid)?;
        if self.source.kind == SourceKind::Sqs {
            let checked = self.source.sqs.check(self.pipeline.in_flight, self.pipeline.max_attempts);
            checked.map_err(|remedy| ConfigError::Invalid(format!("[source.sqs] {remedy}")))?;
        }
        self.judge.check().map_err(|error| ConfigError::Invalid(error.to_string()))?;
        self.notify.check().map_err(ConfigError::Invalid)?;
        if self.judge.enabled && self.judge.deadline_secs >= self.pipeline.call_deadline_secs {
            let remedy = "[judge] deadline_secs: need less than [pipeline] call_deadline_secs";
            return Err(ConfigError::Invalid(remedy.to_owned()));
        }
        self.redaction.names.check().map_err(|error| ConfigError::Invalid(error.to_string()))?;
        let postgres = self.postgres.check(self.needs(DatabaseKind::Postgres));
        postgres.map_err(|error| ConfigError::Invalid(error.to_string()))
    }

    /// Checks that exceptions of redaction are about sinks that there are.
    fn check_destinations(&self) -> Result<(), ConfigError> {
        for exception in &self.redaction.exceptions {
            let Some(destination) = &exception.destination else { continue };
            let wrong = match exception.environment {
                _ if !self.sinks.contains_key(destination) => "no sink has this name",
                Some(_) => "leave environment out: what is sent does not tell it",
                None => continue,
            };
            let place = format!("[redaction] exceptions: destination {destination:?}");
            return Err(ConfigError::Invalid(format!("{place}: {wrong}")));
        }
        Ok(())
    }
}

/// A variable whose name has one underscore where two are needed, with the name that is meant. Of another name, such as those that
/// Kubernetes sets for a service, nothing is said.
fn misspelt(name: &str) -> Option<(String, String)> {
    let rest = name.strip_prefix("AFTERCHECK_").filter(|rest| !rest.starts_with('_'))?.to_lowercase();
    let known = serde_json::to_value(Config::default()).ok()?;
    let key = key_of(&known, &rest)?;
    Some((name.to_owned(), format!("{ENV_PREFIX}{}", key.to_uppercase())))
}

/// The key whose parts, joined by one underscore, are this text; its parts are joined by two.
fn key_of(known: &serde_json::Value, text: &str) -> Option<String> {
    known.as_object()?.iter().find_map(|(part, below)| match text.strip_prefix(part.as_str())? {
        "" => Some(part.clone()),
        rest => Some(format!("{part}__{}", key_of(below, rest.strip_prefix('_')?)?)),
    })
}

/// Refuses a URL with a password that stands in a file: files are shown, copied and committed.
fn refuse_passwords(figment: &Figment, keys: &[&str]) -> Result<(), ConfigError> {
    for key in keys {
        let from = figment.find_metadata(key).and_then(|from| from.source.as_ref());
        let written = figment.find_value(key).ok();
        let url = written.as_ref().and_then(figment::value::Value::as_str);
        if let (Some(Source::File(file)), Some(true)) = (from, url.map(has_password)) {
            let variable = format!("{ENV_PREFIX}{}", key.to_uppercase().replace('.', "__"));
            return Err(ConfigError::Invalid(format!(
                "{key}: holds a password; take it out of {}, and set {variable} in the environment or password_file",
                file.display()
            )));
        }
    }
    Ok(())
}

/// Whether a URL has a password, before its host or among its parameters.
fn has_password(url: &str) -> bool {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let (before, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    // An `@` that is not written as %40 belongs to the password: the last one ends it.
    let user =
        before.split('/').next().and_then(|authority| authority.rsplit_once('@')).map(|(user, _)| user);
    user.and_then(|user| user.split_once(':')).is_some_and(|(_, password)| !password.is_empty())
        || parameters.split('&').any(|parameter| parameter.starts_with("password="))
}

/// The error in our words, with the nearest known key where one is unknown.
fn explain(error: &figment::Error) -> String {
    let place = error.metadata.as_ref().and_then(|from| from.source.as_ref()).map(ToString::to_string);
    let place = place.map_or(String::new(), |place| format!(" in {place}"));
    let path = error.path.join(".");
    if let figment::error::Kind::UnknownField(key, known) = &error.kind {
        let nearest =
            known.iter().max_by(|a, b| strsim::jaro_winkler(key, a).total_cmp(&strsim::jaro_winkler(key, b)));
        let hint = nearest.map_or(String::new(), |nearest| format!("; did you mean `{nearest}`?"));
        return format!("unknown key `{key}` under `{path}`{place}{hint}");
    }
    // The value may be a URL with its password, under a key that is short of its end.
    let may_hold_a_password =
        ["postgres", "source", "redaction.names"].iter().any(|section| path.starts_with(section));
    if may_hold_a_password && matches!(error.kind, figment::error::Kind::InvalidType(..)) {
        return format!("{path}: has another type than it needs{place}; see aftercheck.example.toml");
    }
    format!(
        "{}: {}{place}; see aftercheck.example.toml",
        if path.is_empty() { "file" } else { &path },
        error.kind
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("c.toml");
        std::fs::write(&file, text).unwrap();
        Config::load(Some(&file))
    }

    #[test]
    fn an_unknown_key_is_refused_with_a_suggestion() {
        let error = load("[cascade]\nhigh = 0.9\n").unwrap_err().to_string();
        assert!(error.contains("`high`") && error.contains("did you mean `hi`?"), "{error}");
    }

    #[test]
    fn a_variable_with_one_underscore_is_told_and_that_of_others_is_not() {
        let meant = |name: &str| misspelt(name).map(|(_, meant)| meant);
        assert_eq!(meant("AFTERCHECK_HTTP_LISTEN").as_deref(), Some("AFTERCHECK__HTTP__LISTEN"));
        let nested = meant("AFTERCHECK_SOURCE_RABBITMQ_QUEUE");
        assert_eq!(nested.as_deref(), Some("AFTERCHECK__SOURCE__RABBITMQ__QUEUE"));
        for other in ["AFTERCHECK__HTTP__LISTEN", "AFTERCHECK_CONFIG", "AFTERCHECK_HTTP_SERVICE_HOST", "HOME"]
        {
            assert_eq!(meant(other), None, "{other}");
        }
    }

    #[test]
    fn ranges_are_checked() {
        let error = load("[cascade]\nlo = 0.9\nhi = 0.1\n").unwrap_err().to_string();
        assert!(error.contains("lo < hi"), "{error}");
        let error = load("[redaction.names]\nthreshold = 2.0\n").unwrap_err().to_string();
        assert!(error.contains("[redaction.names] threshold: need 0 to 1"), "{error}");
        let error = load("[inference]\nenabled = false\n[judge]\nenabled = true\n").unwrap_err().to_string();
        assert!(error.contains("[judge] enabled: judges are asked where the model is unsure"), "{error}");
        assert!(load("[http]\nlisten = \"0.0.0.0:80\"\n").unwrap_err().to_string().contains("loopback"));
    }

    #[test]
    fn a_destination_is_a_sink_and_a_share_has_a_key() {
        let exception = |more: &str| {
            format!("[redaction]\nexceptions = [{{ destination = \"a\"{more}, kinds = {{}} }}]\n")
        };
        let sink = "[sinks.a]\nkind = \"jsonl\"\npath = \"a\"\n";
        assert!(load(&(exception("") + sink)).is_ok());
        let error = load(&exception("")).unwrap_err().to_string();
        assert!(error.contains("\"a\": no sink has this name"), "{error}");
        let error = load(&(exception(", environment = \"e\"") + sink)).unwrap_err().to_string();
        assert!(error.contains("leave environment out"), "{error}");
        let error = load("[retention.sealed]\nshare = 0.5\n").unwrap_err().to_string();
        assert!(error.contains("[retention.sealed] key_file"), "{error}");
    }

    #[test]
    fn postgres_needs_a_url_and_takes_no_password_from_the_file() {
        let refused = |text: &str| {
            let error = load(text).unwrap_err();
            let told = format!("{error} {error:?}");
            assert!(!told.contains("s3cret"), "{told}");
            told
        };
        assert!(refused("[store]\nkind = \"postgres\"\n").contains("[postgres] url: say where"));
        for url in [
            "postgres://a:s3cret@h/d",
            "postgres://a@h/d?sslmode=require&password=s3cret",
            "postgres://a:s3cret@x@h:5432",
        ] {
            assert!(refused(&format!("[postgres]\nurl = \"{url}\"\n")).contains("password_file"), "{url}");
        }
        assert!(
            refused("[store]\nkind = \"postgres\"\n[postgres]\nurl = \"postgres://h:s3cret\"\n")
                .contains("url")
        );
        assert!(refused("postgres = \"postgres://a:s3cret@h/d\"\n").contains("another type"));
        assert!(refused("[source]\nrabbitmq = \"amqp://a:s3cret@h\"\n").contains("another type"));
        assert!(refused("[redaction]\nnames = \"http://a:s3cret@h\"\n").contains("another type"));
        assert!(refused("[redaction.names]\nurl = \"http://a:s3cret@h\"\n").contains("takes no user"));
        assert!(refused("[postgres]\nlock_timeout_secs = 11\n").contains("statement_timeout_secs"));
        assert!(refused("[postgres]\nstatement_timeout_secs = 21\n").contains("1 to 20"));
        let config =
            load("[store]\nkind = \"postgres\"\n[postgres]\nurl = \"postgres://a@h/d?sslmode=require\"\n");
        assert_eq!(config.unwrap().postgres.place().as_deref(), Some("h:5432/d"));
        let (missing, there) = ("password_file = \"/nowhere\"", "[postgres]\nurl = \"postgres://a@h/d\"\n");
        let needed = format!("{there}{missing}\n[store]\nkind = \"postgres\"\n");
        assert!(refused(&needed).contains("password_file /nowhere"));
        assert!(load(&format!("{there}{missing}\n")).is_ok(), "nobody needs it");
    }

    #[test]
    fn a_password_in_the_file_is_refused_and_not_repeated() {
        for url in
            ["amqp://u:sesame@h/", "amqp://u:ses@me@h", "amqp://:sesame@h", "amqp://u@h/?password=sesame"]
        {
            let error = load(&format!("[source.rabbitmq]\nurl = {url:?}\n")).unwrap_err().to_string();
            assert!(
                error.contains("AFTERCHECK__SOURCE__RABBITMQ__URL") && error.contains("c.toml"),
                "{error}"
            );
            assert!(!error.contains("ses"), "{error}");
        }
        for url in ["amqp://h", "amqp://u@h:5672/a:b@c", "amqp://u:@h", "amqps://h/?heartbeat=10"] {
            let config = load(&format!("[source.rabbitmq]\nurl = {url:?}\n"));
            assert!(config.is_ok(), "{url} {config:?}");
        }
        let figment = Figment::from(("source.rabbitmq.url", "amqp://u:sesame@h"));
        assert!(refuse_passwords(&figment, &URLS).is_ok(), "only files are refused");
    }

    #[test]
    fn the_example_names_every_key_with_its_default() {
        let example = concat!(env!("CARGO_MANIFEST_DIR"), "/aftercheck.example.toml");
        let text = std::fs::read_to_string(example).unwrap();
        let config = Config::load(Some(Path::new(example))).unwrap();
        let written: toml::Table = text.parse().unwrap();
        let defaults = toml::Table::try_from(Config::default()).unwrap();
        for (section, keys) in defaults.iter().filter_map(|(name, value)| Some((name, value.as_table()?))) {
            for (key, value) in keys {
                assert_eq!(written[section.as_str()].get(key), Some(value), "[{section}] {key}");
            }
        }
        assert!(config.sinks.contains_key("archive"));
    }
}
