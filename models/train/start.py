"""The weights of an exported folder, so that training can go on where a shipped model stands.

Checkpoints stay out of the repository; the int8 graph is in it. What rounding took is small beside what the first
steps of a training change.
"""
from pathlib import Path

import onnx
import torch
from onnx import numpy_helper

SUFFIX = "_quantized"


def weights_of(folder):
    """State of a PairClassifier, or of the encoder alone, by parameter name."""
    graph = onnx.load(Path(folder) / "model.onnx").graph
    held = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    found = {name: torch.tensor(value) for name, value in held.items() if name.endswith((".weight", ".bias"))}
    for node in graph.node:
        if node.op_type != "MatMulInteger":
            continue
        name = node.input[1].removesuffix(SUFFIX)
        values = (held[node.input[1]].astype("float32") - held[node.input[3]]) * held[f"{name}_scale"]
        # "/bert/encoder/layer.0/attention/self/key/MatMul_quant" is the product of the module of that path.
        module = node.name.rsplit("/", 1)[0].strip("/").replace("/", ".")
        found[f"{module}.weight"] = torch.tensor(values.T.copy())
    words = held["word_embeddings_int8"] * held["word_embeddings_scale"]
    found["bert.embeddings.word_embeddings.weight"] = torch.tensor(words)
    return found


def load(model, folder):
    """Gives the model the weights of `folder`; those of an encoder leave its head as it is."""
    missing, unknown = model.load_state_dict(weights_of(folder), strict=False)
    left = [name for name in missing if not name.startswith(("dense.", "out.")) and "position_ids" not in name]
    if left or unknown:
        raise SystemExit(f"{folder} is no export of this network: lacks {left}, has {unknown}")
