//! Review by people: who gets which call next, and what becomes of what they say.
//!
//! The rules of one item are in [`crate::domain::review`], what is kept in [`crate::store::reviewing`]; which items there are and
//! how telling each would be the pipeline says when it decides (`pipeline/priority.rs`). A [`Desk`] is what the command line and
//! the pages have of it.

use std::{collections::BTreeMap, sync::Arc};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    domain::{
        Call, Evaluation, ReviewState, Said,
        person::{self, MAX_NAME_BYTES},
    },
    store::{
        Store, StoreError,
        reviewing::{
            Asking, Held, LabelEntry, Labelled, MAX_NOTE_BYTES, QueueState, QueuedReview, Refusal, Saying,
            Scope, TakingBack,
        },
    },
};

/// `[review]`: how people look at calls.
#[derive(Debug, Clone, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ReviewConfig {
    /// Share of the items that two people label, neither of whom sees what the other said, 0..1. Where they differ a third decides.
    pub second_share: f64,
    /// Seconds for which an item is held for who looks at it, 30 to 86400; nobody else gets it meanwhile.
    pub hold_secs: u64,
    /// Seconds after which sinks are told of a label, 0 to 86400: what is taken back before, they never hear.
    pub undo_secs: u64,
    /// How much the calls of tenants matter, 0..1, by tenant; 0.5 where none is named.
    pub tenant_weights: BTreeMap<String, f64>,
}

impl Default for ReviewConfig {
    fn default() -> Self {
        Self { second_share: 0.0, hold_secs: 600, undo_secs: 30, tenant_weights: BTreeMap::new() }
    }
}

impl ReviewConfig {
    /// Checks ranges.
    ///
    /// # Errors
    /// The key, and what it needs.
    pub fn check(&self) -> Result<(), &'static str> {
        let checks = [
            ((0.0..=1.0).contains(&self.second_share), "[review] second_share: need 0 to 1"),
            ((30..=86_400).contains(&self.hold_secs), "[review] hold_secs: need 30 to 86400"),
            (self.undo_secs <= 86_400, "[review] undo_secs: need 0 to 86400"),
            (
                self.tenant_weights.values().all(|weight| (0.0..=1.0).contains(weight)),
                "[review.tenant_weights]: need 0 to 1",
            ),
        ];
        checks.into_iter().find(|(holds, _)| !holds).map_or(Ok(()), |(_, remedy)| Err(remedy))
    }
}

/// Why something could not be done at the desk. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum DeskError {
    /// The store could not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The item is not, or no more, as the reviewer thinks.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// A text is too long or empty.
    #[error("{what}: need {need}")]
    Unfit {
        /// Which text.
        what: &'static str,
        /// What it needs.
        need: String,
    },
}

/// What a reviewer says of an item. Its texts are redacted already.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The item.
    pub review_id: Uuid,
    /// Token of the hold; without one, the item must be free or held by them.
    pub token: Option<Uuid>,
    /// What they say.
    pub said: Said,
    /// Why.
    pub note: String,
    /// What the answer should have been.
    pub expected: Option<String>,
}

/// What is looked at for an item, as far as it is kept.
#[derive(Debug, Default)]
pub struct Case {
    /// The call.
    pub call: Option<Call>,
    /// The evaluation that is reviewed.
    pub evaluation: Option<Evaluation>,
    /// The labels that differ, for who decides between them. Of an item that still wants labels none: who labels next must not
    /// know.
    pub opinions: Vec<Opinion>,
}

/// A label without whose it is.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Opinion {
    /// What was said.
    pub said: Said,
    /// Why; untrusted text, perhaps empty.
    pub note: String,
    /// What the answer should have been; untrusted text.
    pub expected: Option<String>,
}

/// A reviewer at the queue.
#[derive(Clone)]
pub struct Desk {
    /// Where items and labels are.
    pub store: Arc<dyn Store>,
    /// Times and shares.
    pub config: ReviewConfig,
    /// Names of the sinks that are told of labels.
    pub sinks: Vec<String>,
    /// Who sits there.
    pub reviewer: String,
    /// What they may see.
    pub scope: Scope,
}

impl Desk {
    /// The next item to label, or, where `disputed`, to decide between labels; none where there is none.
    ///
    /// # Errors
    /// [`DeskError::Store`], [`DeskError::Unfit`].
    pub async fn next(&self, disputed: bool) -> Result<Option<Held>, DeskError> {
        let state = if disputed { ReviewState::Disputed } else { ReviewState::Open };
        let (reviewer, scope, hold_ms) = (self.name()?.to_owned(), self.scope.clone(), self.hold_ms());
        Ok(self.store.next_review(&Asking { reviewer, scope, state, hold_ms }).await?)
    }

    /// Labels an item, or, where `adjudicates`, decides between its labels.
    ///
    /// # Errors
    /// All of [`DeskError`].
    pub async fn label(&self, answer: Answer, adjudicates: bool) -> Result<Labelled, DeskError> {
        let Answer { review_id, token, said, note, expected } = answer;
        let expected = expected.filter(|text| !text.trim().is_empty());
        for (what, text) in [("note", Some(&note)), ("expected answer", expected.as_ref())] {
            if text.is_some_and(|text| text.len() > MAX_NOTE_BYTES) {
                return Err(DeskError::Unfit { what, need: format!("at most {MAX_NOTE_BYTES} bytes") });
            }
        }
        let saying = Saying {
            saying_id: Uuid::now_v7(),
            review_id,
            reviewer: self.name()?.to_owned(),
            scope: self.scope.clone(),
            token,
            said,
            note,
            expected,
            adjudicates,
            sinks: self.sinks.clone(),
            undo_ms: i64::try_from(self.config.undo_secs).unwrap_or(0) * 1000,
        };
        Ok(self.store.say(&saying).await??)
    }

    /// Items in the order of the queue, behind one when given, at most `limit`; of one state when given, else those that are not
    /// closed.
    ///
    /// # Errors
    /// [`Refusal::Missing`] where the item before them is gone: nobody knows its place; [`DeskError::Store`].
    pub async fn list(
        &self,
        state: Option<ReviewState>,
        after: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<QueuedReview>, DeskError> {
        let after = match after {
            Some(review_id) => Some((self.find(review_id).await?.rank_ms, review_id)),
            None => None,
        };
        Ok(self.store.reviews(&self.scope, state, after, limit).await?)
    }

    /// One item, whatever its state; it is taken from nobody.
    ///
    /// # Errors
    /// [`Refusal::Missing`] where it is not there, or not for this reviewer; [`DeskError::Store`].
    pub async fn find(&self, review_id: Uuid) -> Result<QueuedReview, DeskError> {
        let found = self.store.review(review_id).await?;
        let found = found.filter(|item| self.scope.holds(&item.tenant_id, &item.feature));
        Ok(found.ok_or(Refusal::Missing)?)
    }

    /// What is looked at for an item.
    ///
    /// # Errors
    /// [`DeskError::Store`].
    pub async fn look(&self, item: &QueuedReview) -> Result<Case, DeskError> {
        let mut case = Case::default();
        let stories = self.store.stories(Some(&item.tenant_id), &item.request_id).await?;
        if let Some(story) = stories.into_iter().next() {
            let mut evaluations = story.evaluations.into_iter();
            case.evaluation = evaluations.find(|one| one.evaluation_id == item.evaluation_id);
            case.call = story.received.map(|received| received.call);
        }
        if item.state == ReviewState::Disputed {
            let entries = self.store.standing_labels(item.evaluation_id).await?;
            let opinion =
                |LabelEntry { said, note, expected, .. }: LabelEntry| Opinion { said, note, expected };
            case.opinions = entries.into_iter().map(opinion).collect();
        }
        Ok(case)
    }

    /// Lets go of an item, which this reviewer does not get again.
    ///
    /// # Errors
    /// All of [`DeskError`].
    pub async fn skip(&self, review_id: Uuid, token: Option<Uuid>) -> Result<(), DeskError> {
        Ok(self.store.skip_review(review_id, self.name()?, &self.scope, token).await??)
    }

    /// Takes back the label of this reviewer on an item, or their last one, and they hold its item again unless somebody else has
    /// taken it. Of a named item a repeat changes nothing; without a name, it takes back the label before.
    ///
    /// # Errors
    /// All of [`DeskError`]; [`Refusal::Missing`] where they have none that stands.
    pub async fn undo(&self, review_id: Option<Uuid>) -> Result<QueuedReview, DeskError> {
        let (reviewer, scope, hold_ms) = (self.name()?.to_owned(), self.scope.clone(), self.hold_ms());
        let taking = TakingBack { saying_id: Uuid::now_v7(), reviewer, review_id, scope, hold_ms };
        Ok(self.store.take_back(&taking).await??)
    }

    /// How the queue stands for this reviewer.
    ///
    /// # Errors
    /// [`DeskError::Store`].
    pub async fn state(&self) -> Result<QueueState, DeskError> {
        Ok(self.store.review_state(&self.scope).await?)
    }

    /// The reviewer's name, where it can be one.
    fn name(&self) -> Result<&str, DeskError> {
        let need = || format!("1 to {MAX_NAME_BYTES} bytes without control characters");
        person::name(&self.reviewer)
            .ok_or_else(|| DeskError::Unfit { what: "name of the reviewer (--reviewer NAME)", need: need() })
    }

    /// For how long an item is held.
    fn hold_ms(&self) -> i64 {
        i64::try_from(self.config.hold_secs).unwrap_or(600) * 1000
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_checked() {
        assert_eq!(ReviewConfig::default().check(), Ok(()));
        let wrong = |change: fn(&mut ReviewConfig)| {
            let mut config = ReviewConfig::default();
            change(&mut config);
            config.check().unwrap_err()
        };
        assert!(wrong(|config| config.second_share = 1.5).contains("second_share"));
        assert!(wrong(|config| config.second_share = f64::NAN).contains("second_share"));
        assert!(wrong(|config| config.hold_secs = 5).contains("hold_secs"));
        let heavy = |config: &mut ReviewConfig| {
            config.tenant_weights.insert("a".into(), 2.0);
        };
        assert!(wrong(heavy).contains("tenant_weights"));
    }
}
