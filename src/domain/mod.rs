//! Plain data: the call that comes in, the evaluation that goes out. Imports no sibling module.
//!
//! * [`call`]: message version 1, what producers send (`schemas/call.v1.json`).
//! * [`claim`]: one checkable statement of an answer with its evidence.
//! * [`evaluation`]: what one evaluator version found out about one call (`schemas/evaluation.v1.json`).
//! * [`verdict`]: the four verdicts and who decided them.
//! * [`dead_letter`]: an input that can never be evaluated, and why.
//! * [`label`] and [`golden`]: what people say of an answer, and the examples that come of it.
//! * [`notice`]: something that somebody should hear of.
//! * [`person`]: who asks, and what they may see and do.
//! * [`review`]: what follows from what people said.
//! * [`retraction`]: a delivery that is undone.
//! * [`id`]: ids derived from what they are about, so that a repeat overwrites.

pub mod call;
pub mod claim;
pub mod dead_letter;
pub mod evaluation;
pub mod golden;
pub mod id;
pub mod label;
pub mod notice;
pub mod person;
pub mod placeholder;
pub mod retraction;
pub mod review;
pub mod verdict;

pub use call::{Call, Content, Context};
pub use claim::{Claim, ClaimLabel, Doubt};
pub use dead_letter::{DeadClass, DeadLetter};
pub use evaluation::{
    Evaluation, Exchange, JudgeFailure, JudgedClaim, Judgement, RuleOutcome, RuleResult, Stage, StageOutcome,
    StageReport,
};
pub use golden::Golden;
pub use label::{Label, Said};
pub use notice::{Addressed, Event, Message, Notice, Severity};
pub use person::{Person, Role};
pub use retraction::{GoldenKey, Retraction};
pub use review::{ReviewState, Standing};
pub use verdict::{DecidedBy, Reason, Verdict};
