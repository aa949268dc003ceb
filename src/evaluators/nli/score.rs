//! Faithfulness of an answer: claims × evidence windows through the model, aggregated to the call.

use std::collections::{BTreeMap, HashSet};

use super::{
    claims::{self, ClaimSpan},
    evidence::{self, WindowConfig, Windows},
};
use crate::{
    domain::{Call, Claim, ClaimLabel, evaluation::Span},
    inference::{Batcher, EncodedPair, InferenceError, PairScore as Scored, PairTokenizer},
};

/// Most bytes of a context's id, which has at most 200 characters, and its closing bracket.
const MAX_ID_BYTES: usize = 801;

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
/// model's. `citations` are the sentences of the answer that name a chunk: that chunk is looked at first.
///
/// # Errors
/// [`InferenceError::Tokenizer`] when the tokenizer refuses a text.
pub fn ask(
    call: &Call,
    citations: &[Span],
    tokenizer: &PairTokenizer,
    config: &WindowConfig,
) -> Result<Questions, InferenceError> {
    let contexts = &call.content.contexts;
    let claims = claims::split(&call.content.answer);
    let windows = evidence::windows(contexts, &|text| tokenizer.offsets(text), config)?;
    let ids: HashSet<&str> = contexts.iter().map(|context| context.id.as_str()).collect();
    let mut asked = Vec::new();
    for (claim, span) in claims.spans.iter().enumerate() {
        let text = &call.content.answer[span.bytes.clone()];
        let hypothesis = without_citations(text, &ids);
        let cited = cited_contexts(call, span, citations);
        for window in windows.best_for(text, Some(&cited), config.windows_per_claim) {
            asked.push(Question { claim, window, hypothesis: hypothesis.clone() });
        }
    }
    let pair =
        |question: &Question| tokenizer.pair(windows.text(contexts, question.window), &question.hypothesis);
    let pairs = asked.iter().map(pair).collect::<Result<_, _>>()?;
    Ok(Questions { claims, windows, asked, pairs })
}

/// The claim as the model reads it: "[chk_7]" says nothing about the world, and lowers entailment. One pass; a
/// claim that is nothing but citations is left as it stands.
fn without_citations(text: &str, ids: &HashSet<&str>) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('[') {
        // Ids have at most 200 characters: looking no further keeps a megabyte of "[" linear.
        let end = after.bytes().take(MAX_ID_BYTES).position(|byte| byte == b']');
        match end.filter(|&end| ids.contains(&after[..end])) {
            Some(end) => {
                plain.push_str(before.trim_end());
                rest = &after[end + 1..];
            }
            None => {
                plain.push_str(before);
                plain.push('[');
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    if plain.chars().any(char::is_alphanumeric) { plain } else { text.to_owned() }
}

/// Contexts that a citation within the claim names.
fn cited_contexts(call: &Call, claim: &ClaimSpan, citations: &[Span]) -> Vec<usize> {
    let mut cited: Vec<usize> = citations
        .iter()
        .filter(|span| span.start < claim.chars.end && claim.chars.start < span.end)
        .filter_map(|span| call.content.contexts.iter().position(|context| context.id == span.note))
        .collect();
    cited.sort_unstable();
    cited.dedup();
    cited
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn citations_are_not_part_of_what_is_claimed() {
        let ids = HashSet::from(["chk_1", "chk_2"]);
        for (text, plain) in [
            ("Refunds take 30 days [chk_1].", "Refunds take 30 days."),
            ("Yes [chk_1][chk_2], it is [sic].", "Yes, it is [sic]."),
            ("[chk_1]", "[chk_1]"),
            ("a [b", "a [b"),
        ] {
            assert_eq!(without_citations(text, &ids), plain);
        }
    }
}
