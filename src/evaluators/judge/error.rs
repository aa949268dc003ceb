//! How a judge fails, and what is to be done about it. Nothing of what was asked or answered gets into an error.

use std::time::Duration;

use crate::outbound::Unanswered;

/// Why there is no verdict.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JudgeError {
    /// There is no answer.
    #[error("judge does not answer: {0}")]
    Unanswered(#[from] Unanswered),
    /// It asks to be left alone for a while.
    #[error("judge is asked too often")]
    Limited(Option<Duration>),
    /// It is down, or what stands before it.
    #[error("judge answers with status {status}")]
    Down {
        /// HTTP status.
        status: u16,
        /// How long it asks to wait.
        wait: Option<Duration>,
    },
    /// The account has no money left, or has reached a limit of spending: asking again costs attempts and brings nothing.
    #[error("judge's account is out of money or over its limit; see the provider's billing page")]
    NoMoney,
    /// It does not let us in.
    #[error("judge refuses the key with status {0}; check key_file or key_env, and what the key may do")]
    Unauthorised(u16),
    /// There is no such model or path.
    #[error("judge does not know the model or path; check url and model")]
    NotFound,
    /// It does not take this request, and will not take it later.
    #[error("judge refuses the request with status {0}")]
    Refused(u16),
    /// The text is more than it reads.
    #[error("judge reads no question of this length")]
    TooLong,
    /// It will not judge this.
    #[error("judge declines to judge this")]
    Declined,
    /// The answer is cut off.
    #[error("judge's answer is cut off; raise max_output_tokens, which hidden reasoning counts against too")]
    CutOff,
    /// The answer is not what was asked for.
    #[error("judge's answer cannot be used: {0}")]
    Invalid(&'static str),
    /// Its score and its labels say different things.
    #[error("judge's answer contradicts itself")]
    Contradictory,
}

/// What may help against a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// The same request later, after so long where the judge says so.
    Later(Option<Duration>),
    /// The same request once more: it may be luck.
    Again,
    /// Another judge, for this call.
    Another,
    /// Nothing but a person: the judge is not asked any more for a while.
    Person,
}

impl JudgeError {
    /// What may help.
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Unanswered(Unanswered::TooLarge(_)) | Self::Invalid(_) | Self::Contradictory => {
                Remedy::Again
            }
            Self::Unanswered(_) => Remedy::Later(None),
            Self::Limited(wait) | Self::Down { wait, .. } => Remedy::Later(*wait),
            Self::NoMoney | Self::Unauthorised(_) | Self::NotFound => Remedy::Person,
            Self::Refused(_) | Self::TooLong | Self::Declined | Self::CutOff => Remedy::Another,
        }
    }

    /// Whether it tells of the judge and not of the question: enough of these, one after the other, open its breaker.
    pub fn is_outage(&self) -> bool {
        matches!(self.remedy(), Remedy::Later(_) | Remedy::Person)
    }

    /// Whether it did not answer in time: perhaps for this question alone.
    pub fn is_late(&self) -> bool {
        matches!(self, Self::Unanswered(Unanswered::Late(_)) | Self::Down { status: 504, .. })
    }

    /// Whether a question may be paid for that brought nothing: it was sent, and perhaps answered.
    pub fn may_be_paid(&self) -> bool {
        self.is_late() || matches!(self, Self::Unanswered(Unanswered::TooLarge(_) | Unanswered::Broken(_)))
    }

    /// The word for it in stages, metrics and `why`.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Unanswered(Unanswered::Late(_)) => "timeout",
            Self::Unanswered(Unanswered::Unreached(_)) => "unreached",
            Self::Unanswered(Unanswered::Broken(_)) => "broken",
            Self::Unanswered(Unanswered::TooLarge(_)) => "too_large",
            Self::Limited(_) => "limited",
            Self::Down { .. } => "down",
            Self::NoMoney => "no_money",
            Self::Unauthorised(_) => "unauthorised",
            Self::NotFound => "not_found",
            Self::Refused(_) => "refused",
            Self::TooLong => "too_long",
            Self::Declined => "declined",
            Self::CutOff => "cut_off",
            Self::Invalid(_) => "invalid",
            Self::Contradictory => "contradictory",
        }
    }
}
