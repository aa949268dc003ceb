//! `aftercheck reveal REQUEST_ID --reason TEXT`

use std::{
    io::{IsTerminal, Write},
    path::PathBuf,
};

use anyhow::Context;
use clap::Args;
use uuid::Uuid;

use super::{open, terminal};
use crate::{config::Config, redaction::Seal, service};

/// Arguments of `reveal`.
#[derive(Debug, Args)]
#[command(after_help = "\
Shows what the debug share keeps of a call: the message as it was delivered, personal data and all. Who asked and why is \
entered in the ledger before anything is shown, and `aftercheck why` tells it.

Example:
  aftercheck reveal order-4711 --tenant acme --reason 'ticket 31: wrong IBAN in the answer'")]
pub struct RevealArgs {
    /// The producer's id of the call.
    request_id: String,
    /// Only this tenant.
    #[arg(long)]
    tenant: Option<String>,
    /// Why: it is kept.
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    reason: String,
    /// Who asks: it is kept.
    #[arg(long, env = "USER", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    by: String,
    /// File with the key [default: that of `[retention.sealed]`].
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

/// Opens what is sealed; false when nothing is.
pub async fn run(config: &Config, args: RevealArgs) -> anyhow::Result<bool> {
    let key_file = args.key_file.or_else(|| config.retention.sealed.key_file.clone());
    let key_file = key_file.context("which key? name it with --key-file, or in [retention.sealed]")?;
    let seal = Seal::read(&key_file)?;
    let redactor = service::redactor(config)?;
    let tenant = args.tenant.as_deref().map(|tenant| redactor.identity(tenant));
    // The id makes each asking an entry of its own, however long the reason is.
    let reason = String::from_utf8_lossy(&redactor.payload(args.reason.as_bytes())).into_owned();
    let detail = format!("{} by {}: {reason}", Uuid::now_v7(), args.by);
    let (databases, store) = open(config).await?;
    let request_id = redactor.identity(&args.request_id);
    let sealed = store.reveal(tenant.as_deref(), &request_id, &detail).await?;
    databases.close().await;
    if sealed.is_empty() {
        eprintln!("{}: no sealed message; it was in no debug share, or has expired", args.request_id);
        return Ok(false);
    }
    for (tenant, sealed) in &sealed {
        let message = seal.open(tenant, &request_id, sealed).with_context(|| terminal::harmless(tenant))?;
        match std::io::stdout().is_terminal() {
            true => say!("{}", terminal::harmless(&String::from_utf8_lossy(&message))),
            false => {
                let mut out = std::io::stdout();
                out.write_all(&message)?;
                out.write_all(b"\n")?;
            }
        }
    }
    Ok(true)
}
