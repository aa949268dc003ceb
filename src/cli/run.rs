//! `aftercheck run`

use std::{sync::Arc, time::Duration};

use clap::Args;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use super::terminal;
use crate::{
    config::Config,
    pipeline::Pulse,
    service::{self, Run},
    shutdown, sources,
};

/// Arguments of `run`.
#[derive(Debug, Args)]
#[command(
    after_help = "SIGTERM finishes what is in work and exits 0; a second one exits at once, and the calls \
    come again."
)]
pub struct RunArgs {
    /// End when the queue is empty and what is due is delivered, with a progress bar and without HTTP.
    #[arg(long)]
    drain: bool,
}

/// Runs the service until a signal, or until drained.
pub async fn run(config: &Config, args: RunArgs) -> anyhow::Result<bool> {
    let shutdown = shutdown::on_signals()?;
    let pulse = Arc::new(Pulse::default());
    let done = CancellationToken::new();
    let progress = match args.drain {
        true => {
            let databases = service::databases(config).await?;
            let mut source = sources::source(&config.source, &databases, config.pipeline.limits())?;
            let depth = source.depth().await?;
            source.close().await?;
            databases.close().await;
            Some(tokio::spawn(show(Arc::clone(&pulse), depth.messages, done.clone())))
        }
        false => None,
    };
    let ended = service::run(config, Run { shutdown, drain: args.drain, pulse }).await;
    done.cancel();
    if let Some(progress) = progress {
        progress.await?;
    }
    let ended = ended?;
    if args.drain {
        say!("{} settled", counted(ended.settled, "message", "messages"));
        if ended.undelivered > 0 {
            let open = counted(ended.undelivered, "delivery", "deliveries");
            eprintln!("still open: {open} to sinks; the next run tries again");
        }
    }
    Ok(true)
}

/// So many of something, in words.
fn counted(count: u64, one: &str, more: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { more })
}

/// Shows how much of the queue is settled.
async fn show(pulse: Arc<Pulse>, messages: u64, done: CancellationToken) {
    let bar = terminal::bar(Some(messages), "calls");
    let mut ticks = interval(Duration::from_millis(200));
    loop {
        tokio::select! {
            _ = ticks.tick() => bar.set_position(pulse.settled().min(messages)),
            () = done.cancelled() => return bar.finish_and_clear(),
        }
    }
}
