//! CPU work leaves the async runtime: a megabyte of text takes a second to split and tokenise, in which leases,
//! health and the other calls must go on.

use tokio::task::spawn_blocking;

/// The work panicked: a fault of ours that this input brings out. The panic hook has logged where.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("evaluation panicked")]
pub struct Panicked;

/// Runs CPU work on the blocking pool. There are at most as many at a time as calls in flight.
///
/// # Errors
/// [`Panicked`], so that one poisonous input ends as its own retry and not as the worker's end.
pub async fn off_runtime<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Panicked> {
    // The other error of a join is a cancelled task, and a blocking one cannot be cancelled once it runs.
    spawn_blocking(work).await.map_err(|_| Panicked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error_and_nothing_more() {
        assert_eq!(off_runtime(|| 7).await, Ok(7));
        assert_eq!(off_runtime(|| -> u8 { panic!("poison") }).await, Err(Panicked));
    }
}
