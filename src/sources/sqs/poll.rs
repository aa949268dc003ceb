//! Who is asked for how much. Every poll in flight holds a part of the permits that the pipeline has free, so that no
//! message is taken that nobody can work on. Polls go on while the pipeline works, and none waits for another: one
//! that hangs holds its part and no more.

use std::{
    collections::HashMap,
    future::pending,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use aws_sdk_sqs::types::{Message, MessageSystemAttributeName as Attribute};
use tokio::{
    task::{Id, JoinError, JoinSet},
    time::Instant,
};

use super::{
    Delivery, MAX_BATCH, SourceError,
    client::within,
    lane::Lane,
    settle::{self, Held, Settlements},
};

/// How much longer than SQS was told to wait an answer may take before its poll holds up no other.
pub(super) const ANSWER_GRACE: Duration = Duration::from_secs(2);
/// How long SQS waits for a message of a lane that is not known to be empty.
const SHORT_WAIT: Duration = Duration::from_secs(1);
/// How long a lane that failed is left alone.
const LANE_PAUSE: Duration = Duration::from_millis(900);
/// Polls of one lane at a time.
const MAX_POLLS: usize = 8;

/// The lanes and what they are asked for.
pub(super) struct Polls {
    lanes: Vec<Polled>,
    running: JoinSet<Result<Received, SourceError>>,
    asked: HashMap<Id, Asked>,
    /// The lane whose turn is first.
    turn: usize,
}

/// One lane.
struct Polled {
    lane: Arc<Lane>,
    settlements: Settlements,
    last: Last,
    /// Age of the oldest message of its last answer.
    oldest: Option<Duration>,
    /// Not asked before this, after a failure.
    not_before: Instant,
}

/// What a lane answered last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Last {
    /// Nothing so far.
    Never,
    /// It had no message.
    Empty,
    /// It had fewer than it was asked for.
    Part,
    /// It gave all that it was asked for.
    Full,
}

/// A poll in flight.
struct Asked {
    lane: usize,
    /// Messages asked for.
    count: usize,
    /// It should have been answered by then.
    late_at: Instant,
}

/// What one poll gave.
struct Received {
    deliveries: Vec<Delivery>,
    oldest: Option<Duration>,
}

/// A lane as the plan sees it.
#[derive(Debug, Clone, Copy)]
struct Look {
    last: Last,
    /// Polls in flight that are not late.
    polls: usize,
    /// It has failed just now.
    paused: bool,
}

impl Polls {
    /// Nothing is asked yet. Starts the tasks that settle what will be received.
    pub(super) fn new(lanes: Vec<Arc<Lane>>) -> Self {
        let lanes = lanes.into_iter().map(|lane| Polled {
            settlements: settle::start(Arc::clone(&lane)),
            lane,
            last: Last::Never,
            oldest: None,
            not_before: Instant::now(),
        });
        Self { lanes: lanes.collect(), running: JoinSet::new(), asked: HashMap::new(), turn: 0 }
    }

    /// The queues.
    pub(super) fn lanes(&self) -> impl Iterator<Item = &Arc<Lane>> {
        self.lanes.iter().map(|polled| &polled.lane)
    }

    /// Whether no poll is in flight.
    pub(super) fn is_idle(&self) -> bool {
        self.running.is_empty()
    }

    /// Whether nothing was asked so far.
    pub(super) fn is_new(&self) -> bool {
        self.is_idle() && self.lanes.iter().all(|polled| polled.last == Last::Never)
    }

    /// Whether the last answer of every lane was that it has nothing.
    pub(super) fn are_empty(&self) -> bool {
        self.lanes.iter().all(|polled| polled.last == Last::Empty)
    }

    /// Age of the oldest message that the lanes gave last.
    pub(super) fn oldest(&self) -> Option<Duration> {
        self.lanes.iter().filter_map(|polled| polled.oldest).max()
    }

    /// Asks the lanes for as much as `max` permits allow, those counted that are in flight.
    pub(super) fn start(&mut self, max: usize) {
        let now = Instant::now();
        let held: usize = self.asked.values().map(|asked| asked.count).sum();
        let looks = self.lanes.iter().enumerate().map(|(number, polled)| Look {
            last: polled.last,
            polls: self.asked.values().filter(|asked| asked.lane == number && asked.late_at > now).count(),
            paused: polled.not_before > now,
        });
        for (number, count) in plan(&looks.collect::<Vec<_>>(), self.turn, max.saturating_sub(held)) {
            let polled = &self.lanes[number];
            let full_wait = polled.lane.queues.wait();
            let wait = if polled.last == Last::Empty { full_wait } else { SHORT_WAIT.min(full_wait) };
            let (lane, settlements) = (Arc::clone(&polled.lane), polled.settlements.clone());
            let id = self.running.spawn(poll(lane, settlements, count, wait)).id();
            self.asked.insert(id, Asked { lane: number, count, late_at: now + wait + ANSWER_GRACE });
            self.turn = (number + 1) % self.lanes.len();
        }
    }

    /// Waits for the next answer; for ever while nothing is asked. Nothing is lost when this is cancelled.
    pub(super) async fn answer(&mut self) -> Result<Vec<Delivery>, SourceError> {
        match self.running.join_next_with_id().await {
            Some(ended) => self.note(ended),
            None => pending().await,
        }
    }

    /// An answer that is there already.
    pub(super) fn answered(&mut self) -> Option<Result<Vec<Delivery>, SourceError>> {
        let ended = self.running.try_join_next_with_id()?;
        Some(self.note(ended))
    }

    /// Notes what an answer tells of its lane.
    fn note(
        &mut self,
        ended: Result<(Id, Result<Received, SourceError>), JoinError>,
    ) -> Result<Vec<Delivery>, SourceError> {
        let (id, received) = match ended {
            Ok((id, received)) => (id, received),
            Err(error) => (error.id(), Err(SourceError::Gone)),
        };
        let Some(Asked { lane, count, .. }) = self.asked.remove(&id) else { return Err(SourceError::Gone) };
        let polled = &mut self.lanes[lane];
        let Received { deliveries, oldest } = received.inspect_err(|_| {
            polled.not_before = Instant::now() + LANE_PAUSE;
        })?;
        polled.oldest = oldest;
        polled.last = match deliveries.len() {
            0 => Last::Empty,
            given if given < count => Last::Part,
            _ => Last::Full,
        };
        Ok(deliveries)
    }
}

/// Which lane is asked for how many messages, out of those that are left. The lane goes first whose turn it is. While one
/// has messages, those that had none are asked for a single one, and the others share the rest. Where a full batch is
/// left even then, a lane that gave all that it was asked for is asked again beside.
fn plan(lanes: &[Look], turn: usize, mut left: usize) -> Vec<(usize, usize)> {
    let in_turn: Vec<usize> = (0..lanes.len()).map(|step| (turn + step) % lanes.len()).collect();
    let had_none = |lane: usize| matches!(lanes[lane].last, Last::Never | Last::Empty);
    let one_has_messages = in_turn.iter().any(|lane| !had_none(*lane));
    let is_quiet = |lane: usize| one_has_messages && had_none(lane);
    let is_free = |lane: &usize| lanes[*lane].polls == 0 && !lanes[*lane].paused;
    let free: Vec<usize> = in_turn.iter().copied().filter(is_free).collect();
    let mut quiet = free.iter().filter(|lane| is_quiet(**lane)).count();
    let mut sharing = free.len() - quiet;
    let mut asks = Vec::new();
    for lane in free {
        let count = if is_quiet(lane) {
            quiet -= 1;
            1
        } else {
            let share = left.saturating_sub(quiet) / sharing;
            sharing -= 1;
            share.clamp(1, MAX_BATCH)
        };
        let count = count.min(left);
        if count > 0 {
            asks.push((lane, count));
            left -= count;
        }
    }
    for lane in in_turn {
        let Look { last, polls, paused } = lanes[lane];
        if left >= MAX_BATCH && last == Last::Full && polls < MAX_POLLS && !paused {
            asks.push((lane, MAX_BATCH));
            left -= MAX_BATCH;
        }
    }
    asks
}

/// Asks one queue once.
async fn poll(
    lane: Arc<Lane>,
    settlements: Settlements,
    count: usize,
    wait: Duration,
) -> Result<Received, SourceError> {
    let open = lane.open().await?;
    let lease = lane.queues.lease;
    let call = lane.queues.clients().await?.polls.receive_message();
    let call = call
        .queue_url(&open.url)
        .max_number_of_messages(small(count as u64))
        .wait_time_seconds(small(wait.as_secs()))
        .visibility_timeout(small(lease.as_secs()))
        .message_system_attribute_names(Attribute::ApproximateReceiveCount)
        .message_system_attribute_names(Attribute::SentTimestamp);
    let messages = within("ReceiveMessage", wait, call.send()).await?.messages.unwrap_or_default();
    warn_of_last_receive(&lane, open.max_receives, &messages);
    let oldest = messages.iter().filter_map(|message| number(message, &Attribute::SentTimestamp)).min();
    let deliveries = messages.into_iter().filter_map(|message| {
        // Without a receipt nothing could be said of it; it comes again with one.
        let receipt = message.receipt_handle?;
        let held = Held::new(settlements.clone(), receipt, lease);
        Some(Delivery::new(message.body.unwrap_or_default(), lease, Box::new(held)))
    });
    Ok(Received { deliveries: deliveries.collect(), oldest: oldest.map(age) })
}

/// Says so when SQS gives messages for the last time.
fn warn_of_last_receive(lane: &Lane, max_receives: Option<u32>, messages: &[Message]) {
    let Some(max) = max_receives else { return };
    let receives = messages.iter().filter_map(|message| number(message, &Attribute::ApproximateReceiveCount));
    let messages = receives.filter(|receives| *receives >= u64::from(max)).count();
    if messages > 0 {
        tracing::warn!(
            queue = super::lane::name_of(&lane.queue),
            messages,
            max_receives = max,
            "last receive before SQS moves these calls to its own dead-letter queue"
        );
    }
}

/// An attribute that is a number.
fn number(message: &Message, name: &Attribute) -> Option<u64> {
    message.attributes()?.get(name)?.parse().ok()
}

/// How long ago a time in milliseconds since 1970 was.
fn age(sent_ms: u64) -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    now.saturating_sub(Duration::from_millis(sent_ms))
}

/// A number as the protocol writes it; all of ours are small.
fn small(number: u64) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lane(last: Last) -> Look {
        Look { last, polls: 0, paused: false }
    }

    #[test]
    fn the_first_look_shares_the_permits_out() {
        assert_eq!(plan(&[lane(Last::Never)], 0, 32), [(0, 10)]);
        assert_eq!(plan(&[lane(Last::Never); 2], 1, 7), [(1, 3), (0, 4)]);
        assert_eq!(plan(&[lane(Last::Never); 3], 2, 2), [(2, 1), (0, 1)]);
        assert_eq!(plan(&[lane(Last::Never)], 0, 0), []);
    }

    #[test]
    fn a_flooded_lane_leaves_one_permit_to_each_quiet_one() {
        let lanes = [lane(Last::Full), lane(Last::Empty), lane(Last::Empty)];
        assert_eq!(plan(&lanes, 0, 8), [(0, 6), (1, 1), (2, 1)]);
        assert_eq!(plan(&lanes, 1, 8), [(1, 1), (2, 1), (0, 6)]);
    }

    #[test]
    fn busy_lanes_take_turns_when_a_single_permit_is_free() {
        let lanes = [lane(Last::Full), lane(Last::Full)];
        assert_eq!(plan(&lanes, 0, 1), [(0, 1)]);
        assert_eq!(plan(&lanes, 1, 1), [(1, 1)]);
        // A quiet one takes its turn like the others, and no more than that.
        let lanes = [lane(Last::Full), lane(Last::Empty)];
        assert_eq!(plan(&lanes, 0, 1), [(0, 1)]);
        assert_eq!(plan(&lanes, 1, 1), [(1, 1)]);
    }

    #[test]
    fn a_backlog_is_asked_for_by_several_polls_at_once() {
        let busy = Look { last: Last::Full, polls: 1, paused: false };
        assert_eq!(plan(&[busy], 0, 22), [(0, 10)]);
        assert_eq!(plan(&[busy], 0, 9), [], "less than a batch waits for the poll in flight");
        assert_eq!(plan(&[Look { polls: MAX_POLLS, ..busy }], 0, 100), []);
        assert_eq!(plan(&[lane(Last::Full)], 0, 32), [(0, 10), (0, 10)]);
    }

    #[test]
    fn a_lane_that_failed_is_left_alone_and_the_others_are_not() {
        let lanes = [Look { paused: true, ..lane(Last::Full) }, lane(Last::Part)];
        assert_eq!(plan(&lanes, 0, 32), [(1, 10)]);
    }
}
