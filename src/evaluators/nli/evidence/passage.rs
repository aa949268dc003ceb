//! What a judge reads of the contexts: more than the model does, because it may, and less than all of them.

use std::ops::Range;

use super::{Window, Windows};

/// Most passages that are read for a claim.
pub const PASSAGES: usize = 3;
/// Most bytes that a window is widened to, about 200 tokens; one that is longer is a passage by itself.
const PASSAGE_BYTES: usize = 800;
/// Most bytes of passages that are joined, and of one that a judge is shown.
pub const MAX_PASSAGE_BYTES: usize = 6_000;

/// A piece of a context.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passage {
    /// Index of the context.
    pub context: usize,
    /// Its bytes in the context's text.
    pub bytes: Range<usize>,
}

impl Passage {
    /// This passage and another in one, where they touch and are not too long together.
    fn joined(&self, other: &Self) -> Option<Self> {
        let bytes = self.bytes.start.min(other.bytes.start)..self.bytes.end.max(other.bytes.end);
        let touch = self.context == other.context && bytes.len() <= self.bytes.len() + other.bytes.len();
        let is_within = bytes == self.bytes || bytes.len() <= MAX_PASSAGE_BYTES;
        (touch && is_within).then_some(Self { context: self.context, bytes })
    }
}

impl Windows {
    /// The passages around these windows, in their order and at most so many: each window with the sentences beside it. Those
    /// that touch are one, as long as that is not longer than [`MAX_PASSAGE_BYTES`].
    pub fn passages(&self, windows: impl Iterator<Item = usize>) -> Vec<Passage> {
        let mut passages: Vec<Passage> = Vec::with_capacity(PASSAGES);
        for window in windows {
            let wide = self.around(window);
            let joined = passages.iter_mut().find_map(|other| {
                let both = other.joined(&wide)?;
                *other = both;
                Some(())
            });
            if joined.is_none() && passages.len() == PASSAGES {
                break;
            }
            if joined.is_none() {
                passages.push(wide);
            }
        }
        passages
    }

    /// A window with as many of its neighbours as a passage holds, on both sides in turn.
    fn around(&self, window: usize) -> Passage {
        let Window { context, bytes, .. } = self.all[window].clone();
        let mut wide = bytes;
        let (mut before, mut after) = (window.checked_sub(1), Some(window + 1));
        while before.or(after).is_some() {
            before =
                before.and_then(|at| self.widen(&mut wide, context, at)).and_then(|at| at.checked_sub(1));
            after = after.and_then(|at| self.widen(&mut wide, context, at)).map(|at| at + 1);
        }
        Passage { context, bytes: wide }
    }

    /// Takes a neighbour in, where it is one and fits; gives its place if so.
    fn widen(&self, wide: &mut Range<usize>, context: usize, neighbour: usize) -> Option<usize> {
        let window = self.all.get(neighbour).filter(|window| window.context == context)?;
        let both = wide.start.min(window.bytes.start)..wide.end.max(window.bytes.end);
        (both.len() <= PASSAGE_BYTES).then(|| *wide = both)?;
        Some(neighbour)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Windows of 300 bytes, 50 of them shared with the one before, in these contexts.
    fn windows(of_contexts: &[usize]) -> Windows {
        let window = |context, place: usize| Window {
            context,
            bytes: 250 * place..250 * place + 300,
            tokens: 50,
            cuts_table: false,
        };
        let all = of_contexts.iter().enumerate();
        let all = all.flat_map(|(context, count)| (0..*count).map(move |place| window(context, place)));
        Windows { all: all.collect(), ..Windows::default() }
    }

    #[test]
    fn a_window_is_read_with_what_stands_beside_it() {
        let windows = windows(&[1, 9, 2]);
        let passage = |chosen: &[usize]| {
            let passages = windows.passages(chosen.iter().copied());
            passages.into_iter().map(|passage| (passage.context, passage.bytes)).collect::<Vec<_>>()
        };
        assert_eq!(passage(&[0]), [(0, 0..300)], "no other context is drawn in");
        assert_eq!(passage(&[5]), [(1, 750..1550)]);
        assert_eq!(passage(&[1]), [(1, 0..800)]);
        assert_eq!(passage(&[9]), [(1, 1500..2300)]);
        assert_eq!(passage(&[11, 10]), [(2, 0..550)], "what is one is read once");
        assert_eq!(passage(&[2, 4]), [(1, 0..1300)], "and so is what touches");
        assert_eq!(passage(&[0, 1, 9, 10]).len(), PASSAGES);
        assert_eq!(passage(&[]), []);
    }

    #[test]
    fn a_long_window_is_read_by_itself() {
        let mut windows = windows(&[3]);
        windows.all[1].bytes = 250..5000;
        assert_eq!(windows.passages([1].into_iter()), [Passage { context: 0, bytes: 250..5000 }]);
        windows.all[1].bytes = 250..9000;
        let apart = [Passage { context: 0, bytes: 250..9000 }, Passage { context: 0, bytes: 0..300 }];
        assert_eq!(windows.passages([1, 0].into_iter()), apart, "what is too long together stays apart");
    }
}
