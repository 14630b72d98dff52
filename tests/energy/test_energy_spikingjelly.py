"""SpikingJelly 2's counter of synaptic operations on the same layers and spikes.

It counts what a spike triggers in a convolution or matrix product, as we do; it counts no other
layers.
"""

from __future__ import annotations

import numpy as np
import pytest

from neurocompile.energy.arrivals import arrivals
from neurocompile.ir.circuit import CircuitGraph, Conv2d, Dense, GradedRelay
from neurocompile.ir.text import Ref, TensorRef

torch = pytest.importorskip("torch", reason="needs the extra torch")
counter = pytest.importorskip(
    "spikingjelly.activation_based.op_counter",
    reason="SpikingJelly 2 has an operation counter, 0.0.0.0.14 (Python 3.10) has none",
)


def theirs(layer: torch.nn.Module, spikes: np.ndarray) -> int:
    found = counter.SynOpCounter()
    with torch.no_grad(), counter.DispatchCounterMode([found]):
        layer(torch.from_numpy(spikes.astype(np.float32)))
    return int(found.get_total())


@pytest.mark.parametrize(
    "kernel, stride, padding", [(1, 1, 0), (3, 1, 0), (3, 1, 1), (3, 2, 1), (2, 2, 0)]
)
def test_convolution(kernel: int, stride: int, padding: int) -> None:
    rng, size = np.random.default_rng(kernel), 9
    spikes = rng.random((5, 4, size, size)) < 0.2
    out = (size + 2 * padding - kernel) // stride + 1
    q = Conv2d(
        name="q",
        src=Ref("a"),
        dst=Ref("b"),
        weight=TensorRef("w"),
        stride=(stride,) * 2,
        padding=(padding,) * 2,
    )
    populations = (
        GradedRelay(name="a", shape=(size, size, 4), layer="a"),
        GradedRelay(name="b", shape=(out, out, 6), layer="b"),
    )
    graph = CircuitGraph(
        "g", 1, populations, (q,), (), {"w": np.full((6, kernel, kernel, 4), 2, np.int16)}
    )
    ours = arrivals(graph, q, spikes.transpose(0, 2, 3, 1).reshape(5, -1).astype(np.float64)).sum()
    layer = torch.nn.Conv2d(4, 6, kernel, stride, padding, bias=False)
    assert ours == theirs(layer, spikes)


def test_matrix() -> None:
    spikes = np.random.default_rng(1).random((7, 30)) < 0.3
    q = Dense(name="q", src=Ref("a"), dst=Ref("b"), weight=TensorRef("w"))
    populations = (
        GradedRelay(name="a", shape=(30,), layer="a"),
        GradedRelay(name="b", shape=(11,), layer="b"),
    )
    graph = CircuitGraph("g", 1, populations, (q,), (), {"w": np.full((11, 30), 2, np.int16)})
    assert arrivals(graph, q, spikes.astype(np.float64)).sum() == theirs(
        torch.nn.Linear(30, 11, bias=False), spikes
    )
