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
    let (mut batch, mut total) = (Batch::default(), 0u64);
    for (number, line) in (1..).zip(terminal::lines(&args.input.file)?) {
        let line = line?;
        if line.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let payload = redactor.payload(&line);
        let (tenant_id, _) = decode::ids(&payload);
        batch.messages.push(Message { payload: payload.into(), tenant_id });
        batch.lines.push(number);
        if batch.lines.len() == BATCH {
            total += publish(&*queue, &mut batch, &bar).await?;
        }
    }
    total += publish(&*queue, &mut batch, &bar).await?;
    bar.finish_and_clear();
    databases.close().await;
    say!("{total} messages queued");
    Ok(true)
}

/// Messages to be published together, and the lines that they stood in.
#[derive(Default)]
struct Batch {
    messages: Vec<Message>,
    lines: Vec<u64>,
}

/// Publishes a batch and empties it.
async fn publish(queue: &dyn Publisher, batch: &mut Batch, bar: &ProgressBar) -> anyhow::Result<u64> {
    let Batch { messages, lines } = std::mem::take(batch);
    match queue.publish(messages).await {
        Ok(()) => {}
        Err(SourceError::Unfit { place, why }) => {
            let number = |place: usize| lines.get(place).copied().unwrap_or_default();
            bail!(
                "line {}: {why}. The lines before line {} are queued: mend it or take it out, and queue the file again from there \
                 (calls that are queued twice are evaluated once)",
                number(place),
                number(0)
            );
        }
        Err(error) => return Err(error.into()),
    }
    bar.inc(lines.len() as u64);
    Ok(lines.len() as u64)
}
