//! `aftercheck healthy`

use std::{net::SocketAddr, time::Duration};

use anyhow::Context;
use clap::Args;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::terminal;
use crate::config::Config;

/// Most bytes of an answer that are read; ours are a line.
const MAX_ANSWER_BYTES: u64 = 16 * 1024;

/// Arguments of `healthy`.
#[derive(Debug, Args)]
#[command(after_help = "\
For the probes of a container: HTTP listens on loopback only, and an image needs no curl for this.
Exit codes: 0 ready, 1 not ready or no answer, 2 bad usage or configuration.

Examples:
  HEALTHCHECK CMD [\"aftercheck\", \"healthy\"]                 Dockerfile
  exec: {command: [aftercheck, healthy]}                    readiness in Kubernetes
  exec: {command: [aftercheck, healthy, --alive]}           liveness: a queue that is away restarts nothing")]
pub struct HealthyArgs {
    /// Ask whether the process answers at all, not whether its pipeline moves.
    #[arg(long)]
    alive: bool,
    /// Seconds after which no answer counts as unhealthy.
    #[arg(long, value_name = "SECONDS", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=60))]
    deadline_secs: u64,
}

/// Asks the process that runs beside this one with the same configuration; false when it is not ready.
pub async fn run(config: &Config, args: HealthyArgs) -> anyhow::Result<bool> {
    let listen = config.http.listen;
    anyhow::ensure!(
        listen.port() != 0,
        "[http] listen {listen}: any free port is taken, name one to ask it for health"
    );
    let path = if args.alive { "/healthz" } else { "/readyz" };
    let answer = match timeout(Duration::from_secs(args.deadline_secs), ask(listen, path)).await {
        Ok(answer) => answer.and_then(|answer| read(&answer).context("not the answer of aftercheck")),
        Err(_) => Err(anyhow::anyhow!("nothing within {} s", args.deadline_secs)),
    };
    match answer {
        Ok((200, body)) => {
            say!("{}", terminal::harmless(&body));
            Ok(true)
        }
        Ok((status, body)) => {
            eprintln!("aftercheck: http://{listen}{path}: {status} {}", terminal::harmless(&body));
            Ok(false)
        }
        Err(error) => {
            eprintln!("aftercheck: no answer from http://{listen}{path}: {error:#}");
            Ok(false)
        }
    }
}

/// Sends one GET and returns the whole answer.
async fn ask(listen: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(listen).await?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: {listen}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER_BYTES).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Status and body of an HTTP answer; none where it is something else.
fn read(answer: &str) -> Option<(u16, String)> {
    let (head, body) = answer.split_once("\r\n\r\n")?;
    let status = head.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()?;
    Some((status, body.trim_end().to_owned()))
}
