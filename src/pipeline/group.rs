//! Questions that wait for the same answer of the store share one transaction, and patience with a store that is down.

use std::{error::Error, sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep, timeout_at},
};
use tokio_util::sync::CancellationToken;

use super::Pulse;
use crate::store::StoreError;

/// Pause before a store that is not available is asked again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How long the first of a group waits for others, and a free permit for more. Where a model is the limit, calls end one by
/// one, and each would have statements and a commit of its own (`benches/queues --workers`).
pub(super) const GATHERING: Duration = Duration::from_millis(200);

/// Hands questions to the one task that asks them together.
pub(super) struct Grouped<Q, A> {
    waiting: mpsc::Sender<(Q, oneshot::Sender<A>)>,
}

impl<Q, A> Clone for Grouped<Q, A> {
    fn clone(&self) -> Self {
        Self { waiting: self.waiting.clone() }
    }
}

impl<Q: Send + 'static, A: Send + 'static> Grouped<Q, A> {
    /// Starts the task, which ends when every handle is gone. `ask` gets at most `most` questions, those that came while
    /// it was busy with the ones before, and answers them in their order. Fewer than `several` says wait a moment for others.
    pub(super) fn start<Answers>(
        most: usize,
        several: impl Fn() -> usize + Send + 'static,
        ask: impl Fn(Vec<Q>) -> Answers + Send + 'static,
    ) -> Self
    where
        Answers: Future<Output = Vec<A>> + Send + 'static,
    {
        let (waiting, mut receiver) = mpsc::channel::<(Q, oneshot::Sender<A>)>(most);
        tokio::spawn(async move {
            let mut group = Vec::with_capacity(most);
            while receiver.recv_many(&mut group, most).await > 0 {
                gather(&mut receiver, &mut group, several(), most).await;
                // Who gave up meanwhile has no question any more.
                group.retain(|(_, reply)| !reply.is_closed());
                if group.is_empty() {
                    continue;
                }
                let (questions, replies): (Vec<Q>, Vec<_>) = group.drain(..).unzip();
                // A task of its own, so that a panic ends one group and not all that come after it.
                let Ok(answers) = tokio::spawn(ask(questions)).await else {
                    tracing::error!("a group panicked, its calls will be tried again");
                    continue;
                };
                for (answer, reply) in answers.into_iter().zip(replies) {
                    // Who gave up finds what was written when the call comes again.
                    drop(reply.send(answer));
                }
            }
        });
        Self { waiting }
    }

    /// The answer to one question; none where the group's task panicked.
    pub(super) async fn ask(&self, question: Q) -> Option<A> {
        let (reply, answer) = oneshot::channel();
        self.waiting.send((question, reply)).await.ok()?;
        answer.await.ok()
    }
}

/// Waits a moment for questions to come to a group, until it has `several`.
async fn gather<T>(receiver: &mut mpsc::Receiver<T>, group: &mut Vec<T>, several: usize, most: usize) {
    let until = Instant::now() + GATHERING;
    while group.len() < several.min(most) {
        let room = most - group.len();
        let came = timeout_at(until, receiver.recv_many(group, room)).await;
        if came.unwrap_or(0) == 0 {
            break;
        }
    }
}

/// Patience with a store that is down: that it is down is not the call's fault and uses up none of its attempts. It ends
/// with the process. Who asks bounds it by the lease of the delivery.
#[derive(Clone)]
pub(super) struct Patience {
    /// Hears what the store owes.
    pub(super) pulse: Arc<Pulse>,
    /// Once this is cancelled nobody waits: what is not done comes again.
    pub(super) leaving: CancellationToken,
}

/// The process ends: nobody waits any more.
#[derive(Debug)]
pub(super) struct Leaving;

/// The waits between two questions.
pub(super) struct Pauses(Duration);

impl Patience {
    /// Asks the store until it answers, be it that it refuses.
    pub(super) async fn until_answered<T, Asked>(&self, ask: impl FnMut() -> Asked) -> Result<T, StoreError>
    where
        Asked: Future<Output = Result<T, StoreError>>,
    {
        self.until(ask, |error| !matches!(error, StoreError::Unavailable(_))).await
    }

    /// Asks the store until it does not refuse either. For questions in which no call can be at fault: a store that
    /// refuses them, of a file that is read-only, say, would refuse those of every call, and none must come to its end
    /// for that.
    pub(super) async fn until_granted<T, Asked>(&self, ask: impl FnMut() -> Asked) -> Result<T, StoreError>
    where
        Asked: Future<Output = Result<T, StoreError>>,
    {
        self.until(ask, |error| matches!(error, StoreError::Corrupt { .. })).await
    }

    /// Asks the store until it answers, or fails with an error that is final.
    async fn until<T, Asked>(
        &self,
        mut ask: impl FnMut() -> Asked,
        is_final: impl Fn(&StoreError) -> bool,
    ) -> Result<T, StoreError>
    where
        Asked: Future<Output = Result<T, StoreError>>,
    {
        let _owed = self.pulse.ask_store();
        let mut pauses = Pauses::new();
        loop {
            let error = match ask().await {
                Err(error) if !is_final(&error) => error,
                answer => return answer,
            };
            if let Err(Leaving) = self.wait(&mut pauses, &error, error.needs_operator()).await {
                return Err(error);
            }
        }
    }

    /// Waits before something is asked again, longer each time, and says why, and louder where only an operator can mend it.
    ///
    /// # Errors
    /// [`Leaving`] once the process is leaving.
    pub(super) async fn wait(
        &self,
        pauses: &mut Pauses,
        error: &(dyn Error + Sync),
        lasts: bool,
    ) -> Result<(), Leaving> {
        // The loop may be waiting for a permit: this is what moves.
        self.pulse.turn();
        match lasts {
            true => tracing::error!(%error, "an operator has to mend this, asking again"),
            false => tracing::warn!(%error, "asking again"),
        }
        tokio::select! {
            () = self.leaving.cancelled() => Err(Leaving),
            () = sleep(pauses.next()) => Ok(()),
        }
    }
}

impl Pauses {
    /// Begins with the shortest.
    pub(super) fn new() -> Self {
        Self(FIRST_PAUSE)
    }

    /// The next; they double.
    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(LONGEST_PAUSE);
        pause
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn patience() -> Patience {
        Patience { pulse: Arc::new(Pulse::default()), leaving: CancellationToken::new() }
    }

    #[tokio::test]
    async fn answers_come_to_those_who_asked_and_a_panic_ends_one_group_only() {
        let groups = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&groups);
        let grouped = Grouped::start(
            8,
            || 1,
            move |questions: Vec<u32>| {
                counted.fetch_add(1, Ordering::SeqCst);
                async move {
                    // Long enough for others to come and wait.
                    sleep(Duration::from_millis(20)).await;
                    assert!(!questions.contains(&13));
                    questions.iter().map(|question| question * 2).collect()
                }
            },
        );
        assert_eq!(grouped.ask(13).await, None);
        let asked: Vec<_> = (100..116)
            .map(|question| {
                let grouped = grouped.clone();
                tokio::spawn(async move { (question, grouped.ask(question).await) })
            })
            .collect();
        for asked in asked {
            let (question, answer) = asked.await.unwrap();
            assert_eq!(answer, Some(question * 2));
        }
        let groups = groups.load(Ordering::SeqCst);
        assert!((3..=6).contains(&groups), "16 questions, at most 8 together, came in {groups} groups");
    }

    #[tokio::test]
    async fn few_wait_a_moment_for_others_and_no_longer() {
        let grouped = Grouped::start(
            8,
            || 4,
            |questions: Vec<()>| async move { questions.iter().map(|()| questions.len()).collect() },
        );
        let ask = |turns: usize| {
            let grouped = grouped.clone();
            async move {
                // The task has taken what came before.
                for _ in 0..turns {
                    tokio::task::yield_now().await;
                }
                grouped.ask(()).await
            }
        };
        let together = tokio::join!(ask(0), ask(10), ask(20), ask(30));
        assert_eq!(together, (Some(4), Some(4), Some(4), Some(4)));
        assert_eq!(tokio::join!(ask(0), ask(10)), (Some(2), Some(2)), "nobody else comes");
    }

    #[tokio::test]
    async fn a_store_that_is_down_is_asked_again_and_owes_an_answer_meanwhile() {
        let (patience, mut asked) = (patience(), 0);
        let pulse = Arc::clone(&patience.pulse);
        let answer = patience.until_answered(|| {
            asked += 1;
            let answer = match asked {
                1 | 2 => Err(StoreError::Unavailable(sqlx::Error::PoolTimedOut)),
                _ => Ok(asked),
            };
            let owed = pulse.without_store();
            async move {
                assert!(asked == 1 || owed >= FIRST_PAUSE);
                answer
            }
        });
        assert_eq!(answer.await.unwrap(), 3);
        assert_eq!(pulse.without_store(), Duration::ZERO);
        let refused = || async { Err::<(), _>(StoreError::Refused(sqlx::Error::RowNotFound)) };
        assert!(patience.until_answered(refused).await.is_err(), "what is refused stays refused");
        let mut asked = 0;
        let granted = patience.until_granted(|| {
            asked += 1;
            let answer =
                if asked < 3 { Err(StoreError::Refused(sqlx::Error::RowNotFound)) } else { Ok(asked) };
            async move { answer }
        });
        assert_eq!(granted.await.unwrap(), 3, "but where no call can be at fault");
    }

    #[tokio::test]
    async fn who_leaves_waits_for_no_store_and_who_gives_up_withdraws_the_question() {
        let patience = patience();
        let down = || async { Err::<(), _>(StoreError::Unavailable(sqlx::Error::PoolTimedOut)) };
        let given_up = tokio::time::timeout(FIRST_PAUSE / 2, patience.until_answered(down)).await;
        assert!(given_up.is_err());
        assert_eq!(patience.pulse.without_store(), Duration::ZERO);
        patience.leaving.cancel();
        let left = tokio::time::timeout(LONGEST_PAUSE * 10, patience.until_answered(down)).await;
        assert!(matches!(left, Ok(Err(StoreError::Unavailable(_)))));
    }
}
