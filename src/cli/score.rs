//! `aftercheck score FILE|-`

use std::{
    io::{BufWriter, Write},
    sync::Arc,
};

use clap::Args;

use super::{Input, in_order::in_order, terminal};
use crate::{
    config::Config,
    domain::{DeadLetter, Evaluation, Stage, StageOutcome},
    pipeline::{Panicked, cascade::Cascade, decode::decode, off_runtime},
    redaction::Redactor,
    service,
};

/// Arguments of `score`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  zcat calls.jsonl.gz | aftercheck score - > evaluations.jsonl")]
pub struct ScoreArgs {
    #[command(flatten)]
    input: Input,
}

/// Why a line has no evaluation.
#[derive(Debug, thiserror::Error)]
enum Bad {
    /// It cannot be read.
    #[error(transparent)]
    Letter(#[from] Box<DeadLetter>),
    /// It brings out a fault of ours.
    #[error("{0}; please report it with this line, if you may")]
    Panicked(#[from] Panicked),
}

/// Scores every line; false when some were bad or the model could not run on them. Bad lines go to stderr with their
/// number and remedy.
pub async fn run(config: &Config, args: ScoreArgs) -> anyhow::Result<bool> {
    let (redactor, cascade) = (service::redactor(config)?, Arc::new(service::cascade(config)?));
    let mut out = BufWriter::new(std::io::stdout().lock());
    let bar = terminal::bar(None, "calls");
    let (mut number, mut bad) = (0u64, 0u64);
    let start = |line: std::io::Result<Vec<u8>>| {
        Ok(tokio::spawn(judge(line?, Arc::clone(&redactor), Arc::clone(&cascade))))
    };
    let finish = |judged| {
        number += 1;
        bad += u64::from(!print(number, judged, &mut out)?);
        bar.inc(1);
        Ok(())
    };
    in_order(terminal::lines(&args.input.file)?, start, finish).await?;
    out.flush()?;
    bar.finish_and_clear();
    Ok(bad == 0)
}

/// Decodes, redacts and judges one line.
async fn judge(line: Vec<u8>, redactor: Arc<Redactor>, cascade: Arc<Cascade>) -> Result<Evaluation, Bad> {
    let decoded = off_runtime(line.len(), move || decode(&line, &redactor)).await??;
    Ok(cascade.judge(&Arc::new(decoded.call)).await?.evaluation)
}

/// Prints one line's outcome; false when it was bad.
fn print(number: u64, judged: Result<Evaluation, Bad>, out: &mut impl Write) -> anyhow::Result<bool> {
    match judged {
        Ok(evaluation) => {
            serde_json::to_writer(&mut *out, &evaluation).map_err(std::io::Error::from)?;
            out.write_all(b"\n")?;
            // Its line stands and says so; the exit code must not hide it.
            Ok(!evaluation
                .stages
                .iter()
                .any(|stage| stage.stage == Stage::Nli && stage.outcome == StageOutcome::Error))
        }
        Err(bad) => {
            eprintln!("line {number}: {}", terminal::harmless(&bad.to_string()));
            Ok(false)
        }
    }
}
