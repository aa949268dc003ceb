//! `[[judge.models]]`: where a judge is, whose API it speaks, and how much it is asked.

use std::{fs, path::PathBuf};

use reqwest::Url;
use schemars::JsonSchema;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::answer::AnswerForm;
use crate::outbound::{self, BadUrl};

/// Fields of a request that are ours.
const OURS: [&str; 15] = [
    "model",
    "messages",
    "system",
    "stream",
    "n",
    "tools",
    "tool_choice",
    "response_format",
    "output_config",
    "functions",
    "web_search_options",
    "mcp_servers",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
];

/// Hosts that want a key.
const KEYED: [&str; 2] = ["api.openai.com", "api.anthropic.com"];

/// Whose API it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Provider {
    /// `POST {url}/chat/completions`: OpenAI, Azure, vLLM, Ollama, gateways.
    #[default]
    Openai,
    /// `POST {url}/messages`: Anthropic.
    Anthropic,
}

/// Who speaks to the judge before the user does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SystemRole {
    /// As OpenAI calls it now.
    #[default]
    Developer,
    /// As it was called, and is by compatible servers.
    System,
}

/// Which field limits the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OutputLimit {
    /// As OpenAI calls it now; hidden reasoning counts too.
    #[default]
    MaxCompletionTokens,
    /// As it was called, and is by compatible servers.
    MaxTokens,
}

/// `[[judge.models]]`: one judge.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// What metrics, budget and `why` call it.
    pub name: String,
    /// Whose API it is.
    pub provider: Provider,
    /// Where it is, such as `https://api.openai.com/v1`, without user and password.
    pub url: String,
    /// Whether plain http leads to another machine than this one.
    pub allow_http: bool,
    /// The model's name there.
    pub model: String,
    /// File with the key and nothing else; absent for a server that asks for none.
    pub key_file: Option<PathBuf>,
    /// Variable of the environment with the key, in place of a file.
    pub key_env: Option<String>,
    /// Form of answers that is asked for first, with `provider = "openai"`: where the server refuses it, the next is tried.
    pub answer: AnswerForm,
    /// Most tokens of an answer.
    pub max_output_tokens: u32,
    /// Which field says so, with `provider = "openai"`.
    pub output_limit_field: OutputLimit,
    /// Who speaks first, with `provider = "openai"`.
    pub system_role: SystemRole,
    /// Version of the API, with `provider = "anthropic"`.
    pub version: String,
    /// More fields of the request, such as `temperature = 0` for models that take it.
    pub extra: Map<String, Value>,
    /// Whether each space in the texts of strangers is written as `^`, and the judge told so (spotlighting, arXiv 2403.14720):
    /// fewer instructions in them are followed, and some models read worse.
    pub datamark: bool,
    /// Longest wait for one answer, in seconds, connecting included; 1 to 600.
    pub deadline_secs: u64,
    /// Requests at a time, 1 to 1000.
    pub concurrency: usize,
    /// Most requests in a minute by one worker; 0: as many as the provider lets.
    pub requests_per_minute: u32,
    /// Most tokens in a minute by one worker, estimated before a request; 0: as many as the provider lets.
    pub tokens_per_minute: u32,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            provider: Provider::default(),
            url: String::new(),
            allow_http: false,
            model: String::new(),
            key_file: None,
            key_env: None,
            answer: AnswerForm::Schema,
            max_output_tokens: 2000,
            output_limit_field: OutputLimit::default(),
            system_role: SystemRole::default(),
            version: "2023-06-01".to_owned(),
            extra: Map::new(),
            datamark: false,
            deadline_secs: 30,
            concurrency: 4,
            requests_per_minute: 0,
            tokens_per_minute: 0,
        }
    }
}

/// Why a judge cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum BadModel {
    /// A value is not what it must be.
    #[error("[[judge.models]] {0}: {1}")]
    Range(String, &'static str),
    /// The address leads nowhere, or where it must not.
    #[error("[[judge.models]] {0}: url {1}")]
    Url(String, #[source] BadUrl),
    /// The key cannot be read.
    #[error("[[judge.models]] {0}: {1}")]
    Key(String, String),
    /// The client cannot be made.
    #[error("[[judge.models]] {0}: no connection can be made: {1}; https needs the system's certificates")]
    Client(String, #[source] reqwest::Error),
}

impl ModelConfig {
    /// Checks ranges and names.
    ///
    /// # Errors
    /// [`BadModel`] naming the judge and the remedy.
    pub fn check(&self) -> Result<(), BadModel> {
        let is_name = (1..=60).contains(&self.name.len())
            && self.name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        let checks = [
            (is_name, "name: need 1 to 60 letters, digits, '-', '_' and '.'"),
            (
                (1..=200).contains(&self.model.trim().len()),
                "model: need the model's name, of at most 200 bytes",
            ),
            ((1..=200_000).contains(&self.max_output_tokens), "max_output_tokens: need 1 to 200000"),
            ((1..=600).contains(&self.deadline_secs), "deadline_secs: need 1 to 600"),
            ((1..=1000).contains(&self.concurrency), "concurrency: need 1 to 1000"),
            (self.key_file.is_none() || self.key_env.is_none(), "key_file and key_env: only one of them"),
            (
                !self.extra.keys().any(|key| OURS.contains(&key.as_str())),
                "extra: takes no model, messages, tools, length or form of the answer: those are set here already",
            ),
        ];
        let named = || self.name.clone();
        if let Some((_, remedy)) = checks.iter().find(|(holds, _)| !holds) {
            return Err(BadModel::Range(named(), remedy));
        }
        outbound::url(&self.url, self.allow_http).map(drop).map_err(|error| BadModel::Url(named(), error))
    }

    /// What of it may change a verdict.
    pub fn policy(&self) -> Value {
        serde_json::json!([
            self.provider,
            self.model,
            self.answer,
            self.max_output_tokens,
            self.system_role,
            self.extra,
            super::prompt_version(self.datamark)
        ])
    }

    /// The key for this address; none where the server asks for none.
    ///
    /// # Errors
    /// [`BadModel`] where it cannot be read, or where the host answers nobody without one.
    pub(super) fn key(&self, url: &Url) -> Result<Option<SecretString>, BadModel> {
        let failed = |what: String| BadModel::Key(self.name.clone(), what);
        let key = match (&self.key_file, &self.key_env) {
            (Some(path), _) => {
                let read = fs::read_to_string(path);
                read.map_err(|error| failed(format!("key_file {}: {error}", path.display())))?
            }
            (None, Some(name)) => {
                std::env::var(name).map_err(|_| failed(format!("key_env {name}: it is not set")))?
            }
            (None, None) if url.host_str().is_some_and(|host| KEYED.contains(&host)) => {
                return Err(failed("key_file or key_env: this host answers nobody without a key".into()));
            }
            (None, None) => return Ok(None),
        };
        match key.trim() {
            "" => Err(failed("key_file or key_env: it is empty".into())),
            // Nothing else can be sent: it would be left out, and the judge would say that there is none.
            key if key.bytes().all(|byte| byte.is_ascii_graphic()) => Ok(Some(key.into())),
            _ => Err(failed("key_file or key_env: it has to be one word of ASCII characters".into())),
        }
    }
}
