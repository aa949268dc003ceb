//! The four verdicts, who decided, and the short codes that say why.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Doubt;

/// What aftercheck concludes about a call. There is no error verdict: a stage that could not run says so in
/// its [`StageReport`](super::StageReport), and the call is reviewed, retried or dead-lettered by policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The answer holds.
    Pass,
    /// The answer does not hold.
    Fail,
    /// A person has to look.
    Review,
    /// There is nothing to judge the answer by.
    NotApplicable,
}

/// The stage that settled the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DecidedBy {
    /// A rule with `on_fail = "fail"`.
    Rules,
    /// The local NLI model.
    Nli,
    /// The LLM judge.
    Judge,
    /// A person.
    Human,
    /// Configuration: unsure, conflicting, audited or not applicable.
    Policy,
}

impl DecidedBy {
    /// The word used in JSON, columns and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Rules => "rules",
            Self::Nli => "nli",
            Self::Judge => "judge",
            Self::Human => "human",
            Self::Policy => "policy",
        }
    }
}

/// Short code of a reason for the verdict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// A rule whose `on_fail` is `fail` failed.
    RuleFailed,
    /// A rule whose `on_fail` is `review` failed, or a failing rule could not be decided.
    RuleReview,
    /// A rule could not run.
    RuleError,
    /// Faithfulness at or above `hi`.
    Supported,
    /// Faithfulness at or below `lo`.
    NotSupported,
    /// Faithfulness at or above `hi` in the mean, but a claim is contradicted or found nowhere.
    ClaimNotSupported,
    /// A limit kept the model from reading all of it: what it found is not sure.
    Truncated,
    /// Most claims cannot be judged, commonly because the model does not read the language.
    Language,
    /// Most claims cannot be judged, commonly because they are code.
    Code,
    /// Most claims cannot be judged, commonly because they are formulas.
    Formula,
    /// Most claims cannot be judged, commonly because a table was cut off from its header.
    TableCut,
    /// Most claims cannot be judged, commonly because nothing says what their pronouns stand for.
    Pronoun,
    /// Most claims cannot be judged, commonly because they are too short.
    TooShort,
    /// Faithfulness between `lo` and `hi`, and no judge decided.
    UnsureBand,
    /// The judge found the unsure claims supported.
    JudgeSupported,
    /// The judge found that the evidence does not support all of the unsure claims.
    JudgeNotSupported,
    /// The judge was not sure either.
    JudgeUnsure,
    /// The judge and the model say nearly the opposite.
    JudgeDisagrees,
    /// The judge could not be asked about all of the unsure claims.
    JudgeLeftOut,
    /// No judge gave an answer that can be used.
    JudgeError,
    /// The budget of the judge is spent.
    JudgeBudget,
    /// The call brought no contexts.
    NoContext,
    /// The answer holds nothing that can be checked.
    NoClaims,
    /// The answer is a refusal.
    Refusal,
    /// NLI is switched off.
    NliOff,
    /// NLI could not run.
    NliError,
    /// The producer recorded a typed error instead of an answer.
    CallError,
    /// The user's thumb is down although the checks passed.
    ThumbsDown,
    /// The user asked for a person although the checks passed.
    Escalated,
    /// Drawn at random from the confident verdicts: a person looks too, the verdict stays.
    AuditSlice,
}

impl Verdict {
    /// All four, in the order that tables show them.
    pub const ALL: [Self; 4] = [Self::Pass, Self::Fail, Self::Review, Self::NotApplicable];

    /// The word used in JSON, columns and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Fail => "fail",
            Self::Review => "review",
            Self::NotApplicable => "not_applicable",
        }
    }
}

impl Reason {
    /// The word used in JSON, columns and tables.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RuleFailed => "rule_failed",
            Self::RuleReview => "rule_review",
            Self::RuleError => "rule_error",
            Self::Supported => "supported",
            Self::NotSupported => "not_supported",
            Self::ClaimNotSupported => "claim_not_supported",
            Self::Truncated => "truncated",
            Self::Language => "language",
            Self::Code => "code",
            Self::Formula => "formula",
            Self::TableCut => "table_cut",
            Self::Pronoun => "pronoun",
            Self::TooShort => "too_short",
            Self::UnsureBand => "unsure_band",
            Self::JudgeSupported => "judge_supported",
            Self::JudgeNotSupported => "judge_not_supported",
            Self::JudgeUnsure => "judge_unsure",
            Self::JudgeDisagrees => "judge_disagrees",
            Self::JudgeLeftOut => "judge_left_out",
            Self::JudgeError => "judge_error",
            Self::JudgeBudget => "judge_budget",
            Self::NoContext => "no_context",
            Self::NoClaims => "no_claims",
            Self::Refusal => "refusal",
            Self::NliOff => "nli_off",
            Self::NliError => "nli_error",
            Self::CallError => "call_error",
            Self::ThumbsDown => "thumbs_down",
            Self::Escalated => "escalated",
            Self::AuditSlice => "audit_slice",
        }
    }
}

impl From<Doubt> for Reason {
    /// The reason of a call whose claims are mostly doubted, and commonly so.
    fn from(doubt: Doubt) -> Self {
        match doubt {
            Doubt::Language => Self::Language,
            Doubt::Code => Self::Code,
            Doubt::Formula => Self::Formula,
            Doubt::Table => Self::TableCut,
            Doubt::Pronoun => Self::Pronoun,
            Doubt::Short => Self::TooShort,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_the_word_that_json_has() {
        let schema = schemars::schema_for!(Reason);
        let words = schema.as_value()["oneOf"].as_array().unwrap();
        let words: Vec<&str> = words.iter().map(|one| one["const"].as_str().unwrap()).collect();
        assert!(words.len() > 20, "{words:?}");
        for word in words {
            let reason: Reason = serde_json::from_value(word.into()).unwrap();
            assert_eq!(reason.as_str(), word);
        }
    }
}
