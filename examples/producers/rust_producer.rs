//! Puts LLM calls on aftercheck's RabbitMQ queue from Rust.
//!
//! ```sh
//! cargo run --example rust_producer -- --print       # shows the example call and sends nothing
//! cargo run --example rust_producer                  # sends it
//! cargo run --example rust_producer -- calls.jsonl   # sends a file of JSON lines, - for stdin
//! ```
//! Copy `example_call` and `publish` into the service that talks to the model.

#![allow(clippy::print_stdout, reason = "printing is what a command line is for")]

use std::{env, fs, io::Read, time::Duration};

use anyhow::{Context, bail};
use lapin::{
    BasicProperties, Channel, Confirmation, Connection, ConnectionProperties,
    options::{BasicPublishOptions, ConfirmSelectOptions},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Usage of this program.
const USAGE: &str = "usage: rust_producer [--print | FILE]
environment: RABBITMQ_URL [amqp://127.0.0.1:5672/%2f], AFTERCHECK_QUEUE [aftercheck.calls], AFTERCHECK_LANES [1]";
/// Longest wait for the broker; a broker short of memory or disk stops taking messages.
const DEADLINE: Duration = Duration::from_secs(30);
/// Messages that may wait for their confirmation at a time.
const WINDOW: usize = 256;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let lines = match env::args().nth(1).as_deref() {
        None => vec![example_call().to_string()],
        Some("--print") => {
            println!("{}", example_call());
            return Ok(());
        }
        Some("--help" | "-h") => {
            println!("{USAGE}");
            return Ok(());
        }
        Some(file) => lines(file)?,
    };
    let url = env::var("RABBITMQ_URL").unwrap_or_else(|_| "amqp://127.0.0.1:5672/%2f".into());
    let connection = Connection::connect(&url, ConnectionProperties::default());
    let connection = tokio::time::timeout(DEADLINE, connection).await.context("connecting")??;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    for window in lines.chunks(WINDOW) {
        tokio::time::timeout(DEADLINE, publish(&channel, window))
            .await
            .context("the broker is too slow")??;
    }
    connection.close(200, "done".into()).await?;
    println!("{} calls are on the queue", lines.len());
    Ok(())
}

/// One call as message version 1, as the service that asked the model would build it.
fn example_call() -> Value {
    let question = "Do gift cards expire?";
    let context = "Gift cards never expire and carry no fees.";
    let hash = Sha256::digest(json!([question, [context]]).to_string());
    json!({
        "version": 1,
        // Unique within the tenant. Sending the same id again is safe: it is scored once.
        "request_id": Uuid::now_v7(),
        "trace_id": Uuid::now_v7().simple().to_string(),
        "occurred_at": jiff::Timestamp::now().to_string(),
        "feature": "support_answers",
        "tenant_id": "acme-shop",
        "prompt_version": "support-v15",
        // Both names, so that a silent swap of the model shows.
        "model_requested": "claude-haiku-4-5",
        "model_resolved": "claude-haiku-4-5-20251001",
        "provider": "anthropic",
        "tokens_in": 212,
        "tokens_out": 14,
        "latency_ms": {"total": 950.0},
        "finish_reason": "stop",
        "messages_hash": hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect::<String>(),
        "retrieval_ids": ["chk_gift_cards"],
        "content": {
            "input": question,
            "answer": "No, gift cards never expire [chk_gift_cards].",
            "contexts": [{"id": "chk_gift_cards", "text": context, "score": 0.91}],
        },
        // Say with which probability the call was taken, or rates cannot be weighted.
        "sampling": {"reason": "head", "probability": 0.05},
    })
}

/// Publishes messages and returns once the broker keeps all of them. After an error some may be there: publishing
/// again is safe.
async fn publish(channel: &Channel, messages: &[String]) -> anyhow::Result<()> {
    let mut confirms = Vec::with_capacity(messages.len());
    for message in messages {
        let call: Value = serde_json::from_str(message).context("not a line of JSON")?;
        let properties = BasicProperties::default()
            .with_delivery_mode(2) // persistent
            .with_content_type("application/json".into())
            .with_message_id(call["request_id"].as_str().unwrap_or_default().into())
            .with_timestamp(u64::try_from(jiff::Timestamp::now().as_second())?);
        // Without `mandatory` a message for a queue that is not there is confirmed, and gone.
        let options = BasicPublishOptions { mandatory: true, ..Default::default() };
        let queue = queue(call["tenant_id"].as_str().unwrap_or_default())?;
        let confirm =
            channel.basic_publish("".into(), queue.into(), options, message.as_bytes(), properties).await?;
        confirms.push(confirm);
    }
    for confirm in confirms {
        match confirm.await? {
            Confirmation::Ack(None) => {}
            Confirmation::Ack(Some(_)) => bail!("no such queue: start aftercheck first, it declares its own"),
            other => bail!("the broker refused a message, send it again later: {other:?}"),
        }
    }
    Ok(())
}

/// The queue of a tenant's calls; `[source.rabbitmq] lanes` and `AFTERCHECK_LANES` have to say the same.
fn queue(tenant_id: &str) -> anyhow::Result<String> {
    let queue = env::var("AFTERCHECK_QUEUE").unwrap_or_else(|_| "aftercheck.calls".into());
    let lanes: u32 = env::var("AFTERCHECK_LANES").map_or(Ok(1), |lanes| lanes.parse())?;
    Ok(match lanes {
        0 | 1 => queue,
        lanes => format!("{queue}.{}", crc32fast::hash(tenant_id.as_bytes()) % lanes),
    })
}

/// The lines of a file that are not blank.
fn lines(file: &str) -> anyhow::Result<Vec<String>> {
    let mut text = String::new();
    match file {
        "-" => std::io::stdin().read_to_string(&mut text).map(drop)?,
        file => text = fs::read_to_string(file).with_context(|| file.to_owned())?,
    }
    Ok(text.lines().filter(|line| !line.trim().is_empty()).map(str::to_owned).collect())
}
