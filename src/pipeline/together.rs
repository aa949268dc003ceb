//! What is worth waiting for a moment: a group of verdicts for one commit, and several free places for one look at the queue.

use std::sync::Arc;

use tokio::{
    sync::{RwLock, Semaphore},
    time::timeout,
};

use super::group::GATHERING;

/// Calls are received, and verdicts recorded, in groups of this part of those in work, where they come soon enough.
pub(super) const SHARE: usize = 4;

/// How many verdicts a group may wait for: `several`, or as many as calls are in work. One that runs alone would wait in vain.
pub(super) fn expected(
    several: usize,
    in_flight: usize,
    permits: &Arc<Semaphore>,
    alone: &Arc<RwLock<()>>,
) -> impl Fn() -> usize + use<> {
    let (permits, alone) = (Arc::clone(permits), Arc::clone(alone));
    move || match alone.try_read() {
        Ok(_) => several.min(in_flight.saturating_sub(permits.available_permits())),
        Err(_) => 1,
    }
}

/// Waits for a free permit, and a moment for several: one look at the queue serves them all.
pub(super) async fn free(permits: &Semaphore, several: usize) {
    // They are never closed; what was acquired is free again at once.
    drop(permits.acquire().await);
    let several = permits.acquire_many(u32::try_from(several).unwrap_or(u32::MAX));
    drop(timeout(GATHERING, several).await);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_verdict_waits_for_those_at_work_and_for_nobody_where_it_is_alone() {
        let (permits, alone) = (Arc::new(Semaphore::new(8)), Arc::<RwLock<()>>::default());
        let expected = expected(4, 8, &permits, &alone);
        assert_eq!(expected(), 0);
        let at_work = permits.acquire_many(3).await.unwrap();
        assert_eq!(expected(), 3);
        let more = permits.acquire_many(3).await.unwrap();
        assert_eq!(expected(), 4);
        let turn = alone.write().await;
        assert_eq!(expected(), 1);
        drop((at_work, more, turn));
    }

    #[tokio::test]
    async fn one_free_place_is_enough_where_no_other_comes_free() {
        let permits = Semaphore::new(4);
        let at_work = permits.acquire_many(3).await.unwrap();
        free(&permits, 4).await;
        assert_eq!(permits.available_permits(), 1);
        let comes_free = async {
            tokio::task::yield_now().await;
            drop(at_work);
        };
        let waited = async {
            free(&permits, 4).await;
            permits.available_permits()
        };
        assert_eq!(tokio::join!(comes_free, waited).1, 4, "and several are waited for");
    }
}
