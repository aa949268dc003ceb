//! `kind = "webhook"`: signed JSON to a URL of yours (Standard Webhooks). Ids and links, no word of a call. The answer's body
//! is not read at all.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use jiff::Timestamp;
use reqwest::{Client, StatusCode, Url, header::CONTENT_TYPE};
use schemars::JsonSchema;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::wire::secret;
use super::{
    destination::{Destination, Told, deadline, need},
    guard::{Guard, Lookup, Open, literal},
    signature::Signer,
};
use crate::{
    domain::{Message, Notice},
    faults::broken,
    outbound,
};

/// Bytes of the notices that a digest lists one by one: with these it stays below the 20 kB that the specification recommends.
const LISTED_BYTES: usize = 16_000;

/// A signed webhook.
#[derive(Debug, Clone, Default, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WebhookConfig {
    /// Where to; https.
    pub url: Option<String>,
    /// File with the URL and nothing else, where it holds a secret.
    pub url_file: Option<PathBuf>,
    /// Variable of the environment with it, in place of a file.
    pub url_env: Option<String>,
    /// File with the secrets, `whsec_…` each, with commas between them: all of them sign.
    pub secrets_file: Option<PathBuf>,
    /// Variable of the environment with them, in place of a file.
    pub secrets_env: Option<String>,
    /// Ports beside 443 that the URL may name.
    pub ports: Vec<u16>,
    /// Networks of your own that it may lead to, such as `10.20.0.0/16`.
    pub allow_networks: Vec<String>,
    /// Whether it may lead anywhere: to this machine, its neighbours and the metadata of a cloud.
    pub allow_private: bool,
    /// Whether it may be plain http.
    pub allow_http: bool,
    /// Longest wait for an answer, in milliseconds, name and connection included; 15,000 where it is 0.
    pub timeout_ms: u64,
}

/// A receiver of signed webhooks.
pub struct Webhook {
    url: Url,
    guard: Guard,
    client: Client,
    signer: Signer,
    deadline: Duration,
}

impl WebhookConfig {
    /// What is open to it.
    fn open(&self) -> Result<Open, String> {
        let networks = self.allow_networks.iter().map(|text| {
            text.parse().map_err(|_| format!("allow_networks: {text:?} is no network like 10.20.0.0/16"))
        });
        Ok(Open {
            everything: self.allow_private,
            networks: networks.collect::<Result<_, _>>()?,
            ports: self.ports.clone(),
            http: self.allow_http,
        })
    }
}

impl Webhook {
    /// A receiver by its configuration.
    ///
    /// # Errors
    /// The key and the remedy.
    pub fn new(config: &WebhookConfig) -> Result<Self, String> {
        Self::of(config, Guard::new(config.open()?))
    }

    /// The same, with another way to look up names.
    ///
    /// # Errors
    /// As [`Webhook::new`].
    pub fn with_lookup(config: &WebhookConfig, lookup: Arc<dyn Lookup>) -> Result<Self, String> {
        Self::of(config, Guard::with(config.open()?, lookup))
    }

    /// Reads the secrets of a configuration and checks its address.
    fn of(config: &WebhookConfig, guard: Guard) -> Result<Self, String> {
        let secret = secret("url", config.url_file.as_deref(), config.url_env.as_deref())?;
        let text = match (&config.url, &secret) {
            (Some(url), None) => url,
            (None, Some(secret)) => secret.expose_secret(),
            _ => return Err("url, url_file or url_env: name one of them".into()),
        };
        let url = guard.url(text).map_err(|refused| format!("url {refused}"))?;
        let secrets = need("secrets", config.secrets_file.as_deref(), config.secrets_env.as_deref())?;
        let signer = Signer::new(&secrets).map_err(|wrong| format!("secrets: {wrong}"))?;
        let client = guard.client(&url).map_err(|error| format!("no client: {error}"))?;
        let deadline = deadline(if config.timeout_ms == 0 { 15_000 } else { config.timeout_ms })?;
        Ok(Self { url, guard, client, signer, deadline })
    }
}

#[async_trait]
impl Destination for Webhook {
    async fn tell(&self, message: &Message) -> Told {
        let id = match broken("random_webhook_id") {
            true => Uuid::now_v7().to_string(),
            false => message.message_id.to_string(),
        };
        let (body, now) = (body(message).to_string(), Timestamp::now().as_second());
        let request = self
            .client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-timestamp", now)
            .header("webhook-signature", self.signer.sign(&id, now, body.as_bytes()))
            .header("webhook-id", id)
            .body(body);
        let (status, headers) = match outbound::status(request, self.deadline).await {
            Ok(answer) => answer,
            Err(error) => return Told::unanswered(&error),
        };
        match status {
            _ if status.is_success() => Told::delivered(),
            StatusCode::GONE => Told::Gone { reason: "status 410: the receiver wants no more".into() },
            _ if status.is_redirection() => Told::Again {
                reason: format!(
                    "status {}: redirects are not followed, set url to where it leads",
                    status.as_u16()
                ),
                after: None,
            },
            _ => Told::again(status, &headers),
        }
    }

    async fn check(&self) -> Result<String, String> {
        if literal(&self.url).is_none() {
            let host = self.url.host_str().unwrap_or_default();
            self.guard.resolve_host(host).await.map_err(|refused| format!("url {refused}"))?;
        }
        reach(&self.client, &self.url, self.deadline).await
    }
}

/// Asks a host for nothing, at no path: that it is there, and its certificate is good.
pub(super) async fn reach(client: &Client, url: &Url, deadline: Duration) -> Result<String, String> {
    let mut root = url.clone();
    root.set_path("/");
    root.set_query(None);
    let reached = outbound::status(client.head(root), deadline).await;
    reached.map_err(|error| format!("its host cannot be reached: {error}"))?;
    Ok("its host answers; whether it takes messages shows `aftercheck notify test`".into())
}

/// The body of a message: the same for the same notices, however often it is sent.
fn body(message: &Message) -> Value {
    match &message.notices[..] {
        [one] => json!({"type": one.event.as_str(), "timestamp": stamp(one), "data": data(one)}),
        several => digest(several),
    }
}

/// The body of several notices: how many there are of each type, and as many of them as there is room for.
fn digest(notices: &[Notice]) -> Value {
    let (mut listed, mut bytes) = (Vec::new(), 0);
    for one in notices {
        let item = json!({"type": one.event.as_str(), "timestamp": stamp(one), "data": data(one)});
        bytes += item.to_string().len();
        if bytes > LISTED_BYTES {
            break;
        }
        listed.push(item);
    }
    let mut counts = BTreeMap::<&str, usize>::new();
    for notice in notices {
        *counts.entry(notice.event.as_str()).or_default() += 1;
    }
    json!({
        "type": "notices.digest",
        "timestamp": notices.iter().map(stamp).max(),
        "data": {
            "count": notices.len(),
            "by_type": counts,
            "left_out": notices.len() - listed.len(),
            "notices": listed,
        },
    })
}

/// When it happened, in milliseconds of a day that everybody reads.
fn stamp(notice: &Notice) -> String {
    notice.occurred_at.strftime("%Y-%m-%dT%H:%M:%S.%3fZ").to_string()
}

/// What is told of one notice.
fn data(notice: &Notice) -> Value {
    let mut data = Map::new();
    let mut put = |name: &str, value: Value| drop(data.insert(name.into(), value));
    put("id", notice.notice_id.to_string().into());
    put("severity", notice.severity.as_str().into());
    put("summary", notice.summary.as_str().into());
    if let Some(condition) = &notice.condition {
        put("condition", condition.as_str().into());
        put("resolved", notice.resolved.into());
    }
    let ids = [
        ("tenant_id", notice.tenant_id.clone()),
        ("feature", notice.feature.clone()),
        ("request_id", notice.request_id.clone()),
        ("evaluation_id", notice.evaluation_id.map(|id| id.to_string())),
        ("link", notice.link.clone()),
    ];
    for (name, value) in ids {
        if let Some(value) = value {
            put(name, value.into());
        }
    }
    if !notice.dimensions.is_empty() {
        put("dimensions", notice.dimensions.clone().into());
    }
    if !notice.details.is_empty() {
        put("details", Value::Object(notice.details.clone()));
    }
    Value::Object(data)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sinks::destination::tests::{notice, numbered};

    #[test]
    fn the_body_is_small_and_the_same_each_time() {
        let one = Message::of("r", vec![notice()]);
        assert_eq!(body(&one), body(&one));
        assert_eq!(body(&one)["type"], "review.created");
        assert_eq!(body(&one)["timestamp"], "2026-11-20T10:15:31.000Z");
        let many = Message::of("r", (0..500).map(numbered).collect());
        let digest = body(&many);
        assert_eq!(digest["data"]["count"], 500);
        let listed = digest["data"]["notices"].as_array().unwrap().len();
        assert!(listed > 20 && digest["data"]["left_out"] == 500 - listed, "{listed}");
        assert_eq!(digest["data"]["by_type"]["review.created"], 500);
        assert!(digest.to_string().len() < 20_000, "{}", digest.to_string().len());
    }

    #[test]
    fn a_url_that_leads_inside_is_refused_where_it_is_written() {
        let config = |url: &str| WebhookConfig { url: Some(url.into()), ..WebhookConfig::default() };
        let wrong = |url: &str| Webhook::new(&config(url)).err().unwrap();
        assert!(
            wrong("https://169.254.169.254/latest").contains("allow_networks"),
            "{}",
            wrong("https://169.254.169.254/latest")
        );
        assert!(wrong("https://hooks.example/").contains("secrets_file or secrets_env"));
        assert!(Webhook::new(&WebhookConfig::default()).err().unwrap().contains("url_file"));
    }
}
