//! A sequence-pair classifier: logits of a session to probabilities.

use super::{
    Classifier, EncodedPair, InferenceConfig, InferenceError, ModelFolder, PairScore,
    model::Labels,
    onnx::{OnnxSession, PaddedBatch},
};

/// A classifier with a session of its own.
pub struct OnnxClassifier {
    session: OnnxSession,
    labels: Labels,
    pad_id: i64,
}

impl OnnxClassifier {
    /// Opens the model of a verified folder.
    ///
    /// # Errors
    /// Those of [`OnnxSession::open`].
    pub fn open(folder: &ModelFolder, config: &InferenceConfig) -> Result<Self, InferenceError> {
        let session = OnnxSession::open(&folder.files, config)?;
        Ok(Self { session, labels: folder.labels, pad_id: folder.files.pad_id })
    }

    /// Runs already padded tensors and returns the raw logits; the benches time this alone.
    ///
    /// # Errors
    /// Those of [`OnnxSession::run`].
    pub fn logits(&mut self, batch: &PaddedBatch) -> Result<Vec<f32>, InferenceError> {
        self.session.run(batch, self.labels.count())
    }
}

impl Classifier for OnnxClassifier {
    fn classify(&mut self, batch: &[&EncodedPair]) -> Result<Vec<PairScore>, InferenceError> {
        let padded = PaddedBatch::new(batch, self.pad_id);
        let labels = self.labels;
        self.logits(&padded)?.chunks(labels.count()).map(|row| score(row, labels)).collect()
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
