//! Ingest: messages that a producer hands to us directly. They are decoded before they are queued, so that the
//! producer hears at once what is wrong; what is accepted is on the queue, confirmed.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde::Serialize;
use tokio::{sync::Semaphore, time::timeout};

use super::{Panicked, decode::decode, off_runtime};
use crate::{
    domain::DeadLetter,
    metrics,
    redaction::Redactor,
    sources::{Message, Publisher, SourceError},
};

/// Requests decoded and queued at a time; more are told to come back.
const MAX_REQUESTS: usize = 16;
/// Most messages of one request.
pub const MAX_MESSAGES: usize = 1000;
/// Faults named in one answer.
const MAX_FAULTS: usize = 20;
/// How long the queue may take to confirm.
const PUBLISH_DEADLINE: Duration = Duration::from_secs(10);

/// Puts checked messages on the queue.
pub struct Ingest {
    redactor: Arc<Redactor>,
    publisher: Arc<dyn Publisher>,
    permits: Semaphore,
}

/// What is wrong with one message of a request.
#[derive(Debug, Serialize)]
pub struct Fault {
    /// Line of the request, from 1.
    pub line: usize,
    /// Class, field and remedy.
    #[serde(flatten)]
    pub letter: DeadLetter,
}

/// Why nothing of a request was queued.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// Some messages cannot be evaluated; the first are named.
    #[error("{0} messages cannot be accepted, nothing was queued")]
    Bad(usize, Vec<Fault>),
    /// The message of this line is of a tenant that was not granted.
    #[error(
        "line {0}: its tenant is not granted to you, nothing was queued; `aftercheck keys add --tenant` makes a key that may"
    )]
    NotGranted(usize),
    /// No message, or more than [`MAX_MESSAGES`].
    #[error("{0} messages in one request, send 1 to {MAX_MESSAGES}")]
    Count(usize),
    /// As many requests as allowed are in work.
    #[error("too many requests at a time, send this one again in a second")]
    Busy,
    /// The queue can never hold one of the messages: how large it may be, or which characters it must not have.
    #[error("{0}")]
    Unfit(String),
    /// The queue has not confirmed. Some messages may be on it: sending again is safe, each is evaluated once.
    #[error("the queue has not confirmed, send the request again: {0}")]
    Queue(#[from] SourceError),
    /// The queue has not answered in time. As for [`Refused::Queue`], sending again is safe.
    #[error("the queue has not confirmed in time, send the request again")]
    Late,
    /// Our code panicked on a message.
    #[error(transparent)]
    Panicked(#[from] Panicked),
}

impl Ingest {
    /// Ingest for this queue. What is personal is taken out first: the queue may be a table that people read.
    pub fn new(redactor: Arc<Redactor>, publisher: Arc<dyn Publisher>) -> Self {
        Self { redactor, publisher, permits: Semaphore::new(MAX_REQUESTS) }
    }

    /// A text that a person wrote, without what is personal in it.
    pub fn redacted(&self, text: &str) -> String {
        String::from_utf8_lossy(&self.redactor.payload(text.as_bytes())).into_owned()
    }

    /// Queues all messages, or none; returns how many. The same messages again are queued again and evaluated once. Where tenants
    /// are named, only messages of theirs.
    ///
    /// # Errors
    /// [`Refused`]; after [`Refused::Queue`] and [`Refused::Late`] the request should be sent again.
    pub async fn accept(&self, messages: Vec<Bytes>, tenants: Option<Vec<String>>) -> Result<usize, Refused> {
        let outcome = self.queue(messages, tenants).await;
        match &outcome {
            Ok(count) => metrics::ingested("queued", *count),
            Err(Refused::Bad(count, _)) => metrics::ingested("refused", *count),
            Err(Refused::Unfit(_) | Refused::NotGranted(_)) => metrics::ingested("refused", 1),
            Err(_) => metrics::ingested("error", 1),
        }
        outcome
    }

    /// Checks, redacts and publishes.
    async fn queue(&self, messages: Vec<Bytes>, tenants: Option<Vec<String>>) -> Result<usize, Refused> {
        let count = messages.len();
        if !(1..=MAX_MESSAGES).contains(&count) {
            return Err(Refused::Count(count));
        }
        let _permit = self.permits.try_acquire().map_err(|_| Refused::Busy)?;
        let redactor = Arc::clone(&self.redactor);
        let bytes = messages.iter().map(Bytes::len).sum();
        let (messages, mut faults) = off_runtime(bytes, move || check(&messages, &redactor)).await?;
        if !faults.is_empty() {
            let bad = faults.len();
            faults.truncate(MAX_FAULTS);
            return Err(Refused::Bad(bad, faults));
        }
        let granted = |message: &Message| {
            tenants
                .as_ref()
                .is_none_or(|tenants| message.tenant_id.as_ref().is_some_and(|id| tenants.contains(id)))
        };
        if let Some(index) = messages.iter().position(|message| !granted(message)) {
            return Err(Refused::NotGranted(index + 1));
        }
        match timeout(PUBLISH_DEADLINE, self.publisher.publish(messages)).await {
            Ok(Ok(())) => Ok(count),
            Ok(Err(unfit @ SourceError::Unfit { .. })) => Err(Refused::Unfit(unfit.to_string())),
            Ok(Err(error)) => Err(Refused::Queue(error)),
            Err(_) => Err(Refused::Late),
        }
    }
}

/// The messages that can be evaluated, redacted, and what is wrong with which of the others.
fn check(messages: &[Bytes], redactor: &Redactor) -> (Vec<Message>, Vec<Fault>) {
    let (mut good, mut faults) = (Vec::with_capacity(messages.len()), Vec::new());
    for (index, message) in messages.iter().enumerate() {
        match decode(message, redactor) {
            Ok(decoded) => {
                let payload = redactor.payload(message).into();
                good.push(Message { payload, tenant_id: Some(decoded.call.tenant_id) });
            }
            Err(letter) => faults.push(Fault { line: index + 1, letter: *letter }),
        }
    }
    (good, faults)
}
