"""Exports the untouched sentence encoder as an int8 embedding model, measures what that loses against fp32, and writes
the fp32 vectors that the tests of the service compare it with."""
import json
import random
from pathlib import Path

import numpy
import torch
from torch import nn

import sets
import texts
from batches import padded
from graphs import Runner, export, finish, quantized
from network import encoder, mean_of

PARITY_SENTENCES, PARITY_SEED, PARITY_BATCH, MOST_TOKENS = 500, 11, 16, 256
TRAFFIC = Path(__file__).parents[2] / "examples/traffic.jsonl"
FEWEST_WORDS = 3


class Embedder(nn.Module):
    """One text in, its mean-pooled vector of length one out."""

    def __init__(self, folder):
        super().__init__()
        self.bert = encoder(folder)

    def forward(self, input_ids, attention_mask, token_type_ids):
        hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask,
                           token_type_ids=token_type_ids).last_hidden_state
        return nn.functional.normalize(mean_of(hidden, attention_mask), dim=-1)


def to_folder(chosen, tokenizer):
    """Writes `minilm-embedding`, and the fixture where one is asked for; prints parity."""
    folder = chosen.out / "minilm-embedding"
    folder.mkdir(parents=True, exist_ok=True)
    whole = chosen.out / "minilm-embedding.fp32.onnx"
    model = Embedder(chosen.base).eval()
    export(model, whole, "embedding", {0: "batch"})
    bert = model.bert.config
    quantized(whole, folder / "model.onnx", (bert.vocab_size, bert.hidden_size))
    size = finish(folder, chosen.base, {
        "architectures": ["BertModel"], "model_type": "bert", "max_position_embeddings": MOST_TOKENS,
        "hidden_size": bert.hidden_size, "num_hidden_layers": bert.num_hidden_layers,
        "num_attention_heads": bert.num_attention_heads, "vocab_size": bert.vocab_size,
        "pad_token_id": bert.pad_token_id, "output": "embedding", "pooling": "mean", "normalized": True})
    print(f"{folder}: {size} bytes")
    parity(model, folder / "model.onnx", chosen, tokenizer)
    if chosen.fixture:
        fixture(model, chosen.fixture, tokenizer)


def held_out(folder):
    """500 sentences of the permitted sets' dev splits, the same ones each time."""
    found = set()
    for name in sets.SOURCES:
        path = Path(folder) / f"{name}.jsonl.gz"
        for pair in sets.read(path, "dev") if path.exists() else []:
            found.update(texts.sentences(pair.premise))
    return random.Random(PARITY_SEED).sample(sorted(found), min(PARITY_SENTENCES, len(found)))


@torch.no_grad()
def parity(model, path, chosen, tokenizer):
    """Prints mean and smallest cosine of the int8 vector with the fp32 one, and what it does to similarities."""
    found = tokenizer.encode_batch(held_out(chosen.data))
    rows = sorted(((e.ids[:MOST_TOKENS], e.type_ids[:MOST_TOKENS], 0) for e in found), key=lambda row: len(row[0]))
    run, exact, small = Runner(path, chosen.threads), [], []
    for start in range(0, len(rows), PARITY_BATCH):
        inputs, _ = padded(rows[start:start + PARITY_BATCH])
        exact.append(model(**inputs).numpy())
        small.append(run(inputs))
    exact, small = numpy.concatenate(exact), numpy.concatenate(small)
    cosine = (exact * small).sum(-1) / numpy.linalg.norm(small, axis=-1)
    shift = numpy.abs(exact @ exact.T - small @ small.T).mean()
    print(f"int8 against fp32 on {len(rows)} held-out sentences: mean cosine {cosine.mean():.4f}, smallest "
          f"{cosine.min():.4f}, mean |Δ similarity| of two sentences {shift:.4f}")


def of_traffic():
    """500 sentences of the answers and contexts of the example traffic, the same ones each time."""
    found = set()
    for line in TRAFFIC.read_text(encoding="utf-8").split("\n"):
        try:
            call = json.loads(line)
        except ValueError:
            continue
        # A few lines are malformed on purpose.
        if not isinstance(call, dict) or call.get("metadata", {}).get("kind") == "malformed":
            continue
        content = call.get("content", {})
        for text in (content.get("answer"), *(context["text"] for context in content.get("contexts") or [])):
            found.update(one for one in texts.sentences(text or "") if len(one.split()) >= FEWEST_WORDS)
    return random.Random(PARITY_SEED).sample(sorted(found), PARITY_SENTENCES)


@torch.no_grad()
def fixture(model, folder, tokenizer):
    """Writes sentences of the example traffic, one a line, and their fp32 vectors as i16 of value * 32767."""
    found = of_traffic()
    vectors = []
    for e in tokenizer.encode_batch(found):
        inputs, _ = padded([(e.ids[:MOST_TOKENS], e.type_ids[:MOST_TOKENS], 0)])
        vectors.append(model(**inputs).numpy()[0])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "embedding_sentences.txt").write_text("".join(f"{one}\n" for one in found), encoding="utf-8")
    whole = numpy.round(numpy.stack(vectors) * 32767).astype("<i2")
    (folder / "embedding_vectors.i16").write_bytes(whole.tobytes())
    print(f"{folder}: {len(found)} sentences, vectors of {whole.shape[1]}")
