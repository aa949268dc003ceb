//! Langfuse: scores on traces and observations, an annotation queue for calls that a person has to look at, and datasets for
//! rows of a golden set.
//!
//! A score is one and the same for Langfuse where its id, its name and the day of its time are: all three are those of the call, so
//! that whatever is sent again overwrites. The time is never that of sending.

mod api;
mod body;
mod config;
mod configs;
mod dataset;
mod ingest;
mod queue;
mod retract;

use std::{collections::HashMap, time::Duration};

use async_trait::async_trait;
use futures_util::future::join_all;
use jiff::Timestamp;
use serde::Deserialize;
use tokio::time::timeout;
use uuid::Uuid;

pub use self::config::{Api as ScoresApi, LangfuseConfig, Target};
use self::{
    api::{Api, again},
    body::Sent,
    configs::Reader,
    ingest::{Told, Way},
    queue::{Object, Queue},
    retract::Eraser,
};
use super::{Content, Item, Outcome, Retraction, Sink, SinkError, cut, each};
use crate::domain::Verdict;

/// Items of one [`Sink::deliver`], where many scores go in a request.
const BATCH: u32 = 50;
/// Items, where each score may be a request of its own: what Langfuse takes of them in a minute is little.
const SMALL_BATCH: u32 = 5;
/// Scores that an item has, about.
const SCORES: u32 = 12;
/// How long the annotation queue may take, of the 50 s that a batch has.
const QUEUE_WAIT: Duration = Duration::from_secs(20);
/// Most bytes of a name that a check shows.
const MAX_NAME_BYTES: usize = 100;

/// Writes to one project of Langfuse.
pub struct LangfuseSink {
    config: LangfuseConfig,
    api: Api,
    way: Way,
    configs: Reader,
    queue: Option<Queue>,
    eraser: Eraser,
}

/// The scores of a batch: each once, and which items they are of.
#[derive(Default)]
struct Batch {
    scores: Vec<Sent>,
    /// Places of an item's scores, by the item's place.
    of: HashMap<usize, Vec<usize>>,
}

impl Batch {
    /// Adds the scores of an item. One that is there already is written as this item has it: it came later.
    fn add(&mut self, item: usize, sent: Vec<Sent>) {
        for sent in sent {
            let before = self.scores.iter().position(|other| other.id == sent.id);
            let place = before.unwrap_or(self.scores.len());
            match before {
                Some(place) => self.scores[place] = sent,
                None => self.scores.push(sent),
            }
            self.of.entry(item).or_default().push(place);
        }
    }

    /// Ids of an item's scores.
    fn ids(&self, item: usize) -> Vec<Uuid> {
        self.of.get(&item).into_iter().flatten().map(|place| self.scores[*place].id).collect()
    }
}

impl LangfuseSink {
    /// A sink of this configuration. Nothing is connected yet.
    ///
    /// # Errors
    /// The key, and what to write there.
    pub fn new(config: &LangfuseConfig) -> Result<Self, String> {
        config.check()?;
        Ok(Self {
            config: config.clone(),
            api: Api::new(config)?,
            way: Way::new(config.api),
            configs: Reader::new(config.score_configs.clone()),
            queue: config.queue.clone().map(Queue::new),
            eraser: Eraser::default(),
        })
    }

    /// The scores of a batch.
    async fn scores(&self, items: &[Item]) -> Result<Batch, SinkError> {
        let configs = self.configs.current(&self.api).await?;
        let mut batch = Batch::default();
        for (place, item) in items.iter().enumerate() {
            let sent = match &item.content {
                Content::Evaluation(scored) => body::of_evaluation(scored, &self.config, &configs),
                Content::Label(said) => vec![body::of_label(said, &self.config, &configs)],
                Content::Golden(_) => continue,
            };
            batch.add(place, sent);
        }
        Ok(batch)
    }

    /// What became of each item, as far as its scores go, and of rows of a golden set.
    async fn written(&self, items: &[Item], batch: &Batch) -> Vec<Told> {
        let told = self.way.send(&self.api, &batch.scores).await;
        let each = items.iter().enumerate().map(async |(place, item)| match &item.content {
            Content::Golden(golden) => dataset::put(&self.api, golden, self.config.target).await,
            _ => of_item(batch.of.get(&place).into_iter().flatten().filter_map(|score| told.get(*score))),
        });
        join_all(each).await
    }

    /// Puts the calls that a person has to look at on the queue, where their scores have arrived; gives back the ids of their
    /// items by the places of ours.
    async fn queue(&self, items: &[Item], told: &mut [Told]) -> HashMap<usize, String> {
        let Some(queue) = &self.queue else { return HashMap::new() };
        let wanted = items.iter().enumerate().filter_map(|(place, item)| {
            let is_written = matches!(told.get(place), Some(Ok(Outcome::Delivered { .. })));
            Some((place, self.object(item).filter(|_| is_written)?))
        });
        let (places, objects): (Vec<usize>, Vec<(Object, Timestamp)>) = wanted.unzip();
        if objects.is_empty() {
            return HashMap::new();
        }
        let mut queued = HashMap::new();
        // A queue that takes long to read must not cost the batch its time, and with it the scores that were written.
        let Ok(all) = timeout(QUEUE_WAIT, queue.put(&self.api, &objects)).await else {
            let reason = format!("queue: reading it took longer than {} s", QUEUE_WAIT.as_secs());
            for place in places {
                told[place] = Ok(Outcome::Again { reason: reason.clone(), after: None });
            }
            return queued;
        };
        for (place, put) in places.into_iter().zip(all) {
            match put {
                Ok(id) => drop(queued.insert(place, id)),
                Err(error) => told[place] = Err(error),
            }
        }
        queued
    }

    /// What is put on the queue for an item, and since when it may be there; none where it needs no person.
    fn object(&self, item: &Item) -> Option<(Object, Timestamp)> {
        let Content::Evaluation(scored) = &item.content else { return None };
        let evaluation = &scored.evaluation;
        let observation = body::observation(self.config.target, evaluation.span_id.as_deref());
        let object = Object {
            id: body::known(observation.unwrap_or(&evaluation.trace_id)),
            is_observation: observation.is_some(),
        };
        (evaluation.verdict == Verdict::Review).then_some((object, evaluation.evaluated_at))
    }
}

#[async_trait]
impl Sink for LangfuseSink {
    fn batch(&self) -> u32 {
        match self.way.is_one_by_one() {
            true => self.api.batch(SMALL_BATCH, SCORES),
            false => self.api.batch(BATCH, 1),
        }
    }

    async fn deliver(&self, items: &[Item]) -> Result<Vec<Outcome>, SinkError> {
        let batch = self.scores(items).await?;
        self.eraser.forget(batch.scores.iter().map(|score| score.id)).await;
        let mut told = self.written(items, &batch).await;
        let mut queued = self.queue(items, &mut told).await;
        for (place, told) in told.iter_mut().enumerate() {
            if let Ok(Outcome::Delivered { receipt: receipt @ None }) = told {
                *receipt = Some(retract::of_scores(&batch.ids(place), queued.remove(&place)));
            }
        }
        each(told)
    }

    async fn retract(&self, retractions: &[Retraction]) -> Result<Vec<Uuid>, SinkError> {
        self.eraser.retract(&self.api, self.queue.as_ref(), retractions).await
    }

    async fn check(&self) -> Result<String, SinkError> {
        #[derive(Deserialize)]
        struct Projects {
            data: Vec<Project>,
        }
        #[derive(Deserialize)]
        struct Project {
            name: String,
        }
        let answer = self.api.get(&["projects"], &[]).await?;
        if api::is_nowhere(answer.status) {
            let said = format!("status {}: no Langfuse answers there; check url", answer.status);
            return Err(SinkError::Denied(said));
        }
        let projects: Projects = self.api.read(&answer)?;
        let no_project = || SinkError::Denied("the keys belong to no project: take those of one".into());
        let project = projects.data.first().ok_or_else(no_project)?;
        let mut found = format!("project {:?}", cut(&project.name, MAX_NAME_BYTES));
        let configs = self.configs.check(&self.api).await?;
        if configs > 0 {
            found.push_str(&format!(", {configs} score configs"));
        }
        if let Some(queue) = &self.queue {
            let name = queue.name(&self.api).await?;
            found.push_str(&format!(", annotation queue {:?}", cut(&name, MAX_NAME_BYTES)));
        }
        Ok(found)
    }
}

/// What became of an item by what became of its scores: it arrived where all of them did.
fn of_item<'a>(scores: impl Iterator<Item = &'a Told>) -> Told {
    let urgency = |told: &&Told| match told {
        Ok(Outcome::Delivered { .. } | Outcome::Unsent { .. }) => 0,
        Ok(Outcome::Never { .. }) | Err(SinkError::Refused(_)) => 1,
        Ok(Outcome::Again { .. } | Outcome::Unclear { .. }) => 2,
        Err(SinkError::Again { .. }) => 3,
        Err(SinkError::Denied(_)) => 4,
    };
    scores.max_by_key(urgency).cloned().unwrap_or_else(|| Ok(again("nothing was sent".into(), None)))
}
