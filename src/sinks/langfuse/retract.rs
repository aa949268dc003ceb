//! Deletes what was sent: scores, items of queues and items of datasets.

use std::collections::HashSet;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{
    api::{Api, PAGE},
    body::time,
    queue::Queue,
};
use crate::{
    domain::Retraction,
    sinks::{
        SinkError,
        scores::{FAITHFULNESS, JUDGE, REVIEW, VERDICT, score_id},
    },
};

/// Longest receipt, in bytes.
const MAX_BYTES: usize = 2000;
/// Most pages of scores that are looked through.
const MAX_PAGES: usize = 20;

/// What was written for a delivery: ids of ours and of Langfuse, no text of the call.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Receipt {
    /// Ids of scores; none where they would be too many.
    #[serde(rename = "s", default, skip_serializing_if = "Option::is_none")]
    scores: Option<Vec<String>>,
    /// Id of the item on the annotation queue.
    #[serde(rename = "q", default, skip_serializing_if = "Option::is_none")]
    queued: Option<String>,
    /// Id of the item of a dataset.
    #[serde(rename = "d", default, skip_serializing_if = "Option::is_none")]
    item: Option<Uuid>,
}

impl Receipt {
    /// What there may be of a delivery of which nobody knows whether it arrived: a row of the golden set is found by its own id.
    fn unsaid(retraction: &Retraction) -> Self {
        let item = retraction.golden.as_ref().map(|golden| golden.golden_id);
        Self { scores: item.map(|_| Vec::new()), queued: None, item }
    }
}

/// A receipt of scores and perhaps an item of a queue.
pub(super) fn of_scores(ids: &[Uuid], queued: Option<String>) -> String {
    let scores = ids.iter().map(|id| URL_SAFE_NO_PAD.encode(id.as_bytes())).collect();
    let receipt = Receipt { scores: Some(scores), queued, item: None };
    let text = serde_json::to_string(&receipt).unwrap_or_default();
    if text.len() <= MAX_BYTES {
        return text;
    }
    // They are looked for, then.
    serde_json::to_string(&Receipt { scores: None, ..receipt }).unwrap_or_default()
}

/// A receipt of an item of a dataset.
pub(super) fn of_item(id: Uuid) -> String {
    let receipt = Receipt { scores: Some(Vec::new()), queued: None, item: Some(id) };
    serde_json::to_string(&receipt).unwrap_or_default()
}

/// Deletes, and remembers what is gone until all of it is: where there are more deletions than requests in a minute, a repeat goes
/// on where it stopped.
#[derive(Default)]
pub(super) struct Eraser {
    gone: Mutex<HashSet<Uuid>>,
}

/// A score of a list.
#[derive(Debug, Deserialize)]
struct Found {
    id: Uuid,
    #[serde(default)]
    metadata: Option<Of>,
}

/// What a score of ours says of itself.
#[derive(Debug, Deserialize)]
struct Of {
    #[serde(default)]
    evaluation_id: Option<Uuid>,
}

/// A page of the list.
#[derive(Debug, Deserialize)]
struct Scores {
    data: Vec<serde_json::Value>,
    meta: Cursor,
}

/// Where the next page begins.
#[derive(Debug, Deserialize)]
struct Cursor {
    #[serde(default)]
    cursor: Option<String>,
}

impl Eraser {
    /// These scores are sent again.
    pub async fn forget(&self, ids: impl Iterator<Item = Uuid>) {
        let mut gone = self.gone.lock().await;
        if gone.is_empty() {
            return;
        }
        for id in ids {
            gone.remove(&id);
        }
    }

    /// Deletes what was delivered; gives back the deliveries that are not known.
    pub async fn retract(
        &self,
        api: &Api,
        queue: Option<&Queue>,
        retractions: &[Retraction],
    ) -> Result<Vec<Uuid>, SinkError> {
        let (mut unknown, mut deleted) = (Vec::new(), Vec::new());
        for one in retractions {
            let receipt: Option<Receipt> =
                one.receipt.as_deref().and_then(|receipt| serde_json::from_str(receipt).ok());
            let is_told = receipt.is_some();
            let Receipt { scores, queued, item } = receipt.unwrap_or_else(|| Receipt::unsaid(one));
            let ids = match scores {
                Some(ids) => ids.iter().filter_map(|id| decoded(id)).collect(),
                None => candidates(api, one.evaluation_id).await?,
            };
            let mut is_known = self.delete(api, &ids).await?;
            if let (Some(queue), Some(queued)) = (queue, queued) {
                queue.remove(api, &queued).await?;
            }
            if let Some(item) = item {
                is_known |= api.delete(&["dataset-items", &item.to_string()]).await?;
            }
            if !is_told && !is_known {
                unknown.push(one.delivery_id);
            }
            deleted.extend(ids);
        }
        self.forget(deleted.into_iter()).await;
        Ok(unknown)
    }

    /// Deletes scores; says whether any was there.
    async fn delete(&self, api: &Api, ids: &[Uuid]) -> Result<bool, SinkError> {
        let left: Vec<Uuid> = {
            let gone = self.gone.lock().await;
            ids.iter().copied().filter(|id| !gone.contains(id)).collect()
        };
        let mut is_known = left.len() < ids.len();
        let answers = join_all(left.iter().map(|id| async { (*id, delete_score(api, *id).await) })).await;
        let mut gone = self.gone.lock().await;
        let mut failed = None;
        for (id, answer) in answers {
            match answer {
                Ok(was_there) => {
                    is_known |= was_there;
                    gone.insert(id);
                }
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(is_known), Err)
    }
}

/// Deletes a score; says whether it was there.
async fn delete_score(api: &Api, id: Uuid) -> Result<bool, SinkError> {
    api.delete(&["scores", &id.to_string()]).await
}

/// The id of a score as it stands in a receipt.
fn decoded(id: &str) -> Option<Uuid> {
    Uuid::from_slice(&URL_SAFE_NO_PAD.decode(id).ok()?).ok()
}

/// Ids that the scores of an evaluation may have: those of the names that are always the same, and those that are found by the
/// time of the call, which stands in the id of the evaluation. What was written a moment ago may not be found yet.
async fn candidates(api: &Api, evaluation: Uuid) -> Result<Vec<Uuid>, SinkError> {
    let names = [VERDICT, FAITHFULNESS, JUDGE, REVIEW];
    let mut ids: Vec<Uuid> = names.iter().map(|name| score_id(evaluation, name)).collect();
    let Some(at) = began(evaluation) else { return Ok(ids) };
    let until = at.saturating_add(SignedDuration::from_millis(1)).unwrap_or(at);
    let (from, to, limit) = (time(at), time(until), PAGE.to_string());
    let mut cursor: Option<String> = None;
    for _ in 0..MAX_PAGES {
        let mut query = vec![
            ("fromTimestamp", from.as_str()),
            ("toTimestamp", &to),
            ("fields", "details"),
            ("limit", &limit),
        ];
        query.extend(cursor.as_deref().map(|cursor| ("cursor", cursor)));
        let answer = api.get(&["v3", "scores"], &query).await?;
        if answer.status == reqwest::StatusCode::NOT_FOUND {
            // Servers before this list have no other that tells what is needed.
            break;
        }
        let page: Scores = api.read(&answer)?;
        let found = page.data.into_iter().filter_map(|score| serde_json::from_value::<Found>(score).ok());
        let is_ours =
            |score: &Found| score.metadata.as_ref().is_some_and(|of| of.evaluation_id == Some(evaluation));
        ids.extend(found.filter(is_ours).map(|score| score.id));
        cursor = page.meta.cursor;
        if cursor.is_none() {
            break;
        }
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// The time that the id of an evaluation begins with; none where it is another kind of id.
fn began(evaluation: Uuid) -> Option<Timestamp> {
    let bytes = evaluation.as_bytes();
    let ms = bytes[..6].iter().fold(0_i64, |ms, byte| ms << 8 | i64::from(*byte));
    Timestamp::from_millisecond(ms).ok().filter(|_| evaluation.get_version_num() == 8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::derived_at;

    #[test]
    fn a_receipt_says_what_was_written_and_stays_short() {
        let ids: Vec<Uuid> = (0..70).map(Uuid::from_u128).collect();
        let receipt = of_scores(&ids, Some("cm1".into()));
        let read: Receipt = serde_json::from_str(&receipt).unwrap();
        let decoded: Vec<Uuid> = read.scores.unwrap().iter().filter_map(|id| decoded(id)).collect();
        assert_eq!((decoded, read.queued.as_deref()), (ids, Some("cm1")));
        let many: Vec<Uuid> = (0..100).map(Uuid::from_u128).collect();
        assert_eq!(of_scores(&many, Some("cm1".into())), r#"{"q":"cm1"}"#);
        assert!(of_scores(&many[..70], None).len() <= MAX_BYTES);
    }

    #[test]
    fn the_time_of_a_call_is_read_from_its_evaluation() {
        let at: Timestamp = "2026-11-02T10:00:00.123Z".parse().unwrap();
        assert_eq!(began(derived_at(at, "evaluation", &["t", "r"])), Some(at));
        assert_eq!(began(Uuid::from_u128(7)), None);
    }
}
