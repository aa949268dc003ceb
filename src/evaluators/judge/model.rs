//! One judge: a model behind a provider's API, with its own limits on how much it is asked.

use std::{
    fs,
    num::NonZeroU32,
    path::PathBuf,
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
use schemars::JsonSchema;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{
    JudgeError,
    answer::{AnswerForm, Verdicts},
    anthropic, openai,
    waits::Remaining,
};
use crate::outbound::{self, Answer, BadUrl};

/// What every judge is told.
pub(super) const SYSTEM: &str = include_str!("prompt.md");
/// What every judge answers with.
pub(super) static SCHEMA: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("verdict.schema.json")).unwrap_or_default());
/// Bytes of the schema, which goes with every request.
const SCHEMA_BYTES: usize = include_str!("verdict.schema.json").len();
/// Longest answer of a server that is read, in bytes: hidden reasoning may come with it.
const MAX_BODY_BYTES: usize = 4 << 20;
/// Longest wait for a limit of a provider that a call is held for.
const MAX_HOLD: Duration = Duration::from_secs(5);
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
            self.extra
        ])
    }

    /// The key; none where the server asks for none.
    fn key(&self) -> Result<Option<SecretString>, BadModel> {
        let failed = |what: String| BadModel::Key(self.name.clone(), what);
        let key = match (&self.key_file, &self.key_env) {
            (Some(path), _) => {
                let read = fs::read_to_string(path);
                read.map_err(|error| failed(format!("key_file {}: {error}", path.display())))?
            }
            (None, Some(name)) => {
                std::env::var(name).map_err(|_| failed(format!("key_env {name}: it is not set")))?
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

/// Verdicts and the text they were read from.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    /// The verdicts.
    pub verdicts: Verdicts,
    /// What the judge wrote.
    pub text: String,
}

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
    pub reply: Result<Reply, JudgeError>,
    /// What it took, where the server says so.
    pub spent: Option<Spent>,
    /// The model that answered, as the server calls it.
    pub model: String,
}

impl Answered {
    /// An answer that is none, and is paid for.
    pub(super) fn unread(error: JudgeError) -> Self {
        Self { reply: Err(error), spent: None, model: String::new() }
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
            url: outbound::below(&base, path),
            key: config.key()?,
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
            let is_read = read.as_ref().is_ok_and(|answered| answered.reply.is_ok());
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
