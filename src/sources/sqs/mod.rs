//! Amazon SQS, and services that speak its protocol. A delivery is leased by its visibility timeout and fenced by its
//! receipt; SQS gives messages more than once, and the store makes that harmless.
//!
//! ```text
//! lane    one queue: found, checked, created where wanted
//! poll    who is asked for how many, several polls side by side
//! settle  deletes and visibility changes, ten to a call
//! publisher
//! client  the SDK with its deadlines, errors without secrets
//! ```

mod client;
mod lane;
mod poll;
mod publisher;
mod settle;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::{
    task::JoinSet,
    time::{Instant, timeout_at},
};

use self::{
    lane::Queues,
    poll::{ANSWER_GRACE, Polls},
    publisher::SqsPublisher,
};
use super::{Delivery, Depth, Disposition, Message, Publisher, Settler, Source, SourceConfig, SourceError};

/// Most messages of one call, whichever way.
const MAX_BATCH: usize = 10;
/// Most lanes.
const MAX_LANES: u16 = 64;
/// Longest name of a queue, the endings aside that lanes and dead-letter queues get.
const MAX_NAME: usize = 75;

/// `[source.sqs]`: queues of Amazon SQS. Credentials come from the usual AWS chain (environment, profile, web identity,
/// container, instance), never from here.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SqsConfig {
    /// Name or URL of a standard queue; with several lanes, the beginning of their names.
    pub queue: String,
    /// AWS region; absent: from the environment, the profile or the instance.
    pub region: Option<String>,
    /// Address of another service that speaks the protocol; absent: that of the region.
    pub endpoint: Option<String>,
    /// Create the queue, and `<queue>-dead` for what SQS gives up, when they are absent.
    pub declare: bool,
    /// Receives after which a queue that we create gives a message up; lease times that ran out count.
    pub max_receives: u32,
    /// Queues that tenants are spread over, named `<queue>-0` and so on; 1 is the one queue `queue`.
    pub lanes: u16,
    /// Name the tenant's group with each message, for the fair queues of SQS.
    pub fair: bool,
    /// How long an empty queue is listened to in one call, in seconds; what is heard while a worker stops is given
    /// back when this is below 5.
    pub poll_secs: u64,
}

impl Default for SqsConfig {
    fn default() -> Self {
        Self {
            queue: "aftercheck".into(),
            region: None,
            endpoint: None,
            declare: false,
            max_receives: 1000,
            lanes: 1,
            fair: false,
            poll_secs: 3,
        }
    }
}

impl SqsConfig {
    /// Checks what types cannot say; `in_flight` and `max_attempts` are those of `[pipeline]`.
    ///
    /// # Errors
    /// The key and what to do.
    pub fn check(&self, in_flight: usize, max_attempts: u32) -> Result<(), &'static str> {
        let name = lane::name_of(&self.queue);
        let lanes = usize::from(self.lanes);
        let is_http = |address: &str| address.starts_with("http://") || address.starts_with("https://");
        let checks = [
            (
                !name.ends_with(".fifo"),
                "queue: a FIFO queue holds calls back and drops copies; use a standard queue",
            ),
            (
                (1..=MAX_NAME).contains(&name.len())
                    && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)),
                "queue: need a name of at most 75 letters, digits, - and _, or a URL that ends with one",
            ),
            (
                !self.queue.contains('/') || is_http(&self.queue),
                "queue: need a name, or a URL that begins with https:// or http://",
            ),
            (
                self.endpoint.as_deref().is_none_or(|endpoint| is_http(endpoint) && !endpoint.contains('@')),
                "endpoint: need http:// or https:// with host and port; user and password come from the AWS chain",
            ),
            ((1..=MAX_LANES).contains(&self.lanes), "lanes: need 1 to 64"),
            (
                lanes == 1 || in_flight >= 2 * lanes,
                "lanes: need at most half of [pipeline] in_flight, because a quiet lane is listened to with one permit",
            ),
            ((1..=20).contains(&self.poll_secs), "poll_secs: need 1 to 20"),
            ((1..=1000).contains(&self.max_receives), "max_receives: need 1 to 1000"),
            (
                !self.declare || self.max_receives > max_attempts,
                "max_receives: need more than [pipeline] max_attempts, else SQS gives a call up before it is a dead \
                 letter here",
            ),
        ];
        checks.iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, remedy)| Err(remedy))
    }

    /// The queue of each lane, by name or URL.
    fn names(&self) -> Vec<String> {
        match self.lanes {
            0 | 1 => vec![self.queue.clone()],
            lanes => (0..lanes).map(|number| format!("{}-{number}", self.queue)).collect(),
        }
    }
}

/// The publisher of these settings; connected when it is first used.
pub fn publisher(config: &SourceConfig) -> Arc<dyn Publisher> {
    // A producer gives no call up: how often a call is tried is nothing to it.
    Arc::new(SqsPublisher::new(queues(config, 0).lanes(), config.sqs.fair))
}

/// What both sides share.
fn queues(config: &SourceConfig, max_attempts: u32) -> Arc<Queues> {
    let lease = Duration::from_secs(config.lease_secs);
    Arc::new(Queues::new(config.sqs.clone(), lease, max_attempts))
}

/// The consumer's side.
pub struct SqsSource {
    polls: Polls,
    wait: Duration,
    /// When a queue last answered, or was first asked.
    heard: Instant,
}

impl SqsSource {
    /// A source of these settings, for calls that become dead letters after `max_attempts`. Starts the tasks that
    /// settle; connected when it is first used.
    pub fn new(config: &SourceConfig, max_attempts: u32) -> Self {
        let queues = queues(config, max_attempts);
        Self { wait: queues.wait(), polls: Polls::new(queues.lanes()), heard: Instant::now() }
    }

    /// Nothing was heard in time: that is all right while the queues were told to wait.
    fn silence(&self) -> Result<Vec<Delivery>, SourceError> {
        match self.heard.elapsed() > self.wait + ANSWER_GRACE {
            true => Err(SourceError::Late("ReceiveMessage")),
            false => Ok(Vec::new()),
        }
    }
}

#[async_trait]
impl Source for SqsSource {
    fn name(&self) -> &'static str {
        "sqs"
    }

    /// Polls that are not answered within `wait` go on, and the next call hears them: a long poll costs less than many
    /// short ones, and the worker looks up as often as it wants to.
    async fn receive(&mut self, max: usize, wait: Duration) -> Result<Vec<Delivery>, SourceError> {
        let until = Instant::now() + wait;
        if self.polls.is_idle() {
            self.heard = Instant::now();
        }
        loop {
            self.polls.start(max);
            let Ok(answer) = timeout_at(until, self.polls.answer()).await else { return self.silence() };
            let (mut deliveries, mut failed) = (Vec::new(), None);
            let mut next = Some(answer);
            while let Some(answer) = next {
                match answer {
                    Ok(more) => {
                        self.heard = Instant::now();
                        deliveries.extend(more);
                    }
                    Err(error) => failed = Some(error),
                }
                next = self.polls.answered();
            }
            match failed {
                Some(error) if deliveries.is_empty() => return Err(error),
                Some(error) => tracing::warn!(%error, "one of the queues does not answer, the others do"),
                None if deliveries.is_empty() && !self.polls.are_empty() => continue,
                None => {}
            }
            return Ok(deliveries);
        }
    }

    /// The numbers of SQS lag behind. Where they say that there is nothing, the queues must have said so too.
    async fn depth(&mut self) -> Result<Depth, SourceError> {
        let mut calls = JoinSet::new();
        for lane in self.polls.lanes() {
            let lane = Arc::clone(lane);
            calls.spawn(async move { lane.messages().await });
        }
        let mut messages = 0;
        while let Some(counted) = calls.join_next().await {
            messages += counted.map_err(|_| SourceError::Gone)??;
        }
        if messages == 0 && !self.polls.is_new() && !self.polls.are_empty() {
            messages = 1;
        }
        let oldest = if messages == 0 { Some(Duration::ZERO) } else { self.polls.oldest() };
        Ok(Depth { messages, oldest })
    }

    /// Waits for the polls in flight and gives back what they bring: cut off, SQS would still lease it to us.
    async fn close(&mut self) -> Result<(), SourceError> {
        let mut given_back = JoinSet::new();
        while !self.polls.is_idle() {
            for delivery in self.polls.answer().await.unwrap_or_default() {
                given_back.spawn(delivery.settle(Disposition::Retry(Duration::ZERO)));
            }
        }
        while let Some(settled) = given_back.join_next().await {
            settled.map_err(|_| SourceError::Gone)??;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(config: &SqsConfig) -> &'static str {
        config.check(32, 5).unwrap_err()
    }

    #[test]
    fn settings_that_cannot_work_are_refused_with_their_key() {
        let given = SqsConfig::default();
        assert_eq!(given.check(32, 5), Ok(()));
        let url = "https://sqs.eu-west-1.amazonaws.com/123456789012/calls".to_owned();
        assert_eq!(SqsConfig { queue: url, ..given.clone() }.check(32, 5), Ok(()));
        for queue in ["calls.fifo", "", "a b", "ftp://host/calls", &"q".repeat(76)] {
            assert!(
                refused(&SqsConfig { queue: queue.into(), ..given.clone() }).starts_with("queue:"),
                "{queue}"
            );
        }
        for endpoint in ["sqs.internal", "http://user:word@sqs.internal"] {
            let config = SqsConfig { endpoint: Some(endpoint.into()), ..given.clone() };
            assert!(refused(&config).starts_with("endpoint:"), "{endpoint}");
        }
        assert!(refused(&SqsConfig { lanes: 0, ..given.clone() }).starts_with("lanes:"));
        assert!(refused(&SqsConfig { lanes: 17, ..given.clone() }).starts_with("lanes:"));
        assert!(refused(&SqsConfig { poll_secs: 21, ..given.clone() }).starts_with("poll_secs:"));
        let few = SqsConfig { max_receives: 5, ..given };
        assert_eq!(few.check(32, 5), Ok(()), "a queue that is there is warned of when it is found");
        assert!(refused(&SqsConfig { declare: true, ..few }).starts_with("max_receives:"));
    }

    #[test]
    fn lanes_are_queues_with_a_number() {
        let config = SqsConfig { lanes: 3, ..SqsConfig::default() };
        assert_eq!(config.names(), ["aftercheck-0", "aftercheck-1", "aftercheck-2"]);
        assert_eq!(SqsConfig::default().names(), ["aftercheck"]);
    }
}
