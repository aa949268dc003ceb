//! `kind = "mlflow"`: its keys, and who we say that we are.

use std::path::PathBuf;

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::header::{AUTHORIZATION, HeaderMap};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};

use crate::sinks::wire::{self, WireConfig};

/// `kind = "mlflow"`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MlflowConfig {
    /// Where MLflow is and how much it is asked.
    #[serde(flatten)]
    pub wire: WireConfig,
    /// Id of the experiment that has the traces, such as `"1"`.
    pub experiment: String,
    /// File with a token and nothing else, sent as `Bearer`.
    #[serde(default)]
    pub token_file: Option<PathBuf>,
    /// Variable of the environment with the token.
    #[serde(default)]
    pub token_env: Option<String>,
    /// Name for HTTP Basic, with a password.
    #[serde(default)]
    pub user: Option<String>,
    /// File with the password and nothing else.
    #[serde(default)]
    pub password_file: Option<PathBuf>,
    /// Variable of the environment with the password.
    #[serde(default)]
    pub password_env: Option<String>,
    /// Id of the review queue for calls that a person has to look at, such as `rq-…`; absent: they are put on none. Older
    /// servers have no queues.
    #[serde(default)]
    pub queue: Option<String>,
    /// How long after its evaluation a trace may be missing before its scores are given up, in seconds; 0 to 86,400.
    #[serde(default = "wire::default_trace_wait_secs")]
    pub trace_wait_secs: u64,
}

impl MlflowConfig {
    /// Checks ids and ranges; the error is the key and what to write there.
    pub(super) fn check(&self) -> Result<(), String> {
        if self.experiment.is_empty() || !self.experiment.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(
                "experiment: need the id of the experiment that has the traces, a number in quotes".into()
            );
        }
        Ok(())
    }

    /// What is sent with each request to say who we are; the error is the key and what to write there.
    pub(super) fn authorization(&self) -> Result<HeaderMap, String> {
        let token = wire::secret("token", self.token_file.as_deref(), self.token_env.as_deref())?;
        let password = wire::secret("password", self.password_file.as_deref(), self.password_env.as_deref())?;
        let header = match (token, &self.user, password) {
            (None, None, None) => return Ok(HeaderMap::new()),
            (Some(token), None, None) => wire::secret_header(AUTHORIZATION, "Bearer ", &token)?,
            (None, Some(user), Some(password)) if !user.contains(':') => {
                let pair = format!("{user}:{}", password.expose_secret());
                wire::secret_header(AUTHORIZATION, "Basic ", &SecretString::from(STANDARD.encode(pair)))?
            }
            (None, _, _) => {
                return Err("user and password_file or password_env: both or none; no colon in user".into());
            }
            (Some(_), _, _) => return Err("token_file or token_env: not with a user and a password".into()),
        };
        Ok(HeaderMap::from_iter([header]))
    }
}
