"""Exports the untouched sentence encoder as an int8 embedding model and measures what that loses against fp32."""
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
    """Writes `minilm-embedding`; prints parity."""
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
