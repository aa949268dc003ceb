//! Faithfulness of an answer: claims × evidence windows through the model, aggregated to the call.

use std::collections::BTreeMap;

use super::{
    calibration::{Band, Scale, Signals},
    citations::{Citations, Cleared},
    claims::{self, ClaimSpan},
    closeness::Encoded,
    doubts::Doubts,
    evidence::{self, PASSAGES, Passage, WindowConfig, Windows},
    overlap::{Overlap, overlaps},
};
use crate::{
    domain::{Call, Claim, ClaimLabel, Doubt},
    inference::{Batcher, EncodedPair, InferenceError, Inputs, PairScore as Scored, PairTokenizer, Read},
};

/// Most windows of cited contexts that a claim is read against, one each, where fewer are configured.
const MAX_CITED_WINDOWS: usize = 4;

/// What NLI found out about a call.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Faithfulness {
    /// Probability that the contexts support the answer, kept within the band where [`Self::doubt`] finds one; null
    /// without claims.
    pub score: Option<f64>,
    /// What it is made of: means over the claims, and the words that they share with the contexts; null without
    /// claims.
    pub signals: Option<Signals>,
    /// Claims with their evidence.
    pub claims: Vec<Claim>,
    /// What a judge reads for each of them, best first.
    pub passages: Vec<Vec<Passage>>,
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
    /// The windows that fit each claim best, those that the model is asked about first.
    pub best: Vec<Vec<usize>>,
    /// The questions as token ids, in the order of [`Self::asked`].
    pub pairs: Vec<EncodedPair>,
    /// Each claim as the model reads it.
    pub texts: Vec<String>,
    /// Claims and windows for the sentence encoder, where there is one.
    pub encoded: Encoded,
    /// What each claim shares with the contexts.
    pub overlaps: Vec<Overlap>,
    /// What all claims share with them, read one after the other.
    pub overlap: Overlap,
}

/// Has the model answer the questions about a call, and adds the answers up.
///
/// # Errors
/// [`InferenceError`] when the model could not run; an error is never a score.
pub async fn score(
    call: &Call,
    questions: Questions,
    batcher: &Batcher,
    scale: &Scale,
) -> Result<Faithfulness, InferenceError> {
    let Questions { claims, windows, asked, best, pairs, overlaps, overlap, mut encoded, .. } = questions;
    let cut: usize = pairs.iter().map(|pair| pair.cut).sum();
    let texts = std::mem::take(&mut encoded.texts);
    let Read { scores, vectors } = batcher.read(Inputs { pairs, texts }).await?;
    let mut by_claim: BTreeMap<usize, Vec<(&Question, Scored)>> = BTreeMap::new();
    for (question, scored) in asked.iter().zip(scores) {
        by_claim.entry(question.claim).or_default().push((question, scored));
    }
    let mut own = Vec::with_capacity(by_claim.len());
    let mut found = Vec::with_capacity(by_claim.len());
    let mut passages = Vec::with_capacity(by_claim.len());
    for (claim, scored) in by_claim {
        let place = Place { call, span: &claims.spans[claim], windows: &windows };
        let closeness = |window: usize| encoded.closeness(&vectors, claim, window);
        let (signals, evidence, window) = judge_claim(place, &scored, (overlaps[claim], &closeness), scale);
        own.push(signals);
        found.push(evidence);
        passages.push(windows.passages([window].into_iter().chain(best[claim].iter().copied())));
    }
    let signals = together(&own, overlap);
    let mut found = Faithfulness {
        score: signals.map(|signals| scale.support(&call.feature, &signals)),
        signals,
        claims: found,
        passages,
        tokens_cut: windows.tokens_cut + cut as u64,
        claims_dropped: claims.dropped,
    };
    if found.doubt().is_some() {
        // Never a confident number.
        let band = scale.band(&call.feature);
        found.score = found.score.map(|value| band.inside(value));
    }
    Ok(found)
}

/// Splits the answer into claims, chooses the windows for each and tokenises the pairs, and for a sentence encoder the
/// texts: all the CPU work before the models'. Contexts that a claim cites are looked at first.
///
/// # Errors
/// [`InferenceError::Tokenizer`] when the tokenizer refuses a text.
pub fn ask(
    call: &Call,
    tokenizer: &PairTokenizer,
    encoder: Option<&PairTokenizer>,
    config: &WindowConfig,
) -> Result<Questions, InferenceError> {
    let contexts = &call.content.contexts;
    let mut claims = claims::split(&call.content.answer);
    let citations = Citations::of(call);
    claims.spans.retain(|claim| citations.states(claim));
    let windows = evidence::windows(contexts, &|text| tokenizer.offsets(text), config)?;
    let (mut asked, mut best, mut texts) = (Vec::new(), Vec::new(), Vec::with_capacity(claims.spans.len()));
    let cleared = citations.clear(&claims.spans);
    let read = cleared.iter().map(|claim| claim.text.as_str());
    let doubts = Doubts::of(&call.content.answer, read, tokenizer.languages());
    for (claim, Cleared { text, contexts: cited }) in cleared.into_iter().enumerate() {
        let own = doubts.of_claim(&text, &claims.spans[claim]);
        let wanted = config.windows_per_claim.max(cited.len().min(MAX_CITED_WINDOWS));
        let fitting = windows.best_for(&text, Some(&cited), wanted.max(PASSAGES));
        for &window in fitting.iter().take(wanted) {
            let found = doubts.of_window(windows.text(contexts, window), windows.all[window].cuts_table);
            let doubt = own.into_iter().chain(found).min();
            asked.push(Question { claim, window, doubt });
        }
        best.push(fitting);
        texts.push(text);
    }
    let pair =
        |question: &Question| tokenizer.pair(windows.text(contexts, question.window), &texts[question.claim]);
    let pairs = asked.iter().map(pair).collect::<Result<_, _>>()?;
    let read: Vec<&str> = texts.iter().map(String::as_str).collect();
    let (overlaps, overlap) = overlaps(&read, contexts);
    let compared = asked.iter().map(|question| (question.window, windows.text(contexts, question.window)));
    let encoded = encoder.map(|encoder| Encoded::new(encoder, read.iter().copied(), compared)).transpose()?;
    let encoded = encoded.unwrap_or_default();
    Ok(Questions { claims, windows, asked, best, pairs, texts, encoded, overlaps, overlap })
}

/// Where a claim and its evidence stand.
#[derive(Clone, Copy)]
struct Place<'a> {
    call: &'a Call,
    span: &'a ClaimSpan,
    windows: &'a Windows,
}

/// The claim's signals, its evidence and the evidence's window: the one that supports it best, or, where it is contradicted,
/// the one that contradicts it most. `closeness` tells that of the claim to a window.
fn judge_claim(
    place: Place,
    scored: &[(&Question, Scored)],
    (overlap, closeness): (Overlap, &dyn Fn(usize) -> f64),
    scale: &Scale,
) -> (Signals, Claim, usize) {
    let most = |key: fn(&Scored) -> f64, doubted: bool| {
        let fit = scored.iter().filter(|(question, _)| doubted || question.doubt.is_none());
        fit.max_by(|a, b| key(&a.1).total_cmp(&key(&b.1))).copied()
    };
    let entailing = most(|score| score.entailment, true).unwrap_or(scored[0]);
    // A window that the model cannot judge contradicts nothing.
    let contradicting = most(|score| score.contradiction, false).unwrap_or(entailing);
    let signals = Signals {
        entailment: entailing.1.entailment,
        contradiction: entailing.1.contradiction,
        pairs: overlap.pairs,
        copied: overlap.copied,
        closeness: closeness(entailing.0.window),
    };
    let feature = &place.call.feature;
    let label = match entailing.0.doubt {
        Some(_) => ClaimLabel::Unsure,
        None => label(scale.support(feature, &signals), scale.band(feature), &contradicting.1),
    };
    let (question, score) = if label == ClaimLabel::Contradicted { contradicting } else { entailing };
    let window = &place.windows.all[question.window];
    let context = &place.call.content.contexts[window.context];
    let chars = evidence::char_range(&context.text, window.bytes.clone());
    let claim = Claim {
        start: place.span.chars.start,
        end: place.span.chars.end,
        entailment: score.entailment,
        neutral: score.neutral,
        contradiction: score.contradiction,
        chunk_id: context.id.clone(),
        chunk_start: chars.start,
        chunk_end: chars.end,
        label,
        doubt: entailing.0.doubt,
    };
    (signals, claim, question.window)
}

/// The label of a claim with this support, where this window contradicts it most.
fn label(support: f64, band: Band, contradicting: &Scored) -> ClaimLabel {
    match support {
        support if support >= band.hi => ClaimLabel::Supported,
        support if support > band.lo => ClaimLabel::Unsure,
        _ if contradicting.contradiction > contradicting.neutral => ClaimLabel::Contradicted,
        _ => ClaimLabel::NotFound,
    }
}

/// The answer's signals: means of what the models said of the claims, and the words of them all.
fn together(claims: &[Signals], overlap: Overlap) -> Option<Signals> {
    let mean = |of: fn(&Signals) -> f64| claims.iter().map(of).sum::<f64>() / claims.len() as f64;
    (!claims.is_empty()).then(|| Signals {
        entailment: mean(|claim| claim.entailment),
        contradiction: mean(|claim| claim.contradiction),
        pairs: overlap.pairs,
        copied: overlap.copied,
        closeness: mean(|claim| claim.closeness),
    })
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
