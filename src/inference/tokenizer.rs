//! Text pairs to token ids. Truncation is ours, explicit and counted.

use tokenizers::{Tokenizer, TruncationParams, TruncationStrategy};

use super::{InferenceError, ModelFolder};

/// Token ids of one premise–hypothesis pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedPair {
    /// Token ids with special tokens.
    pub ids: Vec<u32>,
    /// Segment of each token, for models that have `token_type_ids`.
    pub type_ids: Vec<u32>,
    /// Tokens cut because the pair was longer than the model takes.
    pub cut: usize,
}

/// Tokenises pairs the way the model was trained to read them.
#[derive(Clone)]
pub struct PairTokenizer {
    plain: Tokenizer,
    truncating: Tokenizer,
    max_tokens: usize,
}

impl PairTokenizer {
    /// Reads `tokenizer.json` of a model folder; its own truncation and padding settings are set aside.
    ///
    /// # Errors
    /// [`InferenceError::Model`] when the file is not a tokenizer.
    pub fn open(folder: &ModelFolder) -> Result<Self, InferenceError> {
        let bytes = folder.read("tokenizer.json")?;
        let unusable = |error: tokenizers::Error| {
            folder.fault(format!("tokenizer.json: {error}"), "export it with the model as a fast tokenizer")
        };
        let mut plain = Tokenizer::from_bytes(bytes).map_err(unusable)?;
        plain.with_padding(None);
        plain.with_truncation(None).map_err(unusable)?;
        let mut truncating = plain.clone();
        let params = TruncationParams {
            max_length: folder.max_tokens,
            strategy: TruncationStrategy::LongestFirst,
            ..TruncationParams::default()
        };
        truncating.with_truncation(Some(params)).map_err(unusable)?;
        Ok(Self { plain, truncating, max_tokens: folder.max_tokens })
    }

    /// A tokenizer that was never a file, for tests that make their pairs by hand.
    #[cfg(test)]
    pub(super) fn of(plain: Tokenizer) -> Self {
        Self { truncating: plain.clone(), plain, max_tokens: usize::MAX }
    }

    /// Encodes one pair; what does not fit is cut from the longer text first and counted.
    ///
    /// # Errors
    /// [`InferenceError::Tokenizer`] when the tokenizer refuses the text.
    pub fn pair(&self, premise: &str, hypothesis: &str) -> Result<EncodedPair, InferenceError> {
        let refused = |error: tokenizers::Error| InferenceError::Tokenizer(error.to_string());
        let mut encoding = self.plain.encode_fast((premise, hypothesis), true).map_err(refused)?;
        let cut = encoding.len().saturating_sub(self.max_tokens);
        if cut > 0 {
            encoding = self.truncating.encode_fast((premise, hypothesis), true).map_err(refused)?;
        }
        Ok(EncodedPair { ids: encoding.get_ids().to_vec(), type_ids: encoding.get_type_ids().to_vec(), cut })
    }

    /// Byte offsets of each token of a text, without special tokens; empty where the tokenizer refuses it.
    pub fn offsets(&self, text: &str) -> Vec<(usize, usize)> {
        self.plain.encode(text, false).map(|encoding| encoding.get_offsets().to_vec()).unwrap_or_default()
    }
}
