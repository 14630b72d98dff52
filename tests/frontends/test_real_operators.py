"""Operators of real values in each step: as ONNX names them, and as exporters write them out.

The imported graph's float64 definition is compared with onnxruntime, value by value, and with torch
for its own modules.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx_cases import imported, ints, lif, model, normal, op, timed

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.onnx.values import samples_first
from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import evaluate

TOKENS, D, T = 3, 8, 2
Nodes = list[onnx.NodeProto]

_HALF, _ROOT = np.float32(0.5), np.float32(np.sqrt(2))
NUMBERS = {
    "half": _HALF,
    "one": np.float32(1),
    "two": np.float32(2),
    "minus": np.float32(-1),
    "root": _ROOT,
    "inverse": np.float32(1 / _ROOT),
    "inverse_half": np.float32(-0.5),
    "cubic": np.float32(0.044715),
    "slope": np.float32(np.sqrt(2 / np.pi)),
    "quick": np.float32(1.702),
    "three": np.float32(3),
    "eps": np.float32(1e-2),
    "last": ints(-1),
    "gamma": normal(D, seed=5),
    "beta": normal(D, seed=6),
}


def _mean(x: str, y: str) -> onnx.NodeProto:
    return op("ReduceMean", f"{x} last", y, keepdims=1)


CENTRED = [_mean("f", "mean"), op("Sub", "f mean", "c")]
"""name: (nodes from f to y, kind of node, its fields)"""
CASES: dict[str, tuple[Nodes, type[s.Node], dict[str, object]]] = {
    "GELU as torch writes it": (
        [
            op("Div", "f root", "a"),
            op("Erf", "a", "b"),
            op("Add", "b one", "c"),
            op("Mul", "f c", "d"),
            op("Mul", "d half", "y"),
        ],
        s.Function,
        {"function": "gelu", "gain": 1.0},
    ),
    "GELU in another order": (
        [
            op("Mul", "f inverse", "a"),
            op("Erf", "a", "b"),
            op("Add", "one b", "c"),
            op("Mul", "half f", "d"),
            op("Mul", "c d", "y"),
        ],
        s.Function,
        {"function": "gelu", "gain": 1.0},
    ),
    "GELU whose root is computed": (
        [
            op("Sqrt", "two", "rt"),
            op("Div", "f rt", "a"),
            op("Erf", "a", "b"),
            op("Add", "b one", "c"),
            op("Mul", "f c", "d"),
            op("Mul", "d half", "y"),
        ],
        s.Function,
        {"function": "gelu", "gain": 1.0},
    ),
    "GELU by tanh": (
        [
            op("Pow", "f three", "a"),
            op("Mul", "a cubic", "b"),
            op("Add", "f b", "c"),
            op("Mul", "c slope", "d"),
            op("Tanh", "d", "e"),
            op("Add", "e one", "g"),
            op("Mul", "f half", "h"),
            op("Mul", "h g", "y"),
        ],
        s.Function,
        {"function": "gelu_tanh"},
    ),
    "quick GELU": (
        [op("Mul", "f quick", "a"), op("Sigmoid", "a", "b"), op("Mul", "f b", "y")],
        s.Function,
        {"function": "silu"},
    ),
    "SiLU": ([op("Sigmoid", "f", "a"), op("Mul", "a f", "y")], s.Function, {"function": "silu"}),
    "sigmoid by exponentials": (
        [
            op("Neg", "f", "a"),
            op("Exp", "a", "b"),
            op("Add", "b one", "c"),
            op("Reciprocal", "c", "y"),
        ],
        s.Function,
        {"function": "sigmoid"},
    ),
    "tanh of half": (
        [op("Mul", "f half", "a"), op("Tanh", "a", "y")],
        s.Function,
        {"function": "tanh"},
    ),
    "a square": ([op("Mul", "f f", "y")], s.Mul, {}),
    "a power": ([op("Pow", "f two", "y")], s.Function, {"function": "square"}),
    "ReLU": ([op("Relu", "f", "y")], s.Function, {"function": "relu"}),
    "LayerNorm as TorchScript writes it": (
        [
            *CENTRED,
            op("Pow", "c two", "q"),
            _mean("q", "v"),
            op("Add", "v eps", "w"),
            op("Sqrt", "w", "r"),
            op("Div", "c r", "n"),
            op("Mul", "n gamma", "g"),
            op("Add", "g beta", "y"),
        ],
        s.Normalization,
        {"centered": True},
    ),
    "LayerNorm by products": (
        [
            *CENTRED,
            op("Mul", "c c", "q"),
            op("ReduceMean", "q last", "v", keepdims=1),
            op("Add", "eps v", "w"),
            op("Pow", "w inverse_half", "r"),
            op("Mul", "r c", "y"),
        ],
        s.Normalization,
        {"centered": True},
    ),
    "RMSNorm": (
        [
            op("Mul", "f f", "q"),
            _mean("q", "v"),
            op("Add", "v eps", "w"),
            op("Sqrt", "w", "r"),
            op("Reciprocal", "r", "i"),
            op("Mul", "f i", "y"),
        ],
        s.Normalization,
        {"centered": False},
    ),
    "softmax by exponentials": (
        [
            op("ReduceMax", "f last", "m", keepdims=1),
            op("Sub", "f m", "a"),
            op("Exp", "a", "e"),
            op("ReduceSum", "e last", "z", keepdims=1),
            op("Div", "e z", "y"),
        ],
        s.StepSoftmax,
        {},
    ),
    "softmax over tokens": ([op("Softmax", "f", "y", axis=2)], s.StepSoftmax, {}),
    "LayerNormalization": (
        [op("LayerNormalization", "f gamma beta", "y", axis=-1, epsilon=1e-2)],
        s.Normalization,
        {"axes": (1,), "centered": True},
    ),
    "InstanceNormalization": (
        [
            op("Reshape", "f groups", "a"),
            op("InstanceNormalization", "a ones zeros", "b", epsilon=1e-2),
            op("Reshape", "b whole", "y"),
        ],
        s.Normalization,
        {"axes": (1,)},
    ),
}
GROUPS = {
    "groups": ints(-1, TOKENS, D),
    "whole": ints(T, -1, TOKENS, D),
    "ones": np.ones(TOKENS, np.float32),
    "zeros": np.zeros(TOKENS, np.float32),
}


def network(nodes: Nodes, more: dict[str, np.ndarray] | None = None) -> onnx.ModelProto:
    """x (batch, 3, 8) times a matrix, 'f'; ``nodes`` to 'y'; neurons, and means."""
    body, constants = timed(
        (TOKENS, D),
        [
            op("MatMul", "t weight", "f"),
            *nodes,
            lif("y", "l", v_threshold=0.3),
            op("ReduceMean", "l axes", "out", keepdims=0),
        ],
        T,
    )
    numbers = {**NUMBERS, **GROUPS, **(more or {}), "axes": ints(0, 2), "weight": normal(D, D)}
    read = {i for node in body for i in node.input}
    constants |= {name: value for name, value in numbers.items() if name in read}
    return model(body, constants, (None, TOKENS, D))


def values(proto: onnx.ModelProto, folder: Path, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What the neurons read: of the imported graph, float64, and of onnxruntime."""
    _, found = imported(proto, folder)
    neuron = next(n for n in found.graph.nodes if isinstance(n, s.LIF))
    ours = evaluate(found.graph, x, T)[neuron.x]
    proto.graph.output.append(onnx.helper.make_tensor_value_info("y", 1, None))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options)
    (theirs,) = session.run(["y"], {"x": x})
    shape = ours.shape[2:]
    theirs = samples_first(theirs, found.layouts[neuron.name], shape)
    return np.broadcast_to(ours, theirs.shape), theirs


@pytest.mark.parametrize("name", CASES)
def test_the_graph_means_what_onnxruntime_computes(name: str, tmp_path: Path) -> None:
    nodes, kind, fields = CASES[name]
    proto = network(nodes)
    _, found = imported(proto, tmp_path)
    made = [n for n in found.graph.nodes if isinstance(n, kind)]
    assert len(made) == 1
    assert {key: getattr(made[0], key) for key in fields} == fields
    if isinstance(made[0], s.Normalization):
        assert made[0].epsilon == pytest.approx(1e-2, rel=1e-4)
    x = np.random.default_rng(1).normal(size=(4, TOKENS, D)).astype(np.float32)
    ours, theirs = values(proto, tmp_path, x)
    assert np.abs(theirs).max() > 0.1
    np.testing.assert_allclose(ours, theirs, atol=2e-5, rtol=2e-5)


MASKS = {
    "causal": np.where(np.tril(np.ones((TOKENS, TOKENS))) > 0, 0, -np.inf).astype(np.float32),
    "padding": np.float32([[[[0, 0, -1e9]]]]),
    "smallest": np.float32([[0, np.finfo(np.float32).min, 0]]),
    "relative bias": normal(TOKENS, TOKENS, seed=4),
}
SCORES = [op("Transpose", "f", "ft", perm=[0, 1, 3, 2]), op("MatMul", "f ft", "s")]


@pytest.mark.parametrize("name", MASKS)
def test_masks_and_biases_of_attention(name: str, tmp_path: Path) -> None:
    nodes = [*SCORES, op("Add", "s mask", "sm"), op("Softmax", "sm", "p"), op("MatMul", "p f", "y")]
    proto = network(nodes, {"mask": MASKS[name]})
    x = np.random.default_rng(1).normal(size=(4, TOKENS, D)).astype(np.float32)
    ours, theirs = values(proto, tmp_path, x)
    np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=1e-4)


def test_a_safe_softmax_that_fills_where_masked(tmp_path: Path) -> None:
    """As torch writes ``masked_fill(mask, -inf)`` and a softmax that asks for NaN."""
    nodes = [
        *SCORES,
        op("Where", "hidden low s", "sm"),
        op("Softmax", "sm", "p"),
        op("IsNaN", "p", "nan"),
        op("Where", "nan nothing p", "q"),
        op("MatMul", "q f", "y"),
    ]
    more = {
        "hidden": np.triu(np.ones((TOKENS, TOKENS), bool), 1),
        "low": np.float32(-np.inf),
        "nothing": np.float32(0),
    }
    x = np.random.default_rng(1).normal(size=(4, TOKENS, D)).astype(np.float32)
    ours, theirs = values(network(nodes, more), tmp_path, x)
    np.testing.assert_allclose(ours, theirs, atol=1e-4, rtol=1e-4)


REFUSED = {
    "a row of nothing": (
        [*SCORES, op("Add", "s mask", "sm"), op("Softmax", "sm", "y")],
        {"mask": np.full((TOKENS, TOKENS), -np.inf, np.float32)},
        "NC1009 .*hides every position",
    ),
    "infinity without a softmax": (
        [*SCORES, op("Add", "s mask", "y")],
        {"mask": np.full((TOKENS, TOKENS), -np.inf, np.float32)},
        "NC1004",
    ),
    "a square root": ([op("Pow", "f half", "y")], {}, "NC1009 .*squares and cubes"),
    "over time": ([op("Softmax", "f", "y", axis=0)], {}, "NC2012 .*over an axis of features"),
    "over samples": (
        [op("LayerNormalization", "f wide", "y", axis=1)],
        {"wide": np.ones((1, TOKENS, D), np.float32)},
        "NC1008",
    ),
    "another slope": ([op("HardSigmoid", "f", "y")], {}, "NC1009 .*alpha is 0.2"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str, tmp_path: Path) -> None:
    nodes, more, message = REFUSED[name]
    with pytest.raises(NeurocompileError, match=message):
        imported(network(nodes, more), tmp_path)
