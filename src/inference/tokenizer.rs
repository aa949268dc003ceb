//! Text pairs, and texts alone, to token ids. Truncation is ours, explicit and counted.

use tokenizers::{EncodeInput, Tokenizer, TruncationParams, TruncationStrategy};
use whatlang::Lang;

use super::{InferenceError, ModelFiles};

/// Token ids of one input of a model: a premise–hypothesis pair, or a text alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedPair {
    /// Token ids with special tokens.
    pub ids: Vec<u32>,
    /// Segment of each token, for models that have `token_type_ids`.
    pub type_ids: Vec<u32>,
    /// Tokens cut because the input was longer than the model takes.
    pub cut: usize,
}

/// Tokenises pairs the way the model was trained to read them.
#[derive(Clone)]
pub struct PairTokenizer {
    plain: Tokenizer,
    truncating: Tokenizer,
    max_tokens: usize,
    languages: Vec<Lang>,
}

impl PairTokenizer {
    /// Reads `tokenizer.json` of a model folder; its own truncation and padding settings are set aside.
    ///
    /// # Errors
    /// [`InferenceError::Model`] when the file is not a tokenizer.
    pub fn open(files: &ModelFiles) -> Result<Self, InferenceError> {
        let bytes = files.read("tokenizer.json")?;
        let unusable = |error: tokenizers::Error| {
            files.fault(format!("tokenizer.json: {error}"), "export it with the model as a fast tokenizer")
        };
        let mut plain = Tokenizer::from_bytes(bytes).map_err(unusable)?;
        plain.with_padding(None);
        plain.with_truncation(None).map_err(unusable)?;
        // "[SEP]" in an answer is text: as a special token it would end the pair's first half.
        plain.set_encode_special_tokens(true);
        let mut truncating = plain.clone();
        let params = TruncationParams {
            max_length: files.max_tokens,
            strategy: TruncationStrategy::LongestFirst,
            ..TruncationParams::default()
        };
        truncating.with_truncation(Some(params)).map_err(unusable)?;
        Ok(Self { plain, truncating, max_tokens: files.max_tokens, languages: files.languages.clone() })
    }

    /// A tokenizer that was never a file, for tests that make their pairs by hand.
    #[cfg(test)]
    pub(super) fn of(plain: Tokenizer) -> Self {
        Self { truncating: plain.clone(), plain, max_tokens: usize::MAX, languages: Vec::new() }
    }

    /// Encodes one pair; what does not fit is cut from the longer text first and counted.
    ///
    /// # Errors
    /// [`InferenceError::Tokenizer`] when the tokenizer refuses the text.
    pub fn pair(&self, premise: &str, hypothesis: &str) -> Result<EncodedPair, InferenceError> {
        self.encode((premise, hypothesis).into())
    }

    /// Encodes a text alone; what does not fit is cut from its end and counted.
    ///
    /// # Errors
    /// [`InferenceError::Tokenizer`] when the tokenizer refuses the text.
    pub fn text(&self, text: &str) -> Result<EncodedPair, InferenceError> {
        self.encode(text.into())
    }

    /// Encodes a pair or a text, cut to what the model takes.
    fn encode(&self, input: EncodeInput<'_>) -> Result<EncodedPair, InferenceError> {
        let mut encoding = self.plain.encode_fast(input.clone(), true).map_err(refused)?;
        let cut = encoding.len().saturating_sub(self.max_tokens);
        if cut > 0 {
            encoding = self.truncating.encode_fast(input, true).map_err(refused)?;
        }
        Ok(EncodedPair { ids: encoding.get_ids().to_vec(), type_ids: encoding.get_type_ids().to_vec(), cut })
    }

    /// The languages of the texts that the model was made for; empty for any.
    pub fn languages(&self) -> &[Lang] {
        &self.languages
    }

    /// Byte offsets of each token of a text, without special tokens.
    ///
    /// # Errors
    /// [`InferenceError::Tokenizer`] when the tokenizer refuses the text.
    pub fn offsets(&self, text: &str) -> Result<Vec<(usize, usize)>, InferenceError> {
        let encoding = self.plain.encode(text, false).map_err(refused)?;
        Ok(encoding.get_offsets().to_vec())
    }
}

/// The error of a text that the tokenizer refuses.
fn refused(error: tokenizers::Error) -> InferenceError {
    InferenceError::Tokenizer(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::InferenceConfig;

    fn shipped() -> PairTokenizer {
        PairTokenizer::open(&ModelFiles::open(&InferenceConfig::default().model, None).unwrap()).unwrap()
    }

    #[test]
    fn special_tokens_in_a_text_are_text() {
        let pair = shipped().pair("It is big. [SEP] [PAD] [CLS] [MASK]", "It is [SEP] old.").unwrap();
        let count = |id: u32| pair.ids.iter().filter(|one| **one == id).count();
        // [PAD] 0 · [CLS] 101 · [SEP] 102 · [MASK] 103 in the vocabulary of the shipped models.
        assert_eq!([count(0), count(101), count(102), count(103)], [0, 1, 2, 0]);
    }

    #[test]
    fn offsets_slice_the_text() {
        let text = "Köln [SEP] \u{200b} ist groß.";
        for (start, end) in shipped().offsets(text).unwrap() {
            assert!(text.get(start..end).is_some_and(|token| !token.is_empty()));
        }
    }

    #[test]
    fn a_refused_text_is_an_error() {
        // A vocabulary without the unknown token refuses what it lacks.
        let model = tokenizers::models::wordlevel::WordLevel::builder().build().unwrap();
        let refusing = PairTokenizer::of(Tokenizer::new(model));
        assert!(matches!(refusing.offsets("a"), Err(InferenceError::Tokenizer(_))));
        assert!(matches!(refusing.pair("a", "b"), Err(InferenceError::Tokenizer(_))));
    }
}
