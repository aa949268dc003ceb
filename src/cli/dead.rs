//! `aftercheck dead list|show|requeue|drop`

use std::io::{IsTerminal, Write};

use clap::{Args, Subcommand};
use uuid::Uuid;

use super::{OutputFormat, open, terminal};
use crate::{
    config::Config,
    sources::{self, Message},
    store::DeadLetterRow,
};

/// Arguments of `dead`.
#[derive(Debug, Args)]
pub struct DeadArgs {
    #[command(subcommand)]
    action: Action,
}

/// What to do with dead letters.
#[derive(Debug, Subcommand)]
enum Action {
    /// List them, newest first.
    List {
        /// Only this class, as the list shows it.
        #[arg(long)]
        class: Option<String>,
        /// At most so many.
        #[arg(long, default_value_t = 50)]
        limit: u32,
    },
    /// Print the redacted bytes of one to stdout.
    Show {
        /// Its id.
        id: Uuid,
    },
    /// Put one on the queue again, as it is.
    Requeue {
        /// Its id.
        id: Uuid,
    },
    /// Delete one for good; the ledger keeps that it was.
    Drop {
        /// Its id.
        id: Uuid,
    },
}

/// Does it; false when the id is not there, or for a list with rows.
pub async fn run(config: &Config, args: DeadArgs, format: OutputFormat) -> anyhow::Result<bool> {
    let (databases, store) = open(config).await?;
    let done = match args.action {
        Action::List { class, limit } => {
            list(&store.dead_letters(class.as_deref(), limit).await?, format)?;
            true
        }
        Action::Show { id } => match store.dead_letter(id).await? {
            Some(letter) if std::io::stdout().is_terminal() => {
                // Raw bytes could steer the terminal; in a pipe they are kept as they are.
                say!("{}", terminal::harmless(&String::from_utf8_lossy(&letter.payload)));
                true
            }
            Some(letter) => {
                std::io::stdout().write_all(&letter.payload)?;
                true
            }
            None => missing(id),
        },
        Action::Requeue { id } => match store.dead_letter(id).await? {
            Some(letter) => {
                // Publish first: killed in between, the letter is there twice, never nowhere.
                let message = Message { payload: letter.payload.into(), tenant_id: letter.tenant_id };
                sources::publisher(&config.source, &databases)?.publish(vec![message]).await?;
                // A worker that was quicker has buried it anew, as a newer letter that stays; or its days are over.
                let removed = store.remove_dead_letter(id, letter.created_ms, "requeued").await?;
                match removed {
                    true => say!("{id} requeued"),
                    false => eprintln!(
                        "{id}: a worker has buried it anew meanwhile, or it has expired; if it is there, run this again"
                    ),
                }
                removed
            }
            None => missing(id),
        },
        Action::Drop { id } => match store.dead_letter(id).await? {
            Some(letter) if store.remove_dead_letter(id, letter.created_ms, "dropped").await? => {
                say!("{id} dropped");
                true
            }
            _ => missing(id),
        },
    };
    databases.close().await;
    Ok(done)
}

/// Says that an id is not there.
fn missing(id: Uuid) -> bool {
    eprintln!("{id}: no such dead letter; see `aftercheck dead list`");
    false
}

/// Prints dead letters.
fn list(letters: &[DeadLetterRow], format: OutputFormat) -> anyhow::Result<()> {
    if format == OutputFormat::Json {
        for letter in letters {
            say!("{}", serde_json::to_string(letter)?);
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
    say!("{table}");
    Ok(())
}
