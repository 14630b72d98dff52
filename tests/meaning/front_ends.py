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
        nodes += _nodes(layer, program, tensors)
    for head in program.heads:
        nodes += _mean(head, program.T, tensors)
    graph = helper.make_graph(
        nodes,
        "program",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", *program.x.shape[1:]])],
        [
            helper.make_tensor_value_info(head.name, TensorProto.FLOAT, ["batch", None])
            for head in program.heads
        ],
        [numpy_helper.from_array(_stored(a), name) for name, a in tensors.items()],
    )
    model = helper.make_model(
        graph,
        opset_imports=[
            helper.make_opsetid("", _OPSET),
            *([] if program.written else [helper.make_opsetid(DOMAIN, VERSION)]),
        ],
        functions=lif_functions(nodes, _OPSET),
        ir_version=9,
    )
    if not program.written:
        helper.set_model_props(model, {"neurocompile.T": str(program.T)})
    onnx.save(model, path)


def _mean(head: Layer, T: int, tensors: dict[str, np.ndarray]) -> list[onnx.NodeProto]:
    assert head.weight is not None
    apart, steps = f"{head.name}.apart", f"{head.name}.T"
    tensors[apart] = np.array([T, -1, len(head.weight)])
    return [
        helper.make_node("Reshape", [f"{head.name}.value", apart], [steps], name=apart),
        helper.make_node("ReduceMean", [steps], [head.name], name=steps, axes=[0], keepdims=0),
    ]


def _stored(array: np.ndarray) -> np.ndarray:
    return array.astype(np.float32 if array.dtype.kind == "f" else np.int64)


def _nodes(layer: Layer, program: Program, tensors: dict[str, np.ndarray]) -> list[onnx.NodeProto]:
    names, out = [f"{i}.value" for i in layer.inputs], f"{layer.name}.value"
    if layer.weight is not None:
        tensors[f"{layer.name}.weight"] = layer.weight
        names.append(f"{layer.name}.weight")
    if layer.bias is not None:
        tensors[f"{layer.name}.bias"] = layer.bias
        names.append(f"{layer.name}.bias")
    if layer.op == "fire":
        neuron = _unrolled if program.written else _neuron
        return neuron(layer, program.T, names[0], out, tensors)
    if layer.op == "round":
        return _round(layer, names[0], out, tensors)
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


def _round(
    layer: Layer, source: str, out: str, tensors: dict[str, np.ndarray]
) -> list[onnx.NodeProto]:
    part = {key: f"{layer.name}.{key}" for key in ("unit", "low", "high", "scaled", "clipped")}
    tensors |= {
        part["unit"]: np.array(float(layer.threshold)),
        part["low"]: np.array(float(layer.low)),
        part["high"]: np.array(float(layer.levels)),
    }
    return [
        helper.make_node("Div", [source, part["unit"]], [part["scaled"]], name=part["scaled"]),
        helper.make_node(
            "Clip", [part["scaled"], part["low"], part["high"]], [part["clipped"]], part["clipped"]
        ),
        helper.make_node("Round", [part["clipped"]], [out], name=layer.name),
    ]


def _unrolled(
    layer: Layer, T: int, source: str, out: str, tensors: dict[str, np.ndarray]
) -> list[onnx.NodeProto]:
    """The neuron as arithmetic, a step after another, as exporters write a loop in Python."""
    nodes: list[onnx.NodeProto] = []

    def add(kind: str, inputs: list[str], name: str, **fields: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [name], name=name, **fields))
        return name

    def constant(key: str, value: float | list[int]) -> str:
        tensors[f"{layer.name}.{key}"] = np.array(value)
        return f"{layer.name}.{key}"

    name = layer.name
    rest = add("Shape", [source], f"{name}.rest", start=1)
    shape = add("Concat", [constant("lead", [T, -1]), rest], f"{name}.shape", axis=0)
    apart = add("Reshape", [source, shape], f"{name}.apart")
    steps = [f"{name}.x{t}" for t in range(T)]
    nodes.append(helper.make_node("Split", [apart], steps, name=f"{name}.split", axis=0))
    front, threshold = constant("front", [0]), constant("threshold", float(layer.threshold))
    half, one, zero = constant("half", 0.5), constant("unit", 1.0), constant("zero", 0.0)
    most, back = constant("most", float(layer.levels)), f"{name}.back"
    if layer.back is not None:
        tensors[back] = layer.back[:, :, None, None]
    v, spikes, sent = "", "", []
    for t, step in enumerate(steps):
        drive = add("Squeeze", [step, front], f"{name}.drive{t}")
        if layer.back is not None and t:
            fed = add("Conv", [spikes, back], f"{name}.fed{t}")
            drive = add("Add", [drive, fed], f"{name}.driven{t}")
        h = add("Add", [v, drive], f"{name}.sum{t}") if t else drive
        if not np.isinf(layer.tau):
            h = add("Mul", [h, half], f"{name}.h{t}")
        if layer.levels == 1:
            kind = "Greater" if layer.strict else "GreaterOrEqual"
            over = add(kind, [h, threshold], f"{name}.over{t}")
            spikes = add("Cast", [over], f"{name}.s{t}", to=TensorProto.FLOAT)
        else:
            share = add("Div", [h, threshold], f"{name}.share{t}")
            whole = add("Floor", [share], f"{name}.whole{t}")
            spikes = add("Clip", [whole, zero, most], f"{name}.s{t}")
        if layer.soft:
            taken = add("Mul", [spikes, threshold], f"{name}.taken{t}")
            v = add("Sub", [h, taken], f"{name}.v{t}")
        else:
            kept = add("Sub", [one, spikes], f"{name}.kept{t}")
            v = add("Mul", [h, kept], f"{name}.v{t}")
        sent.append(add("Unsqueeze", [spikes, front], f"{name}.sent{t}"))
    fired = add("Concat", sent, f"{name}.spikes", axis=0)
    target = add("Concat", [constant("rows", [-1]), rest], f"{name}.target", axis=0)
    nodes.append(helper.make_node("Reshape", [fired, target], [out], name=f"{name}.rows.out"))
    return nodes
