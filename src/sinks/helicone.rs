//! Helicone: numbers and flags as scores of a request, words and reasons as its properties.
//!
//! * A number has to be whole: what is from 0 to 1 is sent in per cent. Anything else is accepted and lost.
//! * All scores of a request go in one call: of several within ten minutes, Helicone keeps the last. What a person says comes later,
//!   and is therefore a property.
//! * Everything is addressed by Helicone's own id of the request, which has to be one of the call's.

use std::path::PathBuf;

use async_trait::async_trait;
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use reqwest::{
    Method, StatusCode,
    header::{AUTHORIZATION, HeaderMap},
};
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value as Json, json};
use uuid::Uuid;

use super::{
    Content, Item, Outcome, Retraction, Sink, SinkError, cut, each, said,
    scores::{self, Score, VERDICT, Value},
    wire::{self, Wire, WireConfig, secret, secret_header},
};
use crate::{
    domain::{Evaluation, Label},
    outbound::{self, Answer},
};

/// Items of one [`Sink::deliver`].
const BATCH: u32 = 20;
/// Requests for an item, about.
const REQUESTS: u32 = 3;
/// How old a request may be: Helicone looks for thirty days, some minutes after it was told.
const MAX_AGE: SignedDuration = SignedDuration::from_hours(30 * 24 - 1);
/// What names of our properties begin with: the application has properties of its own.
const PREFIX: &str = "aftercheck_";
/// Name of the property that says why, behind the prefix.
const WHY: &str = "why";
/// Most bytes of a property's value. Helicone documents no limit; people filter by it.
const MAX_VALUE_BYTES: usize = 1000;
/// What stands where a text of ours was.
const ERASED: &str = "erased";

/// Helicone.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HeliconeConfig {
    /// What every HTTP sink has. `url` is `https://api.helicone.ai`, or `https://eu.api.helicone.ai`.
    #[serde(flatten)]
    pub wire: WireConfig,
    /// File with the API key.
    #[serde(default)]
    pub key_file: Option<PathBuf>,
    /// Variable of the environment with the API key, instead.
    #[serde(default)]
    pub key_env: Option<String>,
    /// Which id of a call is Helicone's id of the request, the header `Helicone-Request-Id`. It has to be a UUID, with or without
    /// hyphens, and one for each request.
    #[serde(default)]
    pub request: RequestId,
    /// Whether verdict, reasons and what people said are written as properties.
    #[serde(default = "default_properties")]
    pub properties: bool,
}

/// Properties are written unless somebody says no.
fn default_properties() -> bool {
    true
}

/// Which id of a call is Helicone's id of the request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RequestId {
    /// The trace's.
    #[default]
    TraceId,
    /// The producer's id of the call.
    RequestId,
    /// The span's.
    SpanId,
}

/// Writes to Helicone.
pub struct HeliconeSink {
    wire: Wire,
    key: SecretString,
    request: RequestId,
    properties: bool,
}

/// What is written of one request: of all its items in a batch, what came last under each name.
#[derive(Debug, Default, PartialEq)]
struct Written {
    scores: Map<String, Json>,
    properties: Map<String, Json>,
}

impl Written {
    /// Adds a score: words are properties, and so is what was said of the verdict.
    fn add(&mut self, score: &Score) {
        let value = match &score.value {
            Value::Number(number) => json!(percent(*number)),
            Value::Flag(flag) => json!(flag),
            Value::Label(word) => {
                self.properties.insert(format!("{PREFIX}{}", score.name), json!(word));
                if score.name == VERDICT && !score.comment.is_empty() {
                    let why = cut(&score.comment, MAX_VALUE_BYTES);
                    self.properties.insert(format!("{PREFIX}{WHY}"), json!(why));
                }
                return;
            }
        };
        self.scores.insert(score.name.clone(), value);
    }
}

/// A share as a whole number of per cent.
#[expect(clippy::cast_possible_truncation, reason = "it is from 0 to 100")]
fn percent(share: f64) -> i64 {
    (share.clamp(0.0, 1.0) * 100.0).round() as i64
}

impl HeliconeSink {
    /// A sink of this configuration. Nothing is connected yet.
    ///
    /// # Errors
    /// The key, and what to write there.
    pub fn new(config: &HeliconeConfig) -> Result<Self, String> {
        let key = secret("key", config.key_file.as_deref(), config.key_env.as_deref())?
            .ok_or("key_file or key_env: Helicone answers nobody without a key")?;
        let headers = HeaderMap::from_iter([secret_header(AUTHORIZATION, "Bearer ", &key)?]);
        let wire = Wire::new(&config.wire, headers)?;
        Ok(Self { wire, key, request: config.request, properties: config.properties })
    }

    /// Helicone's id of the request that an item is about.
    fn request(&self, item: &Item) -> Result<Uuid, String> {
        let (trace_id, request_id, span_id, occurred_at) = match &item.content {
            Content::Evaluation(scored) => {
                let Evaluation { trace_id, request_id, span_id, occurred_at, .. } = &scored.evaluation;
                (trace_id, request_id, span_id, occurred_at)
            }
            Content::Label(said) => {
                let Label { trace_id, request_id, span_id, occurred_at, .. } = &said.label;
                (trace_id, request_id, span_id, occurred_at)
            }
            Content::Golden(golden) => {
                (&golden.trace_id, &golden.request_id, &golden.span_id, &golden.occurred_at)
            }
        };
        let (name, id) = match self.request {
            RequestId::TraceId => ("trace_id", Some(trace_id)),
            RequestId::RequestId => ("request_id", Some(request_id)),
            RequestId::SpanId => ("span_id", span_id.as_ref()),
        };
        if Timestamp::now().duration_since(*occurred_at) > MAX_AGE {
            return Err("the call is older than 30 days: Helicone would take its scores and lose them".into());
        }
        let id = id.and_then(|id| Uuid::try_parse(id).ok());
        id.ok_or_else(|| format!("the call's {name} is no UUID, so it is not Helicone's id of a request"))
    }

    /// What is written of an item.
    fn write(item: &Item, written: &mut Written) {
        match &item.content {
            Content::Evaluation(scored) => scores::scores(scored).iter().for_each(|score| written.add(score)),
            Content::Label(said) => written.add(&scores::review(said)),
            Content::Golden(_) => {}
        }
    }

    /// Writes what there is of a request; scores first, in one call.
    async fn send(&self, id: Uuid, written: &Written) -> Result<Outcome, SinkError> {
        let texts: Vec<&str> = written.properties.values().filter_map(Json::as_str).collect();
        if !written.scores.is_empty() {
            let body = json!({"scores": written.scores});
            let told =
                self.call(Method::POST, &["v1", "request", &id.to_string(), "score"], &body, &texts).await?;
            if told != Outcome::DELIVERED {
                return Ok(told);
            }
        }
        if self.properties {
            for (key, value) in &written.properties {
                let told = self.property(id, key, value, &texts).await?;
                if told != Outcome::DELIVERED {
                    return Ok(told);
                }
            }
        }
        let names = written.properties.keys().filter(|_| self.properties).map(String::as_str);
        let id = id.to_string();
        let receipt: Vec<&str> = [id.as_str()].into_iter().chain(names).collect();
        Ok(Outcome::Delivered { receipt: Some(receipt.join(" ")) })
    }

    /// Sets one property of a request; set again it is replaced.
    async fn property(
        &self,
        id: Uuid,
        key: &str,
        value: &Json,
        texts: &[&str],
    ) -> Result<Outcome, SinkError> {
        let body = json!({"key": key, "value": value});
        self.call(Method::PUT, &["v1", "request", &id.to_string(), "property"], &body, texts).await
    }

    /// One request, and what its answer means: a status of success with an `error` in the body is none.
    async fn call(
        &self,
        method: Method,
        parts: &[&str],
        body: &Json,
        texts: &[&str],
    ) -> Result<Outcome, SinkError> {
        let url = outbound::below_segments(self.wire.base(), parts.iter().copied());
        let answer = self.wire.send(self.wire.request_to(method, url).json(body)).await?;
        let said = serde_json::from_slice::<Map<String, Json>>(&answer.body).ok();
        let words = said::message(&answer.body, &[self.key.expose_secret()], texts);
        let words = words.map_or_else(String::new, |words| format!(": {words}"));
        if !answer.status.is_success() {
            return Err(fault(&answer, said.is_some(), &words));
        }
        match said.as_ref().map(|said| said.get("error")) {
            Some(None | Some(Json::Null)) => Ok(Outcome::DELIVERED),
            Some(Some(_)) => Ok(Outcome::Unclear { reason: format!("an error in the answer{words}") }),
            None => Err(SinkError::Again {
                reason: "the answer is not what Helicone answers: is url right?".into(),
                after: None,
            }),
        }
    }
}

/// What an answer without success means.
fn fault(answer: &Answer, is_helicone: bool, words: &str) -> SinkError {
    match wire::fault(answer) {
        // Helicone answers with an object; anything else that finds nothing is not Helicone.
        SinkError::Refused(said) if answer.status == StatusCode::NOT_FOUND && !is_helicone => {
            SinkError::Denied(format!("{said}: no Helicone answers there, check url"))
        }
        SinkError::Refused(said) => SinkError::Refused(format!("{said}{words}")),
        SinkError::Again { reason, after } => SinkError::Again { reason: format!("{reason}{words}"), after },
        denied @ SinkError::Denied(_) => denied,
    }
}

#[async_trait]
impl Sink for HeliconeSink {
    fn batch(&self) -> u32 {
        self.wire.batch(BATCH, REQUESTS)
    }

    async fn deliver(&self, items: &[Item]) -> Result<Vec<Outcome>, SinkError> {
        let ids: Vec<Result<Uuid, String>> = items.iter().map(|item| self.request(item)).collect();
        let mut requests: Vec<(Uuid, Written)> = Vec::new();
        for (item, id) in items.iter().zip(&ids) {
            let Ok(id) = id else { continue };
            let place = requests.iter().position(|(other, _)| other == id).unwrap_or(requests.len());
            if place == requests.len() {
                requests.push((*id, Written::default()));
            }
            Self::write(item, &mut requests[place].1);
        }
        let told = join_all(requests.iter().map(|(id, written)| self.send(*id, written))).await;
        let outcome = |(item, id): (&Item, &Result<Uuid, String>)| match (&item.content, id) {
            // There is no place for it.
            (Content::Golden(_), _) => Ok(Outcome::NO_PLACE),
            (_, Err(reason)) => Ok(Outcome::unfit(reason)),
            (_, Ok(id)) => {
                let place = requests.iter().position(|(other, _)| other == id);
                let told = place.and_then(|place| told.get(place)).cloned();
                told.unwrap_or_else(|| Ok(Outcome::Again { reason: "nothing was sent".into(), after: None }))
            }
        };
        each(items.iter().zip(&ids).map(outcome).collect())
    }

    /// Helicone deletes no score: the numbers go with the request that they are of. Our words about it are overwritten.
    async fn retract(&self, retractions: &[Retraction]) -> Result<Vec<Uuid>, SinkError> {
        let mut unknown = Vec::new();
        for one in retractions {
            // Of a row of the golden set nothing was sent.
            if one.golden.is_some() {
                continue;
            }
            let mut receipt = one.receipt.iter().flat_map(|receipt| receipt.split_whitespace());
            let Some(id) = receipt.next().and_then(|id| Uuid::try_parse(id).ok()) else {
                unknown.push(one.delivery_id);
                continue;
            };
            for name in receipt {
                match self.property(id, name, &json!(ERASED), &[]).await {
                    // The request is gone, and with it what hung on it.
                    Err(SinkError::Refused(_)) | Ok(Outcome::Delivered { .. } | Outcome::Unsent { .. }) => {}
                    Ok(
                        Outcome::Again { reason, .. }
                        | Outcome::Unclear { reason }
                        | Outcome::Never { reason },
                    ) => {
                        return Err(SinkError::Again { reason, after: None });
                    }
                    Err(error) => return Err(error),
                }
            }
            tracing::warn!(request = %id, "Helicone deletes no scores: they are there until the request is deleted in Helicone");
        }
        Ok(unknown)
    }

    async fn check(&self) -> Result<String, SinkError> {
        // A question that finds nothing: there is no other that only asks for the key.
        let filter = json!({"properties": {(format!("{PREFIX}check")): {"equals": "none"}}});
        let body = json!({"filter": filter, "offset": 0, "limit": 1, "sort": {"created_at": "desc"}, "isCached": false});
        match self.call(Method::POST, &["v1", "request", "query"], &body, &[]).await? {
            Outcome::Delivered { .. } | Outcome::Unsent { .. } => Ok("Helicone knows the key".into()),
            Outcome::Again { reason, .. } | Outcome::Unclear { reason } | Outcome::Never { reason } => {
                Err(SinkError::Again { reason, after: None })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_a_whole_number_of_per_cent() {
        let all = [0.0, 0.004, 0.005, 0.125, 0.92, 0.999, 1.0, 7.0, -1.0, f64::NAN];
        assert_eq!(all.map(percent), [0, 0, 1, 13, 92, 100, 100, 100, 0, 0]);
    }
}
