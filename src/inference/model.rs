//! What a classifier's folder says beside its files: the meaning of the outputs, and pairs that prove it; and the
//! sentence encoder that goes with it.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{InferenceConfig, InferenceError, ModelFiles};
use crate::domain::id::sha256_hex;

/// The verified folder of a classifier, and that of the sentence encoder beside it.
#[derive(Debug, Clone)]
pub struct ModelFolder {
    /// Its files.
    pub files: ModelFiles,
    /// What each output means.
    pub labels: Labels,
    /// Pairs that the model must get right before it is used.
    pub golden: Vec<GoldenPair>,
    /// Files of the sentence encoder, where one is configured.
    pub embedding: Option<ModelFiles>,
    /// SHA-256 over all files of both and the settings that change what they answer, part of the evaluator version.
    pub digest: String,
}

/// Position of each label in the model's output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Labels {
    /// Entailment, neutral and contradiction.
    Three {
        /// Index of entailment.
        entailment: usize,
        /// Index of neutral.
        neutral: usize,
        /// Index of contradiction.
        contradiction: usize,
    },
    /// Entailment against everything else, which is reported as neutral.
    Two {
        /// Index of entailment.
        entailment: usize,
        /// Index of not-entailment.
        other: usize,
    },
}

/// A pair with a known label.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenPair {
    /// Evidence.
    pub premise: String,
    /// Claim.
    pub hypothesis: String,
    /// `entailment`, `neutral` or `contradiction`.
    pub label: String,
}

impl ModelFolder {
    /// Reads and verifies the folders that the configuration names.
    ///
    /// # Errors
    /// [`InferenceError::Model`] when a file is missing or differs from `SHA256SUMS`, or when the labels
    /// cannot be told.
    pub fn open(config: &InferenceConfig) -> Result<Self, InferenceError> {
        let files = ModelFiles::open(&config.model, config.max_tokens)?;
        let names = match &config.labels {
            Some(names) => names.clone(),
            None => in_order(&files.config.id2label),
        };
        let labels = Labels::from_names(&names).ok_or_else(|| {
            files.fault(
                format!("labels {names:?} are not entailment, neutral, contradiction or entailment, not_entailment"),
                "set [inference] labels to the names of the model's outputs in order",
            )
        })?;
        let own = &files.config.aftercheck.golden;
        let golden = if own.is_empty() { default_golden() } else { own.clone() };
        let embedding = match config.embedding.as_os_str().is_empty() {
            true => None,
            false => Some(ModelFiles::open(&config.embedding, None)?),
        };
        let beside = embedding.as_ref().map_or("none", |files| files.digest.as_str());
        // Settings that change what the same files answer.
        let settings =
            format!("{} {} {labels:?} {} {beside}", files.digest, files.max_tokens, config.batch_tokens);
        Ok(Self { labels, golden, embedding, digest: sha256_hex(settings.as_bytes()), files })
    }
}

impl Labels {
    /// Reads the meaning of outputs from their names, in any case and order.
    pub fn from_names(names: &[String]) -> Option<Self> {
        let folded: Vec<String> =
            names.iter().map(|name| name.to_lowercase().replace([' ', '-'], "_")).collect();
        let at = |wanted: &[&str]| folded.iter().position(|name| wanted.contains(&name.as_str()));
        let entailment = at(&["entailment", "entail", "supported"])?;
        if folded.len() == 2 {
            let other =
                at(&["not_entailment", "non_entailment", "no_entailment", "unsupported", "not_supported"])?;
            return Some(Self::Two { entailment, other });
        }
        let neutral = at(&["neutral", "not_enough_info", "not_found"])?;
        let contradiction = at(&["contradiction", "contradict", "contradicted", "refuted"])?;
        (folded.len() == 3).then_some(Self::Three { entailment, neutral, contradiction })
    }

    /// How many outputs the model has.
    pub fn count(self) -> usize {
        match self {
            Self::Three { .. } => 3,
            Self::Two { .. } => 2,
        }
    }
}

/// Values of `id2label` by their number.
fn in_order(id2label: &BTreeMap<String, String>) -> Vec<String> {
    let mut numbered: Vec<(usize, String)> =
        id2label.iter().filter_map(|(number, name)| Some((number.parse().ok()?, name.clone()))).collect();
    numbered.sort();
    numbered.into_iter().map(|(_, name)| name).collect()
}

/// Pairs that every English NLI model gets right, used where the folder brings none of its own.
fn default_golden() -> Vec<GoldenPair> {
    let pair = |premise: &str, hypothesis: &str, label: &str| GoldenPair {
        premise: premise.into(),
        hypothesis: hypothesis.into(),
        label: label.into(),
    };
    vec![
        pair("A man is playing the guitar on the stage.", "A man is playing the guitar.", "entailment"),
        pair("Refunds are paid within 30 days.", "Refunds are paid within 30 days.", "entailment"),
        pair("A man is playing the guitar on the stage.", "Nobody is playing the guitar.", "contradiction"),
        pair("The shop is open on Sundays.", "The shop is closed on Sundays.", "contradiction"),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(list: &[&str]) -> Vec<String> {
        list.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn labels_are_read_in_any_order_and_case() {
        let three = Labels::from_names(&names(&["CONTRADICTION", "Neutral", "entailment"]));
        assert_eq!(three, Some(Labels::Three { entailment: 2, neutral: 1, contradiction: 0 }));
        let two = Labels::from_names(&names(&["not_entailment", "entailment"]));
        assert_eq!(two, Some(Labels::Two { entailment: 1, other: 0 }));
        assert_eq!(Labels::from_names(&names(&["LABEL_0", "LABEL_1", "LABEL_2"])), None);
        assert_eq!(Labels::from_names(&[]), None);
    }
}
