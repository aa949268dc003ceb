//! How close in meaning a claim is to the window that it is read against, as a sentence encoder sees it.
//!
//! The classifier was trained on pairs that share their subject. The encoder tells subjects apart, and knows nothing of
//! truth: it is a signal beside the classifier's, for [`calibration`](super::calibration) to weigh.

use std::collections::HashMap;

use crate::inference::{EncodedPair, InferenceError, PairTokenizer};

/// The claims and windows of a call as the sentence encoder reads them, each distinct text once. Empty without an
/// encoder.
#[derive(Debug, Default)]
pub struct Encoded {
    /// The texts; of one that is longer than the encoder takes, its beginning.
    pub texts: Vec<EncodedPair>,
    /// Place of each claim's text among them.
    claims: Vec<usize>,
    /// Place of each window's, for windows that a claim is read against.
    windows: HashMap<usize, usize>,
}

impl Encoded {
    /// Tokenises claims and windows, which come with their index.
    ///
    /// # Errors
    /// [`InferenceError::Tokenizer`] when the tokenizer refuses a text.
    pub fn new<'a>(
        tokenizer: &PairTokenizer,
        claims: impl Iterator<Item = &'a str>,
        windows: impl Iterator<Item = (usize, &'a str)>,
    ) -> Result<Self, InferenceError> {
        let (mut places, mut texts) = (HashMap::new(), Vec::new());
        let mut place = |text: &'a str| -> Result<usize, InferenceError> {
            if let Some(place) = places.get(text) {
                return Ok(*place);
            }
            texts.push(tokenizer.text(text)?);
            places.insert(text, texts.len() - 1);
            Ok(texts.len() - 1)
        };
        let claims = claims.map(&mut place).collect::<Result<_, _>>()?;
        let windows = windows
            .map(|(window, text)| Ok((window, place(text)?)))
            .collect::<Result<_, InferenceError>>()?;
        Ok(Self { texts, claims, windows })
    }

    /// Cosine of a claim with a window, -1..1, from the vectors of [`Self::texts`]; 0 where there is none of them.
    pub fn closeness(&self, vectors: &[Vec<f32>], claim: usize, window: usize) -> f64 {
        let of = |place: Option<&usize>| place.and_then(|place| vectors.get(*place));
        let (claim, window) = (of(self.claims.get(claim)), of(self.windows.get(&window)));
        let Some((claim, window)) = claim.zip(window) else { return 0.0 };
        let cosine: f64 = claim.iter().zip(window).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
        // Vectors of length 1, but for what rounding leaves.
        cosine.clamp(-1.0, 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inference::{InferenceConfig, ModelFiles};

    #[test]
    fn each_distinct_text_is_read_once_and_found_again() {
        let files = ModelFiles::open(&InferenceConfig::default().embedding, None).unwrap();
        let tokenizer = PairTokenizer::open(&files).unwrap();
        let claims = ["One.", "Two.", "One."];
        let windows = [(7, "Two."), (3, "Three."), (7, "Two."), (9, "Three.")];
        let encoded = Encoded::new(&tokenizer, claims.into_iter(), windows.into_iter()).unwrap();
        let texts = ["One.", "Two.", "Three."].map(|text| tokenizer.text(text).unwrap());
        assert_eq!(encoded.texts, texts);
        let vectors = [vec![1.0, 0.0], vec![0.6, 0.8], vec![-1.0, 0.0]];
        let found = |claim, window| encoded.closeness(&vectors, claim, window);
        assert!((found(0, 7) - 0.6).abs() < 1e-6 && (found(1, 7) - 1.0).abs() < 1e-6);
        assert_eq!([found(0, 3), found(2, 9)], [-1.0, -1.0]);
    }

    #[test]
    fn without_an_encoder_everything_is_as_far_as_nothing() {
        assert_eq!(Encoded::default().closeness(&[], 0, 0), 0.0);
    }
}
