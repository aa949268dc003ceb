//! The bare model sessions on the pairs that `run` would ask, pre-tokenised and padded as the batcher pads them, as
//! many sessions and threads as `run` has: nothing but ONNX Runtime is timed. `benches/end_to_end` runs it beside `run`.
//!
//! `cargo bench --bench bare_session -- CALLS.jsonl [PAIRS.jsonl]` prints one line of JSON; PAIRS gets the text
//! pairs, one call a line, for `benches/python_baseline.py`. Malformed calls are left out, as in `run`.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::{
    fs,
    io::{BufWriter, Write},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Instant,
};

use aftercheck::{
    config::Config,
    evaluators::nli::score::ask,
    inference::{
        EncodedPair, ModelFolder, PairTokenizer, batcher::plan, classifier::OnnxClassifier, onnx::PaddedBatch,
    },
    pipeline::decode::decode,
    redaction::Redactor,
};
use anyhow::{Context, anyhow};
use cpu_time::ProcessTime;
use serde_json::json;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|one| one != "--bench").collect();
    let calls = arguments.first().context("usage: bare_session CALLS.jsonl [PAIRS.jsonl]")?;
    let config = Config::load(None)?;
    let folder = ModelFolder::open(&config.inference)?;
    let tokenizer = PairTokenizer::open(&folder.files)?;
    let asked = pairs(&config, &tokenizer, calls, arguments.get(1).map(String::as_str))?;
    let batches = batches(&asked, &config, folder.files.pad_id);
    let warm = batches.first().context("no pairs to score")?;
    let mut sessions = Vec::new();
    for _ in 0..config.inference.sessions() {
        let mut session = OnnxClassifier::open(&folder, &config.inference)?;
        session.logits(warm)?;
        sessions.push(session);
    }
    let next = AtomicUsize::new(0);
    let (begun, spent) = (Instant::now(), ProcessTime::now());
    let run = |mut session: OnnxClassifier| -> anyhow::Result<()> {
        while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
            session.logits(batch)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let running: Vec<_> = sessions.into_iter().map(|session| scope.spawn(|| run(session))).collect();
        running.into_iter().try_for_each(|one| one.join().map_err(|_| anyhow!("a session panicked"))?)
    })?;
    let (seconds, cpu_seconds) = (begun.elapsed().as_secs_f64(), spent.elapsed().as_secs_f64());
    let tokens: usize = asked.iter().flatten().map(|pair| pair.ids.len()).sum();
    println!(
        "{}",
        json!({
            "calls": asked.len(),
            "pairs": asked.iter().map(Vec::len).sum::<usize>(),
            "tokens": tokens,
            "padded_tokens": batches.iter().map(|batch| batch.rows * batch.width).sum::<usize>(),
            "sessions": config.inference.sessions(),
            "threads": config.inference.threads(),
            "batch_tokens": config.inference.batch_tokens,
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
            "tokens_per_s": tokens as f64 / seconds,
        })
    );
    Ok(())
}

/// The batches that the batcher would cut if as many calls as may be in flight waited each time.
fn batches(asked: &[Vec<EncodedPair>], config: &Config, pad_id: i64) -> Vec<PaddedBatch> {
    let mut batches = Vec::new();
    for calls in asked.chunks(config.pipeline.in_flight) {
        let views: Vec<&[EncodedPair]> = calls.iter().map(Vec::as_slice).collect();
        for batch in plan(&views, config.inference.batch_tokens) {
            let pairs: Vec<&EncodedPair> = batch.iter().map(|&(call, pair)| &views[call][pair]).collect();
            batches.push(PaddedBatch::new(&pairs, pad_id));
        }
    }
    batches
}

/// Encoded pairs of each call that decodes, empty for calls without claims or contexts.
fn pairs(
    config: &Config,
    tokenizer: &PairTokenizer,
    calls: &str,
    export: Option<&str>,
) -> anyhow::Result<Vec<Vec<EncodedPair>>> {
    let mut out = export.map(|path| fs::File::create(path).map(BufWriter::new)).transpose()?;
    let mut all = Vec::new();
    let redactor = Redactor::shipped();
    for line in fs::read(calls).with_context(|| calls.to_owned())?.split(|byte| *byte == b'\n') {
        let Ok(decoded) = decode(line, &redactor) else { continue };
        let (call, contexts) = (&decoded.call, &decoded.call.content.contexts);
        let found = ask(call, tokenizer, &config.nli)?;
        if let Some(out) = &mut out {
            let text: Vec<[&str; 2]> = found
                .asked
                .iter()
                .map(|question| {
                    [found.windows.text(contexts, question.window), found.texts[question.claim].as_str()]
                })
                .collect();
            writeln!(out, "{}", json!({ "call": call.request_id, "pairs": text }))?;
        }
        all.push(found.pairs);
    }
    if let Some(mut out) = out {
        out.flush()?;
    }
    Ok(all)
}
