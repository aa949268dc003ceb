//! How a delivery ends: its lease is held while it is worked on, what can never be evaluated is buried, and the
//! queue is told only after the commit.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use serde_json::Value;
use tokio::time::interval;

use super::{Unfinished, Work, decode, off_runtime};
use crate::{
    domain::{DeadClass, DeadLetter},
    faults::crash_point,
    metrics,
    sources::{Delivery, Disposition, SourceError},
    store::{Burial, Buried},
};

/// What is kept of a payload that could not be redacted.
const WITHHELD: &[u8] = b"(withheld: redaction failed)";

impl Work {
    /// Commits a dead letter.
    pub(super) async fn bury(
        &self,
        delivery: &Delivery,
        digest: &str,
        letter: DeadLetter,
        attempts: u32,
    ) -> Result<(), Unfinished> {
        let class = letter.class.as_str();
        let (payload, redactor) = (delivery.payload.clone(), Arc::clone(&self.pipeline.redactor));
        // Bytes that bring out a fault in redaction are not kept at all: they have to come to their end.
        let redact = move || {
            let redacted = redactor.payload(&payload);
            let message = serde_json::from_slice::<Value>(&redacted).unwrap_or_default();
            let metadata = message.get("metadata").and_then(Value::as_object);
            (Bytes::from(redacted), metadata.and_then(|metadata| redactor.user_key(metadata)))
        };
        let redacted = off_runtime(delivery.payload.len(), redact).await;
        let (payload, user_key) = redacted.unwrap_or((Bytes::from_static(WITHHELD), None));
        let again = attempts > self.pipeline.config.max_attempts;
        let payload = self.letter_without_names(payload, &letter, again).await?;
        let payload_digest = digest.to_owned();
        let burial = Burial { payload, payload_digest, user_key, letter, attempts, source: self.source };
        match self.patience.until_answered(|| self.pipeline.store.bury(&burial)).await? {
            Buried::Written => metrics::dead_letter(class),
            Buried::Erased => metrics::duplicate("erased"),
            Buried::Uncounted => return Err(Unfinished::Uncounted),
        }
        crash_point("K11");
        Ok(())
    }

    /// Enters a failed attempt in the ledger, so that `why` can tell what a call is waiting for. The attempt is over
    /// either way: a ledger that cannot be written is logged and no more.
    pub(super) async fn note_retry(&self, delivery: &Delivery, attempt: u32, reason: &str) {
        let (tenant_id, request_id) = self.ids(delivery).await;
        let Some(request_id) = request_id else { return };
        let detail = format!("attempt {attempt} ended with: {reason}");
        if let Err(error) =
            self.pipeline.store.enter(tenant_id.as_deref(), &request_id, "retried", &detail).await
        {
            tracing::warn!(%error, "failed attempt could not be entered in the ledger");
        }
    }

    /// Tenant and request id of a payload, where it has some that can be read; none where it brings out a fault of ours.
    pub(super) async fn ids(&self, delivery: &Delivery) -> (Option<String>, Option<String>) {
        let (payload, redactor) = (delivery.payload.clone(), Arc::clone(&self.pipeline.redactor));
        off_runtime(payload.len(), move || decode::ids(&redactor.payload(&payload))).await.unwrap_or_default()
    }

    /// Settles the delivery; an error only means that it comes again and is found decided.
    pub(super) async fn settle(&self, delivery: Delivery, disposition: Disposition) {
        let name = if disposition == Disposition::Ack { "ack" } else { "retry" };
        match delivery.settle(disposition).await {
            Ok(()) => {
                self.pipeline.pulse.settle();
                metrics::settled(name, "ok");
            }
            Err(SourceError::LeaseLost) => metrics::settled(name, "lost"),
            Err(error) => {
                metrics::settled(name, "error");
                tracing::warn!(%error, disposition = name, "delivery could not be settled, it will come again");
            }
        }
    }
}

/// Works while the lease is extended at half its length; the work ends with the lease.
pub(super) async fn holding<T>(
    delivery: &Delivery,
    work: impl Future<Output = Result<T, SourceError>>,
) -> Result<T, SourceError> {
    let held = async {
        let mut ticks = interval((delivery.lease / 2).max(Duration::from_millis(100)));
        ticks.tick().await;
        loop {
            ticks.tick().await;
            match delivery.extend().await {
                Ok(()) => {}
                Err(SourceError::LeaseLost) => return SourceError::LeaseLost,
                Err(error) => tracing::warn!(%error, "lease could not be extended, trying again"),
            }
        }
    };
    tokio::select! {
        outcome = work => outcome,
        error = held => Err(error),
    }
}

/// The dead letter of a payload that was tried as often as allowed.
pub(super) fn exhausted((tenant_id, request_id): (Option<String>, Option<String>), max: u32) -> DeadLetter {
    DeadLetter {
        class: DeadClass::AttemptsExhausted,
        pointer: String::new(),
        detail: format!("{max} attempts ended without an evaluation"),
        remedy: "see `aftercheck why` or the log for what ended the attempts, then `aftercheck dead requeue`"
            .into(),
        tenant_id,
        request_id,
    }
}
