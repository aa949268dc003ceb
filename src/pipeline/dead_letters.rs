//! What could not be evaluated, and what could not be delivered, in the hands of one person: read it, try it again, let it go.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;
use uuid::Uuid;

use crate::{
    sources::{Message, Publisher, SourceError},
    store::{DeadDelivery, DeadLetterRow, Store, StoreError, reviewing::Scope},
};

/// How long the queue may take to confirm.
const PUBLISH_DEADLINE: Duration = Duration::from_secs(10);

/// Deliveries that are requeued in one transaction.
const PAGE: u32 = 500;

/// Why something could not be done with what is dead. Nothing was lost.
#[derive(Debug, thiserror::Error)]
pub enum DeadError {
    /// The store could not do it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It is not there, or not for who asks.
    #[error("nothing dead has this id")]
    Missing,
    /// The queue has not confirmed: the letter stays, and trying again is safe.
    #[error("the queue has not confirmed, the letter stays where it is: {0}")]
    Queue(#[from] SourceError),
    /// The queue has not answered in time: the letter stays, and trying again is safe.
    #[error("the queue has not confirmed in time, the letter stays where it is")]
    Late,
    /// No queue was opened to put it on.
    #[error("no queue is open to put it on")]
    NoQueue,
    /// A worker was quicker, or its days are over.
    #[error("a worker has buried it anew meanwhile, or it has expired: if it is there, do this again")]
    Anew,
}

/// One thing that is dead.
#[derive(Debug, Clone)]
pub enum Dead {
    /// A call that could not be evaluated.
    Letter(DeadLetterRow),
    /// Scores that could not be delivered.
    Delivery(DeadDelivery),
}

/// Dead letters and dead deliveries in the hands of one person.
#[derive(Clone)]
pub struct DeadLetterOffice {
    /// Where they are.
    pub store: Arc<dyn Store>,
    /// Where a letter goes that is tried again; none where nobody means to.
    pub publisher: Option<Arc<dyn Publisher>>,
    /// Who it is.
    pub by: String,
    /// What they may see. Of a dead letter no feature is known, and of some no tenant: these are for who sees all.
    pub scope: Scope,
}

impl DeadLetterOffice {
    /// Dead letters, newest first, of one class when given: the newest `limit` of those that the person may
    /// see.
    ///
    /// # Errors
    /// [`DeadError::Store`].
    pub async fn letters(&self, class: Option<&str>, limit: u32) -> Result<Vec<DeadLetterRow>, DeadError> {
        if self.scope.features.is_some() {
            return Ok(Vec::new());
        }
        Ok(self.store.dead_letters(class, self.scope.tenants.as_deref(), limit).await?)
    }

    /// Dead deliveries, newest first, of one sink when given: the newest `limit` of those that the person may
    /// see.
    ///
    /// # Errors
    /// [`DeadError::Store`].
    pub async fn deliveries(&self, sink: Option<&str>, limit: u32) -> Result<Vec<DeadDelivery>, DeadError> {
        Ok(self.store.dead_deliveries(sink, &self.scope, limit).await?)
    }

    /// What has this id.
    ///
    /// # Errors
    /// [`DeadError::Missing`], [`DeadError::Store`].
    pub async fn find(&self, id: Uuid) -> Result<Dead, DeadError> {
        let found = match self.store.dead_letter(id).await? {
            Some(letter) => self.sees(letter.tenant_id.as_deref(), None).then_some(Dead::Letter(letter)),
            None => self.store.dead_delivery(id).await?.and_then(|delivery| {
                let (tenant, feature) = (delivery.tenant_id.as_deref(), delivery.feature.as_deref());
                self.sees(tenant, feature).then_some(Dead::Delivery(delivery))
            }),
        };
        found.ok_or(DeadError::Missing)
    }

    /// Puts a dead letter on the queue again, as it is, or has a dead delivery tried again. The ledger of its call keeps who did it.
    ///
    /// # Errors
    /// All of [`DeadError`].
    pub async fn requeue(&self, id: Uuid) -> Result<(), DeadError> {
        match self.find(id).await? {
            Dead::Letter(letter) => {
                // Publish first: killed in between, the letter is there twice, never nowhere.
                let (payload, tenant_id) = (letter.payload.into(), letter.tenant_id);
                let publisher = self.publisher.as_ref().ok_or(DeadError::NoQueue)?;
                let publishing = publisher.publish(vec![Message { payload, tenant_id }]);
                timeout(PUBLISH_DEADLINE, publishing).await.map_err(|_| DeadError::Late)??;
                let removed = self.store.remove_dead_letter(id, letter.created_ms, "requeued", &self.by);
                if removed.await? { Ok(()) } else { Err(DeadError::Anew) }
            }
            Dead::Delivery(_) if self.store.requeue_delivery(id, &self.by).await? => Ok(()),
            Dead::Delivery(_) => Err(DeadError::Missing),
        }
    }

    /// Has all dead deliveries of a sink tried again, but for those that somebody has dropped; gives back how many. The ledgers of
    /// their calls keep who did it. Cut short, it can be done again.
    ///
    /// # Errors
    /// [`DeadError::Store`].
    pub async fn requeue_all(&self, sink: &str) -> Result<usize, DeadError> {
        let (mut count, mut last) = (0, None);
        loop {
            let page = self.store.requeue_deliveries(sink, last, PAGE, &self.by).await?;
            count += page.len();
            last = page.last().copied();
            if last.is_none() {
                return Ok(count);
            }
        }
    }

    /// Deletes a dead letter for good, or takes a dead delivery off the list. The ledger of its call keeps who did it.
    ///
    /// # Errors
    /// [`DeadError::Missing`], [`DeadError::Anew`], [`DeadError::Store`].
    pub async fn drop(&self, id: Uuid) -> Result<(), DeadError> {
        match self.find(id).await? {
            Dead::Letter(letter) => {
                let removed = self.store.remove_dead_letter(id, letter.created_ms, "dropped", &self.by);
                if removed.await? { Ok(()) } else { Err(DeadError::Anew) }
            }
            Dead::Delivery(_) if self.store.drop_delivery(id, &self.by).await? => Ok(()),
            Dead::Delivery(_) => Err(DeadError::Missing),
        }
    }

    /// Whether what is of this tenant and feature, or of none that is known, is to be seen.
    fn sees(&self, tenant: Option<&str>, feature: Option<&str>) -> bool {
        let holds = |granted: &Option<Vec<String>>, name: Option<&str>| {
            let Some(granted) = granted else { return true };
            name.is_some_and(|name| granted.iter().any(|one| one == name))
        };
        holds(&self.scope.tenants, tenant) && holds(&self.scope.features, feature)
    }
}
