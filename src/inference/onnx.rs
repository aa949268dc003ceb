//! A sequence-pair classifier on ONNX Runtime, with a deadline on every run.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use ort::{
    environment::Environment,
    session::{RunOptions, Session, SessionInputValue, builder::GraphOptimizationLevel},
    value::Tensor,
};

use super::{
    Classifier, EncodedPair, InferenceConfig, InferenceError, ModelFolder, PairScore, model::Labels,
};

/// ONNX Runtime is loaded once per process; the first library wins.
static RUNTIME: OnceLock<Result<Environment, InferenceError>> = OnceLock::new();

/// A model session. Runs take `&mut self`: sharing one session between threads is undefined in `ort`.
pub struct OnnxClassifier {
    session: Session,
    labels: Labels,
    pad_id: i64,
    takes_type_ids: bool,
    deadline: Duration,
}

impl OnnxClassifier {
    /// Loads ONNX Runtime and the model of a verified folder.
    ///
    /// # Errors
    /// [`InferenceError::Library`] without a usable library; [`InferenceError::Model`] when the graph does
    /// not load or has other inputs or outputs than a sequence-pair classifier.
    pub fn open(folder: &ModelFolder, config: &InferenceConfig) -> Result<Self, InferenceError> {
        let environment = RUNTIME.get_or_init(|| load_library(config)).as_ref().map_err(Clone::clone)?;
        let session = build_session(environment, &folder.path.join("model.onnx"), config.threads()).map_err(
            |error| {
                folder.fault(format!("model.onnx: {error}"), "export it again for the ONNX Runtime in use")
            },
        )?;
        let inputs: Vec<&str> = session.inputs().iter().map(|input| input.name()).collect();
        let takes_type_ids = inputs.contains(&"token_type_ids");
        let known =
            inputs.iter().all(|name| ["input_ids", "attention_mask", "token_type_ids"].contains(name));
        if !known || !inputs.contains(&"input_ids") || !inputs.contains(&"attention_mask") {
            return Err(folder.fault(
                format!("model.onnx has inputs {inputs:?}"),
                "export it as sequence classification with input_ids and attention_mask",
            ));
        }
        Ok(Self {
            takes_type_ids,
            session,
            labels: folder.labels,
            pad_id: folder.pad_id,
            deadline: Duration::from_secs(config.run_deadline_secs),
        })
    }

    /// Runs already padded tensors and returns the raw logits; the benches time this alone.
    ///
    /// # Errors
    /// [`InferenceError::Run`], or [`InferenceError::Deadline`] when the run was ended by its deadline.
    pub fn logits(&mut self, batch: &PaddedBatch) -> Result<Vec<f32>, InferenceError> {
        let failed = |error: ort::Error| InferenceError::Run(error.to_string());
        let shape = [batch.rows, batch.width];
        let tensor = |values: &Vec<i64>| Tensor::from_array((shape, values.clone())).map_err(failed);
        let mut inputs: Vec<(&str, SessionInputValue)> =
            vec![("input_ids", tensor(&batch.ids)?.into()), ("attention_mask", tensor(&batch.mask)?.into())];
        if self.takes_type_ids {
            inputs.push(("token_type_ids", tensor(&batch.type_ids)?.into()));
        }
        let options = Arc::new(RunOptions::new().map_err(failed)?);
        let watch = Watch::start(self.deadline, Arc::clone(&options));
        let outcome = self.session.run_with_options(inputs, &options);
        let expired = watch.finish();
        let outputs = match outcome {
            Err(_) if expired => return Err(InferenceError::Deadline),
            other => other.map_err(failed)?,
        };
        let (shape, logits) = outputs[0].try_extract_tensor::<f32>().map_err(failed)?;
        let wanted = [batch.rows as i64, self.labels.count() as i64];
        if shape[..] != wanted {
            return Err(InferenceError::Run(format!("output shape {shape:?}, expected {wanted:?}")));
        }
        Ok(logits.to_vec())
    }
}

impl Classifier for OnnxClassifier {
    fn classify(&mut self, batch: &[&EncodedPair]) -> Result<Vec<PairScore>, InferenceError> {
        let padded = PaddedBatch::new(batch, self.pad_id);
        let labels = self.labels;
        self.logits(&padded)?.chunks(labels.count()).map(|row| score(row, labels)).collect()
    }
}

/// Row-major input tensors of one batch.
pub struct PaddedBatch {
    /// Pairs.
    pub rows: usize,
    /// Tokens of the longest pair.
    pub width: usize,
    ids: Vec<i64>,
    mask: Vec<i64>,
    type_ids: Vec<i64>,
}

impl PaddedBatch {
    /// Pads every pair to the longest one.
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

/// Softmax over one row of logits, ordered by the labels. Shifted by the maximum, so that it cannot overflow.
///
/// # Errors
/// [`InferenceError::NotFinite`] for NaN or infinity.
fn score(row: &[f32], labels: Labels) -> Result<PairScore, InferenceError> {
    if row.iter().any(|logit| !logit.is_finite()) {
        return Err(InferenceError::NotFinite);
    }
    let top = row.iter().copied().fold(f32::MIN, f32::max);
    let exponents: Vec<f64> = row.iter().map(|logit| f64::from(logit - top).exp()).collect();
    let total: f64 = exponents.iter().sum();
    let share = |index: usize| exponents[index] / total;
    Ok(match labels {
        Labels::Three { entailment, neutral, contradiction } => PairScore {
            entailment: share(entailment),
            neutral: share(neutral),
            contradiction: share(contradiction),
        },
        Labels::Two { entailment, other } => {
            PairScore { entailment: share(entailment), neutral: share(other), contradiction: 0.0 }
        }
    })
}

/// Ends a run that outlives its deadline.
struct Watch {
    done: Arc<(Mutex<bool>, Condvar)>,
    expired: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Watch {
    /// Starts the clock of one run.
    fn start(deadline: Duration, options: Arc<RunOptions>) -> Self {
        let done = Arc::new((Mutex::new(false), Condvar::new()));
        let expired = Arc::new(AtomicBool::new(false));
        let (waiting, flag) = (Arc::clone(&done), Arc::clone(&expired));
        let thread = std::thread::Builder::new()
            .name("model-deadline".into())
            .spawn(move || {
                let (lock, wake) = &*waiting;
                let guard = lock.lock().unwrap_or_else(PoisonError::into_inner);
                let (guard, _) = wake
                    .wait_timeout_while(guard, deadline, |done| !*done)
                    .unwrap_or_else(PoisonError::into_inner);
                if !*guard {
                    flag.store(true, Ordering::Relaxed);
                    if let Err(error) = options.terminate() {
                        tracing::error!(%error, "model run could not be ended");
                    }
                }
            })
            .ok();
        Self { done, expired, thread }
    }

    /// Stops the clock; true when the deadline had passed.
    fn finish(self) -> bool {
        *self.done.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.done.1.notify_all();
        if let Some(thread) = self.thread {
            // The watcher only waits on the condition above: it ends at once, and cannot panic.
            drop(thread.join());
        }
        self.expired.load(Ordering::Relaxed)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn softmax_survives_extreme_logits() {
        let labels = Labels::Three { entailment: 0, neutral: 1, contradiction: 2 };
        let far = score(&[-1000.0, 0.0, 1000.0], labels).unwrap();
        assert_eq!((far.entailment, far.contradiction), (0.0, 1.0));
        assert!(matches!(score(&[f32::NAN, 0.0, 0.0], labels), Err(InferenceError::NotFinite)));
    }

    #[test]
    fn two_labels_have_no_contradiction() {
        let scored = score(&[0.0, 0.0], Labels::Two { entailment: 1, other: 0 }).unwrap();
        assert_eq!((scored.entailment, scored.neutral, scored.contradiction), (0.5, 0.5, 0.0));
    }
}
