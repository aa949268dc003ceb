//! The analyzer's API: `POST /analyze` with many texts at a time, as Presidio has it since 2.2.361. Nothing of what is
//! sent or answered gets into an error: both hold texts of calls.

use std::time::{Duration, Instant};

use reqwest::{StatusCode, Url};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::NamesConfig;
use crate::{
    metrics,
    outbound::{self, Unanswered},
};

/// Most requests at a time: an analyzer works on about as many as it has processes, and the rest would wait there with
/// its deadline running.
const MAX_REQUESTS: usize = 4;
/// Longest answer, in bytes. A name takes about 110 of them: that is one in each word of the longest request.
const MAX_ANSWER_BYTES: usize = 16 << 20;
/// What Presidio says of a request that it will never answer, by its status a fault of the server. Its other words may
/// quote what it was sent.
const REFUSALS: [&str; 3] =
    ["No matching recognizers were found to serve the request.", "No language provided", "No text provided"];

/// Why names were not found.
#[derive(Debug, thiserror::Error)]
pub enum NamesError {
    /// The analyzer is down; the same may be answered later.
    #[error("names: analyzer does not answer: {0}")]
    Unavailable(#[source] Down),
    /// The analyzer does not take the request, and will not take it later.
    #[error(
        "names: analyzer refuses with status {status}{}; check url, language and entities of [redaction.names], and the \
         analyzer's log", said.map(|said| format!(" ({said})")).unwrap_or_default()
    )]
    Refused {
        /// HTTP status.
        status: u16,
        /// What it said, where that is known to quote nothing.
        said: Option<&'static str>,
    },
    /// The answer is not what Presidio answers.
    #[error("names: analyzer's answer cannot be used: {0}; is it a Presidio analyzer, 2.2.361 or later?")]
    Unreadable(&'static str),
}

impl NamesError {
    /// The word for it in metrics.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unavailable(_) => "unavailable",
            Self::Refused { .. } => "refused",
            Self::Unreadable(_) => "unreadable",
        }
    }
}

/// How an analyzer is down.
#[derive(Debug, thiserror::Error)]
pub enum Down {
    /// `deadline_secs` is over.
    #[error("not within {} s", .0.as_secs())]
    Late(Duration),
    /// There is no connection, or it broke.
    #[error("no connection: {0}")]
    Unreached(String),
    /// It says so itself, or what stands before it.
    #[error("status {0}")]
    Status(u16),
}

/// What is asked.
#[derive(Serialize)]
struct Question<'a> {
    text: &'a [&'a str],
    language: &'a str,
    entities: &'a [&'a str],
    score_threshold: f64,
}

/// One value that was found in a text.
#[derive(Deserialize)]
pub(super) struct Span {
    /// What it is.
    pub(super) entity_type: String,
    /// Its first character, in Unicode scalar values.
    pub(super) start: i64,
    /// One past its last.
    pub(super) end: i64,
    /// How sure the analyzer is, 0 to 1.
    pub(super) score: f64,
}

/// An error as Presidio answers it.
#[derive(Deserialize)]
struct Failure {
    error: String,
}

/// Asks an analyzer.
#[derive(Debug)]
pub(super) struct Client {
    http: reqwest::Client,
    url: Url,
    deadline: Duration,
    permits: Semaphore,
}

impl Client {
    /// A client that has not connected yet.
    ///
    /// # Errors
    /// Where https has no certificates to trust.
    pub(super) fn new(url: Url, deadline: Duration) -> Result<Self, reqwest::Error> {
        let http = outbound::client(&url, MAX_REQUESTS)?;
        Ok(Self { http, url, deadline, permits: Semaphore::new(MAX_REQUESTS) })
    }

    /// What an analyzer finds in each of the texts, of which there is one at least.
    ///
    /// # Errors
    /// [`NamesError`]; the request is not repeated.
    pub(super) async fn ask(
        &self,
        config: &NamesConfig,
        entities: &[&str],
        texts: &[&str],
    ) -> Result<Vec<Vec<Span>>, NamesError> {
        let question =
            Question { text: texts, language: &config.language, entities, score_threshold: config.threshold };
        // It is never closed; an error would only mean one more request at a time.
        let _permit = self.permits.acquire().await.ok();
        let begun = Instant::now();
        let answer = self.answer(&question).await.and_then(|body| read(&body, texts.len()));
        metrics::names_asked(answer.as_ref().map_or_else(NamesError::reason, |_| "ok"), begun.elapsed());
        answer
    }

    /// The body of a good answer.
    async fn answer(&self, question: &Question<'_>) -> Result<Vec<u8>, NamesError> {
        let request = self.http.post(self.url.clone()).json(question);
        let exchanged = outbound::exchange(request, self.deadline, MAX_ANSWER_BYTES).await;
        let answer = exchanged.map_err(|unanswered| match unanswered {
            Unanswered::Late(deadline) => NamesError::Unavailable(Down::Late(deadline)),
            Unanswered::Unreached(why) | Unanswered::Broken(why) => {
                NamesError::Unavailable(Down::Unreached(why))
            }
            Unanswered::TooLarge(_) => NamesError::Unreadable("more than 16 MiB"),
        })?;
        match answer.status {
            StatusCode::OK => Ok(answer.body),
            status => Err(failure(status, &answer.body)),
        }
    }
}

/// What an answer means that is none.
fn failure(status: StatusCode, body: &[u8]) -> NamesError {
    let error = serde_json::from_slice::<Failure>(body).map(|failure| failure.error);
    let said = REFUSALS.into_iter().find(|known| error.as_ref().is_ok_and(|said| said == known));
    let is_down = status.is_server_error()
        || matches!(status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
    match said {
        None if is_down => NamesError::Unavailable(Down::Status(status.as_u16())),
        said => NamesError::Refused { status: status.as_u16(), said },
    }
}

/// Reads an answer about so many texts.
fn read(body: &[u8], texts: usize) -> Result<Vec<Vec<Span>>, NamesError> {
    // What serde says may quote the answer.
    let answers: Vec<Vec<Span>> = serde_json::from_slice(body)
        .map_err(|_| NamesError::Unreadable("not a list of findings for each text"))?;
    if answers.len() != texts {
        return Err(NamesError::Unreadable("not as many lists as texts"));
    }
    Ok(answers)
}
