//! How work grows with its input: the tests of hostile text ask this instead of a clock on the wall, which a busy
//! machine would turn against them.

use std::time::Duration;

use cpu_time::ThreadTime;

/// Bytes of the smaller input; the larger has four times as many.
const SMALL_BYTES: usize = 32 << 10;
/// Linear work takes 4 times as long, quadratic 16.
const MOST: f64 = 9.0;
/// Measurements before work is said to grow too fast.
const ROUNDS: usize = 4;
/// Below this, a measurement says nothing.
const NOISE: Duration = Duration::from_millis(30);

/// Checks that work on `unit`, repeated to four times the length, takes about four times the CPU time of this thread.
pub(crate) fn assert_linear(unit: &str, mut work: impl FnMut(&str)) {
    let mut took = |bytes: usize| {
        let text = unit.repeat((bytes / unit.len()).max(1));
        // The better of two: a cold cache is no growth.
        let mut once = || {
            let begun = ThreadTime::now();
            work(&text);
            begun.elapsed()
        };
        once().min(once())
    };
    // What disturbs one measurement disturbs the next one less; work that grows too fast does so each time.
    let mut rounds = (0..ROUNDS).map(|_| (took(SMALL_BYTES), took(4 * SMALL_BYTES)));
    let grows = |(small, large): &(Duration, Duration)| {
        *large >= NOISE && large.as_secs_f64() >= MOST * small.as_secs_f64()
    };
    let mut last = (Duration::ZERO, Duration::ZERO);
    let is_linear = rounds.any(|round| {
        last = round;
        !grows(&round)
    });
    let (small, large) = last;
    assert!(
        is_linear,
        "{:?} repeated: {small:?}, and {large:?} for four times as much",
        unit.chars().take(20).collect::<String>()
    );
}

#[test]
#[should_panic(expected = "for four times as much")]
fn quadratic_work_is_found() {
    // Work enough that a fast machine does not take it for noise.
    assert_linear("a", |text| {
        let found = text.bytes().enumerate().step_by(2).filter(|(at, _)| text[..*at].contains('b'));
        assert_eq!(found.count(), 0);
    });
}
