//! The producer's side: batches within SQS's limits, each entry of the answer looked at.

use std::{collections::HashSet, ops::RangeInclusive, str, sync::Arc, time::Duration};

use async_trait::async_trait;
use aws_sdk_sqs::types::{BatchResultErrorEntry, SendMessageBatchRequestEntry};
use bytes::Bytes;
use tokio::{task::JoinSet, time::sleep};

use super::{
    MAX_BATCH, Message, Publisher, SourceError,
    client::{first_line, plain_code, within},
    lane::Lane,
};
use crate::{domain::id::sha256_hex, sources::lane};

/// Calls at a time.
const MAX_CALLS: usize = 8;
/// Times that an entry is sent which SQS failed to take.
const MAX_ROUNDS: u32 = 3;
/// Pause before the second round, doubled before each further one.
const ROUND_PAUSE: Duration = Duration::from_millis(100);
/// Hex digits of a tenant's hash that name its group.
const GROUP_DIGITS: usize = 32;
/// Characters beyond ASCII that a message cannot hold.
const NO_CHARACTERS: RangeInclusive<char> = '\u{fffe}'..='\u{ffff}';

/// Puts messages on the queue of their lane.
#[derive(Debug)]
pub(super) struct SqsPublisher {
    lanes: Vec<Arc<Lane>>,
    fair: bool,
}

/// One message as SQS takes it.
#[derive(Debug, Clone)]
struct Entry {
    body: String,
    group: Option<String>,
}

impl SqsPublisher {
    /// A publisher to these lanes; `fair` names the tenant's group, so that SQS deals among groups.
    pub(super) fn new(lanes: Vec<Arc<Lane>>, fair: bool) -> Self {
        Self { lanes, fair }
    }

    /// The messages of each lane, none of them larger than its queue takes.
    async fn sort(&self, messages: Vec<Message>) -> Result<Vec<Vec<Entry>>, SourceError> {
        let mut lanes = vec![Vec::new(); self.lanes.len()];
        for (place, Message { payload, tenant_id }) in messages.into_iter().enumerate() {
            let number = usize::from(lane(tenant_id.as_deref(), lanes.len() as u16));
            let max_bytes = self.lanes[number].open().await?.max_bytes;
            let unfit = |why| SourceError::Unfit { place, why: format!("{why}; none of the batch was sent") };
            let body = body(&payload, max_bytes).map_err(unfit)?;
            let group = tenant_id.filter(|_| self.fair).map(|tenant| group(&tenant));
            lanes[number].push(Entry { body: body.to_owned(), group });
        }
        Ok(lanes)
    }
}

#[async_trait]
impl Publisher for SqsPublisher {
    async fn publish(&self, messages: Vec<Message>) -> Result<(), SourceError> {
        let mut calls = JoinSet::new();
        for (entries, lane) in self.sort(messages).await?.into_iter().zip(&self.lanes) {
            if entries.is_empty() {
                continue;
            }
            for batch in batches(entries, lane.open().await?.max_bytes) {
                if calls.len() >= MAX_CALLS {
                    finished(calls.join_next().await)?;
                }
                calls.spawn(send(Arc::clone(lane), batch));
            }
        }
        while !calls.is_empty() {
            finished(calls.join_next().await)?;
        }
        Ok(())
    }
}

/// The outcome of a call that has ended. After an error the others are dropped: publishing again is safe.
fn finished(
    call: Option<Result<Result<(), SourceError>, tokio::task::JoinError>>,
) -> Result<(), SourceError> {
    call.map_or(Ok(()), |call| call.map_err(|_| SourceError::Gone)?)
}

/// The group of a tenant: the same for the same tenant, and no name that could be read.
fn group(tenant_id: &str) -> String {
    let mut digest = sha256_hex(tenant_id.as_bytes());
    digest.truncate(GROUP_DIGITS);
    digest
}

/// The text of a message that SQS can hold. It holds what XML can: no control characters but tab, line feed and
/// carriage return, and no U+FFFE and U+FFFF. Valid JSON has none of the first, and can write the others as escapes.
fn body(payload: &Bytes, max_bytes: usize) -> Result<&str, String> {
    if payload.is_empty() {
        return Err("sqs holds no empty message; leave the line out".into());
    }
    if payload.len() > max_bytes {
        let bytes = payload.len();
        return Err(format!(
            "{bytes} bytes, and this queue takes {max_bytes}; shorten the call, or raise MaximumMessageSize of the \
             queue (1048576 at most)"
        ));
    }
    let text = str::from_utf8(payload).map_err(|error| {
        format!("not UTF-8 at byte {}; sqs holds text only, write the line in UTF-8", error.valid_up_to())
    })?;
    match text.char_indices().find(|(_, character)| !is_held(*character)) {
        Some((byte, character)) => Err(format!(
            "U+{:04X} at byte {byte}, which sqs cannot hold; write it as the JSON escape \\u{:04x}",
            u32::from(character),
            u32::from(character)
        )),
        None => Ok(text),
    }
}

/// Whether a message can hold this character.
fn is_held(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r') || (character >= ' ' && !NO_CHARACTERS.contains(&character))
}

/// Entries put together into batches of at most ten and at most so many bytes, in order.
fn batches(entries: Vec<Entry>, max_bytes: usize) -> Vec<Vec<Entry>> {
    let (mut batches, mut batch, mut bytes) = (Vec::new(), Vec::new(), 0);
    for entry in entries {
        let size = entry.body.len() + entry.group.as_ref().map_or(0, String::len);
        if batch.len() == MAX_BATCH || (!batch.is_empty() && bytes + size > max_bytes) {
            batches.push(std::mem::take(&mut batch));
            bytes = 0;
        }
        bytes += size;
        batch.push(entry);
    }
    batches.extend(Some(batch).filter(|batch| !batch.is_empty()));
    batches
}

/// Sends one batch. What SQS failed to take is sent again, some times; what it has taken is not.
async fn send(lane: Arc<Lane>, batch: Vec<Entry>) -> Result<(), SourceError> {
    let (url, clients) = (&lane.open().await?.url, lane.queues.clients().await?);
    let mut waiting: Vec<usize> = (0..batch.len()).collect();
    for round in 1.. {
        let entries = waiting.iter().map(|place| {
            SendMessageBatchRequestEntry::builder()
                .id(place.to_string())
                .message_body(&batch[*place].body)
                .set_message_group_id(batch[*place].group.clone())
                .build()
        });
        let entries = entries.collect::<Result<_, _>>();
        let entries: Vec<_> = entries.map_err(|error| SourceError::Refused(format!("sqs: {error}")))?;
        let call = clients.calls.send_message_batch().queue_url(url).set_entries(Some(entries));
        let answer = within("SendMessageBatch", Duration::ZERO, call.send()).await?;
        if let Some(refused) = answer.failed().iter().find(|entry| entry.sender_fault()) {
            return Err(refusal(refused));
        }
        let taken: HashSet<&str> = answer.successful().iter().map(|entry| entry.id()).collect();
        waiting.retain(|place| !taken.contains(place.to_string().as_str()));
        if waiting.is_empty() {
            break;
        }
        if round == MAX_ROUNDS {
            let missing =
                || SourceError::Refused("sqs has not taken every message, and does not say why".into());
            return Err(answer.failed().first().map_or_else(missing, refusal));
        }
        sleep(ROUND_PAUSE * 2u32.pow(round - 1)).await;
    }
    Ok(())
}

/// The error of an entry that SQS has not taken.
fn refusal(entry: &BatchResultErrorEntry) -> SourceError {
    let said = first_line(entry.message().unwrap_or_default());
    let remedy = match plain_code(entry.code()) {
        "InvalidParameterValue" | "MissingParameter" | "UnsupportedOperation" => {
            "; is it a standard queue, and does the service know fair queues ([source.sqs] fair)?"
        }
        _ if entry.sender_fault() => "",
        _ => "; send it again",
    };
    SourceError::Refused(format!("sqs: {}: {said}{remedy}", plain_code(entry.code())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(payload: &[u8]) -> String {
        body(&Bytes::copy_from_slice(payload), 100).unwrap_err()
    }

    #[test]
    fn what_sqs_cannot_hold_is_refused_with_place_and_remedy() {
        for (payload, place) in [
            (&b"{\"a\":\"\x00\"}"[..], "U+0000 at byte 6"),
            (b"a\x1fb", "U+001F at byte 1"),
            ("x\u{fffe}".as_bytes(), "U+FFFE at byte 1"),
            ("\u{ffff}".as_bytes(), "U+FFFF at byte 0"),
            (b"ab\xff", "not UTF-8 at byte 2"),
            (b"", "empty"),
            (&[b'x'; 101], "101 bytes, and this queue takes 100"),
        ] {
            assert!(refused(payload).contains(place), "{}", refused(payload));
        }
        assert!(refused("\u{fffe}".as_bytes()).ends_with("\\ufffe"));
    }

    #[test]
    fn what_it_can_hold_is_sent_as_it_is() {
        for text in
            ["{\"a\": \"\\u0000\"}", "tab\tline\r\n", "\u{7f}\u{85}", "é \u{fffd} 𝄞 \u{1fffe}", "not json"]
        {
            assert_eq!(body(&Bytes::from(text), 100), Ok(text));
        }
    }

    #[test]
    fn batches_keep_the_order_and_both_limits() {
        let entry = |number: usize| Entry { body: format!("{number:04}"), group: None };
        for (max_bytes, sizes) in
            [(1000, vec![10, 10, 3]), (12, vec![3, 3, 3, 3, 3, 3, 3, 2]), (4, vec![1; 23])]
        {
            let batches = batches((0..23).map(entry).collect(), max_bytes);
            assert_eq!(batches.iter().map(Vec::len).collect::<Vec<_>>(), sizes);
            let bodies: Vec<String> = batches.concat().into_iter().map(|entry| entry.body).collect();
            assert_eq!(bodies, (0..23).map(|number| format!("{number:04}")).collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_group_is_the_same_for_a_tenant_and_does_not_name_it() {
        assert_eq!(group("acme"), group("acme"));
        assert_ne!(group("acme"), group("acme2"));
        assert!(group("acme").len() == GROUP_DIGITS && !group("acme").contains("acme"));
    }
}
