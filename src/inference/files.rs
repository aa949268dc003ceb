//! The files of a model folder, pinned by SHA-256, and what every kind of model needs to know of them.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;
use whatlang::Lang;

use super::{InferenceError, languages::languages, model::GoldenPair};
use crate::domain::id::sha256_hex;

/// Largest file of a model folder that is read, in bytes (2 GiB, ONNX's own limit for one file).
const MAX_FILE_BYTES: u64 = 2 << 30;

/// The verified files of a model folder.
#[derive(Debug, Clone)]
pub struct ModelFiles {
    /// Where they lie.
    pub path: PathBuf,
    /// Most tokens of one input.
    pub max_tokens: usize,
    /// Id of the padding token.
    pub pad_id: i64,
    /// Languages that it was made for; empty where `config.json` lists none, and any is taken.
    pub languages: Vec<Lang>,
    /// SHA-256 over all files.
    pub digest: String,
    /// What `config.json` says.
    pub(super) config: HuggingFaceConfig,
}

/// The part of `config.json` that is read.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct HuggingFaceConfig {
    /// Names of a classifier's outputs by their number.
    #[serde(default)]
    pub(super) id2label: BTreeMap<String, String>,
    /// Numbers of one token's vector.
    pub(super) hidden_size: Option<usize>,
    /// Our own key.
    #[serde(default)]
    pub(super) aftercheck: OwnConfig,
    #[serde(default)]
    model_type: String,
    max_position_embeddings: Option<i64>,
    #[serde(default)]
    pad_token_id: i64,
}

/// Our own key within `config.json`.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct OwnConfig {
    /// Pairs that the model must get right before it is used.
    pub(super) golden: Vec<GoldenPair>,
    languages: Vec<String>,
}

impl ModelFiles {
    /// Reads and verifies a folder; `max_tokens` goes over what its `config.json` says.
    ///
    /// # Errors
    /// [`InferenceError::Model`] when a file is missing or differs from `SHA256SUMS`, or when limit or languages make
    /// no sense.
    pub fn open(path: &Path, max_tokens: Option<usize>) -> Result<Self, InferenceError> {
        let digest = verify_sums(path)?;
        let text = read(path, "config.json")?;
        let config: HuggingFaceConfig = serde_json::from_slice(&text).map_err(|error| {
            fault(path, format!("config.json: {error}"), "use the config.json exported with the model")
        })?;
        let max_tokens = max_tokens.unwrap_or_else(|| config.max_tokens());
        if !(8..=8192).contains(&max_tokens) {
            return Err(fault(
                path,
                format!("{max_tokens} tokens of input"),
                "set max_position_embeddings of config.json, or [inference] max_tokens, between 8 and 8192",
            ));
        }
        let languages = languages(&config.aftercheck.languages).map_err(|code| {
            fault(
                path,
                format!(
                    "config.json: aftercheck.languages names {code:?}, which is no language that can be told"
                ),
                "list ISO 639 codes such as \"en\" or \"deu\", or leave the list out to take any language",
            )
        })?;
        Ok(Self { path: path.to_owned(), max_tokens, pad_id: config.pad_token_id, languages, digest, config })
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
        fault(
            folder,
            format!("{name}: {error}"),
            "name a folder that holds it: the classifier's is [inference] model, the sentence encoder's [inference] \
             embedding, which may be \"\"",
        )
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
