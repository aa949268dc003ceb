//! Work on many things at a time whose outcomes are wanted in order.

use std::collections::VecDeque;

use tokio::task::JoinHandle;

/// Things worked on at a time.
const IN_FLIGHT: usize = 64;

/// Starts the work on each thing, at most [`IN_FLIGHT`] at a time, and hands the outcomes on in the order of the things.
///
/// # Errors
/// The first error of `start` or `finish`, or of work that panicked; what is still in work goes on unheard.
pub(super) async fn in_order<T, R>(
    things: impl Iterator<Item = T>,
    mut start: impl FnMut(T) -> anyhow::Result<JoinHandle<R>>,
    mut finish: impl FnMut(R) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut working: VecDeque<JoinHandle<R>> = VecDeque::new();
    for thing in things {
        if working.len() >= IN_FLIGHT
            && let Some(first) = working.pop_front()
        {
            finish(first.await?)?;
        }
        working.push_back(start(thing)?);
    }
    for rest in working {
        finish(rest.await?)?;
    }
    Ok(())
}
