//! `aftercheck keys add|list|revoke`

use clap::{Args, Subcommand};

use super::{
    OutputFormat, open,
    people::{BY, Word, cell, granted},
    terminal,
};
use crate::{access::Gate, config::Config, domain::Person, store::accounts::ApiKey};

/// Arguments of `keys`.
#[derive(Debug, Args)]
#[command(after_help = "\
A program sends its key as `Authorization: Bearer KEY`. A key is printed once, when it is made; only its digest is kept.

Examples:
  aftercheck keys add shop --role ingest --tenant acme
  aftercheck keys revoke ack_3fK9aB2x")]
pub struct KeysArgs {
    #[command(subcommand)]
    action: Action,
}

/// What to do with keys.
#[derive(Debug, Subcommand)]
enum Action {
    /// Make a key and print it.
    Add {
        /// Name of the program.
        name: String,
        /// What it may do.
        #[arg(long, value_enum)]
        role: Word,
        /// A tenant that it may see or hand in calls of; may be given several times [default: all].
        #[arg(long)]
        tenant: Vec<String>,
    },
    /// List all keys by their prefix.
    List,
    /// Revoke a key: it is refused from the next request on.
    Revoke {
        /// Its prefix, as listed.
        prefix: String,
    },
}

/// Does it; false where there is no such key.
pub async fn run(config: &Config, args: KeysArgs, format: OutputFormat) -> anyhow::Result<bool> {
    let (databases, store) = open(config).await?;
    let gate = Gate::new(store.clone());
    let done = match args.action {
        Action::Add { name, role, tenant } => {
            let person =
                Person { name, role: role.into(), tenants: granted(config, tenant)?, features: None };
            let (secret, _) = gate.make_key(&person, BY).await?;
            say!("{secret}");
            true
        }
        Action::List => {
            list(&store.keys().await?, format)?;
            true
        }
        Action::Revoke { prefix } => {
            let revoked = gate.revoke_key(&prefix, BY).await?;
            let prefix = terminal::harmless(&prefix);
            match revoked {
                true => eprintln!("{prefix} is revoked"),
                false => eprintln!("no key that is not revoked begins with {prefix}"),
            }
            revoked
        }
    };
    databases.close().await;
    Ok(done)
}

/// Prints keys.
fn list(keys: &[ApiKey], format: OutputFormat) -> anyhow::Result<()> {
    if format == OutputFormat::Json {
        for key in keys {
            say!("{}", serde_json::to_string(key)?);
        }
        return Ok(());
    }
    let mut table = terminal::table(&["key", "name", "role", "tenants", "state"]);
    for key in keys {
        table.add_row(vec![
            terminal::harmless(&key.prefix),
            terminal::harmless(&key.person.name),
            key.person.role.as_str().to_owned(),
            cell(key.person.tenants.as_ref()),
            if key.revoked_ms.is_some() { "revoked" } else { "on" }.to_owned(),
        ]);
    }
    say!("{table}");
    Ok(())
}
