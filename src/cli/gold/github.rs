//! Pull requests over GitHub's REST API (<https://docs.github.com/en/rest/pulls/pulls>).

use std::time::Duration;

use jiff::Timestamp;
use reqwest::{
    Client, RequestBuilder, StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderName, HeaderValue},
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    outbound::{self, Answer, Unanswered},
    sinks::{said, wire},
};

/// Where the API of github.com is.
pub(super) const API_URL: &str = "https://api.github.com";
/// The version of the API that this is written for.
const VERSION: (HeaderName, HeaderValue) =
    (HeaderName::from_static("x-github-api-version"), HeaderValue::from_static("2022-11-28"));
/// Longest that an answer may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// Most of an answer that is read: a pull request has some 30 kB.
const MAX_BYTES: usize = 1 << 20;
/// Longest names that GitHub has.
const MAX_OWNER: usize = 100;
const MAX_REPO: usize = 100;

/// Why GitHub did not do it. No variant holds the token.
#[derive(Debug, thiserror::Error)]
pub enum GitHubError {
    /// There is no answer.
    #[error("GitHub does not answer: {0}; the same command goes on where this one ended")]
    Unanswered(#[from] Unanswered),
    /// Too many requests.
    #[error("GitHub takes no more requests of this token{}", wait(.0.as_ref()))]
    Busy(Option<Duration>),
    /// It has trouble of its own.
    #[error("GitHub answered {0}; the same command goes on where this one ended")]
    Down(StatusCode),
    /// The token is wrong.
    #[error("GitHub does not know this token (401): is it whole, and has it not expired?")]
    Token,
    /// The token may not.
    #[error("the token may not open pull requests in {0} (403){said}: it needs pull requests: write", said = tail(.1))]
    Forbidden(String, Option<String>),
    /// The repository is not there, or not for this token.
    #[error("there is no repository {0}, or the token cannot see it (404)")]
    Hidden(String),
    /// The request is refused.
    #[error("GitHub refused the pull request ({0}){said}", said = tail(.1))]
    Refused(StatusCode, Option<String>),
    /// The answer is none of this API.
    #[error("what answered is not GitHub's API: look at --api-url")]
    Strange,
    /// It could not be asked.
    #[error("{0}")]
    Unfit(String),
}

impl GitHubError {
    /// Whether it may go well later.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::Unanswered(_) | Self::Busy(_) | Self::Down(_))
    }
}

/// How long to wait, in words.
fn wait(after: Option<&Duration>) -> String {
    after
        .map_or(": try again in some minutes".into(), |after| format!(": try again in {} s", after.as_secs()))
}

/// What it said, behind a colon.
fn tail(said: &Option<String>) -> String {
    said.as_ref().map_or(String::new(), |said| format!(": {said}"))
}

/// A repository by its owner and name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Repository {
    /// Who has it.
    pub owner: String,
    /// Its name.
    pub name: String,
}

impl std::fmt::Display for Repository {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}/{}", self.owner, self.name)
    }
}

impl std::str::FromStr for Repository {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no repository: write OWNER/NAME");
        let (owner, name) = text.split_once('/').ok_or_else(wrong)?;
        let is_plain = |word: &str, most: usize| {
            let fits = (1..=most).contains(&word.len()) && !matches!(word, "." | "..");
            fits && word.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        };
        match is_plain(owner, MAX_OWNER) && is_plain(name, MAX_REPO) {
            true => Ok(Self { owner: owner.to_owned(), name: name.to_owned() }),
            false => Err(wrong()),
        }
    }
}

/// The host and the repository of a remote's URL, in git's three ways of writing it; none for a folder.
pub(super) fn of_remote(url: &str) -> Option<(String, Repository)> {
    let (host, path) = match url.split_once("://") {
        Some((scheme, _)) if !matches!(scheme, "https" | "http" | "ssh" | "git") => return None,
        Some(_) => {
            let url: Url = url.parse().ok()?;
            (url.host_str()?.to_owned(), url.path().to_owned())
        }
        // host:path, as scp writes it.
        None => {
            let (host, path) = url.split_once(':').filter(|(host, _)| !host.contains('/'))?;
            (host.rsplit('@').next()?.to_owned(), path.to_owned())
        }
    };
    let path = path.trim_matches('/');
    let repository = path.strip_suffix(".git").unwrap_or(path).parse().ok()?;
    Some((host.to_ascii_lowercase(), repository))
}

/// A pull request that is asked for.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    /// The branch with its owner: `owner:branch`.
    pub head: String,
    /// The branch that it is for.
    pub base: &'a str,
    /// What it is called.
    pub title: &'a str,
    /// What it says.
    pub body: &'a str,
}

/// What we read of a pull request.
#[derive(Debug, Deserialize)]
pub(super) struct PullRequest {
    /// Its page.
    pub html_url: String,
    /// Its number.
    pub number: u64,
}

/// A repository's pull requests.
pub(super) struct GitHub {
    client: Client,
    pulls: Url,
    repository: Repository,
    authorization: (HeaderName, HeaderValue),
    token: SecretString,
}

impl GitHub {
    /// The pull requests of a repository, in the name of a token's owner.
    pub fn new(api: &Url, repository: Repository, token: SecretString) -> Result<Self, GitHubError> {
        let client = outbound::client(api, 1).map_err(|error| GitHubError::Unfit(error.to_string()))?;
        let parts = ["repos", &repository.owner, &repository.name, "pulls"];
        let pulls = outbound::below_segments(api, parts);
        let authorization =
            wire::secret_header(AUTHORIZATION, "Bearer ", &token).map_err(GitHubError::Unfit)?;
        Ok(Self { client, pulls, repository, authorization, token })
    }

    /// The open pull request of a branch for another.
    pub async fn open_one(&self, head: &str, base: &str) -> Result<Option<PullRequest>, GitHubError> {
        let mut url = self.pulls.clone();
        let wish = [("head", head), ("base", base), ("state", "open"), ("per_page", "1")];
        url.query_pairs_mut().extend_pairs(wish);
        let answer = self.ask(self.client.get(url)).await?;
        if answer.status != StatusCode::OK {
            return Err(self.fault(&answer));
        }
        let found: Vec<PullRequest> =
            serde_json::from_slice(&answer.body).map_err(|_| GitHubError::Strange)?;
        Ok(found.into_iter().next())
    }

    /// Opens a pull request. Where one is open already, it is that one: two that run at once open one.
    pub async fn propose(&self, wanted: &Wanted<'_>) -> Result<(PullRequest, bool), GitHubError> {
        let Wanted { head, base, title, body } = wanted;
        let sent = json!({"title": title, "head": head, "base": base, "body": body});
        let answer = self.ask(self.client.post(self.pulls.clone()).json(&sent)).await?;
        if answer.status == StatusCode::CREATED {
            let made = serde_json::from_slice(&answer.body).map_err(|_| GitHubError::Strange)?;
            return Ok((made, true));
        }
        if answer.status == StatusCode::UNPROCESSABLE_ENTITY
            && let Some(open) = self.open_one(head, base).await?
        {
            return Ok((open, false));
        }
        Err(self.fault(&answer))
    }

    /// Sends a request with what GitHub wants of each.
    async fn ask(&self, request: RequestBuilder) -> Result<Answer, GitHubError> {
        let (name, value) = self.authorization.clone();
        let request = request.header(ACCEPT, "application/vnd.github+json").header(name, value);
        let request = request.header(VERSION.0, VERSION.1);
        Ok(outbound::exchange(request, DEADLINE, MAX_BYTES).await?)
    }

    /// What an answer that is no success means.
    fn fault(&self, answer: &Answer) -> GitHubError {
        let repository = || self.repository.to_string();
        match answer.status.as_u16() {
            401 => GitHubError::Token,
            403 | 429 if is_limit(answer) => GitHubError::Busy(until(&answer.headers, Timestamp::now())),
            403 => GitHubError::Forbidden(repository(), self.said(&answer.body)),
            404 => GitHubError::Hidden(repository()),
            500.. => GitHubError::Down(answer.status),
            _ => GitHubError::Refused(answer.status, self.said(&answer.body)),
        }
    }

    /// What GitHub says of a fault: the messages of its `errors`, else its `message`.
    fn said(&self, body: &[u8]) -> Option<String> {
        let secrets = [self.token.expose_secret()];
        let told: Value = serde_json::from_slice(body).ok()?;
        let errors = told["errors"].as_array().into_iter().flatten();
        let words: Vec<&str> = errors.filter_map(|error| error["message"].as_str()).collect();
        match words.is_empty() {
            true => said::message(body, &secrets, &[]),
            false => said::line(&words.join("; "), &secrets, &[]),
        }
    }
}

/// Whether an answer says that there were too many requests; 403 says that, too, when a limit is used up.
fn is_limit(answer: &Answer) -> bool {
    answer.status == StatusCode::TOO_MANY_REQUESTS
        || answer.headers.contains_key("retry-after")
        || answer.headers.get("x-ratelimit-remaining").is_some_and(|left| left.as_bytes() == b"0")
}

/// How long a limit lasts: as `retry-after` says, else until `x-ratelimit-reset`, in seconds since 1970.
fn until(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    outbound::retry_after(headers, now).or_else(|| {
        let reset = headers.get("x-ratelimit-reset")?.to_str().ok()?.trim().parse().ok()?;
        let left = Timestamp::from_second(reset).ok()?.duration_since(now).as_secs();
        Some(Duration::from_secs(u64::try_from(left).unwrap_or(0)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repository_is_read_from_every_way_of_writing_a_remote() {
        for url in [
            "https://github.com/acme/prompts.git",
            "https://x-access-token:secret@github.com/acme/prompts",
            "git@github.com:acme/prompts.git",
            "ssh://git@GitHub.com:22/acme/prompts.git/",
            "github.com:acme/prompts",
        ] {
            let (host, repository) = of_remote(url).unwrap();
            assert_eq!(
                (host.as_str(), repository.to_string().as_str()),
                ("github.com", "acme/prompts"),
                "{url}"
            );
        }
        for none in ["/srv/acme/prompts.git", "../prompts", "file:///srv/a/b", "https://github.com/acme", "x"]
        {
            assert_eq!(of_remote(none), None, "{none}");
        }
        for wrong in ["acme", "acme/", "/x", "a/b/c", "a/..", "a b/c", "a/b?x=1"] {
            assert!(wrong.parse::<Repository>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_limit_says_when_it_ends() {
        let now = Timestamp::from_second(1_000).unwrap();
        let headers = |name: &'static str, value: &str| {
            HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())])
        };
        assert_eq!(until(&headers("retry-after", "60"), now), Some(Duration::from_secs(60)));
        assert_eq!(until(&headers("x-ratelimit-reset", "1090"), now), Some(Duration::from_secs(90)));
        assert_eq!(until(&headers("x-ratelimit-reset", "10"), now), Some(Duration::ZERO));
        assert_eq!(until(&headers("x-ratelimit-reset", "soon"), now), None);
    }
}
