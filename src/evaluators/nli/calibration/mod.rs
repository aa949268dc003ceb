//! Calibration: from what the models and the shared words say to a probability that can be believed, and to the band
//! outside which it decides.
//!
//! The log-odds are linear in five [`Signals`], of which each alone ranks answers worse than all together, and then bent
//! by an [`Isotonic`] curve. Where a feature has enough labels of its own, they are scaled and shifted once more (Platt
//! 1999). [`fit`] learns the numbers from labelled calls, [`band`] chooses `lo` and `hi` for a stated error, [`curve`] shows
//! what was to choose. `calibration.json` keeps them; it is part of the evaluator version.

pub mod band;
pub mod curve;
pub mod fit;
mod isotonic;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

pub use isotonic::Isotonic;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::evidence::WindowConfig;
use crate::domain::id::sha256_hex;

/// Name of the file in a model folder.
pub const CALIBRATION_FILE: &str = "calibration.json";
/// Version of the file's format.
pub const FORMAT: u32 = 2;
/// Counted up by hand when code changes the signals of the same call, so that what was fitted on others is refused;
/// `tests/it/revision.rs` says when.
pub const SIGNALS: u32 = 2;
/// Least distance of a probability from 0 and 1.
const NEVER_SURE: f64 = 1e-6;
/// Largest file that is read, in bytes.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What is known about the support of a claim, or, as means over its claims, of an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Signals {
    /// Best entailment by an evidence window, 0..1.
    pub entailment: f64,
    /// Contradiction by that same window, 0..1.
    pub contradiction: f64,
    /// [`Overlap::pairs`](super::overlap::Overlap), 0..1.
    pub pairs: f64,
    /// [`Overlap::copied`](super::overlap::Overlap), 0..ln 17.
    pub copied: f64,
    /// Cosine of the claim's sentence embedding with that of the window of `entailment`, -1..1: how close they are in
    /// meaning, which says whether they speak of the same and not whether it is true. 0 for every claim where
    /// `[inference] embedding` is empty; a calibration is fitted with it or without, and refused with the other.
    pub closeness: f64,
}

/// Where a probability of support decides; between `lo` and `hi` it is unsure.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Band {
    /// At or below: not supported, 0..1.
    pub lo: f64,
    /// At or above: supported, 0..1.
    pub hi: f64,
}

impl Band {
    /// Decides nothing: no probability reaches 0 or 1.
    pub const NONE: Self = Self { lo: 0.0, hi: 1.0 };
    /// In force without a calibration, and wide on purpose.
    pub const UNCALIBRATED: Self = Self { lo: 0.2, hi: 0.8 };

    /// The number nearest to `value` that looks as unsure as it is: inside this band and the uncalibrated one, for a
    /// band that decides nothing reaches from 0 to 1.
    pub fn inside(self, value: f64) -> f64 {
        let (lo, hi) = (self.lo.max(Self::UNCALIBRATED.lo), self.hi.min(Self::UNCALIBRATED.hi));
        let margin = 0.01 * (hi - lo);
        if margin > 0.0 { value.clamp(lo + margin, hi - margin) } else { f64::midpoint(self.lo, self.hi) }
    }
}

/// Factors of the logit, log-odds a unit of each signal.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Weights {
    /// Logit of an answer whose signals are all 0.
    pub bias: f64,
    /// Of [`Signals::entailment`].
    pub entailment: f64,
    /// Of [`Signals::contradiction`].
    pub contradiction: f64,
    /// Of [`Signals::pairs`].
    pub pairs: f64,
    /// Of [`Signals::copied`].
    pub copied: f64,
    /// Of [`Signals::closeness`]; 0 where there was no sentence encoder.
    pub closeness: f64,
}

/// Weights of a logit: the bias and one for each of the [`Signals`].
pub const WEIGHTS: usize = 6;

/// The part of a file that every format has.
#[derive(Deserialize)]
struct Format {
    format: u32,
}

/// The band of one slice and what it was fitted on.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Slice {
    /// Factor of the logit; 1 for the whole.
    pub scale: f64,
    /// Added to the logit; 0 for the whole.
    pub shift: f64,
    /// Where it decides.
    pub band: Band,
    /// Labelled calls that it was fitted on.
    pub labels: usize,
    /// Share of them that the band decides.
    pub decided: f64,
    /// Share of errors among the decided; 0 where none is decided.
    pub error: f64,
}

/// `calibration.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Version of the format, [`FORMAT`].
    pub format: u32,
    /// Digest of models, tokenizers and windows that the signals came from.
    pub evidence: String,
    /// Error among the decided that the bands were fitted for, 0..1.
    pub target_error: f64,
    /// Confidence with which the bands keep to it, 0..1.
    pub confidence: f64,
    /// The logit.
    pub weights: Weights,
    /// The curve over it.
    pub isotonic: Isotonic,
    /// The band of features that have none of their own.
    pub all: Slice,
    /// Features with enough labels of their own.
    #[serde(default)]
    pub features: BTreeMap<String, Slice>,
}

/// Why a calibration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CalibrationError {
    /// The file cannot be read.
    #[error("calibration {}: {detail}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        detail: String,
    },
    /// It was fitted on other evidence.
    #[error(
        "calibration {} was fitted for another model, another [inference] embedding (or with one, and there is none), \
         other [nli] windows or another release: run `aftercheck calibrate` again, or set [cascade] calibrated = false",
        .0.display()
    )]
    Other(PathBuf),
}

impl Calibration {
    /// Reads a file that was fitted on this evidence.
    ///
    /// # Errors
    /// [`CalibrationError`] naming the file and what to do.
    pub fn read(path: &Path, evidence: &str) -> Result<Self, CalibrationError> {
        let unreadable = |detail: String| CalibrationError::Unreadable { path: path.to_owned(), detail };
        let size = fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
        if size > MAX_FILE_BYTES {
            return Err(unreadable(format!("{size} bytes are no calibration")));
        }
        let text = fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
        let unknown = |error| unreadable(format!("{error}; write it with `aftercheck calibrate`"));
        // First the format: the fields of another are not those below.
        let Format { format } = serde_json::from_str(&text).map_err(unknown)?;
        if format != FORMAT {
            return Err(unreadable(format!(
                "format {format} is not {FORMAT}, which this release reads: run `aftercheck calibrate` again, or set \
                 [cascade] calibrated = false"
            )));
        }
        let read: Self = serde_json::from_str(&text).map_err(unknown)?;
        if read.evidence != evidence {
            return Err(CalibrationError::Other(path.to_owned()));
        }
        match read.fault() {
            Some(fault) => Err(unreadable(fault.into())),
            None => Ok(read),
        }
    }

    /// What no fit would have written.
    fn fault(&self) -> Option<&'static str> {
        let weights = self.weights.as_array();
        let slices = || self.features.values().chain([&self.all]);
        let finite = weights.iter().all(|weight| weight.is_finite())
            && self.isotonic.is_sound()
            && slices().all(|slice| slice.scale.is_finite() && slice.scale > 0.0 && slice.shift.is_finite());
        let ordered = slices()
            .all(|slice| 0.0 <= slice.band.lo && slice.band.lo < slice.band.hi && slice.band.hi <= 1.0);
        match (finite, ordered) {
            (false, _) => Some("a weight is not a finite number, a scale not above 0, or the curve falls"),
            (_, false) => Some("a band needs 0 <= lo < hi <= 1"),
            _ => None,
        }
    }

    /// Whether any of its bands decides any of the calls that it was fitted on.
    pub fn decides(&self) -> bool {
        self.features.values().chain([&self.all]).any(|slice| slice.decided > 0.0)
    }

    /// The slice of a feature: its own, or that of all.
    pub fn slice(&self, feature: &str) -> &Slice {
        self.features.get(feature).unwrap_or(&self.all)
    }

    /// Probability that an answer with these signals is supported, more than 0 and less than 1. It is fitted on
    /// answers; for a single claim it is the same yardstick and no fitted probability.
    pub fn support(&self, feature: &str, signals: &Signals) -> f64 {
        let slice = self.slice(feature);
        let logit = slice.scale * self.isotonic.apply(self.weights.logit(signals)) + slice.shift;
        logistic(logit).clamp(NEVER_SURE, 1.0 - NEVER_SURE)
    }
}

impl Weights {
    /// Bias first, then as [`Signals::as_array`].
    pub fn as_array(&self) -> [f64; WEIGHTS] {
        [self.bias, self.entailment, self.contradiction, self.pairs, self.copied, self.closeness]
    }

    /// The inverse of [`Weights::as_array`].
    pub fn from_array(weights: [f64; WEIGHTS]) -> Self {
        let [bias, entailment, contradiction, pairs, copied, closeness] = weights;
        Self { bias, entailment, contradiction, pairs, copied, closeness }
    }

    /// The log-odds of support.
    pub fn logit(&self, signals: &Signals) -> f64 {
        self.as_array().iter().zip(signals.as_array()).map(|(weight, signal)| weight * signal).sum()
    }
}

impl Signals {
    /// 1 for the bias, then the signals.
    pub fn as_array(&self) -> [f64; WEIGHTS] {
        [1.0, self.entailment, self.contradiction, self.pairs, self.copied, self.closeness]
    }
}

/// How signals become a probability, and where it decides: a calibration, or without one the entailment itself and a
/// band that is wide on purpose; configured thresholds go over both.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Scale {
    calibration: Option<Calibration>,
    lo: Option<f64>,
    hi: Option<f64>,
}

impl Scale {
    /// The scale of this calibration, with thresholds that are configured.
    pub fn new(calibration: Option<Calibration>, lo: Option<f64>, hi: Option<f64>) -> Self {
        Self { calibration, lo, hi }
    }

    /// The calibration, where there is one.
    pub fn calibration(&self) -> Option<&Calibration> {
        self.calibration.as_ref()
    }

    /// Probability that a claim or an answer with these signals is supported, 0..1.
    pub fn support(&self, feature: &str, signals: &Signals) -> f64 {
        match &self.calibration {
            Some(calibration) => calibration.support(feature, signals),
            None => signals.entailment,
        }
    }

    /// Where it decides for a feature.
    pub fn band(&self, feature: &str) -> Band {
        let fitted = self.calibration.as_ref().map_or(Band::UNCALIBRATED, |found| found.slice(feature).band);
        Band { lo: self.lo.unwrap_or(fitted.lo), hi: self.hi.unwrap_or(fitted.hi) }
    }

    /// A feature whose configured and fitted thresholds leave no band between them; `*` for all others.
    pub fn without_band(&self) -> Option<&str> {
        let features = self.calibration.iter().flat_map(|found| found.features.keys());
        features.map(String::as_str).chain(["*"]).find(|feature| {
            let band = self.band(feature);
            band.lo >= band.hi
        })
    }
}

/// Digest of what signals come from: the models, by the digest of their folders, and the windows that they read.
pub fn evidence_digest(model_digest: &str, windows: &WindowConfig) -> String {
    sha256_hex(
        json!({ "signals": SIGNALS, "model": model_digest, "windows": windows }).to_string().as_bytes(),
    )[..16]
        .to_owned()
}

/// 1 / (1 + e^-x), without overflow.
pub fn logistic(x: f64) -> f64 {
    if x >= 0.0 { 1.0 / (1.0 + (-x).exp()) } else { x.exp() / (1.0 + x.exp()) }
}

#[cfg(test)]
mod tests;
