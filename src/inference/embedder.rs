//! A sentence encoder: texts to vectors whose cosine says how close they are in meaning.

use std::{path::Path, sync::Arc};

use super::{
    EncodedPair, Encoder, InferenceConfig, InferenceError, ModelFiles, PairTokenizer,
    batcher::plan,
    onnx::{OnnxSession, PaddedBatch},
};

/// A sentence encoder with a session of its own. Blocking: it belongs to one thread.
///
/// Of `[inference]` it takes library, threads, run deadline and `batch_tokens`; the limit of tokens is its own
/// `config.json`'s. `batch_tokens` is best left at 0, each text alone: in other company a text would get another
/// vector, as [`batcher`](super::batcher) tells of scores.
pub struct Embedder {
    session: OnnxSession,
    tokenizer: Arc<PairTokenizer>,
    files: ModelFiles,
    dimensions: usize,
    batch_tokens: usize,
}

/// What a text became.
#[derive(Debug, Clone, PartialEq)]
pub struct Embedding {
    /// Of length 1, so that the dot product of two is their cosine.
    pub vector: Vec<f32>,
    /// Tokens at the end of the text that the vector knows nothing of, because the model takes no more.
    pub cut: usize,
}

impl Embedder {
    /// Verifies a model folder, opens it and embeds one text, to see that the model gives a single vector for it.
    ///
    /// # Errors
    /// [`InferenceError`] when library, files or graph are not as they should be.
    pub fn open(folder: &Path, config: &InferenceConfig) -> Result<Self, InferenceError> {
        Self::of(ModelFiles::open(folder, None)?, config)
    }

    /// As [`Self::open`], of a folder that is verified.
    ///
    /// # Errors
    /// [`InferenceError`] when library, tokenizer or graph are not as they should be.
    pub fn of(files: ModelFiles, config: &InferenceConfig) -> Result<Self, InferenceError> {
        let remedy = "export a sentence encoder that pools its tokens, with hidden_size in config.json";
        let dimensions = files.config.hidden_size.filter(|size| *size > 0);
        let dimensions = dimensions.ok_or_else(|| files.fault("config.json has no hidden_size", remedy))?;
        let mut embedder = Self {
            session: OnnxSession::open(&files, config)?,
            tokenizer: Arc::new(PairTokenizer::open(&files)?),
            files,
            dimensions,
            batch_tokens: config.batch_tokens,
        };
        match embedder.embed(&["Refunds are paid within 30 days."]) {
            Err(InferenceError::Run(detail)) => {
                Err(embedder.files.fault(format!("model.onnx: {detail}"), remedy))
            }
            Err(other) => Err(other),
            Ok(_) => Ok(embedder),
        }
    }

    /// The same model in another session, for another thread.
    ///
    /// # Errors
    /// Those of [`OnnxSession::open`].
    pub fn again(&self, config: &InferenceConfig) -> Result<Self, InferenceError> {
        let session = OnnxSession::open(&self.files, config)?;
        let (tokenizer, files) = (Arc::clone(&self.tokenizer), self.files.clone());
        Ok(Self { session, tokenizer, files, ..*self })
    }

    /// Its tokenizer.
    pub fn tokenizer(&self) -> &Arc<PairTokenizer> {
        &self.tokenizer
    }

    /// Numbers of each vector.
    pub fn dimensions(&self) -> usize {
        self.dimensions
    }

    /// Runs already padded tensors and returns the raw rows; the benches time this alone.
    ///
    /// # Errors
    /// Those of [`OnnxSession::run`].
    pub fn rows(&mut self, batch: &PaddedBatch) -> Result<Vec<f32>, InferenceError> {
        self.session.run(batch, self.dimensions)
    }

    /// Vectors of the texts, in their order. A text that is too long is embedded by its beginning, and says so.
    ///
    /// # Errors
    /// One error for all texts: [`InferenceError::Tokenizer`], [`InferenceError::Run`], [`InferenceError::Deadline`]
    /// or [`InferenceError::NotFinite`].
    pub fn embed(&mut self, texts: &[&str]) -> Result<Vec<Embedding>, InferenceError> {
        let encoded = texts.iter().map(|text| self.tokenizer.text(text)).collect::<Result<Vec<_>, _>>()?;
        let mut found: Vec<Embedding> =
            encoded.iter().map(|text| Embedding { vector: Vec::new(), cut: text.cut }).collect();
        for batch in plan(&[&encoded], self.batch_tokens) {
            let rows: Vec<&EncodedPair> = batch.iter().map(|&(_, at)| &encoded[at]).collect();
            for (&(_, at), vector) in batch.iter().zip(self.encode(&rows)?) {
                found[at].vector = vector;
            }
        }
        Ok(found)
    }
}

impl Encoder for Embedder {
    fn max_tokens(&self) -> usize {
        self.files.max_tokens
    }

    fn encode(&mut self, batch: &[&EncodedPair]) -> Result<Vec<Vec<f32>>, InferenceError> {
        let values = self.rows(&PaddedBatch::new(batch, self.files.pad_id))?;
        values.chunks(self.dimensions).map(unit).collect()
    }
}

/// The vector of length 1 in the direction of a row.
///
/// # Errors
/// [`InferenceError::NotFinite`] for NaN or infinity, and for a row of zeros, which has no direction.
fn unit(row: &[f32]) -> Result<Vec<f32>, InferenceError> {
    let length = row.iter().map(|value| f64::from(*value).powi(2)).sum::<f64>().sqrt();
    if !length.is_finite() || length == 0.0 {
        return Err(InferenceError::NotFinite);
    }
    Ok(row.iter().map(|value| (f64::from(*value) / length) as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_have_length_one() {
        assert_eq!(unit(&[3.0, -4.0]).unwrap(), [0.6, -0.8]);
        // Squares beyond the range of f32.
        assert_eq!(unit(&[1e30, 0.0]).unwrap(), [1.0, 0.0]);
    }

    #[test]
    fn what_has_no_direction_is_refused() {
        for row in [[f32::NAN, 1.0], [f32::INFINITY, 1.0], [0.0, 0.0]] {
            assert!(matches!(unit(&row), Err(InferenceError::NotFinite)), "{row:?}");
        }
    }
}
