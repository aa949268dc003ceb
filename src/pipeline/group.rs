//! Questions that wait for the same answer of the store share one transaction, and patience with a store that is down.

use std::time::Duration;

use tokio::{
    sync::{mpsc, oneshot},
    time::sleep,
};

use super::Pulse;
use crate::store::StoreError;

/// Pause before a store that is not available is asked again; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

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
    /// it was busy with the ones before, and answers them in their order.
    pub(super) fn start<Answers>(most: usize, ask: impl Fn(Vec<Q>) -> Answers + Send + 'static) -> Self
    where
        Answers: Future<Output = Vec<A>> + Send + 'static,
    {
        let (waiting, mut receiver) = mpsc::channel::<(Q, oneshot::Sender<A>)>(most);
        tokio::spawn(async move {
            let mut group = Vec::with_capacity(most);
            while receiver.recv_many(&mut group, most).await > 0 {
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

/// The waits between two questions to a store that is down.
pub(super) struct Pauses(Duration);

impl Pauses {
    /// Begins with the shortest.
    pub(super) fn new() -> Self {
        Self(FIRST_PAUSE)
    }

    /// Waits, longer each time, and says why.
    pub(super) async fn wait(&mut self, error: &sqlx::Error) {
        tracing::warn!(%error, "store is not available, asking again");
        sleep(self.0).await;
        self.0 = (self.0 * 2).min(LONGEST_PAUSE);
    }
}

/// Asks the store until it answers: that it is down is not the call's fault and uses up none of its attempts. Who asks
/// bounds it by the call's deadline and by the lease of the delivery. The pulse hears what the store owes.
pub(super) async fn until_answered<T, Asked>(
    pulse: &Pulse,
    mut ask: impl FnMut() -> Asked,
) -> Result<T, StoreError>
where
    Asked: Future<Output = Result<T, StoreError>>,
{
    let mut pauses = Pauses::new();
    loop {
        pulse.ask_store();
        match ask().await {
            Err(StoreError::Unavailable(error)) => pauses.wait(&error).await,
            answer => {
                pulse.store_answered();
                return answer;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[tokio::test]
    async fn answers_come_to_those_who_asked_and_a_panic_ends_one_group_only() {
        let groups = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&groups);
        let grouped = Grouped::start(8, move |questions: Vec<u32>| {
            counted.fetch_add(1, Ordering::SeqCst);
            async move {
                // Long enough for others to come and wait.
                sleep(Duration::from_millis(20)).await;
                assert!(!questions.contains(&13));
                questions.iter().map(|question| question * 2).collect()
            }
        });
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
    async fn a_store_that_is_down_is_asked_again_and_owes_an_answer_meanwhile() {
        let (pulse, mut asked) = (Pulse::default(), 0);
        let answer = until_answered(&pulse, || {
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
        assert!(until_answered(&pulse, refused).await.is_err(), "what is refused stays refused");
    }
}
