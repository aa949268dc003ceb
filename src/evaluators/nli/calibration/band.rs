//! Chooses the band: as wide a decision as a stated error allows.
//!
//! A calibrated probability p errs with 1 - p where it says "supported" and with p where it says "not supported", so
//! that the best rule of any size decides where p is at most t or at least 1 - t (Chow 1970). The error among the
//! decided is bounded from above by Clopper and Pearson's exact interval (1934). Growing values of t are tried one after
//! the other until the bound first exceeds the target, from each of three starting points, among which the risk is
//! shared out: so the choice costs nothing of the confidence (fixed sequence testing with several starts: Learn then
//! Test, Angelopoulos et al. 2021, arXiv:2110.01052). The starts depend on the probabilities and not on the labels that
//! are counted; [`super::fit`] says what the probabilities depend on.

use statrs::distribution::{Beta, ContinuousCDF};

use super::Band;

/// Values of t that are tried: 0.01, 0.02 … 0.49.
const STEPS: u32 = 49;
/// Shares of the calls that a band decides where the trying starts.
const STARTS: [f64; 3] = [0.1, 0.2, 0.4];

/// A labelled call: the probability it got, and whether it is supported.
pub type Labelled = (f64, bool);

/// What a band does with labelled calls.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Chosen {
    /// The band; 0 to 1 where no t keeps to the target, which leaves everything unsure.
    pub band: Band,
    /// Share of the calls that it decides.
    pub decided: f64,
    /// Share of errors among them; 0 where none is decided.
    pub error: f64,
}

/// The widest band that keeps the error among the decided at or below `target` with this confidence.
pub fn choose(labelled: &[Labelled], target: f64, confidence: f64) -> Chosen {
    let tried: Vec<(Band, usize, usize)> = (1..=STEPS)
        .map(|step| f64::from(step) * 0.5 / f64::from(STEPS + 1))
        .map(|t| Band { lo: t, hi: 1.0 - t })
        .map(|band| (band, count(labelled, band)))
        .map(|(band, (decided, errors))| (band, decided, errors))
        .collect();
    let risk = (1.0 - confidence) / STARTS.len() as f64;
    let kept = |(_, decided, errors): &&(Band, usize, usize)| {
        *decided > 0 && upper_bound(*errors, *decided, 1.0 - risk) <= target
    };
    let share = |part: usize, whole: usize| part as f64 / whole as f64;
    let widest = STARTS.iter().filter_map(|start| {
        let first = tried.iter().position(|(_, decided, _)| share(*decided, labelled.len()) >= *start)?;
        tried[first..].iter().take_while(kept).last()
    });
    match widest.max_by_key(|(_, decided, _)| *decided) {
        Some((band, decided, errors)) => {
            Chosen { band: *band, decided: share(*decided, labelled.len()), error: share(*errors, *decided) }
        }
        None => Chosen { band: Band::NONE, decided: 0.0, error: 0.0 },
    }
}

/// How many calls a band decides, and how many of those wrongly.
pub fn count(labelled: &[Labelled], band: Band) -> (usize, usize) {
    let decided = labelled.iter().filter(|(p, _)| *p <= band.lo || *p >= band.hi);
    decided.fold((0, 0), |(decided, errors), (p, supported)| {
        (decided + 1, errors + usize::from((*p >= band.hi) != *supported))
    })
}

/// Upper end of Clopper and Pearson's one-sided interval for a share of `errors` among `decided`; 1 where all err.
pub fn upper_bound(errors: usize, decided: usize, confidence: f64) -> f64 {
    if errors >= decided {
        return 1.0;
    }
    let (errors, decided) = (errors as f64, decided as f64);
    Beta::new(errors + 1.0, decided - errors).map_or(1.0, |beta| beta.inverse_cdf(confidence))
}
