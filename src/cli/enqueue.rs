//! `aftercheck enqueue FILE|-`

use anyhow::bail;
use clap::Args;
use indicatif::ProgressBar;

use super::{Input, terminal};
use crate::{
    config::Config,
    pipeline::decode,
    service,
    sources::{self, Message, Publisher, SourceError},
};

/// Messages confirmed at a time.
const BATCH: usize = 200;

/// Arguments of `enqueue`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  aftercheck enqueue examples/traffic.jsonl\n\nLines are queued without \
    what is personal in them; a bad one becomes a dead letter when a worker reads it.")]
pub struct EnqueueArgs {
    #[command(flatten)]
    input: Input,
}

/// Queues every line that is not blank; each batch is on disk before the next is read.
pub async fn run(config: &Config, args: EnqueueArgs) -> anyhow::Result<bool> {
    let redactor = service::redactor(config)?;
    let databases = service::databases(config).await?;
    let queue = sources::publisher(&config.source, &databases)?;
    let bar = terminal::bar(None, "messages");
    let (mut batch, mut total) = (Vec::with_capacity(BATCH), 0u64);
    for (number, line) in (1..).zip(terminal::lines(&args.input.file)?) {
        let line = line?;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let payload = redactor.payload(&line);
        let (tenant_id, _) = decode::ids(&payload);
        batch.push((number, Message { payload: payload.into(), tenant_id }));
        if batch.len() == BATCH {
            total += publish(&*queue, &mut batch, &bar).await?;
        }
    }
    total += publish(&*queue, &mut batch, &bar).await?;
    bar.finish_and_clear();
    databases.close().await;
    say!("{total} messages queued");
    Ok(true)
}

/// Publishes a batch of messages, each with the line that it stood in, and empties it.
async fn publish(
    queue: &dyn Publisher,
    batch: &mut Vec<(u64, Message)>,
    bar: &ProgressBar,
) -> anyhow::Result<u64> {
    let (lines, messages): (Vec<u64>, Vec<Message>) = batch.drain(..).unzip();
    let published = queue.publish(messages).await;
    if let Err(SourceError::Unfit { place, why }) = &published
        && let (Some(line), Some(first)) = (lines.get(*place), lines.first())
    {
        bail!(
            "line {line}: {why}. The lines before line {first} are queued: mend it or take it out, and queue the file again \
             from there (calls that are queued twice are evaluated once)"
        );
    }
    published?;
    bar.inc(lines.len() as u64);
    Ok(lines.len() as u64)
}
