//! A delivery that is undone: its call was erased.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What a sink is told to delete. It says nothing of the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retraction {
    /// The delivery, by the id under which the sink was sent it. Perhaps it never arrived.
    pub delivery_id: Uuid,
    /// The evaluation: the ids of its scores are derived from it.
    pub evaluation_id: Uuid,
}
