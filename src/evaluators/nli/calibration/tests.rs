//! A known truth is found again, the band keeps its promise on calls it has not seen, and what cannot be fitted is
//! refused.

use proptest::prelude::*;

use super::{
    band::{choose, count, upper_bound},
    curve,
    fit::{FitError, Sample, Settings, fit},
    *,
};

/// Numbers in 0..1 that look random and are the same each time.
fn draws(seed: u64) -> impl Iterator<Item = f64> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    std::iter::repeat_with(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as f64 / (1u64 << 53) as f64
    })
}

const TRUTH: Weights =
    Weights { bias: -7.0, entailment: 7.0, contradiction: -3.0, pairs: 4.0, copied: 1.0, closeness: 2.0 };

/// Calls whose labels are drawn with the probability that [`TRUTH`] gives them.
fn samples(count: usize, seed: u64, feature: &str, shift: f64) -> Vec<Sample> {
    let mut draw = draws(seed);
    let mut next = || draw.next().unwrap();
    (0..count)
        .map(|_| {
            let signals = Signals {
                entailment: next(),
                contradiction: next() * 0.5,
                pairs: next(),
                copied: 2.0 * next(),
                closeness: next(),
            };
            let supported = next() < logistic(TRUTH.logit(&signals) + shift);
            Sample { feature: feature.into(), signals, supported }
        })
        .collect()
}

fn settings(target_error: f64) -> Settings {
    Settings { evidence: "e".into(), target_error, confidence: 0.95, by_feature: true }
}

#[test]
fn the_truth_is_found_again() {
    let fitted = fit(&samples(20_000, 1, "a", 0.0), &settings(0.1)).unwrap().calibration.weights;
    for (found, truth) in fitted.as_array().iter().zip(TRUTH.as_array()) {
        assert!((found - truth).abs() < 0.5, "{fitted:?}");
    }
}

#[test]
fn signals_that_go_together_share_their_weight() {
    // Labels follow `pairs`; `copied` repeats it with some noise, and the likelihood alone would leave it at nothing.
    let mut twins = samples(2_000, 3, "a", 0.0);
    twins.iter_mut().zip(draws(4)).for_each(|(sample, noise)| {
        sample.signals.copied = sample.signals.pairs + 0.5 * noise;
    });
    let weights = fit(&twins, &settings(0.1)).unwrap().calibration.weights;
    assert!(weights.copied > 0.5 * weights.pairs && weights.pairs > weights.copied, "{weights:?}");
}

#[test]
fn the_band_keeps_its_promise_on_other_calls() {
    // Forty calibrations at 95 % confidence: more than five that break the promise would be no accident (p < 0.04).
    let broken = (0..40).filter(|seed| {
        let calibration = fit(&samples(800, seed + 100, "a", 0.0), &settings(0.1)).unwrap().calibration;
        let unseen: Vec<_> = samples(20_000, seed + 5_000, "a", 0.0)
            .iter()
            .map(|sample| (calibration.support("a", &sample.signals), sample.supported))
            .collect();
        let (decided, errors) = count(&unseen, calibration.slice("a").band);
        assert!(decided > 2_000, "{decided} of 20000 decided");
        errors as f64 > 0.1 * decided as f64
    });
    let broken = broken.count();
    assert!(broken <= 5, "{broken} of 40 bands err more than they promise");
}

#[test]
fn a_feature_with_labels_of_its_own_gets_its_own_slice() {
    let mut mixed = samples(600, 2, "a", 0.0);
    mixed.extend(samples(400, 3, "b", 2.0));
    mixed.extend(samples(150, 4, "few", 0.0));
    let calibration = fit(&mixed, &settings(0.1)).unwrap().calibration;
    assert_eq!(calibration.features.keys().collect::<Vec<_>>(), ["a", "b"]);
    assert!(calibration.features["b"].shift > calibration.features["a"].shift + 1.0);
    assert_eq!(calibration.slice("unknown"), &calibration.all);
    let whole = Settings { by_feature: false, ..settings(0.1) };
    assert!(fit(&mixed, &whole).unwrap().calibration.features.is_empty());
}

#[test]
fn what_cannot_be_fitted_is_refused() {
    assert_eq!(fit(&samples(99, 1, "a", 0.0), &settings(0.1)), Err(FitError::TooFew(99)));
    let mut one_class = samples(200, 1, "a", 0.0);
    one_class.iter_mut().for_each(|sample| sample.supported = true);
    let refused = fit(&one_class, &settings(0.1));
    assert_eq!(refused, Err(FitError::OneClass { supported: 200, unsupported: 0 }));
}

#[test]
fn labels_without_sense_leave_everything_unsure() {
    let mut random = samples(400, 1, "a", 0.0);
    random.iter_mut().zip(draws(9)).for_each(|(sample, draw)| sample.supported = draw < 0.5);
    let all = fit(&random, &settings(0.05)).unwrap().calibration.all;
    assert_eq!((all.band, all.decided), (Band { lo: 0.0, hi: 1.0 }, 0.0));
}

#[test]
fn signals_that_tell_all_make_no_weight_infinite() {
    let mut parted = samples(200, 1, "a", 0.0);
    parted.iter_mut().for_each(|sample| sample.supported = sample.signals.pairs > 0.5);
    let calibration = fit(&parted, &settings(0.1)).unwrap().calibration;
    assert!(calibration.weights.as_array().iter().all(|weight| weight.abs() < 1e3), "{calibration:?}");
}

#[test]
fn bounds_are_those_of_the_tables() {
    // R: qbeta(0.95, k + 1, n - k).
    for (errors, decided, bound) in [(0, 29, 0.0981), (5, 100, 0.1023), (50, 1000, 0.0629), (3, 3, 1.0)] {
        let found = upper_bound(errors, decided, 0.95);
        assert!((found - bound).abs() < 2e-4, "{errors} of {decided}: {found}");
    }
}

#[test]
fn the_curve_ends_with_every_call() {
    let labelled: Vec<_> = (0..200).map(|i| (f64::from(i) / 200.0, i % 7 > 2)).collect();
    let points = curve::points(&labelled);
    assert_eq!((points.len(), points[19].coverage), (20, 1.0));
    assert!(points.windows(2).all(|pair| pair[0].confidence >= pair[1].confidence));
    assert!(points.iter().all(|point| point.error <= point.bound));
    let picture = curve::svg(&points, 0.1, 0.4).unwrap();
    assert!(picture.starts_with("<svg") && picture.contains("target"), "{picture}");
    assert_eq!(curve::points(&[]), []);
}

#[test]
fn configured_thresholds_go_over_fitted_ones() {
    let calibration = fit(&samples(400, 1, "a", 0.0), &settings(0.1)).unwrap().calibration;
    let fitted = calibration.slice("a").band;
    assert_eq!(Scale::new(Some(calibration.clone()), None, None).band("a"), fitted);
    // Whatever was fitted, this leaves nothing between.
    let scale = Scale::new(Some(calibration), Some(fitted.hi), None);
    assert_eq!(scale.band("a"), Band { lo: fitted.hi, hi: fitted.hi });
    assert!(scale.without_band().is_some());
    assert_eq!(Scale::default().band("a"), Band::UNCALIBRATED);
    assert_eq!(Scale::default().without_band(), None);
}

#[test]
fn a_file_is_read_back_and_a_wrong_one_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(CALIBRATION_FILE);
    let calibration = fit(&samples(400, 1, "a", 0.0), &settings(0.1)).unwrap().calibration;
    let text = serde_json::to_string(&calibration).unwrap();
    fs::write(&path, &text).unwrap();
    assert_eq!(Calibration::read(&path, "e").unwrap(), calibration);
    assert!(matches!(Calibration::read(&path, "other"), Err(CalibrationError::Other(_))));
    for (from, to, said) in [
        ("\"format\":2", "\"format\":1", "format 1 is not 2"),
        ("\"lo\":", "\"lo\":7", "lo < hi"),
        ("\"bias\"", "\"bios\"", "bios"),
    ] {
        fs::write(&path, text.replacen(from, to, 1)).unwrap();
        let error = Calibration::read(&path, "e").unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    assert!(Calibration::read(&folder.path().join("none"), "e").is_err());
    // A file of the first release, which knew no closeness.
    fs::write(
        &path,
        text.replacen("\"format\":2", "\"format\":1", 1).replacen("\"closeness\"", "\"none\"", 1),
    )
    .unwrap();
    let error = Calibration::read(&path, "e").unwrap_err().to_string();
    assert!(error.contains("format 1") && error.contains("aftercheck calibrate"), "{error}");
}

#[test]
fn a_signal_that_is_nought_for_all_gets_no_weight() {
    let mut without = samples(400, 1, "a", 0.0);
    without.iter_mut().for_each(|sample| sample.signals.closeness = 0.0);
    assert_eq!(fit(&without, &settings(0.1)).unwrap().calibration.weights.closeness, 0.0);
}

proptest! {
    #[test]
    fn a_chosen_band_keeps_to_its_target(labelled in prop::collection::vec((0.0..=1.0f64, any::<bool>()), 0..300)) {
        let chosen = choose(&labelled, 0.2, 0.9);
        let (decided, errors) = count(&labelled, chosen.band);
        prop_assert!(errors as f64 <= 0.2 * decided as f64);
        prop_assert!(chosen.band.lo < chosen.band.hi);
    }

    #[test]
    fn support_is_a_probability(bias in -50.0..50.0f64, entailment in 0.0..=1.0f64, copied in 0.0..3.0f64) {
        let weights =
            Weights { bias, entailment: 900.0, contradiction: -900.0, pairs: 5.0, copied: 5.0, closeness: -9.0 };
        let p = logistic(weights.logit(&Signals { entailment, copied, closeness: 1.0, ..Signals::default() }));
        prop_assert!((0.0..=1.0).contains(&p));
    }
}
