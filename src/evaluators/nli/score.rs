//! Faithfulness of an answer: claims × evidence windows through the model, aggregated to the call.

use std::collections::BTreeMap;

use super::{
    citations::{Citations, Cleared},
    claims::{self, ClaimSpan},
    doubts::Doubts,
    evidence::{self, WindowConfig, Windows},
};
use crate::{
    domain::{Call, Claim, ClaimLabel, Doubt},
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
    /// Mean over claims of the best window's entailment, kept within the band where [`Self::doubt`] finds one; null
    /// without claims.
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

    /// Finds the commonest doubt, where fewer than half of the claims can be judged.
    pub fn doubt(&self) -> Option<Doubt> {
        let count = |doubt: Doubt| self.claims.iter().filter(|claim| claim.doubt == Some(doubt)).count();
        let doubted: usize = Doubt::ALL.into_iter().map(count).sum();
        // The last of equals is the one that max takes: so the first counts.
        let commonest = Doubt::ALL.into_iter().rev().max_by_key(|doubt| count(*doubt))?;
        (2 * doubted > self.claims.len()).then_some(commonest)
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
    /// Why the model cannot judge this, whatever it answers.
    pub doubt: Option<Doubt>,
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
    let mut by_claim: BTreeMap<usize, Vec<(&Question, Scored)>> = BTreeMap::new();
    for (question, scored) in asked.iter().zip(scores) {
        by_claim.entry(question.claim).or_default().push((question, scored));
    }
    let mut supports = Vec::with_capacity(by_claim.len());
    let mut found = Vec::with_capacity(by_claim.len());
    for (claim, scored) in by_claim {
        let (support, evidence) = judge_claim(call, &claims.spans[claim], &scored, &windows, band);
        supports.push(support);
        found.push(evidence);
    }
    let score = (!supports.is_empty()).then(|| supports.iter().sum::<f64>() / supports.len() as f64);
    let mut found = Faithfulness {
        score,
        claims: found,
        tokens_cut: windows.tokens_cut + cut as u64,
        claims_dropped: claims.dropped,
    };
    if found.doubt().is_some() {
        // Never a confident number, and still in its order.
        found.score = found.score.map(|value| band.lo + (band.hi - band.lo) * value);
    }
    Ok(found)
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
    let cleared = citations.clear(&claims.spans);
    let read = cleared.iter().map(|claim| claim.text.as_str());
    let doubts = Doubts::of(&call.content.answer, read, tokenizer.languages());
    for (claim, Cleared { text, contexts: cited }) in cleared.into_iter().enumerate() {
        let own = doubts.of_claim(&text, &claims.spans[claim]);
        let wanted = config.windows_per_claim.max(cited.len().min(MAX_CITED_WINDOWS));
        for window in windows.best_for(&text, Some(&cited), wanted) {
            let found = doubts.of_window(windows.text(contexts, window), windows.all[window].cuts_table);
            let doubt = own.into_iter().chain(found).min();
            asked.push(Question { claim, window, hypothesis: text.clone(), doubt });
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
    scored: &[(&Question, Scored)],
    windows: &Windows,
    band: Band,
) -> (f64, Claim) {
    let best = |key: fn(&Scored) -> f64| {
        scored.iter().max_by(|a, b| key(&a.1).total_cmp(&key(&b.1))).copied().unwrap_or(scored[0])
    };
    let entailing = best(|score| score.entailment);
    let support = entailing.1.entailment;
    let (question, score) = if support > band.lo { entailing } else { best(|score| score.contradiction) };
    let label = match support {
        _ if question.doubt.is_some() => ClaimLabel::Unsure,
        support if support >= band.hi => ClaimLabel::Supported,
        support if support > band.lo => ClaimLabel::Unsure,
        _ if score.contradiction > score.neutral => ClaimLabel::Contradicted,
        _ => ClaimLabel::NotFound,
    };
    let place = &windows.all[question.window];
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
        doubt: question.doubt,
    };
    (support, claim)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was found about claims with these doubts.
    fn found(doubts: &[Option<Doubt>]) -> Faithfulness {
        let claim = |doubt: &Option<Doubt>| Claim {
            start: 0,
            end: 1,
            entailment: 1.0,
            neutral: 0.0,
            contradiction: 0.0,
            chunk_id: "c".into(),
            chunk_start: 0,
            chunk_end: 1,
            label: ClaimLabel::Unsure,
            doubt: *doubt,
        };
        Faithfulness { claims: doubts.iter().map(claim).collect(), ..Faithfulness::default() }
    }

    #[test]
    fn a_call_is_doubted_where_fewer_than_half_of_its_claims_can_be_judged() {
        use Doubt::{Code, Short, Table};
        for (doubts, expected) in [
            (vec![], None),
            (vec![None], None),
            (vec![Some(Short)], Some(Short)),
            (vec![Some(Short), None], None),
            (vec![Some(Short), Some(Table), None], Some(Table)),
            (vec![Some(Short), Some(Short), Some(Code)], Some(Short)),
        ] {
            assert_eq!(found(&doubts).doubt(), expected, "{doubts:?}");
        }
    }
}
