"""A random program as an ONNX file and as a torch module."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from programs import Layer, Program

from neurocompile.frontends.onnx.lif import DOMAIN, VERSION, lif_functions

_OPSET = 17


def write_onnx(program: Program, path: Path) -> None:
    """The file that an exporter would write: time in front of samples, layers over both."""
    tensors: dict[str, np.ndarray] = {
        "steps": np.array([program.T, 1, 1, 1, 1]),
        "front": np.array([0]),
        "flat": np.array([-1, *program.x.shape[1:]]),
    }
    nodes = [
        helper.make_node("Unsqueeze", ["x", "front"], ["x.t"], name="unsqueeze"),
        helper.make_node("Expand", ["x.t", "steps"], ["x.T"], name="repeat"),
        helper.make_node("Reshape", ["x.T", "flat"], ["x.value"], name="flatten"),
    ]
    for layer in program.layers:
        nodes += _nodes(layer, program.T, tensors)
    tensors["apart"] = np.array([program.T, -1, len(program.layers[-1].weight)])  # type: ignore[arg-type]
    last = f"{program.layers[-1].name}.value"
    nodes += [
        helper.make_node("Reshape", [last, "apart"], ["logits.T"], name="apart"),
        helper.make_node("ReduceMean", ["logits.T"], ["logits"], name="mean", axes=[0], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "program",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *program.x.shape[1:]])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", None])],
        [numpy_helper.from_array(_stored(a), name) for name, a in tensors.items()],
    )
    model = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", _OPSET), helper.make_opsetid(DOMAIN, VERSION)],
        functions=lif_functions(nodes, _OPSET),
        ir_version=9,
    )
    helper.set_model_props(model, {"neurocompile.T": str(program.T)})
    onnx.save(model, path)


def _stored(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32 if array.dtype.kind == "f" else np.int64)


def _nodes(layer: Layer, T: int, tensors: dict[str, np.ndarray]) -> list[onnx.NodeProto]:
    names, out = [f"{i}.value" for i in layer.inputs], f"{layer.name}.value"
    if layer.weight is not None:
        tensors[f"{layer.name}.weight"] = layer.weight
        names.append(f"{layer.name}.weight")
    if layer.bias is not None:
        tensors[f"{layer.name}.bias"] = layer.bias
        names.append(f"{layer.name}.bias")
    if layer.op == "fire":
        return _neuron(layer, T, names[0], out, tensors)
    if layer.op == "head":
        flat = f"{layer.name}.flat"
        return [
            helper.make_node("Flatten", names[:1], [flat], name=flat),
            helper.make_node("Gemm", [flat, names[1]], [out], name=layer.name, transB=1),
        ]
    window = {"kernel_shape": [layer.window] * 2, "strides": [layer.window] * 2}
    kinds: dict[str, tuple[str, dict[str, Any]]] = {
        "conv": (
            "Conv",
            {"strides": [layer.stride] * 2, "pads": [layer.padding] * 4, "group": layer.groups},
        ),
        "max": ("MaxPool", window),
        "mean": ("AveragePool", window),
        "add": ("Add", {}),
        "mul": ("Mul", {}),
    }
    kind, attributes = kinds[layer.op]
    return [helper.make_node(kind, names, [out], name=layer.name, **attributes)]


def _neuron(
    layer: Layer, T: int, source: str, out: str, tensors: dict[str, np.ndarray]
) -> list[onnx.NodeProto]:
    apart, fired, shape = (f"{layer.name}.{part}" for part in ("apart", "spikes", "shape"))
    rest = [f"{layer.name}.rest", f"{layer.name}.rows", f"{layer.name}.target"]
    tensors |= {f"{layer.name}.lead": np.array([T, -1]), f"{layer.name}.one": np.array([-1])}
    infinite = np.isinf(layer.tau)
    return [
        helper.make_node("Shape", [source], [rest[0]], name=rest[0], start=1),
        helper.make_node("Concat", [f"{layer.name}.lead", rest[0]], [shape], name=shape, axis=0),
        helper.make_node("Reshape", [source, shape], [apart], name=apart),
        helper.make_node(
            "LIF",
            [apart],
            [fired],
            name=layer.name,
            domain=DOMAIN,
            tau=3.0e38 if infinite else layer.tau,
            v_threshold=layer.threshold,
            v_reset=0.0,
            decay_input=int(not infinite),
            soft_reset=int(layer.soft),
        ),
        helper.make_node("Concat", [f"{layer.name}.one", rest[0]], [rest[2]], name=rest[2], axis=0),
        helper.make_node("Reshape", [fired, rest[2]], [out], name=f"{layer.name}.rows"),
    ]
