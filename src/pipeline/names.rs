//! Names of people and places go out of a call before it is judged, where an analyzer is asked for them.

use std::sync::Arc;

use super::{Unfinished, Work, group::Pauses, off_runtime};
use crate::{
    domain::Call,
    metrics,
    redaction::{NamesError, WhenDown},
};

/// Ledger event of a call that went on with its names.
const EVENT: &str = "names_left";

impl Work {
    /// A call without names. An analyzer that is down is waited for, or the call goes on as it is, which its ledger then
    /// says: as the policy wants it.
    pub(super) async fn without_names(&self, call: Call) -> Result<Call, Unfinished> {
        let redactor = &self.pipeline.redactor;
        let Some(names) = redactor.names() else { return Ok(call) };
        let mut pauses = Pauses::new();
        let found = loop {
            let error = match redactor.find_names(&call).await {
                Ok(found) => break found,
                Err(error) => error,
            };
            if names.when_down() == WhenDown::LocalOnly {
                self.names_left(&call, &error).await;
                return Ok(call);
            }
            // One that refuses has to be mended by somebody: no call is at fault.
            let lasts = !matches!(error, NamesError::Unavailable(_));
            if self.patience.wait(&mut pauses, &error, lasts).await.is_err() {
                return Err(error.into());
            }
        };
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
