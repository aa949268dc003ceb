//! Names of people and places go out of a call before it is judged, where an analyzer is asked for them.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::{Turn, Unfinished, Work, decode, group::Pauses, off_runtime};
use crate::{
    domain::{Call, DeadLetter},
    metrics,
    redaction::{Answers, NamesError, Questions, WhenDown},
};

/// Ledger event of a call that went on with its names.
const EVENT: &str = "names_left";

impl Work {
    /// A call without names. An analyzer that is down is waited for, or the call goes on as it is, which its ledger then
    /// says: as the policy wants it. Waiting is no attempt, and gives up the call's turn; where there are attempts to be
    /// forgotten meanwhile, `digest` is what they are counted under.
    ///
    /// # Errors
    /// [`Unfinished::Names`] where the analyzer fails on this call and on no other, and when the process leaves.
    pub(super) async fn without_names(
        &self,
        call: Call,
        bytes: usize,
        digest: Option<&str>,
        turn: &mut Option<Turn<'_>>,
    ) -> Result<Call, Unfinished> {
        let redactor = Arc::clone(&self.pipeline.redactor);
        if redactor.names().is_none() {
            return Ok(call);
        }
        let asking = Arc::clone(&redactor);
        let ask = move || (asking.name_questions(&call), call);
        let (questions, mut call) = off_runtime(bytes, ask).await?;
        let Some(answers) = self.asked(&call, &questions, digest, turn).await? else { return Ok(call) };
        let replace = move || redactor.replace_names(&mut call, questions, answers).map(|()| call);
        Ok(off_runtime(bytes, replace).await??)
    }

    /// What the analyzer answers about a call; none where its names stay.
    async fn asked(
        &self,
        call: &Call,
        questions: &Questions,
        digest: Option<&str>,
        turn: &mut Option<Turn<'_>>,
    ) -> Result<Option<Answers>, Unfinished> {
        let (redactor, pulse, store) = (&self.pipeline.redactor, &self.pipeline.pulse, &self.pipeline.store);
        let Some(names) = redactor.names() else { return Ok(None) };
        let (mut pauses, mut waited) = (Pauses::new(), false);
        let answers = loop {
            // Each request has its deadline, and they wait for each other: a slow analyzer is no stall.
            let error = match pulse.turning(redactor.ask_names(questions)).await {
                Ok(answers) => break answers,
                Err(error) => error,
            };
            if names.when_down() == WhenDown::LocalOnly {
                self.names_left(Some(&call.tenant_id), Some(&call.request_id), error.reason()).await;
                return Ok(None);
            }
            if pulse.turning(names.try_out()).await.is_ok() {
                return Err(error.into());
            }
            turn.take();
            if let Some(digest) = digest.filter(|_| !std::mem::replace(&mut waited, true)) {
                self.patience.until_answered(|| store.forget_attempts(digest)).await?;
            }
            let lasts = !matches!(error, NamesError::Unavailable(_));
            if self.patience.wait(&mut pauses, &error, lasts).await.is_err() {
                return Err(error.into());
            }
        };
        if let Some(digest) = digest.filter(|_| waited) {
            let (digests, counting) = ([digest.to_owned()], Uuid::now_v7());
            self.patience.until_answered(|| store.count_attempts(&digests, counting)).await?;
        }
        Ok(Some(answers))
    }

    /// What is kept of a payload that becomes this dead letter: without names, where it can be read as a call. One that cannot
    /// keeps them, and so does one that the analyzer fails on: what is buried has to come to its end. `again`: a burial of it
    /// was begun before and did not.
    ///
    /// # Errors
    /// [`Unfinished`] when the process leaves while the analyzer is down.
    pub(super) async fn letter_without_names(
        &self,
        payload: Bytes,
        letter: &DeadLetter,
        again: bool,
    ) -> Result<Bytes, Unfinished> {
        if self.pipeline.redactor.names().is_none() {
            return Ok(payload);
        }
        let (tenant, request) = (letter.tenant_id.as_deref(), letter.request_id.as_deref());
        let (redactor, read) = (Arc::clone(&self.pipeline.redactor), payload.clone());
        let decoded = off_runtime(payload.len(), move || decode::decode(&read, &redactor)).await;
        let Ok(Ok(decoded)) = decoded.map(|decoded| decoded.map_err(drop)) else {
            self.names_left(tenant, request, "not_a_call").await;
            return Ok(payload);
        };
        if again {
            // Perhaps it was the search that ended the process.
            self.names_left(tenant, request, "not_searched").await;
            return Ok(payload);
        }
        match self.without_names(decoded.call.clone(), payload.len(), None, &mut None).await {
            Ok(call) if call == decoded.call => Ok(payload),
            Ok(mut call) => {
                // Whose it is stays, as in the column by which it is found.
                self.pipeline.redactor.restore_user(&decoded.call.metadata, &mut call.metadata);
                Ok(serde_json::to_vec(&call).map_or(payload, Bytes::from))
            }
            Err(error) if self.patience.leaving.is_cancelled() => Err(error),
            Err(error) => {
                self.names_left(tenant, request, error.reason()).await;
                Ok(payload)
            }
        }
    }

    /// Says that names were not looked for: whoever mends the analyzer can then find what they stayed in.
    async fn names_left(&self, tenant_id: Option<&str>, request_id: Option<&str>, reason: &'static str) {
        tracing::warn!(reason, request_id, "names stay");
        metrics::names_left(reason);
        let Some(request_id) = request_id else { return };
        if let Err(error) = self.pipeline.store.enter(tenant_id, request_id, EVENT, reason).await {
            tracing::warn!(%error, "that names stay could not be entered in the ledger");
        }
    }
}
