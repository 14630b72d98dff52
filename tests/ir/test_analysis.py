"""Ranges hold for every value of random quantized graphs; shapes are those that evaluation gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import Range, ranges, shapes
from neurocompile.ir.evaluate import evaluate
from neurocompile.ir.text import Ref, TensorRef


@st.composite
def graphs(draw: st.DrawFn) -> s.SpikingGraph:
    """A quantized graph of up to nine nodes over (2, 4, 4) maps and what becomes of them."""
    low = draw(st.integers(-9, 3))
    nodes: list[s.Node] = [
        s.Input(name="x", shape=(2, 4, 4), unit=1.0, low=low, high=draw(st.integers(low, 9)))
    ]
    size: dict[str, tuple[int, ...]] = {"x": (2, 4, 4)}
    tensors: dict[str, np.ndarray] = {}

    def weight(*shape: int) -> TensorRef:
        seed = draw(st.integers(0, 999))
        values = np.random.default_rng(seed).integers(-256, 256, shape).astype(np.int16)
        tensors[f"w{len(tensors)}"] = values
        return TensorRef(f"w{len(tensors) - 1}")

    for i in range(draw(st.integers(1, 9))):
        x = draw(st.sampled_from(sorted(size)))
        shape, fields = size[x], {"name": f"n{i}", "x": Ref(x)}
        same = sorted(n for n in size if size[n] == shape)
        square = len(shape) >= 2 and shape[-1] == shape[-2]
        kind = draw(
            st.sampled_from(
                ["lif", "or", "linear", "add", "mul", "sum", "turn", "conv", "pool", "matmul"]
            )
        )
        if kind == "lif":
            node: s.Node = s.IntegerLIF(
                **fields, vth=draw(st.integers(0, 50)), dv=draw(st.sampled_from([0, 2048]))
            )
        elif kind == "or":
            node = s.Or(**fields)
        elif kind == "linear" and shape:
            node = s.Linear(**fields, weight=weight(draw(st.integers(1, 4)), shape[-1]))
        elif kind == "sum" and shape:
            axes = draw(st.sets(st.integers(0, len(shape) - 1), min_size=1))
            node = s.Sum(**fields, axes=tuple(sorted(axes)), keepdims=draw(st.booleans()))
        elif kind == "turn":
            n = int(np.prod(shape, dtype=int))
            node = s.Rearrange(**fields, shape=shape[::-1], sizes=(n,), strides=(1,))
        elif kind == "conv" and len(shape) == 3:
            pad = draw(st.integers(0, 2))
            node = s.Conv2d(
                **fields, weight=weight(3, shape[0], 1, 1), padding=(pad, pad), stride=(1, 2)
            )
        elif kind == "pool" and len(shape) == 3 and min(shape[1:]) >= 2:
            pad = draw(st.integers(0, 1))
            node = s.MaxPool2d(**fields, kernel=(2, 2), stride=(2, 2), padding=(pad, pad))
        elif kind == "matmul" and square:
            node = s.MatMul(name=f"n{i}", a=Ref(x), b=Ref(draw(st.sampled_from(same))))
        else:
            join = s.Mul if kind == "mul" else s.Add
            node = join(name=f"n{i}", a=Ref(x), b=Ref(draw(st.sampled_from(same))))
        graph = s.SpikingGraph("g", "quantized", (*nodes, node), tensors)
        if (bound := ranges(graph)[node.name]) is None or bound.magnitude > 2**50:
            continue  # products of products leave int64, which evaluation uses
        nodes.append(node)
        size[node.name] = shapes(graph)[node.name]
    return s.SpikingGraph("g", "quantized", tuple(nodes), tensors)


@settings(deadline=None, max_examples=150)
@given(graphs(), st.integers(0, 2**32 - 1))
def test_every_value_lies_in_its_range_and_has_its_shape(graph: s.SpikingGraph, seed: int) -> None:
    node, rng = graph.input, np.random.default_rng(seed)
    x = rng.integers(node.low, node.high + 1, (6, *node.shape))
    x[0], x[1] = node.low, node.high
    x[2] = rng.choice([node.low, node.high], node.shape)
    bounds, size = ranges(graph), shapes(graph)
    for name, value in evaluate(graph, x, 3).items():
        assert value.shape == (6, 3, *size[name])
        bound = bounds[name]
        assert bound is not None and bound.low <= value.min() and value.max() <= bound.high, name


def linear(weight: list[list[int]], low: int, high: int) -> Range | None:
    nodes = (
        s.Input(name="x", shape=(len(weight[0]),), low=low, high=high),
        s.Linear(name="y", x=Ref("x"), weight=TensorRef("w")),
    )
    return ranges(s.SpikingGraph("g", "quantized", nodes, {"w": np.array(weight, np.int16)}))["y"]


def test_the_bound_of_a_layer_is_that_of_its_worst_row_and_is_reached() -> None:
    assert linear([[3, -2], [-7, 1]], 0, 5) == Range(-35, 15)
    assert linear([[3, -2]], -1, 5) == Range(-13, 17)
    assert linear([[3]], 2, 5) == Range(6, 15)


def test_a_convolutions_border_counts_as_zero() -> None:
    nodes = (
        s.Input(name="x", shape=(1, 3, 3), low=2, high=5),
        s.Conv2d(name="y", x=Ref("x"), weight=TensorRef("w"), padding=(1, 1)),
    )
    graph = s.SpikingGraph("g", "quantized", nodes, {"w": np.ones((1, 1, 3, 3), np.int16)})
    assert ranges(graph)["y"] == Range(0, 45)
    assert evaluate(graph, np.full((1, 1, 3, 3), 5), 1)["y"].max() == 45


def test_a_float_graph_bounds_spikes_and_their_sums_only() -> None:
    nodes = (
        s.Input(name="x", shape=(4,)),
        s.LIF(name="l", x=Ref("x"), tau=2.0, v_threshold=1.0),
        s.Add(name="a", a=Ref("l"), b=Ref("l")),
        s.Sum(name="s", x=Ref("a"), axes=(0,)),
        s.Scale(name="c", x=Ref("s"), factor=0.5),
        s.Add(name="d", a=Ref("x"), b=Ref("l")),
    )
    found = ranges(s.SpikingGraph("g", "imported", nodes, {}))
    assert found == {
        "x": None,
        "l": Range(0, 1),
        "a": Range(0, 2),
        "s": Range(0, 8),
        "c": None,
        "d": None,
    }
    assert found["l"].is_spike and not found["a"].is_spike
    assert Range(-7, 3).magnitude == 7 and not Range(-1, 1).is_spike


X = {"name": "y", "x": Ref("x")}


@pytest.mark.parametrize(
    "node",
    [
        s.Linear(**X, weight=TensorRef("matrix")),
        s.Linear(**X, weight=TensorRef("kernel")),
        s.Conv2d(**X, weight=TensorRef("kernel")),
        s.Conv2d(**X, weight=TensorRef("matrix")),
        s.Conv2d(**X, weight=TensorRef("good"), stride=(0, 1)),
        s.Conv2d(**X, weight=TensorRef("good"), groups=2),
        s.Conv2d(**X, weight=TensorRef("wide")),
        s.MaxPool2d(**X, kernel=(9, 9), stride=(1, 1)),
        s.MaxPool2d(**X, kernel=(1, 1), stride=(0, 1)),
        s.MaxPool2d(**X, kernel=(2, 2), stride=(2, 2), padding=(2, 0)),
        s.MatMul(name="y", a=Ref("x"), b=Ref("x")),
        s.Add(name="y", a=Ref("x"), b=Ref("row")),
        s.Sum(**X, axes=(3,)),
        s.Sum(**X, axes=(1, 1)),
        s.Sum(**X, axes=(-1,)),
        s.Rearrange(**X, shape=(5,), sizes=(40,), strides=(1,)),
        s.Rearrange(**X, shape=(40,), sizes=(8, 4), strides=(1, 8)),
        s.Rearrange(**X, shape=(40,), sizes=(8, 5), strides=(1,)),
    ],
)
def test_operands_that_do_not_match_are_named(node: s.Node) -> None:
    nodes = (s.Input(name="x", shape=(2, 4, 5)), s.Sum(name="row", x=Ref("x"), axes=(2,)), node)
    tensors = {
        "matrix": np.zeros((3, 7)),
        "kernel": np.zeros((3, 4, 1, 1)),
        "good": np.zeros((3, 2, 1, 1)),
        "wide": np.zeros((3, 2, 5, 5)),
    }
    with pytest.raises(ValueError, match="%y: "):
        shapes(s.SpikingGraph("g", "imported", nodes, tensors))
