//! What is noted of a delivery, so that exactly it can be deleted again. It holds no text of the call.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "wrote", rename_all = "snake_case", deny_unknown_fields)]
pub(super) enum Receipt {
    /// All annotations of an evaluation.
    Scores {
        /// `span` or `trace`.
        at: String,
    },
    /// The annotation `review` of an evaluation.
    Review {
        /// `span` or `trace`.
        at: String,
    },
    /// An example of a dataset.
    Example {
        /// The dataset's name.
        dataset: String,
        /// The example's id.
        id: Uuid,
    },
}

impl Receipt {
    /// As it is kept.
    pub(super) fn written(&self) -> Option<String> {
        serde_json::to_string(self).ok()
    }

    /// What was kept; none where it is of no delivery of ours.
    pub(super) fn read(text: Option<&str>) -> Option<Self> {
        serde_json::from_str(text?).ok()
    }
}
