//! Deliveries that wait in this worker until they are due: for queues that cannot put one off themselves.
//!
//! A wait ends with the process, and with the connection that a delivery came over: the broker has it still, and gives
//! it out again.

use std::{
    task::{Context, Poll},
    time::Duration,
};

use tokio::{sync::mpsc, time::Instant};
use tokio_util::time::DelayQueue;

/// Nothing waits longer; the timer's own limit lies at about two years.
const LONGEST: Duration = Duration::from_secs(86_400);

/// The deliveries that wait, on the side that hands them out again.
pub struct Held<T> {
    waiting: DelayQueue<T>,
    arriving: mpsc::Receiver<(T, Instant)>,
    back: Back<T>,
}

/// The way back, on the side of whoever has a delivery in hand.
pub struct Back<T>(mpsc::Sender<(T, Instant)>);

impl<T> Clone for Back<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Back<T> {
    /// Lets it wait. Does not block, so that a `Drop` may call it.
    ///
    /// # Errors
    /// Gives it back when more come than [`Held::new`] was told, or when nobody hands out any more.
    pub fn after(&self, delivery: T, wait: Duration) -> Result<(), T> {
        let at = Instant::now() + wait.min(LONGEST);
        self.0.try_send((delivery, at)).map_err(|unsent| match unsent {
            mpsc::error::TrySendError::Full((delivery, _))
            | mpsc::error::TrySendError::Closed((delivery, _)) => delivery,
        })
    }
}

impl<T> Held<T> {
    /// None waits yet; as many as `most` may be sent back between two looks.
    pub fn new(most: usize) -> Self {
        let (sender, arriving) = mpsc::channel(most.max(1));
        Self { waiting: DelayQueue::new(), arriving, back: Back(sender) }
    }

    /// A way back for one more delivery.
    pub fn back(&self) -> Back<T> {
        self.back.clone()
    }

    /// The next one that is due; wakes the task when there is one.
    pub fn poll_due(&mut self, context: &mut Context<'_>) -> Poll<T> {
        while let Poll::Ready(Some((delivery, at))) = self.arriving.poll_recv(context) {
            self.waiting.insert_at(delivery, at);
        }
        match self.waiting.poll_expired(context) {
            Poll::Ready(Some(due)) => Poll::Ready(due.into_inner()),
            // Nothing waits: the next arrival wakes.
            Poll::Ready(None) | Poll::Pending => Poll::Pending,
        }
    }

    /// Forgets all: the broker gives them out again.
    pub fn forget(&mut self) {
        while self.arriving.try_recv().is_ok() {}
        self.waiting.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use tokio::time::timeout;

    use super::*;

    const TICK: Duration = Duration::from_millis(20);

    async fn due(held: &mut Held<u32>) -> u32 {
        poll_fn(|context| held.poll_due(context)).await
    }

    #[tokio::test]
    async fn they_come_in_the_order_they_are_due_and_not_before() {
        let mut held = Held::new(3);
        let begin = Instant::now();
        for (delivery, ticks) in [(3, 3), (1, 1), (2, 2)] {
            held.back().after(delivery, TICK * ticks).unwrap();
        }
        for expected in [1, 2, 3] {
            assert_eq!(due(&mut held).await, expected);
            assert!(begin.elapsed() >= TICK * expected);
        }
    }

    #[tokio::test]
    async fn an_arrival_wakes_who_waits() {
        let mut held = Held::new(1);
        let back = held.back();
        let send = async {
            tokio::time::sleep(TICK).await;
            back.after(7, TICK).unwrap();
        };
        let (delivery, ()) = tokio::join!(due(&mut held), send);
        assert_eq!(delivery, 7);
    }

    #[tokio::test]
    async fn more_than_fit_are_given_back_and_what_is_forgotten_never_comes() {
        let mut held = Held::new(1);
        held.back().after(1, TICK).unwrap();
        assert_eq!(held.back().after(2, TICK), Err(2));
        assert_eq!(due(&mut held).await, 1);
        held.back().after(3, TICK).unwrap();
        held.forget();
        assert!(timeout(TICK * 5, due(&mut held)).await.is_err());
    }
}
