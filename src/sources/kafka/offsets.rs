//! Which offset of a partition may be committed: the one after the last record below which everything is finished.
//!
//! Pure, and the heart of "nothing is lost": a committed offset declares all records below it done, so it must never
//! pass one that is not. Offsets need not follow one another: compaction and transactions leave gaps.

use std::collections::BTreeMap;

/// The records of one partition that came in this assignment, from the oldest unfinished one on.
#[derive(Debug, Default)]
pub struct Offsets {
    /// Whether each is finished. Its first entry is never finished: what is finished up to there is dropped.
    span: BTreeMap<i64, bool>,
    /// The offset after the last record that came.
    end: Option<i64>,
    /// The offset after the last finished record before the first unfinished one.
    next: Option<i64>,
}

/// What a record is that came from the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taken {
    /// It follows what came before.
    New,
    /// It is here already.
    Known,
    /// It lies before what was finished: the log was cut off and has grown again, or the position was set back.
    Back,
}

impl Offsets {
    /// Notes that a record came. Only [`Taken::New`] has an effect.
    pub fn take(&mut self, offset: i64) -> Taken {
        if self.span.contains_key(&offset) {
            return Taken::Known;
        }
        if self.end.is_some_and(|end| offset < end) {
            return Taken::Back;
        }
        self.span.insert(offset, false);
        self.end = Some(offset + 1);
        Taken::New
    }

    /// Notes that a record is finished; one that never came is ignored.
    pub fn finish(&mut self, offset: i64) {
        if let Some(finished) = self.span.get_mut(&offset) {
            *finished = true;
        }
        while let Some(first) = self.span.first_entry()
            && *first.get()
        {
            self.next = Some(first.key() + 1);
            first.remove();
        }
    }

    /// What may be committed: the next offset to read after a restart. None until something is finished without an
    /// unfinished record before it.
    pub fn next(&self) -> Option<i64> {
        self.next
    }

    /// The offset after the last record that came.
    pub fn end(&self) -> Option<i64> {
        self.end
    }

    /// Records from the oldest unfinished one on, the finished ones among them included: what a crash repeats.
    pub fn ahead(&self) -> usize {
        self.span.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_watermark_waits_for_the_oldest() {
        let mut offsets = Offsets::default();
        for offset in [5, 6, 9] {
            assert_eq!(offsets.take(offset), Taken::New);
        }
        assert_eq!(offsets.take(6), Taken::Known);
        offsets.finish(9);
        offsets.finish(6);
        assert_eq!((offsets.next(), offsets.ahead()), (None, 3));
        offsets.finish(5);
        assert_eq!((offsets.next(), offsets.ahead()), (Some(10), 0));
        assert_eq!(offsets.take(7), Taken::Back);
    }

    proptest! {
        #[test]
        fn whatever_the_order_nothing_unfinished_is_passed(
            gaps in proptest::collection::vec(1i64..4, 1..60),
            order in proptest::collection::vec(any::<proptest::sample::Index>(), 0..120),
            start in 0i64..1000,
        ) {
            let mut offsets = Offsets::default();
            let mut at = start;
            let mut open: Vec<i64> = gaps.iter().map(|gap| { at += gap; at }).collect();
            let all = open.clone();
            for offset in &open {
                prop_assert_eq!(offsets.take(*offset), Taken::New);
            }
            for pick in order {
                if open.is_empty() {
                    break;
                }
                offsets.finish(open.remove(pick.index(open.len())));
                let oldest = open.first().copied();
                // Everything below the oldest unfinished record may be committed, and nothing beyond.
                let expected = all.iter().rev().find(|offset| oldest.is_none_or(|oldest| **offset < oldest));
                prop_assert_eq!(offsets.next(), expected.map(|offset| offset + 1));
                prop_assert_eq!(offsets.ahead(), oldest.map_or(0, |oldest| {
                    all.iter().filter(|offset| **offset >= oldest).count()
                }));
            }
        }
    }
}
