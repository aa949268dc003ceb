//! Faithfulness of an answer: claims × evidence windows through the model, aggregated to the call.

use std::collections::BTreeMap;

use super::{
    citations::{Citations, Cleared},
    claims::{self, ClaimSpan},
    evidence::{self, WindowConfig, Windows},
};
use crate::{
    domain::{Call, Claim, ClaimLabel},
    inference::{Batcher, EncodedPair, InferenceError, PairScore as Scored, PairTokenizer},
};

/// Most windows of cited contexts that a claim is read against, one each, where fewer are configured.
const MAX_CITED_WINDOWS: usize = 4;

/// Claim labels change at these values of entailment.
#[derive(Debug, Clone, Copy)]
pub struct Band {
    /// At or below: not supported.
    pub lo: f64,
    /// At or above: supported.
    pub hi: f64,
}

/// What NLI found out about a call.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Faithfulness {
    /// Mean over claims of the best window's entailment; null without claims.
    pub score: Option<f64>,
    /// Claims with their evidence.
    pub claims: Vec<Claim>,
    /// Tokens that no model input held because of a limit.
    pub tokens_cut: u64,
    /// Claims that were not looked at because there are too many.
    pub claims_dropped: usize,
}

impl Faithfulness {
    /// Whether a claim is contradicted or found nowhere.
    pub fn is_lacking(&self) -> bool {
        let lacking = [ClaimLabel::Contradicted, ClaimLabel::NotFound];
        self.claims.iter().any(|claim| lacking.contains(&claim.label))
    }

    /// Whether a limit kept the model from reading all of it.
    pub fn is_truncated(&self) -> bool {
        self.tokens_cut > 0 || self.claims_dropped > 0
    }
}

/// What the model is asked: does this window support this claim?
pub struct Question {
    /// Index of the claim among the answer's.
    pub claim: usize,
    /// Index of the window among [`Questions::windows`].
    pub window: usize,
    /// The claim as the model reads it.
    pub hypothesis: String,
}

/// All that the model is asked about a call.
pub struct Questions {
    /// Claims of the answer.
    pub claims: claims::Claims,
    /// Windows over the contexts.
    pub windows: Windows,
    /// Which claim against which window, by claim.
    pub asked: Vec<Question>,
    /// The questions as token ids, in the same order.
    pub pairs: Vec<EncodedPair>,
}

/// Has the model answer the questions about a call, and adds the answers up.
///
/// # Errors
/// [`InferenceError`] when the model could not run; an error is never a score.
pub async fn score(
    call: &Call,
    questions: Questions,
    batcher: &Batcher,
    band: Band,
) -> Result<Faithfulness, InferenceError> {
    let Questions { claims, windows, asked, pairs } = questions;
    let cut: usize = pairs.iter().map(|pair| pair.cut).sum();
    let scores = batcher.classify(pairs).await?;
    let mut by_claim: BTreeMap<usize, Vec<(usize, Scored)>> = BTreeMap::new();
    for (question, scored) in asked.iter().zip(scores) {
        by_claim.entry(question.claim).or_default().push((question.window, scored));
    }
    let mut supports = Vec::with_capacity(by_claim.len());
    let mut found = Vec::with_capacity(by_claim.len());
    for (claim, scored) in by_claim {
        let (support, evidence) = judge_claim(call, &claims.spans[claim], &scored, &windows, band);
        supports.push(support);
        found.push(evidence);
    }
    let score = (!supports.is_empty()).then(|| supports.iter().sum::<f64>() / supports.len() as f64);
    Ok(Faithfulness {
        score,
        claims: found,
        tokens_cut: windows.tokens_cut + cut as u64,
        claims_dropped: claims.dropped,
    })
}

/// Splits the answer into claims, chooses the windows for each and tokenises the pairs: all the CPU work before the
/// model's. Contexts that a claim cites are looked at first.
///
/// # Errors
/// [`InferenceError::Tokenizer`] when the tokenizer refuses a text.
pub fn ask(
    call: &Call,
    tokenizer: &PairTokenizer,
    config: &WindowConfig,
) -> Result<Questions, InferenceError> {
    let contexts = &call.content.contexts;
    let mut claims = claims::split(&call.content.answer);
    let citations = Citations::of(call);
    claims.spans.retain(|claim| citations.states(claim));
    let windows = evidence::windows(contexts, &|text| tokenizer.offsets(text), config)?;
    let mut asked = Vec::new();
    for (claim, Cleared { text, contexts: cited }) in citations.clear(&claims.spans).into_iter().enumerate() {
        let wanted = config.windows_per_claim.max(cited.len().min(MAX_CITED_WINDOWS));
        for window in windows.best_for(&text, Some(&cited), wanted) {
            asked.push(Question { claim, window, hypothesis: text.clone() });
        }
    }
    let pair =
        |question: &Question| tokenizer.pair(windows.text(contexts, question.window), &question.hypothesis);
    let pairs = asked.iter().map(pair).collect::<Result<_, _>>()?;
    Ok(Questions { claims, windows, asked, pairs })
}

/// The claim's support (best entailment) and its evidence: the entailing window, or, where nothing supports the
/// claim, the window that contradicts it most.
fn judge_claim(
    call: &Call,
    span: &ClaimSpan,
    scored: &[(usize, Scored)],
    windows: &Windows,
    band: Band,
) -> (f64, Claim) {
    let best = |key: fn(&Scored) -> f64| {
        scored.iter().max_by(|a, b| key(&a.1).total_cmp(&key(&b.1))).copied().unwrap_or(scored[0])
    };
    let entailing = best(|score| score.entailment);
    let support = entailing.1.entailment;
    let (window, score) = if support > band.lo { entailing } else { best(|score| score.contradiction) };
    let label = match support {
        support if support >= band.hi => ClaimLabel::Supported,
        support if support > band.lo => ClaimLabel::Unsure,
        _ if score.contradiction > score.neutral => ClaimLabel::Contradicted,
        _ => ClaimLabel::NotFound,
    };
    let place = &windows.all[window];
    let context = &call.content.contexts[place.context];
    let chars = evidence::char_range(&context.text, place.bytes.clone());
    let claim = Claim {
        start: span.chars.start,
        end: span.chars.end,
        entailment: score.entailment,
        neutral: score.neutral,
        contradiction: score.contradiction,
        chunk_id: context.id.clone(),
        chunk_start: chars.start,
        chunk_end: chars.end,
        label,
    };
    (support, claim)
}
