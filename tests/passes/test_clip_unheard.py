"""Weights that no spike of the calibration reaches do not set the scale of the others."""

from __future__ import annotations

import numpy as np
import pytest

from neurocompile.calibration import calibrate_on, mean_values
from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import ranges, shapes
from neurocompile.ir.evaluate import encode_input, evaluate
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.passes.canonicalize import canonicalize
from neurocompile.passes.quantization.unheard import active_values, clip_unheard
from neurocompile.passes.quantize import Quantize
from neurocompile.passes.trunk import find_trunks

T = 4


def network(huge: float, *, depthwise: bool = False, residual: bool = False) -> s.SpikingGraph:
    """conv -> LIF, whose channel 0 never fires (``residual``: none does) -> conv, whose weights of
    silent channels are ``huge``.
    """
    rng = np.random.default_rng(0)
    first, last = (
        rng.normal(0.3, 0.3, (8, 1, 3, 3)),
        rng.normal(0.2, 0.3, (8, 1 if depthwise else 8, 3, 3)),
    )
    silent = slice(None) if residual else slice(1)
    own = np.zeros(8)
    own[silent] = -100
    last[silent if depthwise or residual else (slice(None), silent)] *= huge
    tensors = {
        "w1": first,
        "b1": own,
        "w2": last,
        "w3": rng.normal(0.2, 0.3, (8, 1, 3, 3)),
        "head": rng.normal(0, 1, (3, 8 * 36)),
    }
    sum_ = (
        s.Conv2d(name="c3", x=Ref("x"), weight=TensorRef("w3"), padding=(1, 1)),
        s.Add(name="sum", a=Ref("c3"), b=Ref("c2")),
    )
    nodes = (
        s.Input(name="x", shape=(1, 6, 6)),
        s.Conv2d(
            name="c1", x=Ref("x"), weight=TensorRef("w1"), bias=TensorRef("b1"), padding=(1, 1)
        ),
        s.LIF(name="l1", x=Ref("c1"), tau=2.0, v_threshold=1.0),
        s.Conv2d(
            name="c2",
            x=Ref("l1"),
            weight=TensorRef("w2"),
            padding=(1, 1),
            groups=8 if depthwise else 1,
        ),
        *(sum_ if residual else ()),
        s.LIF(name="l2", x=Ref("sum" if residual else "c2"), tau=2.0, v_threshold=1.0),
        s.Rearrange(name="flat", x=Ref("l2"), shape=(288,), sizes=(288,), strides=(1,)),
        s.Linear(name="logits", x=Ref("flat"), weight=TensorRef("head")),
        s.TimeMean(name="t", x=Ref("logits")),
        s.Output(name="o", x=Ref("t")),
    )
    return canonicalize(
        s.SpikingGraph(
            "unheard", "imported", nodes, {k: v.astype(np.float32) for k, v in tensors.items()}
        )
    )


def images(count: int = 40) -> np.ndarray:
    return (np.random.default_rng(1).integers(0, 17, (count, 1, 6, 6)) / 16).astype(np.float32)


@pytest.mark.parametrize("form", [{}, {"depthwise": True}, {"residual": True}])
def test_the_others_keep_their_bits(form: dict[str, bool]) -> None:
    x = images()
    plain, graph = network(1.0, **form), network(1e6, **form)
    calibration = calibrate_on(graph, x, T)
    agreement, float_trace = {}, evaluate(graph, x, T)
    for name, one in (("plain", plain), ("huge", graph)):
        quantized = Quantize(T, calibration)(one)
        trace = evaluate(quantized, encode_input(quantized.input, x), T)
        agreement[name] = (float_trace["l2"] == trace["l2"]).mean()
    assert float_trace["l2"].mean() > 0.05
    assert agreement["huge"] >= agreement["plain"] - 0.02 and agreement["huge"] > 0.75
    weight = np.asarray(quantized.tensors["c3.weight" if form.get("residual") else "c2.weight"])
    assert np.abs(weight[1:, -1:]).max() > 100  # of 254, where the huge ones would leave 0


def test_weights_that_spikes_reach_and_layers_without_statistics_are_kept() -> None:
    graph = network(1e6)
    calibration = calibrate_on(graph, images(), T)
    size = shapes(graph)
    trunks = find_trunks(graph, ranges(graph), size).values()
    found = clip_unheard(
        graph, active_values(graph, mean_values(graph, calibration, size), size), trunks
    )
    name = graph.node["c2"].weight  # type: ignore[union-attr]
    assert np.array_equal(found.tensors[name][:, 1:], graph.tensors[name][:, 1:])
    assert np.abs(found.tensors[name][:, 0]).max() == np.abs(graph.tensors[name][:, 1:]).max()
    assert clip_unheard(graph, active_values(graph, {}, size), trunks) is graph
