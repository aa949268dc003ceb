//! The checks of rows 25 to 27 bite: what each of them looks at, in a sound build and in one that is broken there.

use std::time::Duration;

use serde_json::json;

use super::{
    journey::{count, evaluations, judge, queue, service, started, unsure},
    server::Fault,
};

/// How long one call may take, a slow machine included; three questions of 2 s each, and what is waited between.
const LONG: Duration = Duration::from_secs(25);

/// What became of one call whose judge fails so.
#[derive(Debug, PartialEq)]
struct Became {
    /// Whether it has ended, or waits in the store.
    ended: bool,
    /// How often the judge was asked.
    asked: usize,
    /// Whether there is a judgement.
    judged: bool,
}

/// Has one build judge one call; none without the tiny model.
async fn became(build: &str, fault: Fault) -> Option<Became> {
    let judge = judge();
    judge.fails(fault);
    let service = service(&judge, "").await?;
    queue(&service, &[unsure(1)]);
    let _running = started(&service, &[("AFTERCHECK_BROKEN", build)]);
    let ended = "SELECT (SELECT count(*) FROM evaluations) + (SELECT count(*) FROM deferred)";
    let ended = tokio::task::block_in_place(|| {
        crate::matrix::within(LONG, || (count(&service, ended) == 1).then_some(()))
    });
    let judged = evaluations(&service, "kill-1").first().is_some_and(|one| !one["judge"].is_null());
    Some(Became { ended: ended.is_some(), asked: judge.requests().len(), judged })
}

#[tokio::test(flavor = "multi_thread")]
async fn row_25_a_judge_without_a_deadline_is_found() {
    let Some(sound) = became("none", Fault::Hangs).await else { return };
    assert!(sound.ended && !sound.judged, "{sound:?}");
    let broken = became("patient_judge", Fault::Hangs).await;
    assert_eq!(broken, Some(Became { ended: false, asked: 1, judged: false }));
}

#[tokio::test(flavor = "multi_thread")]
async fn row_26_a_judge_that_is_asked_again_in_vain_is_found() {
    let refused = || Fault::Says(401, vec![], json!({}));
    let Some(sound) = became("none", refused()).await else { return };
    assert_eq!(sound, Became { ended: true, asked: 1, judged: false });
    let broken = became("insistent_judge", refused()).await;
    assert!(broken.as_ref().is_some_and(|broken| broken.asked > 1), "{broken:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_27_a_verdict_by_accident_is_found() {
    let prose = || Fault::Writes("The claim is supported. Score: 1.0".into());
    let Some(sound) = became("none", prose()).await else { return };
    assert_eq!(sound, Became { ended: true, asked: 2, judged: false });
    let broken = became("gullible_judge", prose()).await;
    assert!(broken.as_ref().is_some_and(|broken| broken.judged), "{broken:?}");
}
