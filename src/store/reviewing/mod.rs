//! The queue of what a person should look at, and what people said.
//!
//! An item is held by one reviewer at a time, until it is labelled, skipped, or the hold lapses; who holds it has a token, and a
//! label under a token of before is refused. Every label is an entry that stays; taking one back is another. What counts of an
//! evaluation goes to the outbox of every sink in the transaction that decides it.

mod queue;
pub(super) mod rows;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{ReviewItem, StoreError};
use crate::domain::{DecidedBy, Evaluation, Reason, ReviewState, Said, Verdict};

pub(super) use queue::{Changed, listed, merged, withdrawn};
pub use queue::{Dialect, first_free, page, standing};

/// Longest note and longest expected answer, in bytes.
pub const MAX_NOTE_BYTES: usize = 20_000;

/// What a reviewer may see and wants to: of tenants and features, all unless some are named.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Scope {
    /// Tenants that were granted; an empty list grants none.
    pub tenants: Option<Vec<String>>,
    /// Features that are assigned.
    pub features: Option<Vec<String>>,
}

impl Scope {
    /// Whether items of a tenant and a feature are in it.
    pub fn holds(&self, tenant_id: &str, feature: &str) -> bool {
        let named = |names: &Option<Vec<String>>, name| {
            names.as_ref().is_none_or(|names| names.iter().any(|one| one == name))
        };
        named(&self.tenants, tenant_id) && named(&self.features, feature)
    }
}

/// Who asks for the next item.
#[derive(Debug, Clone)]
pub struct Asking {
    /// Who it is for: they are given nothing that they have labelled or skipped, and first what they hold already.
    pub reviewer: String,
    /// What they may see.
    pub scope: Scope,
    /// `open` for a label, `disputed` for a decision between labels.
    pub state: ReviewState,
    /// For how long they hold it, in milliseconds.
    pub hold_ms: i64,
}

/// An item that is held.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct Held {
    /// The item.
    #[serde(flatten)]
    pub item: QueuedReview,
    /// Proves that it is still held.
    pub token: Uuid,
    /// Until when, in Unix milliseconds.
    pub until_ms: i64,
}

/// One item of the queue.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct QueuedReview {
    /// The item.
    pub review_id: Uuid,
    /// What is looked at.
    pub evaluation_id: Uuid,
    /// Tenant of the call.
    pub tenant_id: String,
    /// The producer's id of the call.
    pub request_id: String,
    /// Feature of the call.
    pub feature: String,
    /// Why a person should look.
    pub reason: Reason,
    /// Probability with which such a call comes here.
    pub probability: f64,
    /// When it came, in Unix milliseconds.
    pub created_ms: i64,
    /// Its place: the lowest is next.
    pub rank_ms: i64,
    /// Labels that it wants.
    pub wanted: u32,
    /// Labels that stand.
    pub labels: u32,
    /// Where it stands.
    pub state: ReviewState,
    /// Who holds it, where somebody does.
    pub held_by: Option<String>,
}

/// What a person says of an item.
#[derive(Debug, Clone)]
pub struct Saying {
    /// Made for this saying: the same again, because an answer was lost, changes nothing.
    pub saying_id: Uuid,
    /// The item.
    pub review_id: Uuid,
    /// Who says it.
    pub reviewer: String,
    /// What they may see.
    pub scope: Scope,
    /// Token of their hold; without one, the item must be free or held by them.
    pub token: Option<Uuid>,
    /// What they say.
    pub said: Said,
    /// Why, redacted, at most [`MAX_NOTE_BYTES`].
    pub note: String,
    /// What the answer should have been, redacted, at most [`MAX_NOTE_BYTES`].
    pub expected: Option<String>,
    /// Whether it decides between labels that differ.
    pub adjudicates: bool,
    /// Names of the sinks that are told.
    pub sinks: Vec<String>,
    /// For how long they are not told yet, in milliseconds: what is taken back meanwhile they never hear.
    pub undo_ms: i64,
}

/// What a person takes back: their label of an item, or their last one.
#[derive(Debug, Clone)]
pub struct TakingBack {
    /// Made for this: the same again changes nothing.
    pub saying_id: Uuid,
    /// Whose label.
    pub reviewer: String,
    /// The item; none takes the one that they labelled last.
    pub review_id: Option<Uuid>,
    /// What they may see.
    pub scope: Scope,
    /// For how long they hold the item again, in milliseconds.
    pub hold_ms: i64,
}

/// Why a reviewer cannot do something with an item. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// It is not there, or not for this reviewer.
    #[error("there is no such item for you")]
    Missing,
    /// It is decided.
    #[error("it is decided already")]
    Closed,
    /// Somebody else holds it.
    #[error("somebody else is looking at it")]
    Held,
    /// The hold that the token is of is over, and somebody has had it since.
    #[error("your time with it was over and somebody else has taken it: ask for the next one")]
    Lapsed,
    /// This reviewer has labelled it.
    #[error("you have labelled it already: undo that first")]
    AlreadySaid,
    /// Its labels differ: it wants a decision, not another label.
    #[error("its labels differ: it waits for somebody who decides between them")]
    Disputed,
    /// Its labels do not differ.
    #[error("its labels do not differ: there is nothing to decide")]
    NotDisputed,
    /// Somebody has decided since.
    #[error("somebody has decided it since: it cannot be taken back")]
    TooLate,
    /// A row of the golden set was made of it since.
    #[error("a row of the golden set stands on it: it can be taken back once the row is taken out")]
    Golden,
}

/// What became of a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Labelled {
    /// Where the item stands now.
    pub state: ReviewState,
    /// What counts, where it is decided.
    pub decided: Option<Said>,
}

/// Kind of an entry of the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LabelKind {
    /// A label.
    Label,
    /// A decision between labels.
    Adjudication,
    /// A label that was taken back.
    Undo,
}

impl LabelKind {
    /// The word used in JSON, columns and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Label => "label",
            Self::Adjudication => "adjudication",
            Self::Undo => "undo",
        }
    }
}

/// One entry of the history of labels.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct LabelEntry {
    /// Its place in the history of all.
    pub entry_id: i64,
    /// Made for the saying.
    pub saying_id: Uuid,
    /// What was judged.
    pub evaluation_id: Uuid,
    /// Who said it.
    pub reviewer: String,
    /// Whether it was said or taken back.
    pub kind: LabelKind,
    /// What was said, or taken back.
    pub said: Said,
    /// Why; untrusted text, perhaps empty.
    #[serde(skip_serializing_if = "String::is_empty")]
    #[schemars(default)]
    pub note: String,
    /// What the answer should have been; untrusted text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected: Option<String>,
    /// When, in Unix milliseconds.
    pub at_ms: i64,
}

/// What counts of an evaluation, with what it is about.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FinalLabel {
    /// The entry that counts.
    pub entry: LabelEntry,
    /// When it came to count, in Unix milliseconds.
    pub decided_ms: i64,
    /// Tenant of the call.
    pub tenant_id: String,
    /// The producer's id of the call.
    pub request_id: String,
    /// Feature of the call.
    pub feature: String,
    /// Version that evaluated it.
    pub evaluator_version: String,
    /// What that version said.
    pub verdict: Verdict,
    /// Who decided that.
    pub decided_by: DecidedBy,
    /// Why.
    pub reasons: Vec<Reason>,
}

/// A confident verdict that was drawn for a person to look at.
#[derive(Debug, Clone, PartialEq)]
pub struct Audited {
    /// What was decided without a person.
    pub verdict: Verdict,
    /// Feature of the call.
    pub feature: String,
    /// Probability with which the call came into the sample.
    pub sampled: f64,
    /// Probability with which it was drawn from that for the slice.
    pub drawn: f64,
    /// What counts of what people said; none where nobody has decided yet.
    pub said: Option<Said>,
}

/// What a user did with an answer after its call was evaluated, or somebody here wants of it.
#[derive(Debug, Clone)]
pub struct Heard {
    /// The evaluation that stands: the newest of the call.
    pub evaluation: Evaluation,
    /// The item of its review, where a person should look now.
    pub item: Option<ReviewItem>,
    /// Event of the ledger: `feedback` of a user, `asked` of somebody here.
    pub event: &'static str,
    /// What the ledger says of it.
    pub detail: String,
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Taken {
    /// Whether it was not known yet.
    pub is_new: bool,
    /// Whether the call comes to review because of it; false where it was there already.
    pub to_review: bool,
}

/// How the queue stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct QueueState {
    /// Items that want a label.
    pub open: u64,
    /// Items that want a decision between labels.
    pub disputed: u64,
    /// When the oldest of both came, in Unix milliseconds.
    pub oldest_ms: Option<i64>,
}

/// The queue of reviews and what people said.
#[async_trait]
pub trait Reviews: Send + Sync {
    /// The next item for a reviewer, held for them; none where there is none. Two that ask at once get different ones; who asks
    /// again before they have answered gets the same.
    async fn next_review(&self, asking: &Asking) -> Result<Option<Held>, StoreError>;

    /// Items in the order of the queue, behind the place `after`, at most `limit`; of one state when given, else those that are
    /// not closed. A place is a rank and the id of the item there.
    async fn reviews(
        &self,
        scope: &Scope,
        state: Option<ReviewState>,
        after: Option<(i64, Uuid)>,
        limit: u32,
    ) -> Result<Vec<QueuedReview>, StoreError>;

    /// One item, whatever its state.
    async fn review(&self, review_id: Uuid) -> Result<Option<QueuedReview>, StoreError>;

    /// How the queue stands within a scope.
    async fn review_state(&self, scope: &Scope) -> Result<QueueState, StoreError>;

    /// Lets go of an item, which this reviewer does not get again unless they label it. A repeat lets go of it once more, where
    /// they hold it.
    async fn skip_review(
        &self,
        review_id: Uuid,
        reviewer: &str,
        scope: &Scope,
        token: Option<Uuid>,
    ) -> Result<Result<(), Refusal>, StoreError>;

    /// Takes a label. Where that decides the evaluation, the sinks are told in the same transaction.
    async fn say(&self, saying: &Saying) -> Result<Result<Labelled, Refusal>, StoreError>;

    /// Takes back the label of a reviewer on an item, or the last of theirs that stands, and has them hold its item again unless
    /// somebody else does by then. What the sinks were told is overwritten with `unsure`. [`Refusal::Missing`] where they have
    /// none; of an item whose label they have taken back already, nothing is changed.
    async fn take_back(&self, taking: &TakingBack) -> Result<Result<QueuedReview, Refusal>, StoreError>;

    /// Everything that was said of an evaluation, oldest first.
    async fn labels(&self, evaluation_id: Uuid) -> Result<Vec<LabelEntry>, StoreError>;

    /// The labels of an evaluation that stand, oldest first.
    async fn standing_labels(&self, evaluation_id: Uuid) -> Result<Vec<LabelEntry>, StoreError>;

    /// What counts, by when it came to count and evaluation, behind `after`, at most `limit`.
    async fn final_labels(
        &self,
        after: Option<(i64, Uuid)>,
        limit: u32,
    ) -> Result<Vec<FinalLabel>, StoreError>;

    /// Takes what a user did later: an entry in the ledger, and the item, unless the evaluation has one. A repeat changes nothing.
    /// None where the evaluation is gone.
    async fn hear(&self, heard: &Heard) -> Result<Option<Taken>, StoreError>;

    /// The audit slice of what came into it within a scope since a Unix time in milliseconds. Nothing of times of which some was
    /// pruned: what is left of them was kept for what people said of it.
    async fn audited(&self, scope: &Scope, since_ms: i64) -> Result<Vec<Audited>, StoreError>;
}
