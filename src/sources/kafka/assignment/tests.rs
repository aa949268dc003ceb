use super::*;

const LEASE: Duration = Duration::from_secs(10);
const LIMITS: Limits = Limits { records: 8, bytes: 1000, ahead: 6 };

fn record(text: &str) -> Record {
    Record { payload: Bytes::copy_from_slice(text.as_bytes()), timestamp_ms: Some(text.len() as i64) }
}

/// Partitions 0.. with so many records each.
fn with(counts: &[i64], limits: Limits) -> (Assignment, Instant) {
    let now = Instant::now();
    let mut ours = Assignment::new(limits, now);
    for (partition, count) in counts.iter().enumerate() {
        ours.assign(partition as i32, now);
        for offset in 0..*count {
            ours.take(partition as i32, offset, record("x"), now);
        }
    }
    (ours, now)
}

fn offsets(handed: &[(Hand, Bytes)]) -> Vec<(i32, i64)> {
    handed.iter().map(|(hand, _)| (hand.partition, hand.offset)).collect()
}

#[test]
fn a_flood_in_one_partition_does_not_hold_up_the_others() {
    let (mut ours, now) = with(&[100, 0, 3], LIMITS);
    let turns = offsets(&ours.hand_out(6, LEASE, now));
    assert_eq!(turns, [(0, 0), (2, 0), (0, 1), (2, 1), (0, 2), (2, 2)]);
    // The turn is kept between two hand-outs.
    ours.take(1, 0, record("x"), now);
    assert_eq!(offsets(&ours.hand_out(2, LEASE, now)), [(0, 3), (1, 0)]);
}

#[test]
fn what_is_put_off_comes_again_and_holds_the_offset_back() {
    let (mut ours, now) = with(&[3], LIMITS);
    let handed = ours.hand_out(3, LEASE, now);
    assert!(ours.settle(&handed[0].0, Disposition::Retry(LEASE * 9), now));
    assert!(ours.settle(&handed[1].0, Disposition::Ack, now));
    assert!(ours.settle(&handed[2].0, Disposition::Ack, now));
    assert_eq!(ours.unstored(), []);
    assert!(ours.hand_out(3, LEASE, now + LEASE * 8).is_empty());
    assert_eq!(ours.next_due(), Some(now + LEASE * 9));
    let again = ours.hand_out(3, LEASE, now + LEASE * 9);
    assert_eq!(offsets(&again), [(0, 0)]);
    assert!(ours.settle(&again[0].0, Disposition::Ack, now));
    assert_eq!(ours.unstored(), [(0, 3)]);
    assert_eq!(ours.unstored(), [], "told once");
    ours.not_stored(&[(0, 2), (7, 3)]);
    assert_eq!(ours.unstored(), [], "another offset, another partition");
    ours.not_stored(&[(0, 3)]);
    assert_eq!(ours.unstored(), [(0, 3)], "and again where it failed");
}

#[test]
fn a_dropped_hand_comes_again_after_its_lease_and_the_old_one_is_lost() {
    let (mut ours, now) = with(&[1], LIMITS);
    let first = ours.hand_out(1, LEASE, now)[0].0;
    assert!(ours.extend(&first, LEASE, now + LEASE / 2));
    assert!(ours.hand_out(1, LEASE, now + LEASE).is_empty(), "it was extended");
    let second = ours.hand_out(1, LEASE, now + LEASE * 2)[0].0;
    assert!(!ours.extend(&first, LEASE, now + LEASE * 2));
    assert!(!ours.settle(&first, Disposition::Ack, now + LEASE * 2));
    assert_eq!(ours.unstored(), []);
    assert!(ours.settle(&second, Disposition::Ack, now + LEASE * 2));
    assert!(!ours.settle(&second, Disposition::Ack, now + LEASE * 2), "a hand ends once");
    assert_eq!(ours.unstored(), [(0, 1)]);
}

#[test]
fn a_partition_that_was_taken_away_takes_its_hands_with_it() {
    let (mut ours, now) = with(&[3], LIMITS);
    let handed = ours.hand_out(3, LEASE, now);
    ours.settle(&handed[0].0, Disposition::Ack, now);
    ours.settle(&handed[2].0, Disposition::Ack, now);
    assert_eq!(ours.revoke(0, now), Some(1), "the offset to commit");
    assert!(!ours.extend(&handed[1].0, LEASE, now));
    // It comes back, and the same record with it: the hand of before ends nothing.
    ours.assign(0, now);
    ours.take(0, 1, record("x"), now);
    let again = ours.hand_out(1, LEASE, now);
    assert!(!ours.settle(&handed[1].0, Disposition::Ack, now));
    assert_eq!(ours.unstored(), []);
    assert!(ours.settle(&again[0].0, Disposition::Ack, now));
    assert_eq!(ours.unstored(), [(0, 2)]);
    ours.take(7, 0, record("x"), now);
    assert!(ours.hand_out(1, LEASE, now).is_empty(), "a record of a partition that is not ours");
}

#[test]
fn a_partition_is_paused_when_it_is_full() {
    let (mut ours, now) = with(&[4, 1], LIMITS);
    // The share of 8 records is 4. Whether the client has paused a new partition is not known: it is told.
    assert_eq!(ours.flow(), Flow { pause: vec![0], resume: vec![1] });
    assert_eq!(ours.flow(), Flow::default(), "told once");
    let handed = ours.hand_out(5, LEASE, now);
    assert_eq!(ours.flow(), Flow::default(), "four are open still, and three is half of what may be");
    ours.settle(&handed[0].0, Disposition::Ack, now);
    assert_eq!(ours.flow(), Flow { pause: vec![], resume: vec![0] });
}

#[test]
fn a_partition_is_paused_when_it_is_too_far_ahead_of_a_stuck_record() {
    let (mut ours, now) = with(&[1], LIMITS);
    let stuck = ours.hand_out(1, LEASE, now)[0].0;
    for offset in 1..LIMITS.ahead as i64 {
        assert!(ours.flow().pause.is_empty());
        ours.take(0, offset, record("x"), now);
        let hand = ours.hand_out(1, LEASE, now)[0].0;
        ours.settle(&hand, Disposition::Ack, now);
    }
    assert_eq!(ours.flow().pause, [0], "all but one are finished");
    ours.settle(&stuck, Disposition::Ack, now);
    assert_eq!(ours.flow().resume, [0]);
    assert_eq!(ours.unstored(), [(0, LIMITS.ahead as i64)]);
}

#[test]
fn large_records_fill_a_share_too() {
    let (mut ours, now) = with(&[0], LIMITS);
    assert_eq!(ours.flow().resume, [0]);
    ours.take(0, 0, record(&"x".repeat(1000)), now);
    assert_eq!(ours.flow().pause, [0]);
    let hand = ours.hand_out(1, LEASE, now)[0].0;
    assert_eq!(ours.flow(), Flow::default(), "in work, it takes memory still");
    ours.settle(&hand, Disposition::Ack, now);
    assert_eq!(ours.flow().resume, [0]);
}

#[test]
fn a_log_that_was_cut_off_begins_anew() {
    let (mut ours, now) = with(&[5], LIMITS);
    let handed = ours.hand_out(2, LEASE, now);
    ours.settle(&handed[0].0, Disposition::Ack, now);
    assert_eq!(ours.take(0, 0, record("other"), now), Taken::Back);
    assert!(!ours.settle(&handed[1].0, Disposition::Ack, now));
    let again = ours.hand_out(5, LEASE, now);
    assert_eq!(again.len(), 1);
    assert_eq!(&again[0].1[..], b"other");
}

#[test]
fn the_end_of_the_log_counts_until_the_next_record() {
    let (mut ours, now) = with(&[1], LIMITS);
    ours.reached(0, 2);
    assert_eq!(ours.views()[0].reached, None, "records may lie before it");
    ours.at_end(0);
    ours.reached(0, 2);
    assert_eq!(ours.views()[0].reached, Some(2));
    ours.take(0, 2, record("x"), now);
    assert_eq!((ours.views()[0].reached, ours.views()[0].held), (None, 2));
}

#[test]
fn idle_is_nothing_held_and_nothing_moved() {
    let (mut ours, now) = with(&[1], LIMITS);
    assert!(!ours.idle(LEASE, now + LEASE * 5), "a record is held");
    let hand = ours.hand_out(1, LEASE, now)[0].0;
    ours.settle(&hand, Disposition::Ack, now + LEASE);
    assert!(!ours.idle(LEASE, now + LEASE));
    assert!(ours.idle(LEASE, now + LEASE * 2));
}
