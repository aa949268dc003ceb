//! The files of a model folder: pinned by SHA-256, read for labels and limits.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use whatlang::Lang;

use super::{InferenceConfig, InferenceError, languages::languages};
use crate::domain::id::sha256_hex;

/// Largest file of a model folder that is read, in bytes (2 GiB, ONNX's own limit for one file).
const MAX_FILE_BYTES: u64 = 2 << 30;

/// A verified model folder.
#[derive(Debug, Clone)]
pub struct ModelFolder {
    /// Where it lies.
    pub path: PathBuf,
    /// What each output means.
    pub labels: Labels,
    /// Most tokens of one input.
    pub max_tokens: usize,
    /// Id of the padding token.
    pub pad_id: i64,
    /// Pairs that the model must get right before it is used.
    pub golden: Vec<GoldenPair>,
    /// Languages that it judges; empty where `config.json` lists none, and any is taken.
    pub languages: Vec<Lang>,
    /// SHA-256 over all files and the settings that change what they answer, part of the evaluator version.
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

/// The part of `config.json` that is read.
#[derive(Debug, Deserialize)]
struct HuggingFaceConfig {
    #[serde(default)]
    id2label: BTreeMap<String, String>,
    #[serde(default)]
    model_type: String,
    max_position_embeddings: Option<i64>,
    #[serde(default)]
    pad_token_id: i64,
    #[serde(default)]
    aftercheck: OwnConfig,
}

/// Our own key within `config.json`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct OwnConfig {
    golden: Vec<GoldenPair>,
    languages: Vec<String>,
}

impl ModelFolder {
    /// Reads and verifies the folder that the configuration names.
    ///
    /// # Errors
    /// [`InferenceError::Model`] when a file is missing or differs from `SHA256SUMS`, or when the labels
    /// cannot be told.
    pub fn open(config: &InferenceConfig) -> Result<Self, InferenceError> {
        let path = config.model.clone();
        let sums = verify_sums(&path)?;
        let text = read(&path, "config.json")?;
        let parsed: HuggingFaceConfig = serde_json::from_slice(&text).map_err(|error| {
            fault(&path, format!("config.json: {error}"), "use the config.json exported with the model")
        })?;
        let names = match &config.labels {
            Some(names) => names.clone(),
            None => in_order(&parsed.id2label),
        };
        let labels = Labels::from_names(&names).ok_or_else(|| {
            fault(
                &path,
                format!("labels {names:?} are not entailment, neutral, contradiction or entailment, not_entailment"),
                "set [inference] labels to the names of the model's outputs in order",
            )
        })?;
        let max_tokens = config.max_tokens.unwrap_or_else(|| parsed.max_tokens());
        if !(8..=8192).contains(&max_tokens) {
            return Err(fault(
                &path,
                format!("{max_tokens} tokens of input"),
                "set [inference] max_tokens between 8 and 8192",
            ));
        }
        let languages = languages(&parsed.aftercheck.languages).map_err(|code| {
            fault(
                &path,
                format!(
                    "config.json: aftercheck.languages names {code:?}, which is no language that can be told"
                ),
                "list ISO 639 codes such as \"en\" or \"deu\", or leave the list out to take any language",
            )
        })?;
        let golden =
            if parsed.aftercheck.golden.is_empty() { default_golden() } else { parsed.aftercheck.golden };
        // Settings that change what the same files answer.
        let digest = sha256_hex(format!("{sums} {max_tokens} {labels:?} {}", config.batch_tokens).as_bytes());
        Ok(Self { path, labels, max_tokens, pad_id: parsed.pad_token_id, golden, languages, digest })
    }

    /// Reads one file of the folder.
    ///
    /// # Errors
    /// [`InferenceError::Model`] when it cannot be read.
    pub fn read(&self, name: &str) -> Result<Vec<u8>, InferenceError> {
        read(&self.path, name)
    }

    /// An error about this folder.
    pub fn fault(&self, detail: impl Into<String>, remedy: &str) -> InferenceError {
        fault(&self.path, detail.into(), remedy)
    }
}

impl HuggingFaceConfig {
    /// Positions that hold text. RoBERTa's family numbers them from `pad_token_id` + 1, so that many are lost.
    fn max_tokens(&self) -> usize {
        let positions = self.max_position_embeddings.unwrap_or(512);
        let lost = match self.model_type.as_str() {
            "roberta" | "xlm-roberta" | "camembert" => self.pad_token_id + 1,
            _ => 0,
        };
        usize::try_from(positions.saturating_sub(lost)).unwrap_or(0)
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

/// Checks every file against `SHA256SUMS` and returns the digest of them all.
fn verify_sums(path: &Path) -> Result<String, InferenceError> {
    let sums = String::from_utf8_lossy(&read(path, "SHA256SUMS")?).into_owned();
    let mut seen = Vec::new();
    for line in sums.lines().filter(|line| !line.trim().is_empty()) {
        let Some((expected, name)) = line.split_once(char::is_whitespace) else {
            return Err(fault(path, format!("SHA256SUMS: line {line:?}"), "write it with sha256sum"));
        };
        let name = name.trim().trim_start_matches('*');
        if name.contains(['/', '\\']) {
            return Err(fault(path, format!("SHA256SUMS names {name:?}"), "list files of this folder only"));
        }
        if sha256_hex(&read(path, name)?) != expected {
            return Err(fault(
                path,
                format!("{name} does not match SHA256SUMS"),
                "fetch the model again, or write SHA256SUMS anew if you changed it yourself",
            ));
        }
        seen.push(name.to_owned());
    }
    for needed in ["model.onnx", "tokenizer.json", "config.json"] {
        if !seen.iter().any(|name| name == needed) {
            return Err(fault(path, format!("SHA256SUMS does not list {needed}"), "add it with sha256sum"));
        }
    }
    Ok(sha256_hex(sums.as_bytes()))
}

/// Reads one file of a model folder.
fn read(folder: &Path, name: &str) -> Result<Vec<u8>, InferenceError> {
    let file = folder.join(name);
    let unreadable = |error: std::io::Error| {
        fault(folder, format!("{name}: {error}"), "point [inference] model at a folder that holds it")
    };
    let size = fs::metadata(&file).map_err(unreadable)?.len();
    if size > MAX_FILE_BYTES {
        return Err(fault(folder, format!("{name} has {size} bytes"), "use a model below 2 GiB"));
    }
    fs::read(&file).map_err(unreadable)
}

/// An error about a model folder.
fn fault(folder: &Path, detail: String, remedy: &str) -> InferenceError {
    InferenceError::Model { folder: folder.to_owned(), detail, remedy: remedy.to_owned() }
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
