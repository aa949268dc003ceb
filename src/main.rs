//! The `aftercheck` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    aftercheck::cli::main()
}
