//! Logs: JSON lines on stderr with ids and sizes, never content.

use std::{io::IsTerminal, panic::PanicHookInfo, thread};

use tracing::{Level, Metadata};
use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::{
    EnvFilter,
    filter::filter_fn,
    layer::{Layer, SubscriberExt},
    registry,
    util::SubscriberInitExt,
};

/// Log lines that may wait for a slow reader before the oldest are dropped.
const BUFFERED_LINES: usize = 10_000;

/// Installs the subscriber; `AFTERCHECK_LOG` filters as `RUST_LOG` does (default `info`, `warn` for one-off
/// commands). The writer never blocks: a full stderr must not stop the workers. Panics are told as lines of the log, too.
/// Keep the guard until the end.
pub fn install(default_level: &str) -> WorkerGuard {
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(BUFFERED_LINES)
        .finish(std::io::stderr());
    let filter = EnvFilter::try_from_env("AFTERCHECK_LOG")
        .unwrap_or_else(|_| EnvFilter::new(format!("{default_level},ort=warn,lapin=off,sqlx=error")));
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match std::io::stderr().is_terminal() {
        true => lines.compact().boxed(),
        false => lines.json().flatten_event(true).boxed(),
    };
    // A second subscriber can only come from a test that installed its own: keep that one.
    drop(registry().with(filter).with(filter_fn(is_free_of_content)).with(lines).try_init());
    std::panic::set_hook(Box::new(tell_panic));
    guard
}

/// Says where our code panicked, and not with which words: those of a text that is cut in the wrong place quote it.
fn tell_panic(panic: &PanicHookInfo<'_>) {
    tracing::error!(
        place = panic.location().map(tracing::field::display),
        thread = thread::current().name(),
        "panicked"
    );
}

/// Whether what is logged here holds no content, whatever the filter lets through: at their trace level libraries write
/// what they send and receive, which is calls, and the AWS SDK whatever a service repeats of a request.
fn is_free_of_content(metadata: &Metadata<'_>) -> bool {
    *metadata.level() < Level::TRACE || metadata.target().starts_with("aftercheck")
}
