//! The bare model session on the pairs that `run` would ask, pre-tokenised and padded as the batcher pads them:
//! nothing but ONNX Runtime is timed. `benches/end_to_end` runs it beside `run`.
//!
//! `cargo bench --bench bare_session -- CALLS.jsonl [PAIRS.jsonl]` prints one line of JSON; PAIRS gets the text
//! pairs, one call a line, for `benches/python_baseline.py`. Malformed calls are left out, as in `run`.

#![allow(clippy::print_stdout, reason = "a bench prints its figures")]

use std::{
    fs,
    io::{BufWriter, Write},
    time::Instant,
};

use aftercheck::{
    config::Config,
    evaluators::nli::score::ask,
    inference::{
        EncodedPair, ModelFolder, PairTokenizer,
        batcher::plan,
        onnx::{OnnxClassifier, PaddedBatch},
    },
    pipeline::decode::decode,
    service,
};
use anyhow::Context;
use serde_json::json;

fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|one| one != "--bench").collect();
    let calls = arguments.first().context("usage: bare_session CALLS.jsonl [PAIRS.jsonl]")?;
    let config = Config::load(None)?;
    let folder = ModelFolder::open(&config.inference)?;
    let tokenizer = PairTokenizer::open(&folder)?;
    let mut model = OnnxClassifier::open(&folder, &config.inference)?;
    let asked = pairs(&config, &tokenizer, calls, arguments.get(1).map(String::as_str))?;
    let budget = config.inference.batch_tokens.max(folder.max_tokens);
    // As many calls share a round here as may be in flight in `run`.
    let batches: Vec<PaddedBatch> = asked
        .chunks(config.pipeline.in_flight)
        .flat_map(|calls| {
            let views: Vec<&[EncodedPair]> = calls.iter().map(Vec::as_slice).collect();
            let padded = |batch: Vec<(usize, usize)>| {
                let pairs: Vec<&EncodedPair> = batch.iter().map(|&(call, pair)| &views[call][pair]).collect();
                PaddedBatch::new(&pairs, folder.pad_id)
            };
            plan(&views, budget).into_iter().map(padded).collect::<Vec<_>>()
        })
        .collect();
    let warm = batches.first().context("no pairs to score")?;
    model.logits(warm)?;
    let begun = Instant::now();
    for batch in &batches {
        model.logits(batch)?;
    }
    let seconds = begun.elapsed().as_secs_f64();
    let tokens: usize = asked.iter().flatten().map(|pair| pair.ids.len()).sum();
    println!(
        "{}",
        json!({
            "calls": asked.len(),
            "pairs": asked.iter().map(Vec::len).sum::<usize>(),
            "tokens": tokens,
            "padded_tokens": batches.iter().map(|batch| batch.rows * batch.width).sum::<usize>(),
            "seconds": seconds,
            "tokens_per_s": tokens as f64 / seconds,
        })
    );
    Ok(())
}

/// Encoded pairs of each call that decodes, empty for calls without claims or contexts.
fn pairs(
    config: &Config,
    tokenizer: &PairTokenizer,
    calls: &str,
    export: Option<&str>,
) -> anyhow::Result<Vec<Vec<EncodedPair>>> {
    let rules = service::rules(config)?;
    let mut out = export.map(|path| fs::File::create(path).map(BufWriter::new)).transpose()?;
    let mut all = Vec::new();
    for line in fs::read(calls).with_context(|| calls.to_owned())?.split(|byte| *byte == b'\n') {
        let Ok(decoded) = decode(line) else { continue };
        let (call, contexts) = (&decoded.call, &decoded.call.content.contexts);
        let cited = rules.citations(&rules.check(call));
        let found = ask(call, &cited, tokenizer, &config.nli)?;
        if let Some(out) = &mut out {
            let text: Vec<[&str; 2]> = found
                .asked
                .iter()
                .map(|question| [found.windows.text(contexts, question.window), question.hypothesis.as_str()])
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
