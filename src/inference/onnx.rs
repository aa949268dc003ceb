//! A session on ONNX Runtime: padded batches in, one row of numbers for each input out, with a deadline on every run.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};

use ort::{
    environment::Environment,
    session::{RunOptions, Session, SessionInputValue, builder::GraphOptimizationLevel},
    value::Tensor,
};

use super::{EncodedPair, InferenceConfig, InferenceError, ModelFiles, deadline::Deadline};

/// ONNX Runtime is loaded once per process; the first library wins.
static RUNTIME: OnceLock<Result<Environment, InferenceError>> = OnceLock::new();

/// A model session. Runs take `&mut self`: sharing one session between threads is undefined in `ort`.
pub struct OnnxSession {
    session: Session,
    takes_type_ids: bool,
    deadline: Deadline,
}

impl OnnxSession {
    /// Loads ONNX Runtime and the model of verified files.
    ///
    /// # Errors
    /// [`InferenceError::Library`] without a usable library; [`InferenceError::Model`] when the graph does not load
    /// or has other inputs than an encoder; [`InferenceError::Run`] when the system gives no thread.
    pub fn open(files: &ModelFiles, config: &InferenceConfig) -> Result<Self, InferenceError> {
        let environment = RUNTIME.get_or_init(|| load_library(config)).as_ref().map_err(Clone::clone)?;
        let session = build_session(environment, &files.path.join("model.onnx"), config.threads()).map_err(
            |error| {
                files.fault(format!("model.onnx: {error}"), "export it again for the ONNX Runtime in use")
            },
        )?;
        let inputs: Vec<&str> = session.inputs().iter().map(|input| input.name()).collect();
        let takes_type_ids = inputs.contains(&"token_type_ids");
        let known =
            inputs.iter().all(|name| ["input_ids", "attention_mask", "token_type_ids"].contains(name));
        if !known || !inputs.contains(&"input_ids") || !inputs.contains(&"attention_mask") {
            return Err(files.fault(
                format!("model.onnx has inputs {inputs:?}"),
                "export it with input_ids, attention_mask and, if it wants, token_type_ids",
            ));
        }
        let deadline = Deadline::new(Duration::from_secs(config.run_deadline_secs))
            .map_err(|error| InferenceError::Run(error.to_string()))?;
        Ok(Self { takes_type_ids, session, deadline })
    }

    /// Runs a batch and returns the first output: so many columns for each of its rows.
    ///
    /// # Errors
    /// [`InferenceError::Run`], also for an output of another shape, or [`InferenceError::Deadline`] when the run was
    /// ended by its deadline.
    pub fn run(&mut self, batch: &PaddedBatch, columns: usize) -> Result<Vec<f32>, InferenceError> {
        let failed = |error: ort::Error| InferenceError::Run(error.to_string());
        let shape = [batch.rows, batch.width];
        let tensor = |values: &Vec<i64>| Tensor::from_array((shape, values.clone())).map_err(failed);
        let mut inputs: Vec<(&str, SessionInputValue)> =
            vec![("input_ids", tensor(&batch.ids)?.into()), ("attention_mask", tensor(&batch.mask)?.into())];
        if self.takes_type_ids {
            inputs.push(("token_type_ids", tensor(&batch.type_ids)?.into()));
        }
        let options = Arc::new(RunOptions::new().map_err(failed)?);
        let late = Arc::clone(&options);
        self.deadline.start(move || {
            if let Err(error) = late.terminate() {
                tracing::error!(%error, "model run could not be ended");
            }
        });
        let outcome = self.session.run_with_options(inputs, &options);
        let expired = self.deadline.stop();
        let outputs = match outcome {
            Err(_) if expired => return Err(InferenceError::Deadline),
            other => other.map_err(failed)?,
        };
        let (shape, values) = outputs[0].try_extract_tensor::<f32>().map_err(failed)?;
        let wanted = [batch.rows as i64, columns as i64];
        if shape[..] != wanted {
            return Err(InferenceError::Run(format!("output shape {shape:?}, expected {wanted:?}")));
        }
        Ok(values.to_vec())
    }
}

/// Row-major input tensors of one batch.
pub struct PaddedBatch {
    /// Inputs.
    pub rows: usize,
    /// Tokens of the longest input.
    pub width: usize,
    ids: Vec<i64>,
    mask: Vec<i64>,
    type_ids: Vec<i64>,
}

impl PaddedBatch {
    /// Pads every input to the longest one.
    pub fn new(batch: &[&EncodedPair], pad_id: i64) -> Self {
        let (rows, width) = (batch.len(), batch.iter().map(|pair| pair.ids.len()).max().unwrap_or(0));
        let mut padded = Self {
            rows,
            width,
            ids: vec![pad_id; rows * width],
            mask: vec![0; rows * width],
            type_ids: vec![0; rows * width],
        };
        for (row, pair) in batch.iter().enumerate() {
            for (column, (id, type_id)) in pair.ids.iter().zip(&pair.type_ids).enumerate() {
                let at = row * width + column;
                padded.ids[at] = i64::from(*id);
                padded.mask[at] = 1;
                padded.type_ids[at] = i64::from(*type_id);
            }
        }
        padded
    }
}

/// Builds a session with all graph optimisations.
fn build_session(environment: &Environment, model: &Path, threads: usize) -> Result<Session, ort::Error> {
    let mut builder = Session::builder(environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(threads)?
        // Batches differ in shape: planning memory for each shape only makes the arena grow.
        .with_memory_pattern(false)?;
    builder.commit_from_file(model)
}

/// Loads the shared library.
fn load_library(config: &InferenceConfig) -> Result<Environment, InferenceError> {
    let path = library_path(config);
    let failed = |detail: String| InferenceError::Library { path: path.clone(), detail };
    if !path.exists() {
        return Err(failed("no such file".into()));
    }
    let builder = ort::init_from(&path).map_err(|error| failed(error.to_string()))?;
    builder.with_telemetry(false).build().map_err(|error| failed(error.to_string()))
}

/// The library that configuration or environment name, else the one that `scripts/onnxruntime` fetched.
fn library_path(config: &InferenceConfig) -> PathBuf {
    let fetched = || PathBuf::from(".runtime/onnxruntime/libonnxruntime.so");
    let named = || std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from);
    let path = config.library.clone().or_else(named).unwrap_or_else(fetched);
    // A relative path would be resolved against the executable by the loader, not against the working folder.
    std::path::absolute(&path).unwrap_or(path)
}
