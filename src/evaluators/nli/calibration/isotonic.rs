//! A monotone curve from log-odds to log-odds that makes probabilities come true where a straight line does not.
//!
//! Labelled calls are sorted by logit and cut into parts of equal size; neighbouring parts whose shares of supported
//! calls fall are pooled (the pool-adjacent-violators algorithm, Ayer et al. 1955); the curve runs straight from the
//! middle of one part to that of the next, and with slope 1 beyond the outermost. So it keeps every order that the
//! logits had, as steps would not.

use serde::{Deserialize, Serialize};

/// Calls of one part.
const PART: usize = 40;
/// Logits that are no further apart are one.
const TIED: f64 = 1e-9;
/// Most parts.
const MOST_PARTS: usize = 25;

/// The curve.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Isotonic {
    /// Logit in, logit out; both ascending. Without knots the curve changes nothing.
    pub knots: Vec<[f64; 2]>,
}

/// Calls with neighbouring logits.
#[derive(Debug, Clone, Copy)]
struct Part {
    /// Sum of their logits.
    logits: f64,
    /// How many are supported.
    supported: f64,
    /// How many there are.
    count: f64,
}

impl Part {
    /// These calls together.
    fn of(calls: &[(f64, bool)]) -> Self {
        Self {
            logits: calls.iter().map(|(logit, _)| logit).sum(),
            supported: calls.iter().filter(|(_, supported)| *supported).count() as f64,
            count: calls.len() as f64,
        }
    }

    /// Share of supported calls, drawn to one half by one call, so that no share is 0 or 1.
    fn share(self) -> f64 {
        (self.supported + 0.5) / (self.count + 1.0)
    }

    /// Both together.
    fn and(self, other: Self) -> Self {
        Self {
            logits: self.logits + other.logits,
            supported: self.supported + other.supported,
            count: self.count + other.count,
        }
    }

    /// Its middle and the log-odds of its share.
    fn knot(self) -> [f64; 2] {
        [self.logits / self.count, (self.share() / (1.0 - self.share())).ln()]
    }
}

impl Isotonic {
    /// Fits the curve to calls with these logits and labels.
    pub fn fit(labelled: &[(f64, bool)]) -> Self {
        let mut sorted = labelled.to_vec();
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        let size = (sorted.len() / PART).clamp(1, MOST_PARTS);
        let size = sorted.len().div_ceil(size).max(1);
        let mut pooled: Vec<Part> = Vec::new();
        let mut rest = &sorted[..];
        while let Some((last, _)) = rest.get(size.min(rest.len()).wrapping_sub(1)) {
            // Calls of one logit stay together: their order says nothing.
            let end = rest.partition_point(|(logit, _)| *logit <= last + TIED);
            let mut next = Part::of(&rest[..end]);
            rest = &rest[end..];
            while let Some(before) = pooled.pop_if(|before| before.share() >= next.share()) {
                next = before.and(next);
            }
            pooled.push(next);
        }
        let knots = pooled.into_iter().map(Part::knot).collect();
        Self { knots }
    }

    /// The logit that comes true.
    pub fn apply(&self, logit: f64) -> f64 {
        let next = self.knots.partition_point(|knot| knot[0] <= logit);
        match (next.checked_sub(1).and_then(|before| self.knots.get(before)), self.knots.get(next)) {
            (Some([x, y]), Some([next_x, next_y])) => y + (next_y - y) * (logit - x) / (next_x - x),
            (Some([x, y]), None) | (None, Some([x, y])) => y + logit - x,
            (None, None) => logit,
        }
    }

    /// Whether every number is finite and in order, as a fit leaves them.
    pub fn is_sound(&self) -> bool {
        self.knots.iter().flatten().all(|number| number.is_finite())
            && self.knots.windows(2).all(|pair| pair[0][0] < pair[1][0] && pair[0][1] <= pair[1][1])
    }
}
