//! What the pages and the API are made of, and what of it is in whose hands.

use std::sync::Arc;

use super::glance::Glances;
use crate::{
    domain::Person,
    golden::Shelf,
    pipeline::{dead_letters::DeadLetterOffice, ingest::Ingest},
    review::{Desk, ReviewConfig},
    store::{Store, StoreError, Story, reviewing::Scope},
};

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
    /// Times and shares of reviews.
    pub review: ReviewConfig,
    /// Names of the sinks that are told of labels.
    pub sinks: Vec<String>,
    /// The whole at a glance, kept for a moment.
    pub glances: Arc<Glances>,
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

    /// The stories of a call that somebody may see: of one tenant when given. Of a call with a feature that is not theirs, and of
    /// one whose tenant is not known where only some are theirs, nothing is there for them.
    ///
    /// # Errors
    /// Those of the store.
    pub(super) async fn stories(
        &self,
        person: &Person,
        tenant: Option<&str>,
        request_id: &str,
    ) -> Result<Vec<Story>, StoreError> {
        let scope = scope(person);
        let holds = |story: &Story| {
            let feature = story.received.as_ref().map(|received| received.call.feature.as_str());
            match (story.tenant_id.as_deref(), feature) {
                (Some(tenant), Some(feature)) => scope.holds(tenant, feature),
                (Some(tenant), None) => person.sees(tenant) && scope.features.is_none(),
                (None, _) => scope == Scope::default(),
            }
        };
        let mut stories = self.store.stories(tenant, request_id).await?;
        stories.retain(holds);
        Ok(stories)
    }

    /// What is dead in the hands of somebody.
    pub(super) fn office(&self, person: &Person) -> DeadLetterOffice {
        let (by, tenants) = (person.name.clone(), person.tenants.clone());
        DeadLetterOffice { by, tenants, ..self.office.clone() }
    }
}
