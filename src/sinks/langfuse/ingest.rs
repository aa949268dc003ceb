//! Sends scores: many in a request, and what became of each.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicU8, Ordering},
};

use futures_util::future::join_all;
use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::{Value as Json, json};

use super::{
    api::{Api, again, is_nowhere, parsed},
    body::Sent,
    config,
};
use crate::{
    outbound::Answer,
    sinks::{Outcome, SinkError},
};

/// What became of one score.
pub(super) type Told = Result<Outcome, SinkError>;

/// Most bytes of scores in one request of `POST /ingestion`, which takes 3.5 MB.
const INGESTION_BYTES: usize = 3_000_000;
/// Most scores in one request of `POST /ingestion`.
const INGESTION_SCORES: usize = 500;
/// The same of an array of `POST /scores`, as Langfuse's own SDK has them.
const ARRAY_BYTES: usize = 900_000;
const ARRAY_SCORES: usize = 15;

/// Sends scores by one of Langfuse's interfaces.
pub(super) struct Way {
    api: config::Api,
    shape: AtomicU8,
}

/// What `POST /scores` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Shape {
    /// Nobody has asked yet.
    Unknown = 0,
    /// An array: servers after 4.16.0.
    Array = 1,
    /// One score: servers up to 4.16.0.
    One = 2,
}

/// The answer of `POST /ingestion`.
#[derive(Deserialize)]
struct Ingested {
    successes: Vec<Each>,
    errors: Vec<Each>,
}

/// What it says of one envelope.
#[derive(Deserialize)]
struct Each {
    id: String,
    status: u16,
    #[serde(default)]
    message: Option<String>,
}

/// The answer of `POST /scores` to an array of which not all was taken. It does not say which.
#[derive(Deserialize)]
struct Counted {
    rejected: usize,
    #[serde(default)]
    errors: Vec<Json>,
}

impl Way {
    /// Sends by this interface.
    pub fn new(api: config::Api) -> Self {
        Self { api, shape: AtomicU8::new(Shape::Unknown as u8) }
    }

    /// Whether each score is a request of its own, as far as that is known.
    pub fn is_one_by_one(&self) -> bool {
        self.api == config::Api::Scores && self.shape() != Shape::Array
    }

    /// What is known of it.
    fn shape(&self) -> Shape {
        match self.shape.load(Ordering::Relaxed) {
            1 => Shape::Array,
            2 => Shape::One,
            _ => Shape::Unknown,
        }
    }

    /// Keeps what an answer has shown of it.
    fn learn(&self, shape: Shape) {
        self.shape.store(shape as u8, Ordering::Relaxed);
    }

    /// Sends scores; says what became of each, in their order.
    pub async fn send(&self, api: &Api, scores: &[Sent]) -> Vec<Told> {
        if self.api == config::Api::Scores
            && self.shape() == Shape::Unknown
            && let Some(first) = scores.first()
            && let Err(error) = self.probe(api, first).await
        {
            return vec![Err(error); scores.len()];
        }
        let requests = join_all(self.chunks(scores).into_iter().map(|chunk| self.send_chunk(api, chunk)));
        requests.await.into_iter().flatten().collect()
    }

    /// Finds out which shape `POST /scores` takes, by sending one score as an array, then for itself where that is refused. What is
    /// wrong with the score itself is found out later: as long as it is refused either way, nothing is known.
    async fn probe(&self, api: &Api, score: &Sent) -> Result<(), SinkError> {
        let array = api.post(&["scores"], &json!([score.plain()])).await?;
        if array.status.is_success() {
            self.learn(Shape::Array);
        } else if array.status == StatusCode::BAD_REQUEST {
            let one = api.post(&["scores"], &score.plain()).await?;
            if one.status.is_success() {
                self.learn(Shape::One);
            } else if one.status != StatusCode::BAD_REQUEST {
                return Err(whole(api, &one, &[score]));
            }
        } else {
            return Err(whole(api, &array, &[score]));
        }
        Ok(())
    }

    /// Scores in as many parts as requests are needed.
    fn chunks<'a>(&self, scores: &'a [Sent]) -> Vec<&'a [Sent]> {
        let (most, bytes) = match (self.api, self.shape()) {
            (config::Api::Ingestion, _) => (INGESTION_SCORES, INGESTION_BYTES),
            (config::Api::Scores, Shape::Array) => (ARRAY_SCORES, ARRAY_BYTES),
            (config::Api::Scores, _) => (1, ARRAY_BYTES),
        };
        let (mut chunks, mut rest) = (Vec::new(), scores);
        while !rest.is_empty() {
            let mut sum = 0;
            let fits = |score: &&Sent| {
                sum += score.envelope().1.to_string().len() + 1;
                sum <= bytes
            };
            let length = rest.iter().take(most).take_while(fits).count().max(1);
            let (chunk, after) = rest.split_at(length);
            chunks.push(chunk);
            rest = after;
        }
        chunks
    }

    /// Sends the scores of one request; in halves, where it is refused and nobody says for which of them. What arrives twice is the
    /// same score.
    async fn send_chunk(&self, api: &Api, scores: &[Sent]) -> Vec<Told> {
        let (mut told, mut open) = (Vec::with_capacity(scores.len()), vec![scores]);
        while let Some(part) = open.pop() {
            let answer = match self.api {
                config::Api::Ingestion => ingest(api, part).await,
                config::Api::Scores => self.post(api, part).await,
            };
            match answer {
                Ok(each) => told.extend(each),
                Err(SinkError::Refused(_)) if part.len() > 1 => {
                    let (left, right) = part.split_at(part.len() / 2);
                    open.extend([right, left]);
                }
                Err(error) => told.extend(vec![Err(error); part.len()]),
            }
        }
        told
    }

    /// Sends scores to `POST /scores`.
    async fn post(&self, api: &Api, scores: &[Sent]) -> Result<Vec<Told>, SinkError> {
        let about: Vec<&Sent> = scores.iter().collect();
        let answer = match (self.shape(), scores) {
            (Shape::One | Shape::Unknown, [one]) => api.post(&["scores"], &one.plain()).await?,
            _ => api.post(&["scores"], &scores.iter().map(Sent::plain).collect::<Vec<_>>()).await?,
        };
        if answer.status == StatusCode::MULTI_STATUS {
            let counted: Counted = parsed(&answer.body)?;
            if counted.rejected > 0 {
                let said = counted.errors.first().and_then(|error| error["message"].as_str());
                return Err(SinkError::Refused(reason(api, "rejected", said, &about)));
            }
        }
        if !answer.status.is_success() {
            return Err(whole(api, &answer, &about));
        }
        Ok(vec![Ok(Outcome::DELIVERED); scores.len()])
    }
}

/// Sends scores to `POST /ingestion`.
async fn ingest(api: &Api, scores: &[Sent]) -> Result<Vec<Told>, SinkError> {
    let (ids, batch): (Vec<_>, Vec<_>) = scores.iter().map(Sent::envelope).unzip();
    let answer = api.post(&["ingestion"], &json!({"batch": batch})).await?;
    if !answer.status.is_success() {
        return Err(whole(api, &answer, &scores.iter().collect::<Vec<_>>()));
    }
    let said: Ingested = parsed(&answer.body)?;
    // What is in both lists has failed.
    let each = said.successes.iter().chain(&said.errors);
    let by_id: HashMap<&str, &Each> = each.map(|each| (each.id.as_str(), each)).collect();
    let told = scores.iter().zip(ids).map(|(score, id)| match by_id.get(id.to_string().as_str()) {
        Some(each) => one(api, each, score),
        None => Ok(again("Langfuse did not say what became of it".into(), None)),
    });
    Ok(told.collect())
}

/// What became of one score of a batch.
fn one(api: &Api, each: &Each, score: &Sent) -> Told {
    let said = reason(api, &format!("status {}", each.status), each.message.as_deref(), &[score]);
    match each.status {
        200..300 => Ok(Outcome::DELIVERED),
        401 | 403 => Err(SinkError::Denied(format!("{said}; the key needs the right to write scores"))),
        408 | 409 | 425 | 429 | 500.. => Ok(again(said, None)),
        _ => Ok(Outcome::Never { reason: said }),
    }
}

/// What the answer to a whole request means.
fn whole(api: &Api, answer: &Answer, scores: &[&Sent]) -> SinkError {
    if is_nowhere(answer.status) {
        let status = answer.status;
        return SinkError::Denied(format!(
            "status {status}: nothing takes scores there; check url, and set api to \"scores\" or \"ingestion\""
        ));
    }
    let texts: Vec<&str> = scores.iter().map(|score| score.text()).collect();
    match (api.fault(answer, &texts), scores) {
        (SinkError::Refused(said), [score]) => SinkError::Refused(format!("{}: {said}", score.body.name)),
        (fault, _) => fault,
    }
}

/// Why a score was not taken, with its name, and in Langfuse's words where they repeat no text of it.
fn reason(api: &Api, what: &str, said: Option<&str>, scores: &[&Sent]) -> String {
    let texts: Vec<&str> = scores.iter().map(|score| score.text()).collect();
    let said =
        said.and_then(|said| api.line(said, &texts)).map_or_else(String::new, |said| format!(": {said}"));
    match scores {
        [score] => format!("{}: {what}{said}", score.body.name),
        _ => format!("{what}{said}"),
    }
}
