//! What users do with an answer after its call was evaluated: a thumb, an escalation, a grade. What came with the call itself is
//! part of the decision ([`super::decide`]); what comes later changes no verdict, but has a person look where it contradicts one.

use super::priority::Priorities;
use crate::{
    domain::{
        Reason, Verdict,
        call::{Feedback, Thumbs},
    },
    store::{
        Store, StoreError,
        reviewing::{Heard, Taken},
    },
};

/// Takes late feedback on a call, joined on its ids: the newest evaluation of it comes to review where it passed the answer and the
/// user did not, unless it is there already. None where no evaluation of the call is there.
///
/// # Errors
/// Where the store cannot do it.
pub async fn hear(
    store: &dyn Store,
    priorities: &Priorities,
    (tenant_id, request_id): (&str, &str),
    feedback: &Feedback,
) -> Result<Option<Taken>, StoreError> {
    let story = store.stories(Some(tenant_id), request_id).await?.into_iter().next();
    let Some((received, mut evaluations)) =
        story.and_then(|story| Some((story.received?, story.evaluations)))
    else {
        return Ok(None);
    };
    let Some(evaluation) = evaluations.pop() else { return Ok(None) };
    let contradicts = reason(feedback).filter(|_| evaluation.verdict == Verdict::Pass);
    let item = contradicts.map(|reason| priorities.late(&received.call, reason));
    store.hear(&Heard { evaluation, item, detail: detail(feedback) }).await
}

/// What speaks against an answer, most important first as in a decision.
fn reason(feedback: &Feedback) -> Option<Reason> {
    let down = (feedback.thumbs == Some(Thumbs::Down)).then_some(Reason::ThumbsDown);
    down.or_else(|| feedback.escalated.then_some(Reason::Escalated))
}

/// What the ledger says of it.
fn detail(feedback: &Feedback) -> String {
    let thumb = feedback.thumbs.map(|thumb| match thumb {
        Thumbs::Up => "thumb up".to_owned(),
        Thumbs::Down => "thumb down".to_owned(),
    });
    let escalated = feedback.escalated.then(|| "escalated".to_owned());
    let csat = feedback.csat.map(|csat| format!("csat {csat}"));
    let said: Vec<String> = thumb.into_iter().chain(escalated).chain(csat).collect();
    if said.is_empty() { "not escalated".to_owned() } else { said.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_told_in_a_few_words() {
        let all = Feedback { thumbs: Some(Thumbs::Down), escalated: true, csat: Some(2) };
        assert_eq!(detail(&all), "thumb down, escalated, csat 2");
        assert_eq!(detail(&Feedback::default()), "not escalated");
        assert_eq!(reason(&all), Some(Reason::ThumbsDown));
        assert_eq!(reason(&Feedback { thumbs: None, ..all }), Some(Reason::Escalated));
        assert_eq!(reason(&Feedback { thumbs: Some(Thumbs::Up), escalated: false, csat: Some(1) }), None);
    }
}
