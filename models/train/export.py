"""Exports the trained classifier to int8 ONNX and measures what that loses against fp32."""
import json
import random
from pathlib import Path

import numpy
import torch

import sets
from batches import encoded, padded
from graphs import Runner, export, finish, quantized

PARITY_PAIRS, PARITY_SEED, PARITY_BATCH, PARITY_TOKENS = 500, 11, 16, 400
GOLDEN = Path(__file__).parent / "golden.json"
NAMES = ["entailment", "neutral", "contradiction"]


def to_folder(model, chosen, tokenizer):
    """Writes `faithful-minilm` and its fp32 twin beside it; prints parity."""
    folder = chosen.out / "faithful-minilm"
    folder.mkdir(parents=True, exist_ok=True)
    whole = chosen.out / "faithful-minilm.fp32.onnx"
    export(model, whole, "logits", {0: "batch"})
    weight = model.bert.embeddings.word_embeddings.weight.detach()
    # The same grid as network.round_embeddings made, so that the word embeddings lose nothing.
    quantized(whole, folder / "model.onnx", weight.shape, (weight.abs().max() / 127).item())
    size = finish(folder, chosen.base, config_of(model.bert.config))
    print(f"{folder}: {size} bytes")
    parity(model, folder / "model.onnx", chosen, tokenizer)
    golden(folder / "model.onnx", tokenizer, chosen.threads)


def config_of(bert):
    """config.json as the service reads it, with the pairs that the model must get right before it is used."""
    return {
        "architectures": ["BertForSequenceClassification"], "model_type": "bert",
        "id2label": {str(i): name for i, name in enumerate(NAMES)}, "label2id": {n: i for i, n in enumerate(NAMES)},
        "max_position_embeddings": bert.max_position_embeddings, "hidden_size": bert.hidden_size,
        "num_hidden_layers": bert.num_hidden_layers, "num_attention_heads": bert.num_attention_heads,
        "vocab_size": bert.vocab_size, "pad_token_id": bert.pad_token_id,
        "aftercheck": {"languages": ["en"], "golden": json.loads(GOLDEN.read_text(encoding="utf-8"))},
    }


def held_out(folder):
    """500 pairs of the permitted sets' dev splits, the same ones each time."""
    rows = []
    for name in sets.SOURCES:
        path = Path(folder) / f"{name}.jsonl.gz"
        rows += sets.read(path, "dev") if path.exists() else []
    return random.Random(PARITY_SEED).sample(rows, min(PARITY_PAIRS, len(rows)))


def softmax(logits):
    powers = numpy.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


@torch.no_grad()
def parity(model, path, chosen, tokenizer):
    """Prints mean and largest difference of p(entailment), label flips, and how often each is right."""
    rows = sorted(encoded(held_out(chosen.data), tokenizer, PARITY_TOKENS), key=lambda row: len(row[0]))
    run, exact, small, right = Runner(path, chosen.threads), [], [], [0, 0]
    for start in range(0, len(rows), PARITY_BATCH):
        inputs, labels = padded(rows[start:start + PARITY_BATCH])
        exact.append(softmax(model(**inputs).numpy()))
        small.append(softmax(run(inputs)))
        for place, p in enumerate((exact[-1], small[-1])):
            right[place] += sum((v[0] > 0.5) == (label == sets.ENTAILMENT) for v, label in zip(p, labels.tolist()))
    exact, small = numpy.concatenate(exact), numpy.concatenate(small)
    apart = numpy.abs(exact[:, 0] - small[:, 0])
    print(f"int8 against fp32 on {len(rows)} held-out pairs: mean |Δp(entailment)| {apart.mean():.4f}, largest "
          f"{apart.max():.3f}, label flips {(exact.argmax(1) != small.argmax(1)).sum()}, entailed or not right: "
          f"fp32 {right[0] / len(rows):.3f}, int8 {right[1] / len(rows):.3f}")


def golden(path, tokenizer, threads):
    """Prints the margin of each golden pair, each run alone."""
    run = Runner(path, threads)
    for pair in json.loads(GOLDEN.read_text(encoding="utf-8")):
        e = tokenizer.encode(pair["premise"], pair["hypothesis"])
        inputs, _ = padded([(e.ids, e.type_ids, 0)])
        p = softmax(run(inputs))[0]
        said = NAMES[int(p.argmax())]
        print(f"golden {'right' if said == pair['label'] else 'WRONG'} {p.max():.2f} {pair['label']}: "
              f"{pair['premise']} | {pair['hypothesis']}")
