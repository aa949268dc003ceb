//! `aftercheck score FILE|-`

use std::{
    collections::VecDeque,
    io::{BufWriter, Write},
    sync::Arc,
};

use clap::Args;
use tokio::task::JoinHandle;

use super::{Input, terminal};
use crate::{
    config::Config,
    domain::{DeadLetter, Evaluation, Stage, StageOutcome},
    pipeline::{Panicked, cascade::Cascade, decode::decode, off_runtime},
    service,
};

/// Calls judged at a time; output keeps the order of input.
const IN_FLIGHT: usize = 64;

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

/// One line in work.
type Judging = (usize, JoinHandle<Result<Evaluation, Bad>>);

/// Scores every line; false when some were bad or the model could not run on them. Bad lines go to stderr with their
/// number and remedy.
pub async fn run(config: &Config, args: ScoreArgs) -> anyhow::Result<bool> {
    let cascade = Arc::new(service::cascade(config)?);
    let mut out = BufWriter::new(std::io::stdout().lock());
    let bar = terminal::bar(None, "calls");
    let mut judging: VecDeque<Judging> = VecDeque::new();
    let mut bad = 0u64;
    for (number, line) in terminal::lines(&args.input.file)?.enumerate() {
        if judging.len() >= IN_FLIGHT {
            bad += finish(judging.pop_front(), &mut out).await?;
            bar.inc(1);
        }
        let (line, cascade) = (line?, Arc::clone(&cascade));
        judging.push_back((number + 1, tokio::spawn(judge(line, cascade))));
    }
    while !judging.is_empty() {
        bad += finish(judging.pop_front(), &mut out).await?;
        bar.inc(1);
    }
    out.flush()?;
    bar.finish_and_clear();
    Ok(bad == 0)
}

/// Decodes and judges one line.
async fn judge(line: Vec<u8>, cascade: Arc<Cascade>) -> Result<Evaluation, Bad> {
    let decoded = off_runtime(line.len(), move || decode(&line)).await??;
    Ok(cascade.judge(&Arc::new(decoded.call)).await?.evaluation)
}

/// Prints one line's outcome; 1 when it was bad.
async fn finish(judging: Option<Judging>, out: &mut impl Write) -> anyhow::Result<u64> {
    let Some((number, judging)) = judging else { return Ok(0) };
    match judging.await? {
        Ok(evaluation) => {
            serde_json::to_writer(&mut *out, &evaluation).map_err(std::io::Error::from)?;
            out.write_all(b"\n")?;
            // Its line stands and says so; the exit code must not hide it.
            Ok(u64::from(
                evaluation
                    .stages
                    .iter()
                    .any(|stage| stage.stage == Stage::Nli && stage.outcome == StageOutcome::Error),
            ))
        }
        Err(bad) => {
            eprintln!("line {number}: {}", terminal::harmless(&bad.to_string()));
            Ok(1)
        }
    }
}
