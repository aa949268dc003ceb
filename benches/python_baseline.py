#!/usr/bin/env python3
"""What plain Python does with the same pairs on the same machine: the baseline of our throughput numbers.

    .runtime/venv/bin/python benches/python_baseline.py --model models/faithful-minilm --pairs pairs.jsonl --threads 2

Reads JSON lines {"pairs": [[premise, hypothesis], …]}, one call a line (those without pairs are left out),
tokenises each call's pairs, runs them as one padded batch, one call after the other, and prints one line of
JSON. This is what a careful script would do with the packages of tests/fixtures/requirements.txt; batching across calls is what aftercheck adds.
"""

import argparse
import json
import pathlib
import resource
import sys
import time

import numpy as np
import onnxruntime
import tokenizers


def open_model(folder, threads):
    """Session and tokenizer of a model folder, set as aftercheck sets its own: same threads, same length limit."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    config = json.loads((folder / "config.json").read_text("utf-8"))
    longest = config.get("max_position_embeddings", 512)
    if config.get("model_type") in ("roberta", "xlm-roberta", "camembert"):
        longest -= config["pad_token_id"] + 1
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(max_length=longest, strategy="longest_first")
    pad_id = config.get("pad_token_id", 0)
    tokenizer.enable_padding(pad_id=pad_id, pad_token=tokenizer.id_to_token(pad_id) or "[PAD]")
    return session, tokenizer


def score(session, tokenizer, pairs):
    """Probabilities of one call's pairs, and how many tokens were read, padding left out."""
    encoded = tokenizer.encode_batch([tuple(pair) for pair in pairs])
    feed = {
        "input_ids": np.array([one.ids for one in encoded], dtype=np.int64),
        "attention_mask": np.array([one.attention_mask for one in encoded], dtype=np.int64),
        "token_type_ids": np.array([one.type_ids for one in encoded], dtype=np.int64),
    }
    wanted = {given.name for given in session.get_inputs()}
    logits = session.run(["logits"], {name: value for name, value in feed.items() if name in wanted})[0]
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True), int(feed["attention_mask"].sum())


def main():
    """Scores the file and prints what it took."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--model", type=pathlib.Path, required=True, help="model folder")
    parser.add_argument(
        "--pairs", type=argparse.FileType("r", encoding="utf-8"), required=True, help="JSON lines, or - for stdin"
    )
    parser.add_argument("--threads", type=int, required=True, help="threads of one model run")
    parser.add_argument("--out", type=pathlib.Path, help="also write the probabilities, to compare with ours")
    arguments = parser.parse_args()

    calls = [json.loads(line) for line in arguments.pairs if line.strip()]
    calls = [call for call in calls if call["pairs"]]
    if not calls:
        sys.exit("python_baseline: no pairs to score")
    session, tokenizer = open_model(arguments.model, arguments.threads)
    # The first run lays out memory; it is start-up, not throughput.
    score(session, tokenizer, calls[0]["pairs"])

    tokens, results = 0, []
    started = time.perf_counter()
    for call in calls:
        probabilities, read = score(session, tokenizer, call["pairs"])
        tokens += read
        results.append(probabilities)
    seconds = time.perf_counter() - started

    if arguments.out:
        with arguments.out.open("w", encoding="utf-8") as out:
            for call, probabilities in zip(calls, results):
                rows = [[round(float(value), 6) for value in row] for row in probabilities]
                out.write(json.dumps({"call": call.get("call"), "probabilities": rows}) + "\n")
    # Linux counts in KiB.
    peak_rss_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({
        "calls": len(calls),
        "pairs": sum(len(call["pairs"]) for call in calls),
        "tokens": tokens,
        "seconds": round(seconds, 3),
        "calls_per_s": round(len(calls) / seconds, 2),
        "tokens_per_s": round(tokens / seconds, 1),
        "peak_rss_mb": round(peak_rss_mb, 1),
    }))


if __name__ == "__main__":
    main()
