//! Local models: a sequence-pair classifier and a sentence encoder behind the same threads, fed with token-budgeted batches.
//!
//! [`files`] checks the files of a model folder, [`tokenizer`] turns texts into ids, [`onnx`] runs them under a
//! deadline. On these stand [`classifier`], which reads labels as [`model`] tells, and [`embedder`]. [`batcher`] joins
//! the inputs of many calls into one run, on the threads of [`worker`]. Any Hugging Face sequence-classification NLI model exported to ONNX works by
//! its own `config.json`.

pub mod batcher;
pub mod classifier;
mod deadline;
pub mod embedder;
pub mod files;
mod languages;
pub mod model;
pub mod onnx;
mod progress;
pub mod tokenizer;
pub mod worker;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use batcher::Batcher;
pub use embedder::{Embedder, Embedding};
pub use files::ModelFiles;
pub use model::ModelFolder;
pub use tokenizer::{EncodedPair, PairTokenizer};
pub use worker::{Inputs, Read, Session};

/// Most sessions unless configured: each holds the weights and the memory of a batch.
const MOST_SESSIONS: usize = 4;

/// `[inference]`: the local model and the room it may take.
#[derive(Debug, Clone, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InferenceConfig {
    /// Whether the NLI model runs; off leaves faithfulness null and the rules alone.
    pub enabled: bool,
    /// Folder with `model.onnx`, `tokenizer.json`, `config.json` and `SHA256SUMS`.
    pub model: PathBuf,
    /// Folder of the sentence encoder that says how close a claim is to its evidence, with the same four files. Empty
    /// does without: the models then cost half as much, and faithfulness ranks answers a little worse.
    pub embedding: PathBuf,
    /// ONNX Runtime shared library; absent: `ORT_DYLIB_PATH`, then `.runtime/onnxruntime`.
    pub library: Option<PathBuf>,
    /// Sessions that run side by side, each with its own memory for each of the two models; 0 takes one a core, four at most.
    pub sessions: usize,
    /// Threads of one session; 0 shares the cores out among the sessions.
    pub threads: usize,
    /// Padded tokens of one batch; a longer pair is a batch of its own. 0 runs each pair alone: a model quantised
    /// dynamically, as the shipped ones are, scores a pair differently in other company.
    pub batch_tokens: usize,
    /// Requests that may wait for the model before callers wait.
    pub queue_length: usize,
    /// Longest run of one batch in seconds before it is ended and its calls are told so.
    pub run_deadline_secs: u64,
    /// Tokens of one input; absent: what `config.json` says.
    pub max_tokens: Option<usize>,
    /// Names of the model's outputs in order, where `config.json` has no usable `id2label`.
    pub labels: Option<Vec<String>>,
}

impl Default for InferenceConfig {
    fn default() -> Self {
        Self {
            enabled: true,
            model: PathBuf::from("models/faithful-minilm"),
            embedding: PathBuf::from("models/minilm-embedding"),
            library: None,
            sessions: 0,
            threads: 0,
            batch_tokens: 0,
            queue_length: 64,
            run_deadline_secs: 20,
            max_tokens: None,
            labels: None,
        }
    }
}

impl InferenceConfig {
    /// Sessions in force.
    pub fn sessions(&self) -> usize {
        if self.sessions == 0 { cores().min(MOST_SESSIONS) } else { self.sessions }
    }

    /// Threads of each session in force.
    pub fn threads(&self) -> usize {
        if self.threads == 0 { (cores() / self.sessions()).max(1) } else { self.threads }
    }
}

/// Cores that this process may use.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Probabilities of one premise–hypothesis pair; they sum to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PairScore {
    /// The premise entails the hypothesis.
    pub entailment: f64,
    /// It neither entails nor contradicts it.
    pub neutral: f64,
    /// It contradicts it.
    pub contradiction: f64,
}

/// What can go wrong with a local model. Cloned, because one failed batch answers many callers.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InferenceError {
    /// A file of the model folder is missing, changed or not understood.
    #[error("model {}: {detail}; {remedy}", folder.display())]
    Model {
        /// The model folder.
        folder: PathBuf,
        /// What is wrong.
        detail: String,
        /// What to do.
        remedy: String,
    },
    /// ONNX Runtime could not be loaded.
    #[error(
        "ONNX Runtime {}: {detail}; run scripts/onnxruntime, or set [inference] library or ORT_DYLIB_PATH, \
         or [inference] enabled = false",
        path.display()
    )]
    Library {
        /// The library that was tried.
        path: PathBuf,
        /// The loader's words.
        detail: String,
    },
    /// A text could not be tokenised.
    #[error("tokenizer: {0}")]
    Tokenizer(String),
    /// An input is longer than the model takes.
    #[error("input of {tokens} tokens, the model takes {max}")]
    TooLong {
        /// Tokens of the input.
        tokens: usize,
        /// Tokens the model takes.
        max: usize,
    },
    /// The run failed.
    #[error("model run: {0}")]
    Run(String),
    /// The run took longer than `run_deadline_secs`.
    #[error("model run exceeded its deadline")]
    Deadline,
    /// The model answered NaN or infinity, or a vector without direction.
    #[error("model returned a value that is not finite")]
    NotFinite,
    /// The model's thread has ended.
    #[error("model thread has stopped")]
    Stopped,
}

impl InferenceError {
    /// Short class for stage reports and metrics.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Model { .. } => "model",
            Self::Library { .. } => "library",
            Self::Tokenizer(_) => "tokenizer",
            Self::TooLong { .. } => "too_long",
            Self::Run(_) => "run",
            Self::Deadline => "deadline",
            Self::NotFinite => "not_finite",
            Self::Stopped => "stopped",
        }
    }
}

/// A model that labels premise–hypothesis pairs. Blocking: it belongs to one thread.
pub trait Classifier: Send {
    /// Scores of a batch, one per pair in the same order.
    ///
    /// # Errors
    /// One error for the whole batch: the run failed, timed out or gave values that are not finite.
    fn classify(&mut self, batch: &[&EncodedPair]) -> Result<Vec<PairScore>, InferenceError>;
}

/// A model that turns texts into vectors whose cosine says how close they are. Blocking: it belongs to one thread.
pub trait Encoder: Send {
    /// Most tokens of one text.
    fn max_tokens(&self) -> usize;

    /// Vectors of a batch, each of length 1, one a text in the same order.
    ///
    /// # Errors
    /// One error for the whole batch, as [`Classifier::classify`].
    fn encode(&mut self, batch: &[&EncodedPair]) -> Result<Vec<Vec<f32>>, InferenceError>;
}
