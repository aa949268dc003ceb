//! What this worker holds: the records of its partitions, who has them in work, and until when.
//!
//! Pure: no client, no clock of its own. The pump puts records in and takes offsets out; the source hands records out
//! and the settlers end them. A record is waiting, in work, or put off; it leaves when it is finished or when its
//! partition is taken away.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Bound,
    time::{Duration, Instant},
};

use bytes::Bytes;

use super::offsets::{Offsets, Taken};
use crate::sources::Disposition;

/// How much is held at a time.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Records, all partitions together.
    pub records: usize,
    /// Bytes of their payloads.
    pub bytes: usize,
    /// Records of one partition beyond its oldest unfinished one.
    pub ahead: usize,
}

/// One record as it came.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its value.
    pub payload: Bytes,
    /// Its timestamp in milliseconds since 1970, where it has one.
    pub timestamp_ms: Option<i64>,
}

/// The right to end one record. A later hand-out of the same record has another number, so that a stale one harms
/// nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hand {
    partition: i32,
    offset: i64,
    number: u64,
}

/// What depth and watchdog must know of one partition.
#[derive(Debug, Clone, Copy)]
pub struct View {
    /// The partition.
    pub partition: i32,
    /// Records held.
    pub held: u64,
    /// The offset after the last record that came.
    pub end: Option<i64>,
    /// The end of the log when it was last reached, where nothing has come since. Offsets between the last record and
    /// this are no records: a transaction ends with one.
    pub reached: Option<i64>,
}

/// Where a held record is.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// Next in its partition.
    Waiting,
    /// In work under this number until its lease ends.
    Out(u64, Instant),
    /// Put off until then.
    Later(Instant),
}

/// A held record.
#[derive(Debug)]
struct Held {
    record: Record,
    place: Place,
}

/// One partition that is ours.
#[derive(Debug)]
struct Partition {
    offsets: Offsets,
    held: BTreeMap<i64, Held>,
    /// Offsets of those that wait.
    waiting: BTreeSet<i64>,
    /// Those in work and those put off, by the time at which they wait again.
    timed: BTreeSet<(Instant, i64)>,
    bytes: usize,
    stored: Option<i64>,
    /// Whether the client was told to pause it. None at first: the client keeps the pause of an earlier assignment.
    paused: Option<bool>,
    at_end: bool,
    reached: Option<i64>,
}

/// Every partition that is ours.
#[derive(Debug)]
pub struct Assignment {
    limits: Limits,
    partitions: BTreeMap<i32, Partition>,
    /// The partition that had its turn last.
    turn: i32,
    hands: u64,
    moved: Instant,
}

/// Partitions to stop and to go on with.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Flow {
    /// Hold enough, or are too far ahead of their oldest.
    pub pause: Vec<i32>,
    /// Have room again.
    pub resume: Vec<i32>,
}

impl Assignment {
    /// Nothing, yet.
    pub fn new(limits: Limits, now: Instant) -> Self {
        Self { limits, partitions: BTreeMap::new(), turn: -1, hands: 0, moved: now }
    }

    /// Forgets everything: another client begins.
    pub fn clear(&mut self, now: Instant) {
        self.partitions.clear();
        self.moved = now;
    }

    /// Takes a partition on, with nothing of it held.
    pub fn assign(&mut self, partition: i32, now: Instant) {
        self.partitions.insert(partition, Partition::new());
        self.moved = now;
    }

    /// Gives a partition up: what is held of it is forgotten, and whoever has it in work has lost it. Returns the offset
    /// to commit.
    pub fn revoke(&mut self, partition: i32, now: Instant) -> Option<i64> {
        self.moved = now;
        self.partitions.remove(&partition)?.offsets.next()
    }

    /// Puts a record in. One of a partition that is not ours is ignored.
    pub fn take(&mut self, partition: i32, offset: i64, record: Record, now: Instant) -> Taken {
        let Some(ours) = self.partitions.get_mut(&partition) else { return Taken::Known };
        let taken = ours.offsets.take(offset);
        match taken {
            Taken::Known => return taken,
            Taken::Back => {
                // What is in work of the old log ends as lost; what comes now is worked on.
                *ours = Partition { paused: ours.paused, ..Partition::new() };
                ours.offsets.take(offset);
            }
            Taken::New => {}
        }
        ours.put_in(offset, record);
        self.moved = now;
        taken
    }

    /// Hands records out, one partition after the other, so that a flood in one does not hold up the others.
    pub fn hand_out(&mut self, max: usize, lease: Duration, now: Instant) -> Vec<(Hand, Bytes)> {
        self.partitions.values_mut().for_each(|ours| ours.wake(now));
        let mut out = Vec::new();
        while out.len() < max {
            let turn = (Bound::Excluded(self.turn), Bound::Unbounded);
            let waits = |ours: &Partition| !ours.waiting.is_empty();
            let next = self.partitions.range_mut(turn).find(|(_, ours)| waits(ours)).map(|(id, _)| *id);
            let next =
                next.or_else(|| self.partitions.iter().find(|(_, ours)| waits(ours)).map(|(id, _)| *id));
            let Some(partition) = next else { break };
            let Some(ours) = self.partitions.get_mut(&partition) else { break };
            self.turn = partition;
            self.hands += 1;
            if let Some((offset, payload)) = ours.lend(self.hands, now + lease) {
                out.push((Hand { partition, offset, number: self.hands }, payload));
            }
        }
        if !out.is_empty() {
            self.moved = now;
        }
        out
    }

    /// Ends a hand; false when it was lost.
    pub fn settle(&mut self, hand: &Hand, disposition: Disposition, now: Instant) -> bool {
        let Some(ours) = self.lender(hand) else { return false };
        match disposition {
            Disposition::Ack => ours.finish(hand.offset),
            Disposition::Retry(after) => ours.place(hand.offset, Place::Later(now + after)),
        }
        self.moved = now;
        true
    }

    /// Holds a record for another lease from now; false when it was lost.
    pub fn extend(&mut self, hand: &Hand, lease: Duration, now: Instant) -> bool {
        let Some(ours) = self.lender(hand) else { return false };
        ours.place(hand.offset, Place::Out(hand.number, now + lease));
        true
    }

    /// Offsets that have changed since they were asked for.
    pub fn unstored(&mut self) -> Vec<(i32, i64)> {
        let changed = self.partitions.iter_mut().filter_map(|(id, ours)| {
            let next = ours.offsets.next().filter(|next| ours.stored != Some(*next))?;
            ours.stored = Some(next);
            Some((*id, next))
        });
        changed.collect()
    }

    /// These could not be stored: they are told again.
    pub fn not_stored(&mut self, offsets: &[(i32, i64)]) {
        for (id, offset) in offsets {
            if let Some(ours) = self.partitions.get_mut(id)
                && ours.stored == Some(*offset)
            {
                ours.stored = None;
            }
        }
    }

    /// Which partitions to stop, because they hold their share or are too far ahead, and which to go on with. Each
    /// partition has an equal share; one goes on when it is down to half.
    pub fn flow(&mut self) -> Flow {
        let share = self.partitions.len().max(1);
        let (records, bytes) = ((self.limits.records / share).max(2), (self.limits.bytes / share).max(1));
        let ahead = self.limits.ahead;
        let mut flow = Flow::default();
        for (id, ours) in &mut self.partitions {
            let (waiting, held) = (ours.waiting.len(), ours.offsets.ahead());
            let full = waiting >= records || ours.bytes >= bytes || held >= ahead;
            let room = waiting <= records / 2 && ours.bytes <= bytes / 2 && held <= ahead / 2;
            if full && ours.paused != Some(true) {
                (ours.paused, ours.at_end, ours.reached) = (Some(true), false, None);
                flow.pause.push(*id);
            } else if !full && (ours.paused.is_none() || room && ours.paused == Some(true)) {
                ours.paused = Some(false);
                flow.resume.push(*id);
            }
        }
        flow
    }

    /// Notes that everything up to the end of the log has come.
    pub fn at_end(&mut self, partition: i32) {
        if let Some(ours) = self.partitions.get_mut(&partition) {
            ours.at_end = true;
        }
    }

    /// Notes where the client last met the end of the log. It counts only where nothing has come since.
    pub fn reached(&mut self, partition: i32, end: i64) {
        if let Some(ours) = self.partitions.get_mut(&partition)
            && ours.at_end
        {
            ours.reached = Some(end);
        }
    }

    /// When the next record that is in work or put off waits again.
    pub fn next_due(&self) -> Option<Instant> {
        self.partitions.values().filter_map(|ours| ours.timed.first().map(|(due, _)| *due)).min()
    }

    /// The partitions that are ours.
    pub fn views(&self) -> Vec<View> {
        let view = |(id, ours): (&i32, &Partition)| View {
            partition: *id,
            held: ours.held.len() as u64,
            end: ours.offsets.end(),
            reached: ours.reached,
        };
        self.partitions.iter().map(view).collect()
    }

    /// Timestamp of the oldest record held.
    pub fn oldest_ms(&self) -> Option<i64> {
        let first = |ours: &Partition| ours.held.values().next().and_then(|held| held.record.timestamp_ms);
        self.partitions.values().filter_map(first).min()
    }

    /// Notes that something moves elsewhere in the group.
    pub fn touch(&mut self, now: Instant) {
        self.moved = now;
    }

    /// Whether nothing is held and nothing has moved for this long.
    pub fn idle(&self, limit: Duration, now: Instant) -> bool {
        self.partitions.values().all(|ours| ours.held.is_empty()) && now.duration_since(self.moved) >= limit
    }

    /// The partition that lent this, while it has not taken it back.
    fn lender(&mut self, hand: &Hand) -> Option<&mut Partition> {
        let ours = self.partitions.get_mut(&hand.partition)?;
        let place = ours.held.get(&hand.offset)?.place;
        matches!(place, Place::Out(number, _) if number == hand.number).then_some(ours)
    }
}

impl Partition {
    /// Nothing held.
    fn new() -> Self {
        Self {
            offsets: Offsets::default(),
            held: BTreeMap::new(),
            waiting: BTreeSet::new(),
            timed: BTreeSet::new(),
            bytes: 0,
            stored: None,
            paused: None,
            at_end: false,
            reached: None,
        }
    }

    /// Holds a new record.
    fn put_in(&mut self, offset: i64, record: Record) {
        (self.at_end, self.reached) = (false, None);
        self.bytes += record.payload.len();
        self.held.insert(offset, Held { record, place: Place::Waiting });
        self.waiting.insert(offset);
    }

    /// Lets those wait whose lease has ended or whose time has come.
    fn wake(&mut self, now: Instant) {
        while let Some((due, offset)) = self.timed.first().copied()
            && due <= now
        {
            self.place(offset, Place::Waiting);
        }
    }

    /// Lends the oldest that waits.
    fn lend(&mut self, number: u64, until: Instant) -> Option<(i64, Bytes)> {
        let offset = self.waiting.first().copied()?;
        self.place(offset, Place::Out(number, until));
        Some((offset, self.held.get(&offset)?.record.payload.clone()))
    }

    /// Puts a held record somewhere else.
    fn place(&mut self, offset: i64, place: Place) {
        self.unplace(offset);
        let Some(held) = self.held.get_mut(&offset) else { return };
        held.place = place;
        match place {
            Place::Waiting => drop(self.waiting.insert(offset)),
            Place::Out(_, until) | Place::Later(until) => drop(self.timed.insert((until, offset))),
        }
    }

    /// Takes a record out of the order it stands in.
    fn unplace(&mut self, offset: i64) {
        match self.held.get(&offset).map(|held| held.place) {
            Some(Place::Waiting) => drop(self.waiting.remove(&offset)),
            Some(Place::Out(_, until) | Place::Later(until)) => drop(self.timed.remove(&(until, offset))),
            None => {}
        }
    }

    /// Lets go of a finished record.
    fn finish(&mut self, offset: i64) {
        self.unplace(offset);
        if let Some(held) = self.held.remove(&offset) {
            self.bytes -= held.record.payload.len();
        }
        self.offsets.finish(offset);
    }
}

#[cfg(test)]
mod tests;
