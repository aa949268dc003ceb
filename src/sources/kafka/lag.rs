//! How much waits: where the partitions end, and where the group stands in them.
//!
//! A client of its own, which joins no group: it can still tell of a lag when the one that consumes has stalled.

use std::{collections::BTreeMap, time::Duration};

use rdkafka::{
    Offset, TopicPartitionList,
    consumer::{BaseConsumer, Consumer, ConsumerContext},
    error::{KafkaError, KafkaResult},
};

use super::{
    assignment::View,
    client::{Clients, Logged, failed, lasting, unavailable},
};
use crate::sources::SourceError;

/// How long one question to the brokers may take; four are asked at most.
const DEADLINE: Duration = Duration::from_secs(1);
/// Lines of the client's log that are read at a time.
const LINES: usize = 100;

impl ConsumerContext for Logged {}

/// Asks the brokers.
pub struct Lag {
    client: BaseConsumer<Logged>,
    clients: Clients,
}

/// What waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Measured {
    /// Records, those held included.
    pub messages: u64,
    /// Sum of the offsets where the group stands; it grows while anyone in the group commits.
    pub position: i64,
}

impl Lag {
    /// A client for these brokers; connected when it is first asked.
    ///
    /// # Errors
    /// When the settings cannot be used.
    pub fn new(clients: &Clients) -> Result<Self, SourceError> {
        let mut config = clients.consumer();
        config.set("statistics.interval.ms", "0");
        let client = config.create_with_context(Logged).map_err(failed)?;
        Ok(Self { client, clients: clients.clone() })
    }

    /// Measures these partitions, or, where there are none, all of the topic. Blocks for [`DEADLINE`] a question.
    ///
    /// # Errors
    /// When the brokers do not answer.
    pub fn measure(&self, views: &[View]) -> Result<Measured, SourceError> {
        for _ in 0..LINES {
            drop(self.client.poll(Duration::ZERO));
        }
        self.ask(views).map_err(|error| match error {
            KafkaError::MetadataFetch(code) | KafkaError::OffsetFetch(code) => {
                let config = self.clients.config();
                lasting(config, code).unwrap_or_else(|| unavailable(config, code))
            }
            error => failed(error),
        })
    }

    /// Asks the brokers how far the group is behind; without views, in all partitions.
    fn ask(&self, views: &[View]) -> KafkaResult<Measured> {
        let views = if views.is_empty() { self.all()? } else { views.to_vec() };
        let partitions: Vec<i32> = views.iter().map(|view| view.partition).collect();
        let ends = self.offsets(&partitions, Offset::End)?;
        let unread: Vec<i32> =
            views.iter().filter(|view| view.end.is_none()).map(|view| view.partition).collect();
        let starts = if unread.is_empty() { BTreeMap::new() } else { self.starts(&unread)? };
        let of = |offsets: &BTreeMap<i32, i64>, view: &View| offsets.get(&view.partition).copied();
        let lags = views.iter().map(|view| {
            let start = of(&starts, view).unwrap_or(0);
            lag(view, start, of(&ends, view).unwrap_or(0))
        });
        Ok(Measured { messages: lags.sum(), position: starts.values().sum() })
    }

    /// Every partition of the topic, as one that is not ours.
    fn all(&self) -> KafkaResult<Vec<View>> {
        let topic = &self.clients.config().topic;
        let metadata = self.client.fetch_metadata(Some(topic), DEADLINE)?;
        let partitions = metadata.topics().iter().flat_map(|topic| topic.partitions());
        let view = |id| View { partition: id, held: 0, end: None, reached: None };
        Ok(partitions.map(|partition| view(partition.id())).collect())
    }

    /// Where the group begins in these partitions: at its committed offset, or where the log begins by now.
    fn starts(&self, partitions: &[i32]) -> KafkaResult<BTreeMap<i32, i64>> {
        let mut starts = self.offsets(partitions, Offset::Beginning)?;
        let committed = self.client.committed_offsets(self.list(partitions, Offset::Invalid)?, DEADLINE)?;
        for element in committed.elements() {
            if let Offset::Offset(offset) = element.offset() {
                let start = starts.entry(element.partition()).or_default();
                *start = (*start).max(offset);
            }
        }
        Ok(starts)
    }

    /// Where these partitions begin or end: one question to each leader.
    fn offsets(&self, partitions: &[i32], which: Offset) -> KafkaResult<BTreeMap<i32, i64>> {
        let found = self.client.offsets_for_times(self.list(partitions, which)?, DEADLINE)?;
        let mut offsets = BTreeMap::new();
        for element in found.elements() {
            element.error()?;
            if let Offset::Offset(offset) = element.offset() {
                offsets.insert(element.partition(), offset);
            }
        }
        Ok(offsets)
    }

    /// Partitions of the topic at one offset, as the client asks for them.
    fn list(&self, partitions: &[i32], offset: Offset) -> KafkaResult<TopicPartitionList> {
        let mut list = TopicPartitionList::with_capacity(partitions.len());
        for partition in partitions {
            list.add_partition_offset(&self.clients.config().topic, *partition, offset)?;
        }
        Ok(list)
    }
}

/// Records of one partition that are not finished: those held, and those between what came last and the end of the log.
fn lag(view: &View, start: i64, end: i64) -> u64 {
    let came = view.end.unwrap_or(start).max(view.reached.unwrap_or(0));
    view.held + u64::try_from(end - came).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_behind_the_last_record_waits_unless_the_end_was_met_there() {
        let view = View { partition: 0, held: 2, end: Some(10), reached: None };
        assert_eq!(lag(&view, 0, 15), 7);
        // A transaction ends with an offset that is no record.
        assert_eq!(lag(&View { end: Some(14), reached: Some(15), ..view }, 0, 15), 2);
        assert_eq!(lag(&View { end: Some(14), reached: Some(15), ..view }, 0, 16), 3);
        assert_eq!(lag(&View { held: 0, end: None, ..view }, 12, 15), 3);
        assert_eq!(lag(&View { held: 0, end: None, ..view }, 12, 5), 0, "the log was cut off");
    }
}
