//! What the pages and the API are made of, and what of it is in whose hands.

use std::sync::Arc;

use crate::{
    domain::Person,
    golden::Shelf,
    pipeline::{dead_letters::DeadLetterOffice, ingest::Ingest},
    review::{Desk, ReviewConfig},
    store::{Store, reviewing::Scope},
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

    /// What is dead in the hands of somebody.
    pub(super) fn office(&self, person: &Person) -> DeadLetterOffice {
        let (by, tenants) = (person.name.clone(), person.tenants.clone());
        DeadLetterOffice { by, tenants, ..self.office.clone() }
    }
}
