//! `[sinks.NAME]` of kind `langfuse`.

use std::{collections::BTreeMap, path::PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::sinks::wire::WireConfig;

/// Longest name of an environment, as Langfuse cuts it.
const MAX_ENVIRONMENT: usize = 40;

/// Langfuse, on its own cloud or self-hosted.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LangfuseConfig {
    /// What every HTTP sink has. `url` is the origin, such as `https://cloud.langfuse.com`: paths begin with `/api/public`.
    #[serde(flatten)]
    pub wire: WireConfig,
    /// Public key of the project, `pk-lf-…`; no secret.
    pub public_key: String,
    /// File with the secret key, `sk-lf-…`.
    #[serde(default)]
    pub secret_key_file: Option<PathBuf>,
    /// Variable of the environment with the secret key, instead.
    #[serde(default)]
    pub secret_key_env: Option<String>,
    /// Which of its interfaces takes the scores.
    #[serde(default)]
    pub api: Api,
    /// What scores are attached to.
    #[serde(default)]
    pub target: Target,
    /// Environment that the scores are shown under: 1 to 40 of `a-z 0-9 - _`, not beginning with `langfuse`. Absent: `default`,
    /// as Langfuse calls it.
    #[serde(default)]
    pub environment: Option<String>,
    /// Id of the annotation queue that calls with the verdict `review` are put on. Absent: on none.
    #[serde(default)]
    pub queue: Option<String>,
    /// Ids of score configs by the name of the score: `{ faithfulness = "…" }`. A config's name has to be that of the score. A
    /// score that its config does not allow is sent without it, because Langfuse would drop it without a word.
    #[serde(default)]
    pub score_configs: BTreeMap<String, String>,
}

/// Which interface of Langfuse takes scores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Api {
    /// `POST /ingestion`: many scores in a request, an answer for each, and the time of the call as that of the score, which is part
    /// of what identifies it.
    #[default]
    Ingestion,
    /// `POST /scores`: whichever shape the server takes, an array or one score, is found out once. A server up to 4.16.0 takes one
    /// score a request, and the time of the request for that of the score.
    Scores,
}

/// What a score is attached to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Target {
    /// The observation of the call's span; the trace where the call names no span.
    #[default]
    Observation,
    /// The trace, also where the call names a span.
    Trace,
}

impl LangfuseConfig {
    /// Whether it can be used.
    ///
    /// # Errors
    /// The key, and what to write there.
    pub fn check(&self) -> Result<(), String> {
        if !is_word(&self.public_key) || self.public_key.contains(':') {
            return Err("public_key: write the project's public key, pk-lf-…".into());
        }
        if self.public_key.starts_with("sk-") {
            return Err(
                "public_key: this is a secret key; it belongs in secret_key_file, and the public one here"
                    .into(),
            );
        }
        if self.environment.as_deref().is_some_and(|name| !is_environment(name)) {
            return Err("environment: 1 to 40 of a-z 0-9 - _, not beginning with langfuse; Langfuse would call any other \
                        default"
                .into());
        }
        if self.queue.as_deref().is_some_and(|id| !is_word(id)) {
            return Err("queue: write the id of an annotation queue, as it stands in its address".into());
        }
        match self.score_configs.iter().find(|(name, id)| name.is_empty() || !is_word(id)) {
            Some((name, _)) => Err(format!("score_configs.{name}: write the id of a score config")),
            None => Ok(()),
        }
    }
}

/// Something that stands in an address or a header: printable, without a space.
fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Whether Langfuse takes an environment as it is written.
fn is_environment(name: &str) -> bool {
    let is_allowed =
        |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_');
    (1..=MAX_ENVIRONMENT).contains(&name.len())
        && name.bytes().all(is_allowed)
        && !name.starts_with("langfuse")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(more: &str) -> LangfuseConfig {
        toml::from_str(&format!("url = 'https://h.example'\npublic_key = 'pk-lf-1'\n{more}")).unwrap()
    }

    #[test]
    fn what_langfuse_would_change_without_a_word_is_refused() {
        assert_eq!(config("").check(), Ok(()));
        assert_eq!((config("").api, config("").target), (Api::Ingestion, Target::Observation));
        for good in ["production", "eu-1_a"] {
            assert_eq!(config(&format!("environment = '{good}'")).check(), Ok(()), "{good}");
        }
        for bad in ["", "Production", "a b", "langfuse-1", "ä", &"a".repeat(41)] {
            let said = config(&format!("environment = '{bad}'")).check().unwrap_err();
            assert!(said.starts_with("environment"), "{bad}: {said}");
        }
        assert!(config("queue = 'a b'").check().unwrap_err().starts_with("queue"));
        assert!(config("score_configs = { verdict = '' }").check().unwrap_err().contains("verdict"));
        let mut swapped = config("");
        swapped.public_key = "sk-lf-1".into();
        assert!(swapped.check().unwrap_err().contains("secret_key_file"));
    }
}
