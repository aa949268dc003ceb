//! What the pages and the API are made of, and what of it is in whose hands.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{Mutex, Semaphore},
    time::timeout,
};

use super::glance::{self, Glances};
use crate::{
    access::Gate,
    domain::{Person, ReviewState},
    golden::{GoldenError, Most, Shelf, export::Export},
    pipeline::{dead_letters::DeadLetterOffice, feedback, ingest::Ingest, priority::Priorities},
    review::{Desk, ReviewConfig},
    store::{
        Checked, SinkState, Sought, Store, StoreError, Story,
        reviewing::{Scope, Taken},
    },
};

/// Most of a data set that is made into a file on request; larger ones the command line makes.
const MAX_EXPORT: Most = Most { rows: 10_000, bytes: 64_000_000 };
/// How long a file waits for its turn.
const EXPORT_WAIT: Duration = Duration::from_secs(10);

/// How long a list waits for its turn.
const LIST_WAIT: Duration = Duration::from_secs(10);
/// Lists that are made at a time.
const LISTS: usize = 2;

/// Turns of those who want a list of the newest evaluations: each may read thousands of rows, and workers want the store too.
pub struct Turns(Semaphore);

impl Default for Turns {
    fn default() -> Self {
        Self(Semaphore::new(LISTS))
    }
}

/// What the pages and the API are made of.
#[derive(Clone)]
pub struct House {
    /// Where calls, items and labels are.
    pub store: Arc<dyn Store>,
    /// Redacts what people write.
    pub ingest: Arc<Ingest>,
    /// The golden set, in nobody's hands.
    pub shelf: Shelf,
    /// What is dead, in nobody's hands.
    pub office: DeadLetterOffice,
    /// Who lets people and programs in.
    pub gate: Arc<Gate>,
    /// Times and shares of reviews.
    pub review: ReviewConfig,
    /// Names of the sinks that are told of labels.
    pub sinks: Vec<String>,
    /// The whole at a glance, kept for a moment.
    pub glances: Arc<Glances>,
    /// A few lists of the newest evaluations are made at a time.
    pub listing: Arc<Turns>,
    /// One file of the golden set is made at a time: each may take hundreds of megabytes and a core for seconds.
    pub exporting: Arc<Mutex<()>>,
}

/// What somebody may see.
pub(super) fn scope(person: &Person) -> Scope {
    Scope { tenants: person.tenants.clone(), features: person.features.clone() }
}

impl House {
    /// The queue of reviews in the hands of somebody.
    pub(super) fn desk(&self, person: &Person) -> Desk {
        Desk {
            store: Arc::clone(&self.store),
            config: self.review.clone(),
            sinks: self.sinks.clone(),
            reviewer: person.name.clone(),
            scope: scope(person),
        }
    }

    /// The golden set in the hands of somebody.
    pub(super) fn shelf(&self, person: &Person) -> Shelf {
        Shelf { by: person.name.clone(), scope: scope(person), ..self.shelf.clone() }
    }

    /// The file of a data set in the hands of somebody, and what speaks against it.
    ///
    /// # Errors
    /// Those of [`Shelf::export`]; [`GoldenError::Busy`] where others are served first; [`GoldenError::Missing`] where the data set
    /// has no rows for them.
    pub(super) async fn export(&self, person: &Person, dataset: &str) -> Result<Export, GoldenError> {
        let turn = Arc::clone(&self.exporting).lock_owned();
        let turn = timeout(EXPORT_WAIT, turn).await.map_err(|_| GoldenError::Busy)?;
        let export = self.shelf(person).export(dataset, MAX_EXPORT, turn).await?;
        if export.content.is_empty() { Err(GoldenError::Missing("data set")) } else { Ok(export) }
    }

    /// Has the newest evaluation of a call come to review because somebody wants its label; a repeat changes nothing. None where no
    /// evaluation of it is there for them. The ids are as the producer wrote them, or as they are kept.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn ask(
        &self,
        person: &Person,
        tenant_id: &str,
        request_id: &str,
    ) -> Result<Option<Taken>, StoreError> {
        let Some(story) = self.story(person, tenant_id, request_id).await? else { return Ok(None) };
        // What has no tenant was never a call that could be evaluated.
        let Some(tenant) = story.tenant_id else { return Ok(None) };
        feedback::ask(&*self.store, &self.priorities(), (&tenant, &story.request_id), &person.name).await
    }

    /// What people want to see first.
    pub(super) fn priorities(&self) -> Priorities {
        let ReviewConfig { tenant_weights, second_share, .. } = &self.review;
        Priorities { tenant_weights: tenant_weights.clone(), second_share: *second_share }
    }

    /// How each sink stands, in the order of their names: those that are configured, and those that the store knows.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn standing(&self) -> Result<Vec<SinkState>, StoreError> {
        let mut states = self.store.sink_states().await?;
        let idle = self.sinks.iter().filter(|name| states.iter().all(|state| state.sink != **name));
        let idle: Vec<SinkState> =
            idle.map(|name| SinkState { sink: name.clone(), ..SinkState::default() }).collect();
        states.extend(idle);
        states.sort_by(|a, b| a.sink.cmp(&b.sink));
        Ok(states)
    }

    /// The newest evaluations that somebody may see, by what they say: those that [`Glances`] count by feature and rule.
    ///
    /// # Errors
    /// Those of the store; [`StoreError::Unavailable`] where others are served first.
    pub(super) async fn checked(
        &self,
        person: &Person,
        sought: &Sought<'_>,
    ) -> Result<Vec<Checked>, StoreError> {
        let late = |_| StoreError::Unavailable(sqlx::Error::PoolTimedOut);
        let _turn = timeout(LIST_WAIT, self.listing.0.acquire()).await.map_err(late)?;
        self.store.checked(&scope(person), &Sought { since_ms: glance::begin_ms(), ..*sought }).await
    }

    /// What is dead in the hands of somebody.
    pub(super) fn office(&self, person: &Person) -> DeadLetterOffice {
        DeadLetterOffice { by: person.name.clone(), scope: scope(person), ..self.office.clone() }
    }

    /// What is known of a call, as far as somebody may see it: in one tenant when given, else in all that are theirs. The ids are as
    /// the producer wrote them, or as they are kept.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn stories(
        &self,
        person: &Person,
        tenant_id: Option<&str>,
        request_id: &str,
    ) -> Result<Vec<Story>, StoreError> {
        let redactor = &self.shelf.redactor;
        let tenant_id = tenant_id.map(|id| redactor.identity(id));
        let stories = self.store.stories(tenant_id.as_deref(), &redactor.identity(request_id)).await?;
        let theirs = |story: &Story| match &story.tenant_id {
            Some(tenant) => person.sees(tenant) && sees_feature(person, story),
            None => sees_all(person),
        };
        Ok(stories.into_iter().filter(theirs).map(blind).collect())
    }

    /// The same of a call in its tenant; none where nothing is known, or nothing for them.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn story(
        &self,
        person: &Person,
        tenant_id: &str,
        request_id: &str,
    ) -> Result<Option<Story>, StoreError> {
        Ok(self.stories(person, Some(tenant_id), request_id).await?.into_iter().next())
    }
}

/// Whether somebody may see the feature of a call. One of which none is known is for those who see all.
fn sees_feature(person: &Person, story: &Story) -> bool {
    let Some(features) = &person.features else { return true };
    let of_call = story.received.iter().map(|received| &received.call.feature);
    let mut known = of_call.chain(story.evaluations.iter().map(|one| &one.feature)).peekable();
    known.peek().is_some() && known.all(|feature| features.contains(feature))
}

/// The story without what people said, until all that is to be said is said: who reads it may be the next who is asked.
fn blind(mut story: Story) -> Story {
    if story.reviews.iter().any(|item| item.state != ReviewState::Closed.as_str()) {
        story.labels.clear();
        story.ledger.retain(|entry| !matches!(entry.event.as_str(), "labelled" | "unlabelled"));
    }
    story
}

/// Whether somebody sees everything there is: totals are over all of it.
pub(super) fn sees_all(person: &Person) -> bool {
    person.tenants.is_none() && person.features.is_none()
}
