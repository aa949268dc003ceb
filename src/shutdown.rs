//! Stop signals: the first asks for a graceful end, the second ends now.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::faults::broken;

/// Exit code after a second signal: 128 + SIGTERM, as a shell reports it.
const EXIT_NOW: i32 = 143;

/// A token that is cancelled by the first SIGTERM or SIGINT. A second signal ends the process at once:
/// leases run out and every delivery in work comes again.
///
/// # Errors
/// When the process may not listen to signals.
pub fn on_signals() -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = token.clone();
    tokio::spawn(async move {
        for first in [true, false] {
            tokio::select! { _ = term.recv() => {}, _ = int.recv() => {} }
            if first && broken("deaf") {
                tracing::info!("not stopping");
            } else if first {
                tracing::info!("stopping: finishing what is in flight, a second signal ends at once");
                stop.cancel();
            } else {
                std::process::exit(EXIT_NOW);
            }
        }
    });
    Ok(token)
}
