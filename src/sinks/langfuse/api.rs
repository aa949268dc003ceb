//! Langfuse's public API: addresses, keys, and what its answers mean.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD};
use reqwest::{
    Method, StatusCode, Url,
    header::{AUTHORIZATION, HeaderMap},
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::config::LangfuseConfig;
use crate::{
    outbound::{self, Answer},
    sinks::{
        Outcome, SinkError, said,
        wire::{self, Wire, secret, secret_header},
    },
};

/// What all paths begin with.
const ROOT: [&str; 2] = ["api", "public"];
/// What Langfuse's secret keys begin with.
const SECRET_PREFIX: &str = "sk-lf-";
/// Most rows of a list that one answer has.
pub(super) const PAGE: usize = 100;

/// The API of one project.
pub(super) struct Api {
    wire: Wire,
    /// The secret key, and with the public one as it goes over the wire.
    secrets: [SecretString; 2],
}

/// What a list says of itself.
#[derive(Debug, Deserialize)]
pub(super) struct Meta {
    #[serde(rename = "totalPages", default)]
    pub total_pages: u64,
}

/// One page of a list.
#[derive(Debug, Deserialize)]
pub(super) struct Page<T> {
    pub data: Vec<T>,
    pub meta: Meta,
}

impl Api {
    /// The API that a configuration names. Nothing is connected yet.
    pub fn new(config: &LangfuseConfig) -> Result<Self, String> {
        let LangfuseConfig { secret_key_file, secret_key_env, .. } = config;
        let key = secret("secret_key", secret_key_file.as_deref(), secret_key_env.as_deref())?
            .ok_or("secret_key_file or secret_key_env: Langfuse answers nobody without a key")?;
        let pair = format!("{}:{}", config.public_key, key.expose_secret());
        let basic: SecretString = STANDARD.encode(pair).into();
        let headers = HeaderMap::from_iter([secret_header(AUTHORIZATION, "Basic ", &basic)?]);
        Ok(Self { wire: Wire::new(&config.wire, headers)?, secrets: [key, basic] })
    }

    /// Items of a batch, as [`Wire::batch`] has it.
    pub fn batch(&self, most: u32, requests: u32) -> u32 {
        self.wire.batch(most, requests)
    }

    /// The address of a path below the root, part by part.
    fn url(&self, parts: &[&str], query: &[(&str, &str)]) -> Url {
        let mut url =
            outbound::below_segments(self.wire.base(), ROOT.into_iter().chain(parts.iter().copied()));
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        url
    }

    /// Sends a body; the answer may have any status.
    pub async fn post(&self, parts: &[&str], body: &(impl Serialize + Sync)) -> Result<Answer, SinkError> {
        self.wire.send(self.wire.request_to(Method::POST, self.url(parts, &[])).json(body)).await
    }

    /// Reads; the answer may have any status.
    pub async fn get(&self, parts: &[&str], query: &[(&str, &str)]) -> Result<Answer, SinkError> {
        self.wire.send(self.wire.request_to(Method::GET, self.url(parts, query))).await
    }

    /// Deletes; gives back whether it was there. Where it was not, that is as well.
    pub async fn delete(&self, parts: &[&str]) -> Result<bool, SinkError> {
        let answer = self.wire.send(self.wire.request_to(Method::DELETE, self.url(parts, &[]))).await?;
        match answer.status {
            StatusCode::NOT_FOUND => Ok(false),
            status if status.is_success() => Ok(true),
            _ => Err(self.fault(&answer, &[])),
        }
    }

    /// A page of a list, from 1.
    pub async fn page<T: DeserializeOwned>(
        &self,
        parts: &[&str],
        query: &[(&str, &str)],
        number: u64,
    ) -> Result<Page<T>, SinkError> {
        let (number, limit) = (number.to_string(), PAGE.to_string());
        let mut all = query.to_vec();
        all.extend([("page", number.as_str()), ("limit", limit.as_str())]);
        self.read(&self.get(parts, &all).await?)
    }

    /// What an answer says, where it is one of success.
    pub fn read<T: DeserializeOwned>(&self, answer: &Answer) -> Result<T, SinkError> {
        if !answer.status.is_success() {
            return Err(self.fault(answer, &[]));
        }
        parsed(&answer.body)
    }

    /// What an answer without success means, in Langfuse's own words where they repeat nothing of what was `sent`.
    pub fn fault(&self, answer: &Answer, sent: &[&str]) -> SinkError {
        let fault = wire::fault(answer);
        let Some(said) = said::message(&answer.body, &self.secrets(), sent) else { return fault };
        match fault {
            SinkError::Again { reason, after } => {
                SinkError::Again { reason: format!("{reason}: {said}"), after }
            }
            SinkError::Denied(reason) => SinkError::Denied(format!("{reason} ({said})")),
            SinkError::Refused(reason) => SinkError::Refused(format!("{reason}: {said}")),
        }
    }

    /// What it says of one thing among several.
    pub fn line(&self, said: &str, sent: &[&str]) -> Option<String> {
        said::line(said, &self.secrets(), sent)
    }

    /// What no message may repeat: our secrets, and anything that looks like a secret key.
    fn secrets(&self) -> [&str; 3] {
        let [key, basic] = &self.secrets;
        [key.expose_secret(), basic.expose_secret(), SECRET_PREFIX]
    }
}

/// A body as what it should be. An answer that cannot be read may be that of something on the way.
pub(super) fn parsed<T: DeserializeOwned>(body: &[u8]) -> Result<T, SinkError> {
    serde_json::from_slice(body).map_err(|_| SinkError::Again {
        reason: "the answer is not what Langfuse answers: is url right?".into(),
        after: None,
    })
}

/// Whether there is nothing at an address: another product, another version, or a wrong `url`.
pub(super) fn is_nowhere(status: StatusCode) -> bool {
    matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::GONE)
}

/// It may work later.
pub(super) fn again(reason: String, after: Option<Duration>) -> Outcome {
    Outcome::Again { reason, after }
}
