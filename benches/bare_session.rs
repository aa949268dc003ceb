//! The bare model sessions on the pairs that `run` would ask, and the texts that it would embed, pre-tokenised and padded
//! as the batcher pads them, as many sessions and threads as `run` has: nothing but ONNX Runtime is timed.
//! `benches/end_to_end` and `benches/long_context` run it beside `run`.
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
        Embedder, EncodedPair, InferenceError, Inputs, ModelFolder, PairTokenizer, batcher::plan,
        classifier::OnnxClassifier, onnx::PaddedBatch,
    },
    pipeline::decode::decode,
    redaction::Redactor,
};
use anyhow::{Context, anyhow};
use cpu_time::ProcessTime;
use serde_json::json;

/// A batch of the classifier's, or of the encoder's.
enum Batch {
    Pairs(PaddedBatch),
    Texts(PaddedBatch),
}

/// What one thread runs.
struct Sessions {
    classifier: OnnxClassifier,
    encoder: Option<Embedder>,
}

impl Sessions {
    /// Runs one batch. Without an encoder there are no texts.
    fn run(&mut self, batch: &Batch) -> Result<(), InferenceError> {
        match batch {
            Batch::Pairs(pairs) => self.classifier.logits(pairs).map(drop),
            Batch::Texts(texts) => {
                self.encoder.as_mut().map_or(Ok(()), |encoder| encoder.rows(texts).map(drop))
            }
        }
    }
}

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|one| one != "--bench").collect();
    let calls = arguments.first().context("usage: bare_session CALLS.jsonl [PAIRS.jsonl]")?;
    let config = Config::load(None)?;
    let folder = ModelFolder::open(&config.inference)?;
    let asked = inputs(&config, &folder, calls, arguments.get(1).map(String::as_str))?;
    let batches = batches(&asked, &config, &folder);
    let warm = batches.first().context("no pairs to score")?;
    let mut sessions = Vec::new();
    for _ in 0..config.inference.sessions() {
        let classifier = OnnxClassifier::open(&folder, &config.inference)?;
        let files = folder.embedding.clone();
        let encoder = files.map(|files| Embedder::of(files, &config.inference)).transpose()?;
        let mut session = Sessions { classifier, encoder };
        session.run(warm)?;
        sessions.push(session);
    }
    let next = AtomicUsize::new(0);
    let (begun, spent) = (Instant::now(), ProcessTime::now());
    let run = |mut session: Sessions| -> anyhow::Result<()> {
        while let Some(batch) = batches.get(next.fetch_add(1, Ordering::Relaxed)) {
            session.run(batch)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let running: Vec<_> = sessions.into_iter().map(|session| scope.spawn(|| run(session))).collect();
        running.into_iter().try_for_each(|one| one.join().map_err(|_| anyhow!("a session panicked"))?)
    })?;
    let (seconds, cpu_seconds) = (begun.elapsed().as_secs_f64(), spent.elapsed().as_secs_f64());
    let of = |kind: fn(&Inputs) -> &Vec<EncodedPair>| asked.iter().flat_map(kind);
    let tokens =
        |inputs: &mut dyn Iterator<Item = &EncodedPair>| inputs.map(|input| input.ids.len()).sum::<usize>();
    let [pairs, texts] = [tokens(&mut of(|one| &one.pairs)), tokens(&mut of(|one| &one.texts))];
    let padded = |batch: &Batch| match batch {
        Batch::Pairs(batch) | Batch::Texts(batch) => batch.rows * batch.width,
    };
    println!(
        "{}",
        json!({
            "calls": asked.len(),
            "pairs": of(|one| &one.pairs).count(),
            "texts": of(|one| &one.texts).count(),
            "tokens": pairs,
            "text_tokens": texts,
            "padded_tokens": batches.iter().map(padded).sum::<usize>(),
            "sessions": config.inference.sessions(),
            "threads": config.inference.threads(),
            "batch_tokens": config.inference.batch_tokens,
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
            "tokens_per_s": (pairs + texts) as f64 / seconds,
        })
    );
    Ok(())
}

/// The batches that the batcher would cut if as many calls as may be in flight waited each time.
fn batches(asked: &[Inputs], config: &Config, folder: &ModelFolder) -> Vec<Batch> {
    let mut batches = Vec::new();
    let budget = config.inference.batch_tokens;
    let padded = |views: &[&[EncodedPair]], pad_id| -> Vec<PaddedBatch> {
        let rows = |batch: &Vec<(usize, usize)>| {
            batch.iter().map(|&(call, at)| &views[call][at]).collect::<Vec<_>>()
        };
        plan(views, budget).iter().map(|batch| PaddedBatch::new(&rows(batch), pad_id)).collect()
    };
    for calls in asked.chunks(config.pipeline.in_flight) {
        let pairs: Vec<&[EncodedPair]> = calls.iter().map(|call| call.pairs.as_slice()).collect();
        batches.extend(padded(&pairs, folder.files.pad_id).into_iter().map(Batch::Pairs));
        let texts: Vec<&[EncodedPair]> = calls.iter().map(|call| call.texts.as_slice()).collect();
        let pad_id = folder.embedding.as_ref().map_or(0, |files| files.pad_id);
        batches.extend(padded(&texts, pad_id).into_iter().map(Batch::Texts));
    }
    batches
}

/// Inputs of each call that decodes, empty for calls without claims or contexts.
fn inputs(
    config: &Config,
    folder: &ModelFolder,
    calls: &str,
    export: Option<&str>,
) -> anyhow::Result<Vec<Inputs>> {
    let tokenizer = PairTokenizer::open(&folder.files)?;
    let encoder = folder.embedding.as_ref().map(PairTokenizer::open).transpose()?;
    let mut out = export.map(|path| fs::File::create(path).map(BufWriter::new)).transpose()?;
    let mut all = Vec::new();
    let redactor = Redactor::shipped();
    for line in fs::read(calls).with_context(|| calls.to_owned())?.split(|byte| *byte == b'\n') {
        let Ok(decoded) = decode(line, &redactor) else { continue };
        let (call, contexts) = (&decoded.call, &decoded.call.content.contexts);
        let found = ask(call, &tokenizer, encoder.as_ref(), &config.nli)?;
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
        all.push(Inputs { pairs: found.pairs, texts: found.encoded.texts });
    }
    if let Some(mut out) = out {
        out.flush()?;
    }
    Ok(all)
}
