//! Calls to SQS: the SDK's clients with their deadlines, and errors in words that hold nothing of a request.

use std::{error::Error, future::Future, time::Duration};

use aws_config::{
    BehaviorVersion, Region, environment::EnvironmentVariableRegionProvider,
    meta::region::RegionProviderChain,
};
use aws_sdk_sqs::{
    Client,
    config::{Builder, retry::RetryConfig, timeout::TimeoutConfig},
    error::{ProvideErrorMetadata, SdkError},
};
use tokio::time::timeout;

use super::{SourceError, SqsConfig};

/// How long one attempt may take beyond the time that SQS itself was told to wait.
const ATTEMPT_GRACE: Duration = Duration::from_secs(10);
/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Attempts of one call; a receive is tried once, because the next receive is its second attempt.
const MAX_ATTEMPTS: u32 = 3;
/// Wait before the second attempt, doubled before each further one.
const FIRST_BACKOFF: Duration = Duration::from_millis(100);
/// How long a call may take, its attempts together. The SDK's own deadlines are within it; it holds where they fail.
const CALL_DEADLINE: Duration = Duration::from_secs(25);
/// How long finding region and credentials may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(20);
/// Region of an endpoint that is told none: emulators want one in the signature and do not care which.
const ENDPOINT_REGION: &str = "us-east-1";
/// Longest part of an answer that an error repeats.
const MAX_REASON: usize = 200;

/// The SDK's clients of one configuration.
#[derive(Debug)]
pub(super) struct Clients {
    /// For everything but receiving.
    pub(super) calls: Client,
    /// For receiving: waits longer and does not try twice. Its connections are its own, so that polls that hang
    /// hold up nothing else.
    pub(super) polls: Client,
}

/// Why a call to SQS failed, in words that hold no part of the request: what a service repeats of a signature in its
/// answer can hold a session token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CallError {
    /// No answer.
    #[error("{0} has not answered in time")]
    Late(&'static str),
    /// The service refused.
    #[error("{call}: {code}: {reason}{}", remedy(code))]
    Answered {
        /// Name of the call.
        call: &'static str,
        /// The service's name of the error, without its prefix.
        code: String,
        /// What the service said.
        reason: String,
    },
    /// The request did not reach the service, or its answer not us.
    #[error("{call}: {reason}")]
    Unanswered {
        /// Name of the call.
        call: &'static str,
        /// What the client said.
        reason: String,
    },
}

impl Clients {
    /// Finds region and credentials the way every AWS client does. With an endpoint and keys in the environment,
    /// nothing but the environment is asked.
    ///
    /// # Errors
    /// [`SourceError::Settings`] when no region is known, [`SourceError::Late`] when the chain hangs.
    pub(super) async fn connect(config: &SqsConfig, wait: Duration) -> Result<Self, SourceError> {
        let region = config.region.clone().map(Region::new);
        let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12());
        if let Some(endpoint) = &config.endpoint {
            let region = RegionProviderChain::first_try(region)
                .or_else(EnvironmentVariableRegionProvider::new())
                .or_else(ENDPOINT_REGION);
            loader = loader.region(region.region().await).endpoint_url(endpoint);
        } else if region.is_some() {
            loader = loader.region(region);
        }
        let late = |_| SourceError::Late("the AWS credentials chain");
        let shared = timeout(CONNECT_DEADLINE, loader.load()).await.map_err(late)?;
        if shared.region().is_none() {
            let remedy = "sqs: no region is known; set [source.sqs] region, or AWS_REGION in the environment";
            return Err(SourceError::Settings(remedy.into()));
        }
        let build = |attempts, wait| {
            let timeouts = TimeoutConfig::builder()
                .connect_timeout(CONNECT_TIMEOUT)
                .operation_attempt_timeout(wait + ATTEMPT_GRACE)
                .build();
            let retries =
                RetryConfig::standard().with_max_attempts(attempts).with_initial_backoff(FIRST_BACKOFF);
            Client::from_conf(Builder::from(&shared).timeout_config(timeouts).retry_config(retries).build())
        };
        Ok(Self { calls: build(MAX_ATTEMPTS, Duration::ZERO), polls: build(1, wait) })
    }
}

/// One call under its deadline: `wait` is how long SQS itself was told to wait.
pub(super) async fn within<T, E>(
    call: &'static str,
    wait: Duration,
    sending: impl Future<Output = Result<T, SdkError<E>>>,
) -> Result<T, CallError>
where
    E: ProvideErrorMetadata + Error + 'static,
{
    match timeout(wait + CALL_DEADLINE, sending).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(CallError::new(call, &error)),
        Err(_) => Err(CallError::Late(call)),
    }
}

impl CallError {
    /// What an error of the client means.
    fn new<E>(call: &'static str, error: &SdkError<E>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        match error {
            SdkError::TimeoutError(_) => Self::Late(call),
            SdkError::ServiceError(_) | SdkError::ResponseError(_) => Self::Answered {
                call,
                code: plain_code(error.code().unwrap_or("no error code")).to_owned(),
                reason: first_line(error.message().unwrap_or("the answer says nothing more")),
            },
            _ => Self::Unanswered { call, reason: chain(error) },
        }
    }

    /// The service's name of the error, where it gave one.
    pub(super) fn code(&self) -> Option<&str> {
        match self {
            Self::Answered { code, .. } => Some(code),
            Self::Late(_) | Self::Unanswered { .. } => None,
        }
    }

    /// Whether the queue is not there.
    pub(super) fn is_absent(&self) -> bool {
        matches!(self.code(), Some("QueueDoesNotExist" | "NonExistentQueue"))
    }

    /// Whether the credentials do not allow this call.
    pub(super) fn is_denied(&self) -> bool {
        matches!(self.code(), Some("AccessDenied" | "AccessDeniedException"))
    }
}

impl From<CallError> for SourceError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Late(call) => Self::Late(call),
            error => Self::Broker { queue: "sqs", source: Box::new(error) },
        }
    }
}

/// What can be done about an error, where that is known.
fn remedy(code: &str) -> &'static str {
    match code {
        "AccessDenied" | "AccessDeniedException" => "; allow this call to the credentials that are used",
        "InvalidClientTokenId" | "InvalidSecurity" | "UnrecognizedClientException" => {
            "; check which AWS credentials are used"
        }
        "SignatureDoesNotMatch" => "; check the AWS secret key and the clock",
        "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" => "; the AWS credentials have expired",
        "RequestThrottled" | "ThrottlingException" | "OverLimit" => "; it is asked again",
        _ => "",
    }
}

/// The name of an error without the prefix that the older protocol gives it: `AWS.SimpleQueueService.X` is `X`.
pub(super) fn plain_code(code: &str) -> &str {
    code.rsplit(['.', '#']).next().unwrap_or(code)
}

/// The first line, cut: what follows it may repeat the request.
pub(super) fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().chars().take(MAX_REASON).collect()
}

/// An error and its causes on one line.
fn chain(error: &dyn Error) -> String {
    let mut words = first_line(&error.to_string());
    let mut cause = error.source();
    while let Some(error) = cause {
        words = format!("{words}: {}", first_line(&error.to_string()));
        cause = error.source();
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_protocols_name_the_same_error() {
        assert_eq!(plain_code("AWS.SimpleQueueService.NonExistentQueue"), "NonExistentQueue");
        assert_eq!(plain_code("com.amazonaws.sqs#QueueDoesNotExist"), "QueueDoesNotExist");
    }

    #[test]
    fn an_error_repeats_only_the_first_line_of_an_answer() {
        let said = "The signature does not match.\nThe string to sign was\nx-amz-security-token:secret";
        assert_eq!(first_line(said), "The signature does not match.");
        assert_eq!(first_line(&"x".repeat(1000)).len(), MAX_REASON);
    }
}
