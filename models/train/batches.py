"""Token ids and padded batches."""
import random

import torch
from tokenizers import Tokenizer

POOL = 4096
MOST_TOKENS = {"short": 144, "long": 352}


def tokenizer_of(folder):
    """The tokenizer of a model folder, neither padding nor truncating."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def encoded(pairs, tokenizer, most_tokens):
    """Ids, type ids and label of each pair that fits."""
    rows = []
    for start in range(0, len(pairs), POOL):
        part = pairs[start:start + POOL]
        for pair, e in zip(part, tokenizer.encode_batch([(p.premise, p.claim) for p in part])):
            if len(e.ids) <= most_tokens:
                rows.append((e.ids, e.type_ids, pair.label))
    return rows


def batches(rows, tokens, seed):
    """Batches of similar length whose padded size is at most `tokens`, in random order."""
    rng = random.Random(seed)
    found = []
    for start in range(0, len(rows), POOL):
        batch, part = [], []
        for row in sorted(rows[start:start + POOL], key=lambda r: len(r[0])):
            if batch and len(row[0]) * (len(batch) + 1) > tokens:
                part.append(batch)
                batch = []
            batch.append(row)
        part.append(batch)
        rng.shuffle(part)
        found += part
    return found


def padded(batch, device="cpu"):
    """The model's three inputs and the labels."""
    width = max(len(ids) for ids, _, _ in batch)
    ids, types, mask = (torch.zeros(len(batch), width, dtype=torch.long) for _ in range(3))
    for i, (row_ids, row_types, _) in enumerate(batch):
        n = len(row_ids)
        ids[i, :n], types[i, :n], mask[i, :n] = torch.tensor(row_ids), torch.tensor(row_types), 1
    labels = torch.tensor([label for _, _, label in batch])
    return {"input_ids": ids.to(device), "attention_mask": mask.to(device),
            "token_type_ids": types.to(device)}, labels.to(device)
