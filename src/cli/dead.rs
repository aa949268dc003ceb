//! `aftercheck dead list|show|requeue|drop`: calls that could not be evaluated, and deliveries that were given up.

use std::io::{IsTerminal, Write};

use anyhow::Context;
use clap::{Args, Subcommand};
use serde::Serialize;
use uuid::Uuid;

use super::{OutputFormat, open, terminal};
use crate::{
    config::Config,
    pipeline::dead_letters::{Dead, DeadError, DeadLetterOffice},
    sources,
    store::{DeadDelivery, DeadLetterRow, reviewing::Scope},
};

/// The class under which dead deliveries stand in the list.
const DELIVERY: &str = "delivery";

/// A dead delivery as a line of the list.
#[derive(Serialize)]
struct InList<'a> {
    class: &'static str,
    #[serde(flatten)]
    delivery: &'a DeadDelivery,
}

/// Arguments of `dead`.
#[derive(Debug, Args)]
pub struct DeadArgs {
    #[command(subcommand)]
    action: Action,
}

/// What to do with the dead.
#[derive(Debug, Subcommand)]
enum Action {
    /// List dead letters and dead deliveries, newest first.
    List {
        /// Only dead letters of this class, as the list shows it; `delivery`: only dead deliveries.
        #[arg(long)]
        class: Option<String>,
        /// Only dead deliveries of this sink.
        #[arg(long, conflicts_with = "class")]
        sink: Option<String>,
        /// At most so many of each.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Print the redacted bytes of a dead letter to stdout and what is wrong with them to stderr, or why a delivery is dead.
    #[command(after_help = "\
Example:
  aftercheck dead show ID > letter.json      mend it, then
  aftercheck enqueue letter.json && aftercheck dead drop ID")]
    Show {
        /// Its id.
        #[arg(value_parser = super::id)]
        id: Uuid,
    },
    /// Put a dead letter on the queue again, as it is; have a dead delivery tried again, or all of a sink.
    #[command(after_help = "\
Examples:
  aftercheck dead requeue 0b1c7a52-6c1e-5b0e-9d3c-0b6a6f2b7c11
  aftercheck dead requeue --sink langfuse    all that it was not sent, once it is mended")]
    Requeue {
        /// Its id.
        #[arg(required_unless_present = "sink", value_parser = super::id)]
        id: Option<Uuid>,
        /// All dead deliveries of this sink, but for those that somebody has dropped.
        #[arg(long, conflicts_with = "id")]
        sink: Option<String>,
    },
    /// Delete a dead letter for good; the ledger keeps that it was. Take a dead delivery off the list.
    Drop {
        /// Its id.
        #[arg(value_parser = super::id)]
        id: Uuid,
    },
}

/// Does it; false when the id is not there, or for a list with rows.
pub async fn run(config: &Config, args: DeadArgs, format: OutputFormat) -> anyhow::Result<bool> {
    let (databases, store) = open(config).await?;
    // Who only looks needs no queue, nor its secrets.
    let publisher = match &args.action {
        Action::Requeue { id: Some(_), .. } => Some(sources::publisher(&config.source, &databases)?),
        _ => None,
    };
    let office =
        DeadLetterOffice { store, publisher, by: "command line".to_owned(), scope: Scope::default() };
    let done = match args.action {
        Action::List { class, sink, limit } => {
            let only_deliveries = sink.is_some() || class.as_deref() == Some(DELIVERY);
            let letters = match only_deliveries {
                true => Vec::new(),
                false => office.letters(class.as_deref(), limit).await?,
            };
            let deliveries = match only_deliveries || class.is_none() {
                true => office.deliveries(sink.as_deref(), limit).await?,
                false => Vec::new(),
            };
            if let Some(sink) = sink.filter(|name| deliveries.is_empty() && !config.sinks.contains_key(name))
            {
                let name = terminal::harmless(&sink);
                eprintln!("{name}: no sink of this name is configured; see `aftercheck sinks list`");
            }
            list(&letters, &deliveries, format)?;
            true
        }
        Action::Show { id } => show(id, office.find(id).await)?,
        Action::Requeue { id: Some(id), .. } => told(id, "requeued", office.requeue(id).await)?,
        Action::Requeue { id: None, sink } => {
            let sink = sink.context("name an id, or --sink")?;
            all_requeued(&sink, office.requeue_all(&sink).await?)?
        }
        Action::Drop { id } => told(id, "dropped", office.drop(id).await)?,
    };
    databases.close().await;
    Ok(done)
}

/// Prints the bytes of a dead letter, or why a delivery is dead.
fn show(id: Uuid, found: Result<Dead, DeadError>) -> anyhow::Result<bool> {
    if let Ok(Dead::Letter(letter)) = &found {
        eprintln!("{}", wrong(letter));
    }
    match found {
        Ok(Dead::Letter(letter)) if std::io::stdout().is_terminal() => {
            // Raw bytes could steer the terminal; in a pipe they are kept as they are.
            say!("{}", terminal::harmless(&String::from_utf8_lossy(&letter.payload)));
        }
        Ok(Dead::Letter(letter)) => std::io::stdout().write_all(&letter.payload)?,
        Ok(Dead::Delivery(delivery)) => say!("{}", serde_json::to_string_pretty(&delivery)?),
        Err(DeadError::Missing) => return Ok(missing(id)),
        Err(error) => return Err(error.into()),
    }
    Ok(true)
}

/// What is wrong with a dead letter, where, and what to do.
fn wrong(letter: &DeadLetterRow) -> String {
    let DeadLetterRow { class, detail, remedy, .. } = letter;
    terminal::harmless(&format!("{class} at {}: {detail}; {remedy}", letter.place()))
}

/// Says what was done; false where there was nothing to do it with.
fn told(id: Uuid, what: &str, outcome: Result<(), DeadError>) -> anyhow::Result<bool> {
    match outcome {
        Ok(()) => {
            say!("{id} {what}");
            Ok(true)
        }
        Err(DeadError::Missing) => Ok(missing(id)),
        Err(error @ DeadError::Anew) => {
            eprintln!("{id}: {error}");
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// Says how many deliveries of a sink are tried again; false where none was dead.
fn all_requeued(sink: &str, count: usize) -> anyhow::Result<bool> {
    let name = terminal::harmless(sink);
    match count {
        0 => eprintln!("{name}: no delivery of this sink is dead; see `aftercheck sinks list`"),
        _ => say!("{count} deliveries of {name} requeued"),
    }
    Ok(count > 0)
}

/// Says that an id is not there.
fn missing(id: Uuid) -> bool {
    eprintln!("{id}: nothing dead has this id; see `aftercheck dead list`");
    false
}

/// Prints dead letters and dead deliveries.
fn list(letters: &[DeadLetterRow], deliveries: &[DeadDelivery], format: OutputFormat) -> anyhow::Result<()> {
    if format == OutputFormat::Json {
        for letter in letters {
            say!("{}", serde_json::to_string(letter)?);
        }
        for delivery in deliveries {
            say!("{}", serde_json::to_string(&InList { class: DELIVERY, delivery })?);
        }
        return Ok(());
    }
    let mut table = terminal::table(&["id", "class", "field", "request", "bytes", "tries", "what to do"]);
    for letter in letters {
        table.add_row(vec![
            letter.dead_letter_id.to_string(),
            letter.class.clone(),
            terminal::harmless(&letter.pointer),
            terminal::harmless(letter.request_id.as_deref().unwrap_or("–")),
            letter.payload_bytes.to_string(),
            letter.attempts.to_string(),
            letter.remedy.clone(),
        ]);
    }
    for delivery in deliveries {
        let what = if delivery.retracts { "take back from" } else { "to" };
        table.add_row(vec![
            delivery.delivery_id.to_string(),
            DELIVERY.into(),
            terminal::harmless(&format!("{what} {}", delivery.sink)),
            terminal::harmless(delivery.request_id.as_deref().unwrap_or("–")),
            "–".into(),
            delivery.attempts.to_string(),
            terminal::harmless(&format!("{}; mend it, then requeue", delivery.reason)),
        ]);
    }
    say!("{table}");
    Ok(())
}
