//! `kind = "langsmith"`: its keys, and who we say that we are.

use std::path::PathBuf;

use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::sinks::wire::{self, WireConfig};

/// `kind = "langsmith"`.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LangsmithConfig {
    /// Where LangSmith is and how much it is asked.
    #[serde(flatten)]
    pub wire: WireConfig,
    /// The tracing project that has the runs: its name, or its UUID.
    pub project: String,
    /// File with the API key and nothing else.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// Variable of the environment with the API key.
    #[serde(default)]
    pub key_env: Option<String>,
    /// UUID of the workspace; a key of an organisation needs it.
    #[serde(default)]
    pub workspace: Option<Uuid>,
    /// UUID of the annotation queue for calls that a person has to look at; absent: they are put on none.
    #[serde(default)]
    pub queue: Option<Uuid>,
    /// How long after its evaluation a run may be missing before its scores are given up, in seconds; 0 to 86,400.
    #[serde(default = "wire::default_trace_wait_secs")]
    pub trace_wait_secs: u64,
}

impl LangsmithConfig {
    /// Checks names; gives what is sent with each request to say who we are. The error is the key and what to write there.
    pub(super) fn headers(&self) -> Result<HeaderMap, String> {
        if self.project.trim().is_empty() {
            return Err("project: name the tracing project that has the runs".into());
        }
        let key = wire::secret("key", self.key_file.as_deref(), self.key_env.as_deref())?
            .ok_or("key_file or key_env: LangSmith needs a key")?;
        let (name, value) = wire::secret_header(HeaderName::from_static("x-api-key"), "", &key)?;
        let mut headers = HeaderMap::from_iter([(name, value)]);
        if let Some(workspace) = self.workspace {
            let value = HeaderValue::from_str(&workspace.to_string())
                .map_err(|error| format!("workspace: {error}"))?;
            headers.insert(HeaderName::from_static("x-tenant-id"), value);
        }
        Ok(headers)
    }
}
