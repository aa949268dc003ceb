//! The golden set as it is kept: a row a call and data set, and who changed what when.
//!
//! A change is one transaction: the row, its entry in the history, what every sink is to be told, the notices. A row is as it
//! was written for good: `prune` leaves the evaluation that it came of, and erasing the call takes the row with it.

pub(super) mod rows;

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    StoreError, json,
    reviewing::{FinalLabel, Scope},
};
use crate::domain::{Addressed, Golden, id};

/// Most rows that are read at a time.
pub const MAX_GOLDENS: u32 = 1000;

/// Kind of an entry of the history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GoldenChange {
    /// A call became a row, or became it again.
    Promoted,
    /// Somebody changed what is expected.
    Edited,
    /// The row was taken out.
    Removed,
    /// The row went with its call.
    Erased,
}

impl GoldenChange {
    /// The word used in JSON, columns and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Promoted => "promoted",
            Self::Edited => "edited",
            Self::Removed => "removed",
            Self::Erased => "erased",
        }
    }
}

/// A row that is to be written.
#[derive(Debug, Clone)]
pub struct Shelving {
    /// The row; its texts are redacted.
    pub golden: Golden,
    /// The evaluation that people labelled.
    pub evaluation_id: Uuid,
    /// Who does it.
    pub by: String,
    /// Whether it is promoted or edited.
    pub change: GoldenChange,
    /// Digest of the row that it was made of: where another has been written since, this one is not. None overwrites whatever is
    /// there.
    pub over: Option<String>,
    /// Entry of the label that it was made of: where that counts no more, it is not written.
    pub label_entry: Option<i64>,
    /// Names of the sinks that are told.
    pub sinks: Vec<String>,
    /// What people should hear of it, a notice for each route.
    pub notices: Vec<Addressed>,
}

impl Shelving {
    /// Id of the delivery of an entry to a sink.
    pub(super) fn delivery_id(&self, sink: &str, entry_id: i64) -> Uuid {
        let Golden { golden_id, occurred_at, .. } = &self.golden;
        let parts = [sink, &golden_id.to_string(), &entry_id.to_string()];
        id::derived_at(*occurred_at, "golden_delivery", &parts)
    }

    /// The row as it is kept, and its digest.
    pub(super) fn content(&self) -> Result<(String, String), StoreError> {
        let content = json("golden", &self.golden)?;
        let digest = id::sha256_hex(content.as_bytes());
        Ok((content, digest))
    }
}

/// What became of a row that was to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Shelved {
    /// It was written, and is new.
    New,
    /// It was written over another.
    Changed,
    /// It was there, word for word: nothing was written.
    Same,
    /// Nothing was written: the evaluation is not there, or its call was erased.
    Missing,
    /// Nothing was written: somebody else has changed or removed the row since, or another label counts.
    Stale,
}

/// A row as it is kept.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct GoldenRow {
    /// The row.
    #[serde(flatten)]
    pub golden: Golden,
    /// The evaluation that people labelled.
    pub evaluation_id: Uuid,
    /// SHA-256 of the row.
    pub digest: String,
    /// When it was promoted first, in Unix milliseconds.
    pub promoted_ms: i64,
    /// When it was changed last, in Unix milliseconds.
    pub changed_ms: i64,
}

/// One entry of the history. It holds no text of a call.
#[derive(Debug, Clone, PartialEq, Serialize, JsonSchema)]
pub struct GoldenEntry {
    /// Its place in the history of all.
    pub entry_id: i64,
    /// The row.
    pub golden_id: Uuid,
    /// Its data set.
    pub dataset: String,
    /// Tenant of the call.
    pub tenant_id: String,
    /// The producer's id of the call.
    pub request_id: String,
    /// What was done.
    pub change: GoldenChange,
    /// Who did it; empty of an erasure.
    pub by: String,
    /// SHA-256 of the row as it was then, or as it was last.
    pub digest: String,
    /// When, in Unix milliseconds.
    pub at_ms: i64,
}

/// Which rows are read.
#[derive(Debug, Clone, Default)]
pub struct GoldenPage {
    /// What the reader may see.
    pub scope: Scope,
    /// Of one data set when given.
    pub dataset: Option<String>,
    /// Behind this row.
    pub after: Option<Uuid>,
    /// At most so many, and at most [`MAX_GOLDENS`].
    pub limit: u32,
}

/// The golden set.
#[async_trait]
pub trait Goldens: Send + Sync {
    /// Writes a row, its entry, and what sinks and people hear of it. What sinks were to be told of the row before and nobody has
    /// begun with, they do not hear. The same row again changes nothing.
    async fn shelve(&self, shelving: &Shelving) -> Result<Shelved, StoreError>;

    /// Takes a row out. Sinks that have it keep it. False where there is none.
    async fn unshelve(&self, golden_id: Uuid, by: &str) -> Result<bool, StoreError>;

    /// One row.
    async fn golden(&self, golden_id: Uuid) -> Result<Option<GoldenRow>, StoreError>;

    /// Rows in the order of their ids.
    async fn goldens(&self, page: &GoldenPage) -> Result<Vec<GoldenRow>, StoreError>;

    /// The data sets within a scope by their names, each with its number of rows.
    async fn datasets(&self, scope: &Scope) -> Result<Vec<(String, u64)>, StoreError>;

    /// The history of one row when given, else of all, newest first, at most `limit`.
    async fn golden_history(
        &self,
        golden_id: Option<Uuid>,
        limit: u32,
    ) -> Result<Vec<GoldenEntry>, StoreError>;

    /// What counts of what people said of an evaluation.
    async fn final_label(&self, evaluation_id: Uuid) -> Result<Option<FinalLabel>, StoreError>;
}
