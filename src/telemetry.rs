//! Logs: JSON lines on stderr with ids and sizes, never content.

use std::io::IsTerminal;

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

/// Log lines that may wait for a slow reader before the oldest are dropped.
const BUFFERED_LINES: usize = 10_000;

/// Installs the subscriber; `AFTERCHECK_LOG` filters as `RUST_LOG` does (default `info`, `warn` for one-off
/// commands). The writer never blocks: a full stderr must not stop the workers. Keep the guard until the end.
pub fn install(default_level: &str) -> WorkerGuard {
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(true)
        .buffered_lines_limit(BUFFERED_LINES)
        .finish(std::io::stderr());
    let filter = EnvFilter::try_from_env("AFTERCHECK_LOG")
        .unwrap_or_else(|_| EnvFilter::new(format!("{default_level},ort=warn")));
    // At its trace level the AWS SDK writes whole answers: calls, and whatever a service repeats of a request.
    let filter = match "aws_smithy_runtime=debug".parse() {
        Ok(directive) => filter.add_directive(directive),
        Err(_) => filter,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    // A second subscriber can only come from a test that installed its own: keep that one.
    if std::io::stderr().is_terminal() {
        drop(builder.compact().try_init());
    } else {
        drop(builder.json().flatten_event(true).try_init());
    }
    guard
}
