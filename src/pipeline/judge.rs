//! A call that is not decided yet: judged, and made into what is written of it, or into what is kept until its judge can be asked.

use std::{borrow::Cow, sync::Arc, time::Duration};

use bytes::Bytes;
use serde::de::IgnoredAny;
use tokio::time::timeout;

use super::{Pipeline, Turn, Unfinished, Work, cascade::Wait, off_runtime, record};
use crate::{
    domain::{Call, Evaluation, id::sha256_hex},
    evaluators::judge::question::visible,
    faults::{crash_on, crash_point, slow},
    metrics,
    redaction::Redactor,
    store::{CallKey, Record, Recorded, StoreError, Until, json},
};

/// Characters that are kept of an answer that could not be used.
const FAILURE_CHARS: usize = 4_000;

/// One attempt on a payload.
pub(super) struct Attempt<'a> {
    /// What was delivered.
    pub payload: &'a Bytes,
    /// Its digest.
    pub digest: &'a str,
    /// From 1 on.
    pub number: u32,
    /// How it waits for a judge.
    pub wait: Wait,
}

/// What is kept of a call until its judge can be asked.
pub(super) struct Deferral {
    /// The call as JSON.
    call: String,
    /// Why the judge cannot be asked.
    why: &'static str,
    /// When it may be.
    pub until: Until,
}

impl Work {
    /// Judges a call, and makes what is written of it, or what is kept until it can be judged. Waiting for a judge gives up the
    /// call's turn: those that need none go on.
    pub(super) async fn judge(
        &self,
        key: &CallKey,
        call: Call,
        attempt: Attempt<'_>,
        turn: &mut Option<Turn<'_>>,
    ) -> Result<(Record, Option<Deferral>), Unfinished> {
        let Pipeline { cascade, keeper, sinks, routes, config, redactor, .. } = &self.pipeline;
        crash_on(&key.request_id);
        let call = Arc::new(call);
        // Its work has a deadline; a store that is down has none, which is not its fault.
        let judging = async {
            let weighed = cascade.weigh(&call).await?;
            if weighed.wants_judge() {
                turn.take();
            }
            Ok::<_, Unfinished>(cascade.conclude(&call, weighed, attempt.wait).await)
        };
        let limit = Duration::from_secs(config.call_deadline_secs);
        let judged = timeout(limit, judging).await.map_err(|_| Unfinished::Deadline)??;
        if judged.model_error && attempt.number < config.max_attempts {
            return Err(Unfinished::Model(attempt.number));
        }
        crash_point("K5");
        slow().await;
        let (keeper, redactor, body_digest) =
            (Arc::clone(keeper), Arc::clone(redactor), key.body_digest.clone());
        let (payload, mut evaluation, deferred) =
            (attempt.payload.clone(), judged.evaluation, judged.deferred);
        let bytes = payload.len() + judge_bytes(&evaluation);
        let keep = move || {
            redact_judge(&mut evaluation, &redactor);
            let kept = keeper.keep(&call, &mut evaluation, body_digest, &payload)?;
            let deferral = match deferred {
                Some((why, until)) => Some(Deferral { call: json("call", &*call)?, why, until }),
                None => None,
            };
            Ok::<_, StoreError>((kept, evaluation, deferral))
        };
        let (kept, evaluation, deferral) = off_runtime(bytes, keep).await??;
        let record = record::misshape(Record {
            kept,
            payload_digest: attempt.digest.to_owned(),
            source: self.source,
            notices: routes.of_verdict(&evaluation, judged.review.as_ref()),
            evaluation,
            review: judged.review,
            sinks: sinks.clone(),
        });
        Ok((record, deferral))
    }

    /// Keeps a call until its judge can be asked, and ends its payload.
    pub(super) async fn defer(&self, record: &Record, deferral: &Deferral) -> Result<(), Unfinished> {
        let Deferral { call, why, until } = deferral;
        let store = &self.pipeline.store;
        match self.patience.until_answered(|| store.defer(record, call, *until, why)).await? {
            Recorded::New | Recorded::AlreadyThere => metrics::deferred(why),
            Recorded::Conflict => metrics::duplicate("conflict"),
            Recorded::Erased => metrics::duplicate("erased"),
        }
        Ok(())
    }
}

/// Takes what is personal out of the words of judges: they may spell out what stands in a call in another form. What is left
/// has its digest beside it.
fn redact_judge(evaluation: &mut Evaluation, redactor: &Redactor) {
    let redact = |text: &mut String| {
        if !text.is_empty() {
            let shown = visible(&unescaped(text));
            *text = String::from_utf8_lossy(&redactor.payload(shown.as_bytes())).into_owned();
        }
    };
    if let Some(judge) = &mut evaluation.judge {
        let reasons = judge.claims.iter_mut().map(|claim| &mut claim.reason).chain([&mut judge.reason]);
        reasons.chain(&mut judge.model_resolved).for_each(redact);
        if let Some(exchange) = &mut judge.exchange {
            redact(&mut exchange.answered);
            judge.answered_sha256 = Some(sha256_hex(exchange.answered.as_bytes()));
        }
    }
    for failure in evaluation.failures_mut() {
        if let Some(answered) = &mut failure.answered {
            redact(answered);
            let end = answered.char_indices().nth(FAILURE_CHARS).map_or(answered.len(), |(end, _)| end);
            answered.truncate(end);
            failure.answered_sha256 = Some(sha256_hex(answered.as_bytes()));
        }
    }
}

/// Bytes of what judges wrote.
fn judge_bytes(evaluation: &Evaluation) -> usize {
    let exchange = evaluation.judge.as_ref().and_then(|judge| judge.exchange.as_ref());
    let failed = evaluation.failures().filter_map(|failure| failure.answered.as_ref());
    let failed: usize = failed.map(String::len).sum();
    failed + exchange.map_or(0, |exchange| exchange.answered.len())
}

/// A text in which JSON has written characters as their numbers, and which is no JSON, with those characters: nobody else
/// would read them before a value is looked for. What is JSON is read as that.
fn unescaped(text: &str) -> Cow<'_, str> {
    if !text.contains('\\') || serde_json::from_str::<IgnoredAny>(text).is_ok() {
        return Cow::Borrowed(text);
    }
    let (mut out, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('\\') {
        let (before, escape) = rest.split_at(at);
        out.push_str(before);
        let number = escape.get(2..6).filter(|_| escape[1..].starts_with('u'));
        let c = number.and_then(|hex| u32::from_str_radix(hex, 16).ok()).and_then(char::from_u32);
        let (c, length) = match c {
            Some(c) => (c, 6),
            None if escape[1..].starts_with('/') => ('/', 2),
            None => ('\\', 1),
        };
        out.push(c);
        rest = &escape[length..];
    }
    out.push_str(rest);
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_written_as_numbers_are_read_where_nothing_else_reads_them() {
        let told = r#"{"reason": "card 4111\u00a01111\/\u12\ud800\n"#;
        assert_eq!(unescaped(told), "{\"reason\": \"card 4111\u{a0}1111/\\u12\\ud800\\n");
        for same in [r#"{"reason": "4111\u00a0"}"#, "4111 1111", "\\", "\\u", "\\uäöü!"] {
            assert_eq!(unescaped(same), same);
        }
    }
}
