//! `aftercheck sinks list|pause|resume`

use clap::{Args, Subcommand};

use super::{OutputFormat, open, terminal};
use crate::{config::Config, store::SinkState};

/// Arguments of `sinks`.
#[derive(Debug, Args)]
#[command(after_help = "\
A sink that is paused is sent nothing, by no worker, until it is resumed; verdicts go on, and what it is to have waits in the \
outbox. A batch that is at work when it is paused comes to its end.

Examples:
  aftercheck sinks list
  aftercheck sinks pause langfuse")]
pub struct SinksArgs {
    #[command(subcommand)]
    action: Action,
}

/// What to do with sinks.
#[derive(Debug, Subcommand)]
enum Action {
    /// How each sink stands: what waits for it and for how long, what is dead, whether it is paused, the last error.
    List,
    /// Send a sink nothing until it is resumed.
    Pause {
        /// Its name.
        name: String,
    },
    /// End the pause of a sink.
    Resume {
        /// Its name.
        name: String,
    },
}

/// Does it; false where a sink was paused, or not, already.
pub async fn run(config: &Config, args: SinksArgs, format: OutputFormat) -> anyhow::Result<bool> {
    let (databases, store) = open(config).await?;
    let done = match &args.action {
        Action::List => {
            list(config, store.sink_states().await?, format)?;
            true
        }
        Action::Pause { name } => {
            // One that is not configured any more may be resumed, but to pause it would be a mistake.
            anyhow::ensure!(
                config.sinks.contains_key(name),
                "no sink is called {name}; see `aftercheck sinks list`"
            );
            said(name, store.pause_sink(name, true).await?, "paused")?
        }
        Action::Resume { name } => said(name, store.pause_sink(name, false).await?, "resumed")?,
    };
    databases.close().await;
    Ok(done)
}

/// Says what was done.
fn said(name: &str, done: bool, what: &str) -> anyhow::Result<bool> {
    let not = if what == "paused" { "is paused already" } else { "is not paused" };
    match done {
        true => say!("{name} {what}"),
        false => eprintln!("{name} {not}"),
    }
    Ok(done)
}

/// Prints how sinks stand: those that are configured, and those that the store knows.
fn list(config: &Config, states: Vec<SinkState>, format: OutputFormat) -> anyhow::Result<()> {
    let idle = config.sinks.keys().filter(|name| states.iter().all(|state| state.sink != **name));
    let idle = idle.map(|name| SinkState { sink: name.clone(), ..SinkState::default() });
    let mut all: Vec<SinkState> = idle.collect();
    all.extend(states);
    all.sort_by(|a, b| a.sink.cmp(&b.sink));
    if format == OutputFormat::Json {
        for state in &all {
            say!("{}", serde_json::to_string(state)?);
        }
        return Ok(());
    }
    let mut table = terminal::table(&["sink", "pending", "oldest", "dead", "state", "last error"]);
    for state in &all {
        let standing = match (config.sinks.contains_key(&state.sink), state.paused_ms) {
            (_, Some(_)) => "paused",
            (true, None) => "on",
            (false, None) => "not configured",
        };
        table.add_row(vec![
            terminal::harmless(&state.sink),
            state.pending.to_string(),
            state.oldest_ms.map_or("–".into(), age),
            state.dead.to_string(),
            standing.into(),
            terminal::harmless(state.last_error.as_deref().unwrap_or("–")),
        ]);
    }
    say!("{table}");
    Ok(())
}

/// An age in the largest unit of which there are two.
fn age(ms: i64) -> String {
    let secs = ms / 1000;
    match secs {
        ..120 => format!("{secs} s"),
        120..7200 => format!("{} min", secs / 60),
        7200..172_800 => format!("{} h", secs / 3600),
        _ => format!("{} d", secs / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_short() {
        let ages = [0, 119_000, 120_000, 7_199_000, 7_200_000, 172_800_000].map(age);
        assert_eq!(ages, ["0 s", "119 s", "2 min", "119 min", "2 h", "2 d"]);
    }
}
