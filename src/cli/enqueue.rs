//! `aftercheck enqueue FILE|-`

use clap::Args;

use super::{Input, terminal};
use crate::{
    config::Config,
    pipeline::decode,
    service,
    sources::{self, Message, Publisher},
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
    for line in terminal::lines(&args.input.file)? {
        let line = line?;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let payload = redactor.payload(&line);
        let (tenant_id, _) = decode::ids(&payload);
        batch.push(Message { payload: payload.into(), tenant_id });
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

/// Publishes a batch and empties it.
async fn publish(
    queue: &dyn Publisher,
    batch: &mut Vec<Message>,
    bar: &indicatif::ProgressBar,
) -> anyhow::Result<u64> {
    let count = batch.len() as u64;
    queue.publish(std::mem::take(batch)).await?;
    bar.inc(count);
    Ok(count)
}
