//! One checkable statement of an answer, with the evidence found for it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A claim of the answer and its best evidence. Offsets count Unicode scalar values, end exclusive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Claim {
    /// Where the claim begins in the answer.
    pub start: usize,
    /// Where the claim ends in the answer.
    pub end: usize,
    /// Probability in 0..1 that the evidence entails the claim.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub entailment: f64,
    /// Probability in 0..1 that the evidence neither entails nor contradicts the claim.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub neutral: f64,
    /// Probability in 0..1 that the evidence contradicts the claim.
    #[schemars(range(min = 0.0, max = 1.0))]
    pub contradiction: f64,
    /// Id of the context that holds the evidence.
    pub chunk_id: String,
    /// Where the evidence begins in that context's text.
    pub chunk_start: usize,
    /// Where the evidence ends in that context's text.
    pub chunk_end: usize,
    /// What the probabilities mean at the thresholds in force; `unsure` for a claim with a doubt.
    pub label: ClaimLabel,
    /// Why the model cannot judge the claim, whatever its probabilities are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub doubt: Option<Doubt>,
}

/// What the evidence says about a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClaimLabel {
    /// Support at or above `hi`: the calibration's reading of entailment, contradiction, closeness and shared words, or
    /// without a calibration the entailment itself.
    Supported,
    /// Support at or below `lo`, and contradiction more likely than neutral.
    Contradicted,
    /// Support at or below `lo`, and neutral more likely than contradiction.
    NotFound,
    /// Support between `lo` and `hi`, or a doubt.
    Unsure,
}

/// Why a claim is none that the model can judge; of several, the first counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Doubt {
    /// It, or its evidence, is in a language that the model does not read.
    Language,
    /// It is mostly code.
    Code,
    /// It is mostly a formula.
    Formula,
    /// Its evidence holds rows of a table whose header is cut off.
    Table,
    /// Its only subject is a pronoun, and no earlier sentence says what it stands for.
    Pronoun,
    /// It has fewer than three content words.
    Short,
}

impl ClaimLabel {
    /// The word used in JSON, columns and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Supported => "supported",
            Self::Contradicted => "contradicted",
            Self::NotFound => "not_found",
            Self::Unsure => "unsure",
        }
    }
}

impl Doubt {
    /// All six, the one that counts first first.
    pub const ALL: [Self; 6] =
        [Self::Language, Self::Code, Self::Formula, Self::Table, Self::Pronoun, Self::Short];

    /// The word used in JSON, columns and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Language => "language",
            Self::Code => "code",
            Self::Formula => "formula",
            Self::Table => "table",
            Self::Pronoun => "pronoun",
            Self::Short => "short",
        }
    }
}
