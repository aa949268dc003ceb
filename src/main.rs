//! The `aftercheck` command.

use std::process::ExitCode;

/// A call is thousands of small strings, made on one thread and freed on another: glibc's allocator takes a third of a
/// worker's time over them (`benches/queues`).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The command line; its exit codes are told by `aftercheck --help`.
fn main() -> ExitCode {
    aftercheck::cli::main()
}
