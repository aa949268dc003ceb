//! The command line: results on stdout, logs and progress on stderr.
//!
//! Exit codes: 0 fine · 1 found something (a failed gate) · 2 bad usage or configuration · 3 a dependency was
//! not reachable.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "printing is what a command line is for")]

/// Writes one line of a result. Unlike `println!` it gives back the error of a reader that has gone, as `head` does.
macro_rules! say {
    ($($arguments:tt)*) => { std::io::Write::write_fmt(&mut std::io::stdout(), format_args!("{}\n", format_args!($($arguments)*)))? };
}

mod agreement;
mod calibrate;
mod dead;
mod enqueue;
mod erase;
mod gold;
mod healthy;
mod in_order;
mod keys;
mod labels;
mod notify;
mod people;
mod prune;
mod replay;
mod report;
mod reveal;
mod review;
mod run;
mod scan;
mod schema;
mod score;
mod sinks;
mod terminal;
mod validate;
mod why;

use std::{io::IsTerminal, path::PathBuf, process::ExitCode, sync::Arc};

use clap::{Args, Parser, Subcommand, ValueEnum};
use uuid::Uuid;

use crate::{
    config::Config,
    database::{DatabaseKind, Databases},
    service,
    sources::SourceError,
    store::{self, Store},
    telemetry,
};

/// Checks LLM answers after the user has seen them.
#[derive(Debug, Parser)]
#[command(
    version,
    propagate_version = true,
    after_help = "\
Examples:
  aftercheck score calls.jsonl > evaluations.jsonl      no queue, no database
  aftercheck enqueue calls.jsonl && aftercheck run      workers, health and metrics
  aftercheck why order-4711                             one call's whole story

Exit codes: 0 fine, 1 found something, 2 bad usage or configuration, 3 a dependency was not reachable."
)]
struct Cli {
    /// Configuration file [default: aftercheck.toml where it exists].
    #[arg(long, global = true, env = "AFTERCHECK_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// How results are printed [default: table on a terminal, json otherwise].
    #[arg(long, global = true, value_enum)]
    format: Option<OutputFormat>,
    #[command(subcommand)]
    command: Command,
}

/// How results are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum OutputFormat {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// One file each.
#[derive(Debug, Subcommand)]
enum Command {
    /// Score calls from a file or stdin, one JSON line each; no queue, no database.
    Score(score::ScoreArgs),
    /// Put calls on the queue.
    Enqueue(enqueue::EnqueueArgs),
    /// Run workers, deliveries, health and metrics.
    Run(run::RunArgs),
    /// Ask the running process whether it is ready, for the probes of a container.
    Healthy(healthy::HealthyArgs),
    /// Tell one call's whole story.
    Why(why::WhyArgs),
    /// List, show, requeue or drop dead letters and dead deliveries.
    Dead(dead::DeadArgs),
    /// Take the next call that a person should look at, label it, take a label back.
    Review(review::ReviewArgs),
    /// Promote calls that people decided to the golden set, export it, check fresh answers against it.
    Gold(gold::GoldArgs),
    /// List, pause or resume sinks.
    Sinks(sinks::SinksArgs),
    /// List routes of notices, send a test message by one, switch one on again.
    Notify(notify::NotifyArgs),
    /// Add, list, disable people who may sign in; the audit log.
    People(people::PeopleArgs),
    /// Make, list and revoke keys of programs.
    Keys(keys::KeysArgs),
    /// Check configuration, rules with their examples, model and database; with --connect the sinks, too.
    Validate(validate::ValidateArgs),
    /// Fit the thresholds of faithfulness to calls that people have labelled.
    Calibrate(calibrate::CalibrateArgs),
    /// Print a JSON schema.
    Schema(schema::SchemaArgs),
    /// Create the database or bring it up to date.
    Migrate,
    /// Totals by verdict, rule, feature and stage; dead letters; the worst calls; the judge against people.
    Report(report::ReportArgs),
    /// Judge stored calls once more with this configuration, and say what would change.
    Replay(replay::ReplayArgs),
    /// Delete old evaluations that are reviewed and delivered.
    Prune(prune::PruneArgs),
    /// Search what is kept for what should have been redacted.
    Scan(scan::ScanArgs),
    /// Erase a call, a customer or a tenant from the store.
    Erase(erase::EraseArgs),
    /// Show a message of the debug share as it was delivered; the ledger says who did.
    Reveal(reveal::RevealArgs),
}

/// Where calls are read from.
#[derive(Debug, Args)]
struct Input {
    /// File of JSON lines, or - for stdin.
    file: PathBuf,
}

/// Parses the command line, runs it and maps the outcome to an exit code.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let level = if matches!(cli.command, Command::Run(_)) { "info" } else { "warn" };
    let _guard = telemetry::install(level);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failure(&error.into(), 3),
    };
    let code = runtime.block_on(dispatch(cli));
    // The model's thread may be in a run that cannot be interrupted: do not wait for it.
    runtime.shutdown_background();
    code
}

/// Runs one subcommand.
async fn dispatch(cli: Cli) -> ExitCode {
    let config = match Config::load(cli.config.as_deref()) {
        Ok(config) => config,
        Err(error) => return failure(&error.into(), 2),
    };
    let format = cli.format.unwrap_or(match std::io::stdout().is_terminal() {
        true => OutputFormat::Table,
        false => OutputFormat::Json,
    });
    let outcome = match cli.command {
        Command::Score(args) => score::run(&config, args).await,
        Command::Enqueue(args) => enqueue::run(&config, args).await,
        Command::Run(args) => run::run(&config, args).await,
        Command::Healthy(args) => healthy::run(&config, args).await,
        Command::Why(args) => why::run(&config, args, format).await,
        Command::Dead(args) => dead::run(&config, args, format).await,
        Command::Review(args) => review::run(&config, args, format).await,
        Command::Gold(args) => gold::run(&config, args, format).await,
        Command::Sinks(args) => sinks::run(&config, args, format).await,
        Command::Notify(args) => notify::run(&config, args, format).await,
        Command::People(args) => people::run(&config, args, format).await,
        Command::Keys(args) => keys::run(&config, args, format).await,
        Command::Validate(args) => validate::run(&config, args, format).await,
        Command::Calibrate(args) => calibrate::run(&config, args, format).await,
        Command::Schema(args) => schema::run(args),
        Command::Migrate => migrate(&config).await,
        Command::Report(args) => report::run(&config, args, format).await,
        Command::Replay(args) => replay::run(&config, args, format).await,
        Command::Prune(args) => prune::run(&config, args, format).await,
        Command::Scan(args) => scan::run(&config, args, format).await,
        Command::Erase(args) => erase::run(&config, args, format).await,
        Command::Reveal(args) => reveal::run(&config, args).await,
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let unreachable = error.chain().any(|cause| {
                cause.is::<sqlx::Error>()
                    || cause.is::<validate::NotConnected>()
                    || cause.downcast_ref().is_some_and(gold::GitHubError::is_away)
                    || cause.downcast_ref().is_some_and(gold::GitError::is_late)
                    || matches!(
                        cause.downcast_ref(),
                        Some(SourceError::Broker { .. } | SourceError::Late(_) | SourceError::Gone)
                    )
            });
            failure(&error, if unreachable { 3 } else { 2 })
        }
    }
}

/// Opens the databases and lists their migrations.
async fn migrate(config: &Config) -> anyhow::Result<bool> {
    let databases = service::databases(config).await?;
    if let Some(database) = &databases.sqlite {
        list_migrations(&database.migrations().await?, &config.sqlite.path.display().to_string())?;
    }
    if let Some(database) = &databases.postgres {
        list_migrations(&database.migrations().await?, database.place())?;
    }
    databases.close().await;
    Ok(true)
}

/// Prints what a database has.
fn list_migrations(migrations: &[(i64, String)], place: &str) -> std::io::Result<()> {
    for (version, description) in migrations {
        say!("{version:04} {description}");
    }
    say!("{place} is up to date");
    Ok(())
}

/// The databases and the store in them. What only reads creates no file: an empty report from the wrong folder would
/// look like an answer.
async fn open(config: &Config) -> anyhow::Result<(Databases, Arc<dyn Store>)> {
    let path = &config.sqlite.path;
    anyhow::ensure!(
        !config.needs(DatabaseKind::Sqlite) || path.exists(),
        "no database at {}: name the right config with --config, or create one with `aftercheck migrate`",
        path.display()
    );
    let databases = service::databases(config).await?;
    let store = store::build(&config.store, &databases)?;
    Ok((databases, store))
}

/// Prints an error with its causes.
fn failure(error: &anyhow::Error, code: u8) -> ExitCode {
    eprintln!("aftercheck: {}", told(error));
    ExitCode::from(code)
}

/// An error with its causes, each said once: many say in their own words what caused them.
fn told(error: &anyhow::Error) -> String {
    error.chain().fold(String::new(), |told, cause| {
        let cause = cause.to_string();
        match (told.is_empty(), told.contains(&cause)) {
            (true, _) => cause,
            (false, true) => told,
            (false, false) => format!("{told}: {cause}"),
        }
    })
}

/// Reads an id.
fn id(text: &str) -> Result<Uuid, String> {
    text.parse()
        .map_err(|_| "need the whole id, 36 characters, as it is told by list, show or next".to_owned())
}

/// Whether the reader of our output has gone, as `head` does.
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_each_cause_once() {
        let cause = anyhow::anyhow!("connection refused");
        let twice = cause.context("no answer: connection refused").context("queue");
        assert_eq!(told(&twice), "queue: no answer: connection refused");
    }

    #[test]
    fn a_part_of_an_id_is_told_what_is_missing() {
        assert!(id("0b1c7a52").unwrap_err().contains("whole id"));
        assert!(id("0b1c7a52-6c1e-5b0e-9d3c-0b6a6f2b7c11").is_ok());
    }
}
