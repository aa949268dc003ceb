//! Names of people and places go out of a call before it is judged, where an analyzer is asked for them.

use std::sync::Arc;

use uuid::Uuid;

use super::{Turn, Unfinished, Work, group::Pauses, off_runtime};
use crate::{
    domain::Call,
    metrics,
    redaction::{NamesError, WhenDown},
};

/// Ledger event of a call that went on with its names.
const EVENT: &str = "names_left";

impl Work {
    /// A call without names. An analyzer that is down is waited for, or the call goes on as it is, which its ledger then
    /// says: as the policy wants it. Waiting is no attempt, and gives up the call's turn.
    ///
    /// # Errors
    /// [`Unfinished::Names`] where the analyzer fails on this call and on no other, and when the process leaves.
    pub(super) async fn without_names(
        &self,
        call: Call,
        digest: &str,
        turn: &mut Option<Turn<'_>>,
    ) -> Result<Call, Unfinished> {
        let (redactor, pulse) = (&self.pipeline.redactor, &self.pipeline.pulse);
        let Some(names) = redactor.names() else { return Ok(call) };
        let (mut pauses, mut waited) = (Pauses::new(), false);
        let found = loop {
            // Each request has its deadline, and they wait for each other: a slow analyzer is no stall.
            let error = match pulse.turning(redactor.find_names(&call)).await {
                Ok(found) => break found,
                Err(error) => error,
            };
            if names.when_down() == WhenDown::LocalOnly {
                self.names_left(&call, &error).await;
                return Ok(call);
            }
            if pulse.turning(names.try_out()).await.is_ok() {
                return Err(error.into());
            }
            turn.take();
            if !std::mem::replace(&mut waited, true) {
                let forget = || self.pipeline.store.forget_attempts(digest);
                self.patience.until_answered(forget).await?;
            }
            let lasts = !matches!(error, NamesError::Unavailable(_));
            if self.patience.wait(&mut pauses, &error, lasts).await.is_err() {
                return Err(error.into());
            }
        };
        if waited {
            let (digests, counting) = ([digest.to_owned()], Uuid::now_v7());
            let count = || self.pipeline.store.count_attempts(&digests, counting);
            self.patience.until_answered(count).await?;
        }
        let (redactor, mut call) = (Arc::clone(redactor), call);
        let bytes =
            call.content.answer.len() + call.content.contexts.iter().map(|one| one.text.len()).sum::<usize>();
        let replace = move || {
            redactor.replace_names(&mut call, &found);
            call
        };
        Ok(off_runtime(bytes, replace).await?)
    }

    /// Says of a call that its names were not looked for: whoever mends the analyzer can then find it.
    async fn names_left(&self, call: &Call, error: &NamesError) {
        tracing::warn!(%error, request_id = call.request_id, "names stay in the call");
        metrics::names_left(error.reason());
        let (tenant, request) = (Some(call.tenant_id.as_str()), call.request_id.as_str());
        let entered = self.pipeline.store.enter(tenant, request, EVENT, error.reason()).await;
        if let Err(error) = entered {
            tracing::warn!(%error, "that names stay could not be entered in the ledger");
        }
    }
}
