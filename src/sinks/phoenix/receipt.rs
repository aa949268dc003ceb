//! What is noted of a delivery, so that exactly it can be deleted again. It holds no text of the call.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::{GoldenKey, Retraction};

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

    /// What was kept of a delivery; of a row of the golden set what would have been, also where nobody knows whether it arrived.
    /// None where nothing is known.
    pub(super) fn of(retraction: &Retraction) -> Option<Self> {
        let kept = retraction.receipt.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let unsaid = || {
            let GoldenKey { golden_id, dataset } = retraction.golden.clone()?;
            Some(Self::Example { dataset, id: golden_id })
        };
        kept.or_else(unsaid)
    }
}
