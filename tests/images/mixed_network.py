"""A circuit with a convolution, pooling, matrices, a shortcut that waits, biases and leaks."""

from __future__ import annotations

import numpy as np

from neurocompile.ir.circuit import (
    LIF,
    CircuitGraph,
    Conv2d,
    Dense,
    GradedRelay,
    HostInput,
    Readout,
    Strided,
)
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.passes.schedule import schedule

STEPS = 8


def network(seed: int, delay: int = 6, *, graded: bool = False, high: int = 1) -> CircuitGraph:
    """Convolution, pooling, matrices, a shortcut that waits, biases and leaks of several kinds."""
    rng = np.random.default_rng(seed)
    tensors = {
        "k": (rng.integers(-60, 100, (6, 3, 3, 2)) // 2 * 2).astype(np.int16),
        "m": (rng.integers(-60, 80, (50, 54)) // 2 * 2).astype(np.int16),
        "n": (rng.integers(-50, 60, (20, 50)) // 2 * 2).astype(np.int16),
        "s": (rng.integers(-50, 60, (20, 216)) // 4 * 4).astype(np.int16),
        "o": np.arange(5),
        "r": (rng.integers(-50, 60, (5, 20)) // 2 * 2).astype(np.int16),
        "b": rng.integers(-90, 900, (50,)).astype(np.int16),
    }

    def lif(name: str, shape: tuple[int, ...], **more: object) -> LIF:
        return LIF(name=name, shape=shape, layer=name, reset=True, **more)  # type: ignore[arg-type]

    populations = (
        HostInput(name="x", shape=(6, 6, 2), layer="x", low=0, high=high),
        lif("conv", (6, 6, 6), vth=150, dv=1024),
        lif("pool", (3, 3, 6), vth=0, dv=4095),
        lif("wide", (50,), vth=120, dv=512, bias=TensorRef("b"), bias_exp=3),
        GradedRelay(name="out", shape=(20,), layer="out")
        if graded
        else lif("out", (20,), vth=100, dv=100),
        GradedRelay(name="sum", shape=(5,), layer="sum"),
    )
    projections = (
        Conv2d(name="1", src=Ref("x"), dst=Ref("conv"), weight=TensorRef("k"), padding=(1, 1)),
        Strided(
            name="2",
            src=Ref("conv"),
            dst=Ref("pool"),
            sizes=(3, 3, 6, 2, 2),
            src_strides=(72, 12, 1, 36, 6),
            dst_strides=(18, 6, 1, 0, 0),
            weight=1,
            sign="excitatory",
        ),
        Dense(name="3", src=Ref("pool"), dst=Ref("wide"), weight=TensorRef("m")),
        Dense(name="4", src=Ref("wide"), dst=Ref("out"), weight=TensorRef("n")),
        Dense(name="5", src=Ref("conv"), dst=Ref("out"), weight=TensorRef("s"), weight_exp=-1),
        Dense(name="6", src=Ref("out"), dst=Ref("sum"), weight=TensorRef("r")),
    )
    readouts = (Readout(name="r", src=Ref("sum"), scale=0.5, bias=TensorRef("o")),)
    graph = CircuitGraph("net", STEPS, populations, projections, readouts, tensors)
    return schedule(graph, max_spike_delay=delay, power_of_two_period=True)
