//! One queue of SQS, found, checked and where wanted created when it is first used.

use std::{collections::HashMap, sync::Arc, time::Duration};

use aws_sdk_sqs::types::QueueAttributeName::{
    self, ApproximateNumberOfMessages, ApproximateNumberOfMessagesDelayed,
    ApproximateNumberOfMessagesNotVisible, MaximumMessageSize, MessageRetentionPeriod, QueueArn,
    RedrivePolicy, VisibilityTimeout,
};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::{
    SourceError, SqsConfig,
    client::{CallError, Clients, within},
};

/// Largest message, and largest batch, in bytes.
pub(super) const MAX_BYTES: usize = 1 << 20;
/// How long a queue that we create keeps a message, in seconds: a week.
const RETENTION_SECS: u32 = 7 * 86_400;
/// How long its dead-letter queue does: SQS counts on from when a message was first sent, and two weeks is its most.
const DEAD_RETENTION_SECS: u32 = 14 * 86_400;

/// What the queues of one configuration share.
#[derive(Debug)]
pub(super) struct Queues {
    /// `[source.sqs]`.
    pub(super) config: SqsConfig,
    /// How long a delivery may be held without a sign of life.
    pub(super) lease: Duration,
    /// Attempts until a call becomes a dead letter of ours; 0 where nobody counts.
    pub(super) max_attempts: u32,
    clients: OnceCell<Clients>,
}

/// One queue.
#[derive(Debug)]
pub(super) struct Lane {
    /// Name or URL.
    pub(super) queue: String,
    /// What it shares with the others.
    pub(super) queues: Arc<Queues>,
    open: OnceCell<Open>,
}

/// What is known of a queue that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Open {
    /// Its address.
    pub(super) url: String,
    /// Largest message and largest batch in bytes.
    pub(super) max_bytes: usize,
    /// Receives after which SQS moves a message to a dead-letter queue of its own.
    pub(super) max_receives: Option<u32>,
}

impl Queues {
    /// Settings of queues that nothing is connected to yet.
    pub(super) fn new(config: SqsConfig, lease: Duration, max_attempts: u32) -> Self {
        Self { config, lease, max_attempts, clients: OnceCell::new() }
    }

    /// Its queues, lane by lane.
    pub(super) fn lanes(self: Arc<Self>) -> Vec<Arc<Lane>> {
        let names = self.config.names().into_iter();
        let lanes = names.map(|queue| Lane { queue, queues: Arc::clone(&self), open: OnceCell::new() });
        lanes.map(Arc::new).collect()
    }

    /// How long SQS may wait for a message.
    pub(super) fn wait(&self) -> Duration {
        Duration::from_secs(self.config.poll_secs)
    }

    /// The clients, made when they are first asked for.
    pub(super) async fn clients(&self) -> Result<&Clients, SourceError> {
        self.clients.get_or_try_init(|| Clients::connect(&self.config, self.wait())).await
    }
}

impl Lane {
    /// The queue, found when it is first asked for. Several may ask at once; one of them does the work.
    ///
    /// # Errors
    /// [`SourceError::Settings`] when it is not there and may not be created; other errors are worth another try.
    pub(super) async fn open(&self) -> Result<&Open, SourceError> {
        self.open.get_or_try_init(|| self.find()).await
    }

    /// Asks for the queue's URL and attributes, and makes the queue where it may.
    async fn find(&self) -> Result<Open, SourceError> {
        let clients = self.queues.clients().await?;
        let found = match self.queue.contains("://") {
            true => Some(self.queue.clone()),
            false => url_of(clients, &self.queue).await?,
        };
        if let Some(url) = found
            && let Some(open) = self.look_at(clients, url).await?
        {
            return Ok(open);
        }
        if !self.queues.config.declare {
            return Err(SourceError::Settings(format!(
                "sqs queue {} does not exist: create it, or set [source.sqs] declare = true",
                self.queue
            )));
        }
        let url = self.create(clients).await?;
        self.look_at(clients, url).await?.ok_or_else(|| {
            SourceError::Refused(format!("sqs queue {} was created and is not there yet", self.queue))
        })
    }

    /// Reads what the queue says of itself; none when it is not there.
    async fn look_at(&self, clients: &Clients, url: String) -> Result<Option<Open>, SourceError> {
        let attributes = match attributes_of(
            clients,
            &url,
            [VisibilityTimeout, RedrivePolicy, MaximumMessageSize],
        )
        .await
        {
            Ok(attributes) => attributes,
            Err(error) if error.is_absent() => return Ok(None),
            Err(error) if error.is_denied() => {
                // A worker may do without: it may receive, change and delete.
                tracing::warn!(queue = name_of(&self.queue), %error, "queue could not be checked");
                HashMap::new()
            }
            Err(error) => return Err(error.into()),
        };
        let max_bytes = attributes.get(&MaximumMessageSize).and_then(|bytes| bytes.parse().ok());
        let max_receives = attributes.get(&RedrivePolicy).and_then(|policy| max_receives(policy));
        self.warn_of_early_end(max_receives);
        tracing::info!(
            queue = name_of(&self.queue),
            visibility_secs = attributes.get(&VisibilityTimeout),
            lease_secs = self.queues.lease.as_secs(),
            max_receives,
            max_bytes,
            "queue found, each receive asks for the lease as its visibility timeout"
        );
        Ok(Some(Open { url, max_bytes: max_bytes.unwrap_or(MAX_BYTES).min(MAX_BYTES), max_receives }))
    }

    /// Says so when SQS gives a message up before we do.
    fn warn_of_early_end(&self, max_receives: Option<u32>) {
        let max_attempts = self.queues.max_attempts;
        if let Some(max_receives) = max_receives.filter(|receives| *receives <= max_attempts) {
            tracing::warn!(
                queue = name_of(&self.queue),
                max_receives,
                max_attempts,
                "SQS moves a call to its own dead-letter queue before it is a dead letter here: raise maxReceiveCount \
                 of the queue's redrive policy well above [pipeline] max_attempts"
            );
        }
    }

    /// Creates the queue and, where it is not there, its dead-letter queue; returns its URL.
    async fn create(&self, clients: &Clients) -> Result<String, SourceError> {
        let dead = format!("{}-dead", name_of(&self.queues.config.queue));
        let dead_url = match url_of(clients, &dead).await? {
            Some(url) => url,
            None => {
                create(clients, &dead, [(MessageRetentionPeriod, DEAD_RETENTION_SECS.to_string())]).await?
            }
        };
        let arn = attributes_of(clients, &dead_url, [QueueArn]).await?.remove(&QueueArn);
        let policy = json!({"deadLetterTargetArn": arn, "maxReceiveCount": self.queues.config.max_receives});
        let attributes = [
            (VisibilityTimeout, self.queues.lease.as_secs().to_string()),
            (MessageRetentionPeriod, RETENTION_SECS.to_string()),
            (RedrivePolicy, policy.to_string()),
        ];
        Ok(create(clients, name_of(&self.queue), attributes).await?)
    }

    /// Messages that wait, are delayed, or are in work.
    pub(super) async fn messages(&self) -> Result<u64, SourceError> {
        let counts = [
            ApproximateNumberOfMessages,
            ApproximateNumberOfMessagesNotVisible,
            ApproximateNumberOfMessagesDelayed,
        ];
        let url = &self.open().await?.url;
        let found = attributes_of(self.queues.clients().await?, url, counts.clone()).await?;
        // A service may say more than it was asked for.
        let counts = counts.iter().filter_map(|count| found.get(count)?.parse::<u64>().ok());
        Ok(counts.sum())
    }
}

/// The URL of a queue of this account; none when there is no such queue.
async fn url_of(clients: &Clients, name: &str) -> Result<Option<String>, CallError> {
    let call = clients.calls.get_queue_url().queue_name(name);
    match within("GetQueueUrl", Duration::ZERO, call.send()).await {
        Ok(answer) => Ok(answer.queue_url),
        Err(error) if error.is_absent() => Ok(None),
        Err(error) => Err(error),
    }
}

/// Attributes of a queue, those of these that it has.
async fn attributes_of<const N: usize>(
    clients: &Clients,
    url: &str,
    names: [QueueAttributeName; N],
) -> Result<HashMap<QueueAttributeName, String>, CallError> {
    let call = clients.calls.get_queue_attributes().queue_url(url).set_attribute_names(Some(names.into()));
    let answer = within("GetQueueAttributes", Duration::ZERO, call.send()).await?;
    Ok(answer.attributes.unwrap_or_default())
}

/// Creates a queue and returns its URL; that of the one which another worker has created meanwhile, where it has.
async fn create<const N: usize>(
    clients: &Clients,
    name: &str,
    attributes: [(QueueAttributeName, String); N],
) -> Result<String, CallError> {
    let call = clients.calls.create_queue().queue_name(name).set_attributes(Some(attributes.into()));
    let created = match within("CreateQueue", Duration::ZERO, call.send()).await {
        Ok(answer) => answer.queue_url,
        Err(error) if matches!(error.code(), Some("QueueNameExists" | "QueueAlreadyExists")) => {
            url_of(clients, name).await?
        }
        Err(error) => return Err(error),
    };
    tracing::info!(queue = name, "queue created");
    let nowhere = || CallError::Unanswered { call: "CreateQueue", reason: "the answer has no URL".into() };
    created.ok_or_else(nowhere)
}

/// The name of a queue that is given as name or URL.
pub(super) fn name_of(queue: &str) -> &str {
    queue.rsplit('/').next().unwrap_or(queue)
}

/// `maxReceiveCount` of a redrive policy, which writes it as a number or in quotes.
fn max_receives(policy: &str) -> Option<u32> {
    let policy: Value = serde_json::from_str(policy).ok()?;
    let count = &policy["maxReceiveCount"];
    let count = count.as_u64().or_else(|| count.as_str()?.parse().ok())?;
    u32::try_from(count).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_receive_limit_is_read_however_it_is_written() {
        assert_eq!(max_receives(r#"{"deadLetterTargetArn":"arn","maxReceiveCount":5}"#), Some(5));
        assert_eq!(max_receives(r#"{"deadLetterTargetArn":"arn","maxReceiveCount":"7"}"#), Some(7));
        assert_eq!(max_receives(""), None);
    }

    #[test]
    fn a_url_ends_with_the_name() {
        assert_eq!(name_of("https://sqs.eu-west-1.amazonaws.com/123456789012/calls"), "calls");
        assert_eq!(name_of("calls"), "calls");
    }
}
