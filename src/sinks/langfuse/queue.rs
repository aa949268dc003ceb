//! Puts calls on an annotation queue, each once. Langfuse takes the same call again without a word, so we look before we send:
//! what is open, and what was worked off since the call was evaluated.
//!
//! Its list has pages by number, the newest first. An item that somebody completes while we read leaves the list of open ones, and
//! what is behind it moves forward, perhaps onto a page that was read. Such an item was read before it left: so where a second
//! reading finds the same items as the first, nothing was missed. What is added moves others backward, and is read twice at most.

use std::collections::{BTreeSet, HashMap};

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::Mutex;

use super::api::{Api, PAGE};
use crate::sinks::SinkError;

/// Most pages of open items that are looked through.
const MAX_PAGES: u64 = 100;
/// How often open items of more than one page are read until two readings are the same.
const MAX_READINGS: usize = 6;
/// How far our clock and that of the server may be apart.
const SKEW: SignedDuration = SignedDuration::from_hours(1);

/// A queue.
pub(super) struct Queue {
    id: String,
    // Two batches that look at the same time would both send.
    alone: Mutex<()>,
}

/// What is put on a queue.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Object {
    /// Id of the trace or of the observation.
    pub id: String,
    /// Whether it is an observation.
    pub is_observation: bool,
}

/// An item of a queue.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct QueueItem {
    id: String,
    #[serde(default)]
    object_id: String,
    #[serde(default)]
    object_type: String,
    #[serde(default)]
    created_at: Option<Timestamp>,
}

impl Object {
    /// What Langfuse calls its kind.
    fn kind(&self) -> &'static str {
        if self.is_observation { "OBSERVATION" } else { "TRACE" }
    }
}

/// Ids of the items of objects.
type Items = HashMap<Object, String>;

impl Queue {
    /// The queue of this id.
    pub fn new(id: String) -> Self {
        Self { id, alone: Mutex::new(()) }
    }

    /// What the queue is called.
    pub async fn name(&self, api: &Api) -> Result<String, SinkError> {
        #[derive(Deserialize)]
        struct Named {
            name: String,
        }
        let answer = api.get(&["annotation-queues", &self.id], &[]).await?;
        if answer.status == reqwest::StatusCode::NOT_FOUND {
            return Err(self.unknown());
        }
        Ok(api.read::<Named>(&answer)?.name)
    }

    /// What it means that there is no such queue.
    fn unknown(&self) -> SinkError {
        SinkError::Denied(
            "queue: the project has no annotation queue of this id; create it, or write its id".into(),
        )
    }

    /// Puts objects on the queue that are not on it, and were not since the time beside them. Gives back the id of each one's item.
    pub async fn put(&self, api: &Api, objects: &[(Object, Timestamp)]) -> Vec<Result<String, SinkError>> {
        let _alone = self.alone.lock().await;
        let mut there = match self.there(api, objects).await {
            Ok(there) => there,
            Err(error) => return vec![Err(error); objects.len()],
        };
        let mut put = Vec::with_capacity(objects.len());
        for (object, _) in objects {
            let id = match there.get(object) {
                Some(id) => Ok(id.clone()),
                None => self.add(api, object).await,
            };
            if let Ok(id) = &id {
                there.insert(object.clone(), id.clone());
            }
            put.push(id);
        }
        put
    }

    /// Those of the objects that are on the queue, or were.
    async fn there(&self, api: &Api, objects: &[(Object, Timestamp)]) -> Result<Items, SinkError> {
        let mut found = self.open(api, objects).await?;
        let missing = objects.iter().filter(|(object, _)| !found.contains_key(object));
        // Without an evaluation nothing was sent for it.
        if let Some(since) = missing.map(|(_, since)| *since).min() {
            let since = since.saturating_sub(SKEW).unwrap_or(Timestamp::MIN);
            add(&mut found, self.look(api, "COMPLETED", since).await?.0);
        }
        Ok(found)
    }

    /// Items that are open, or were while they were read; not all of them where the objects are among them.
    async fn open(&self, api: &Api, objects: &[(Object, Timestamp)]) -> Result<Items, SinkError> {
        let (mut found, mut before) = (Items::new(), None);
        for _ in 0..MAX_READINGS {
            let (items, pages) = self.look(api, "PENDING", Timestamp::MIN).await?;
            let ids: BTreeSet<String> = items.iter().map(|item| item.id.clone()).collect();
            add(&mut found, items);
            let is_there = objects.iter().all(|(object, _)| found.contains_key(object));
            if pages <= 1 || is_there || before.as_ref() == Some(&ids) {
                return Ok(found);
            }
            before = Some(ids);
        }
        let reason = "queue: its open items change faster than they can be read".to_owned();
        Err(SinkError::Again { reason, after: None })
    }

    /// Looks through the items in a status, the newest first, as Langfuse has them, until they are older than a time; gives the
    /// pages, too.
    async fn look(
        &self,
        api: &Api,
        status: &str,
        since: Timestamp,
    ) -> Result<(Vec<QueueItem>, u64), SinkError> {
        let mut found = Vec::new();
        let parts = ["annotation-queues", self.id.as_str(), "items"];
        for number in 1..=MAX_PAGES {
            let page = match api.page::<QueueItem>(&parts, &[("status", status)], number).await {
                Err(SinkError::Refused(said)) if said.contains("404") => return Err(self.unknown()),
                page => page?,
            };
            let is_last = page.data.len() < PAGE || number >= page.meta.total_pages;
            let is_old = |item: &QueueItem| item.created_at.is_some_and(|at| at < since);
            let is_enough = page.data.last().is_some_and(is_old);
            found.extend(page.data.into_iter().filter(|item| !is_old(item)));
            if is_last || is_enough {
                return Ok((found, number));
            }
        }
        let most = MAX_PAGES * PAGE as u64;
        let reason = format!("queue: more than {most} items are open; work them off, or take queue out");
        Err(SinkError::Again { reason, after: None })
    }

    /// Puts one object on the queue; gives the id of its item.
    async fn add(&self, api: &Api, object: &Object) -> Result<String, SinkError> {
        let body = json!({"objectId": object.id, "objectType": object.kind()});
        let answer = api.post(&["annotation-queues", &self.id, "items"], &body).await?;
        Ok(api.read::<QueueItem>(&answer)?.id)
    }

    /// Takes an item off the queue.
    pub async fn remove(&self, api: &Api, item: &str) -> Result<bool, SinkError> {
        api.delete(&["annotation-queues", &self.id, "items", item]).await
    }
}

/// Adds items by their objects; of one object the first one counts.
fn add(found: &mut Items, items: Vec<QueueItem>) {
    for item in items {
        let is_observation = item.object_type == "OBSERVATION";
        found.entry(Object { id: item.object_id, is_observation }).or_insert(item.id);
    }
}
