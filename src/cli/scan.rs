//! `aftercheck scan [FILE...]`

use std::path::PathBuf;

use clap::Args;

use super::{OutputFormat, open, terminal};
use crate::{config::Config, pipeline::scan::Scanner, service};

/// Arguments of `scan`.
#[derive(Debug, Args)]
#[command(after_help = "\
Searches the store and the files of jsonl sinks for payment cards, social security numbers and the canaries of \
[redaction], and the files that are named, logs for example. Says where, never what. Exit code 1: something was found.

Example:
  aftercheck scan /var/log/aftercheck.log")]
pub struct ScanArgs {
    /// Further files, line by line.
    files: Vec<PathBuf>,
}

/// Searches; false when something was found.
pub async fn run(config: &Config, args: ScanArgs, format: OutputFormat) -> anyhow::Result<bool> {
    let (databases, store) = open(config).await?;
    let mut scanner = Scanner::new(&config.redaction.canaries);
    let files: Vec<PathBuf> = service::sink_files(config).chain(args.files).collect();
    service::scan(&mut scanner, &*store, &files).await?;
    databases.close().await;
    let scanned = scanner.finish();
    match format {
        OutputFormat::Json => say!("{}", serde_json::to_string(&scanned)?),
        OutputFormat::Table => {
            if !scanned.hits.is_empty() {
                let mut table = terminal::table(&["place", "key", "kind"]);
                for hit in &scanned.hits {
                    table.add_row([&hit.place, &hit.key, &hit.kind].map(|text| terminal::harmless(text)));
                }
                say!("{table}");
            }
            say!("{} texts searched, {} values found", scanned.texts, scanned.found);
        }
    }
    Ok(scanned.found == 0)
}
