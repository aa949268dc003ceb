"""ONNX graphs: export, int8, and running them."""
import hashlib
import json
import shutil
import warnings
from pathlib import Path

import numpy
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic
from onnxruntime.quantization.shape_inference import quant_pre_process

OPSET = 17
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
FILES = ("model.onnx", "tokenizer.json", "config.json")


def export(model, path, output, output_axes):
    """Writes the model as fp32 ONNX with batch and sequence of any size."""
    example = tuple(torch.ones(2, 9, dtype=torch.long) for _ in INPUTS)
    axes = {name: {0: "batch", 1: "sequence"} for name in INPUTS} | {output: output_axes}
    with warnings.catch_warnings():
        # The tracer warns of every Python branch; the parity check that follows is what tells.
        warnings.simplefilter("ignore")
        torch.onnx.export(model.eval(), example, str(path), input_names=list(INPUTS), output_names=[output],
                          dynamic_axes=axes, opset_version=OPSET, dynamo=False)


def quantized(source, target, embeddings, scales=None):
    """Writes an int8 copy: weights of matrix products by channel, activations when they are known, and word
    embeddings by row, or by `scales` where they lie on that grid already."""
    prepared = target.with_suffix(".prepared.onnx")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    quantize_dynamic(str(prepared), str(target), weight_type=QuantType.QInt8, per_channel=True,
                     op_types_to_quantize=["MatMul", "Gemm"])
    prepared.unlink()
    model = onnx.load(target)
    compact_embeddings(model.graph, embeddings, scales)
    onnx.checker.check_model(model)
    onnx.save(model, target)


def compact_embeddings(graph, shape, scales=None):
    """Stores the word embeddings as int8 with a factor for each row."""
    (weight,) = [t for t in graph.initializer if tuple(t.dims) == tuple(shape)]
    values = numpy_helper.to_array(weight)
    if scales is None:
        scales = numpy.maximum(numpy.abs(values).max(1, keepdims=True), 1e-9) / 127
    scales = numpy.broadcast_to(scales, (shape[0], 1)).astype(numpy.float32)
    rounded = numpy.clip(numpy.round(values / scales), -127, 127).astype(numpy.int8)
    (gather,) = [node for node in graph.node if weight.name in node.input]
    ids, result = gather.input[1], gather.output[0]
    graph.initializer.remove(weight)
    graph.initializer.append(numpy_helper.from_array(rounded, "word_embeddings_int8"))
    graph.initializer.append(numpy_helper.from_array(scales, "word_embeddings_scale"))
    place = list(graph.node).index(gather)
    graph.node.remove(gather)
    for node in reversed([
            helper.make_node("Gather", ["word_embeddings_int8", ids], ["word_int8"]),
            helper.make_node("Cast", ["word_int8"], ["word_float"], to=TensorProto.FLOAT),
            helper.make_node("Gather", ["word_embeddings_scale", ids], ["word_scale"]),
            helper.make_node("Mul", ["word_float", "word_scale"], [result])]):
        graph.node.insert(place, node)


class Runner:
    """Runs an ONNX file on batches as the service makes them: neighbours in length, padded to the longest."""

    def __init__(self, path, threads):
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = threads
        self.session = onnxruntime.InferenceSession(str(path), settings, providers=["CPUExecutionProvider"])

    def __call__(self, inputs):
        return self.session.run(None, {name: value.numpy() for name, value in inputs.items()})[0]


def finish(folder, base, config):
    """Adds tokenizer, config.json and SHA256SUMS to a folder that holds model.onnx."""
    shutil.copyfile(Path(base) / "tokenizer.json", folder / "tokenizer.json")
    (folder / "config.json").write_text(json.dumps(config, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sums = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in FILES]
    (folder / "SHA256SUMS").write_text("".join(sums))
    return (folder / "model.onnx").stat().st_size
