//! One judge: a model behind a provider's API, with its own limits on how much it is asked.

use std::{
    num::NonZeroU32,
    sync::{
        LazyLock, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use reqwest::{
    Client, RequestBuilder, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue},
};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{
    JudgeError,
    answer::Verdicts,
    anthropic,
    config::{BadModel, ModelConfig, Provider},
    openai,
    waits::Remaining,
};
use crate::outbound::{self, Answer};

/// What every judge is told.
const SYSTEM: &str = include_str!("prompt.md");
/// What it is told beside that where the words of strangers are marked.
const MARKED: &str = include_str!("prompt.datamark.md");
/// What every judge answers with.
pub(super) static SCHEMA: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("verdict.schema.json")).unwrap_or_default());
/// Bytes of the schema, which goes with every request.
const SCHEMA_BYTES: usize = include_str!("verdict.schema.json").len();
/// What a judge is told whose documents are marked, or are not.
pub(super) fn system(datamark: bool) -> String {
    if datamark { format!("{SYSTEM}{MARKED}") } else { SYSTEM.to_owned() }
}

/// Longest answer of a server that is read, in bytes: hidden reasoning may come with it.
const MAX_BODY_BYTES: usize = 4 << 20;
/// Longest wait for a limit of a provider that a call is held for.
const MAX_HOLD: Duration = Duration::from_secs(5);

/// Tokens of one answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Input tokens, cached ones included.
    pub tokens_in: u64,
    /// Those of them that were cached.
    pub tokens_cached: u64,
    /// Output tokens, hidden reasoning included.
    pub tokens_out: u64,
}

/// What came of a request that was answered: it is paid for, whether it can be used or not.
#[derive(Debug)]
pub struct Answered {
    /// The verdicts, or why there are none.
    pub verdicts: Result<Verdicts, JudgeError>,
    /// What the judge wrote: the text they were read from, or all that came where there is none.
    pub text: String,
    /// What it took, where the server says so.
    pub spent: Option<Spent>,
    /// The model that answered, as the server calls it.
    pub model: String,
}

impl Answered {
    /// An answer that is none, and is paid for.
    pub(super) fn unread(answer: &Answer, error: JudgeError) -> Self {
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        Self { verdicts: Err(error), text, spent: None, model: String::new() }
    }
}

/// A place at a judge; given back when it is dropped.
pub struct Admitted<'a> {
    _place: Option<SemaphorePermit<'a>>,
}

/// A judge that can be asked.
pub struct Model {
    config: ModelConfig,
    url: Url,
    key: Option<SecretString>,
    client: Client,
    permits: Semaphore,
    requests: Option<DefaultDirectRateLimiter>,
    tokens: Option<DefaultDirectRateLimiter>,
    /// Place in [`openai::FORMS`] of the form that the server takes.
    form: AtomicUsize,
    /// When the provider lets us ask again.
    resting: Mutex<Option<Instant>>,
}

impl Model {
    /// A judge of this configuration. Nobody is asked yet.
    ///
    /// # Errors
    /// [`BadModel`] naming the judge and the remedy.
    pub fn new(config: &ModelConfig) -> Result<Self, BadModel> {
        config.check()?;
        let base = outbound::url(&config.url, config.allow_http)
            .map_err(|error| BadModel::Url(config.name.clone(), error))?;
        let path = match config.provider {
            Provider::Openai => "chat/completions",
            Provider::Anthropic => "messages",
        };
        let client = outbound::client(&base, config.concurrency)
            .map_err(|error| BadModel::Client(config.name.clone(), error))?;
        let limiter =
            |per_minute| NonZeroU32::new(per_minute).map(|n| RateLimiter::direct(Quota::per_minute(n)));
        Ok(Self {
            key: config.key(&base)?,
            url: outbound::below(&base, path),
            client,
            permits: Semaphore::new(config.concurrency),
            requests: limiter(config.requests_per_minute),
            tokens: limiter(config.tokens_per_minute),
            form: AtomicUsize::new(openai::FORMS.iter().position(|form| *form == config.answer).unwrap_or(0)),
            resting: Mutex::new(None),
            config: config.clone(),
        })
    }

    /// What it is called here.
    pub fn name(&self) -> &str {
        &self.config.name
    }

    /// The model that is asked for.
    pub fn model(&self) -> &str {
        &self.config.model
    }

    /// Whether the words of strangers are marked for it.
    pub fn datamark(&self) -> bool {
        self.config.datamark
    }

    /// Most tokens of an answer.
    pub fn max_output_tokens(&self) -> u64 {
        u64::from(self.config.max_output_tokens)
    }

    /// Lets a question in: waits for a free place and for the limits of `config`, for a provider's own limit only a few seconds.
    ///
    /// # Errors
    /// [`JudgeError::Limited`] where the provider wants to be left alone for longer.
    pub async fn admit(&self, question: &str) -> Result<Admitted<'_>, JudgeError> {
        // It is never closed; an error would only mean one more request at a time.
        let place = self.permits.acquire().await.ok();
        self.rest().await?;
        if let Some(requests) = &self.requests {
            requests.until_ready().await;
        }
        if let Some((tokens, n)) = self.tokens.as_ref().zip(NonZeroU32::new(self.estimate(question))) {
            // More than a minute's worth never fits: it goes alone.
            let most = NonZeroU32::new(self.config.tokens_per_minute).unwrap_or(n);
            let _fits = tokens.until_n_ready(n.min(most)).await;
        }
        Ok(Admitted { _place: place })
    }

    /// Asks once about so many claims.
    ///
    /// # Errors
    /// [`JudgeError`] where nothing was answered with status 200; [`JudgeError::may_be_paid`] says whether it may cost all the
    /// same.
    pub async fn ask(
        &self,
        _admitted: Admitted<'_>,
        question: &str,
        claims: usize,
    ) -> Result<Answered, JudgeError> {
        let asked = self.ask_as_it_wants(question, claims).await;
        if let Err(JudgeError::Limited(Some(wait)) | JudgeError::Down { wait: Some(wait), .. }) = &asked {
            self.rest_for(*wait);
        }
        asked
    }

    /// Asks by its provider's API.
    async fn ask_as_it_wants(&self, question: &str, claims: usize) -> Result<Answered, JudgeError> {
        match self.config.provider {
            Provider::Anthropic => {
                let answer = self.send(&anthropic::request(&self.config, question)).await?;
                self.heed(anthropic::remaining(&answer));
                anthropic::reply(&answer, claims)
            }
            Provider::Openai => self.ask_in_a_form_it_takes(question, claims).await,
        }
    }

    /// Tokens of a request with a question of so many bytes, about: four bytes a token, as in English prose.
    pub fn tokens_in(&self, question_bytes: usize) -> u64 {
        ((SYSTEM.len() + SCHEMA_BYTES + question_bytes) / 4) as u64
    }

    /// Tokens that a request and its answer take at most.
    fn estimate(&self, question: &str) -> u32 {
        let tokens = u32::try_from(self.tokens_in(question.len())).unwrap_or(u32::MAX);
        tokens.saturating_add(self.config.max_output_tokens)
    }

    /// Asks an OpenAI-compatible server: in another form where it refuses one, and from then on in that.
    async fn ask_in_a_form_it_takes(&self, question: &str, claims: usize) -> Result<Answered, JudgeError> {
        let first = self.form.load(Ordering::Relaxed);
        for (at, form) in openai::FORMS.into_iter().enumerate().skip(first) {
            let answer = self.send(&openai::request(&self.config, form, question)).await?;
            self.heed(openai::remaining(&answer));
            if openai::is_about_form(&answer) && at + 1 < openai::FORMS.len() {
                continue;
            }
            let read = openai::reply(&answer, form, claims);
            let is_read = read.as_ref().is_ok_and(|answered| answered.verdicts.is_ok());
            if is_read && at > first {
                tracing::warn!(
                    judge = self.name(),
                    ?form,
                    "judge takes no stricter form of answers than this"
                );
                self.form.fetch_max(at, Ordering::Relaxed);
            }
            return read;
        }
        Err(JudgeError::Refused(400))
    }

    /// Sends one request.
    async fn send(&self, body: &Value) -> Result<Answer, JudgeError> {
        let request = self.signed(self.client.post(self.url.clone()).json(body));
        let deadline = Duration::from_secs(self.config.deadline_secs);
        Ok(outbound::exchange(request, deadline, MAX_BODY_BYTES).await?)
    }

    /// A request with the key.
    fn signed(&self, request: RequestBuilder) -> RequestBuilder {
        let secret = |value: String| {
            let mut value = HeaderValue::from_str(&value).ok()?;
            value.set_sensitive(true);
            Some(value)
        };
        let key = self.key.as_ref().map(|key| key.expose_secret());
        match self.config.provider {
            Provider::Openai => match key.and_then(|key| secret(format!("Bearer {key}"))) {
                Some(bearer) => request.header(AUTHORIZATION, bearer),
                None => request,
            },
            Provider::Anthropic => {
                let request = request.header("anthropic-version", self.config.version.as_str());
                match key.and_then(|key| secret(key.to_owned())) {
                    Some(key) => request.header("x-api-key", key),
                    None => request,
                }
            }
        }
    }

    /// Waits until the provider lets us ask, where that is soon.
    async fn rest(&self) -> Result<(), JudgeError> {
        let until = *self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(wait) = until.and_then(|until| until.checked_duration_since(Instant::now())) else {
            return Ok(());
        };
        if wait > MAX_HOLD {
            return Err(JudgeError::Limited(Some(wait)));
        }
        tokio::time::sleep(wait).await;
        Ok(())
    }

    /// Does not ask before there is something left of requests and tokens.
    fn heed(&self, remaining: [Option<Remaining>; 2]) {
        let used_up = remaining.into_iter().flatten().filter(|remaining| remaining.left == 0);
        if let Some(reset) = used_up.map(|remaining| remaining.reset).max() {
            self.rest_for(reset);
        }
    }

    /// Does not ask for so long, or for as long as was said before.
    fn rest_for(&self, wait: Duration) {
        let mut resting = self.resting.lock().unwrap_or_else(PoisonError::into_inner);
        *resting = (*resting).max(Instant::now().checked_add(wait));
    }
}

/// Whether a body is said to be JSON.
pub(super) fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}
