"""Random circuits with recurrent projections."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import strategies as st

from neurocompile.circuits.builder import Builder, strided
from neurocompile.ir import circuit as c
from neurocompile.ir.text import Ref


@st.composite
def recurrent_circuits(draw, most: int = 4) -> c.CircuitGraph:
    """A chain of groups; inside a group everything may feed everything, between groups connections
    skip any depth.
    """
    n, builder = draw(st.integers(1, 3)), Builder()
    rng = np.random.default_rng(draw(st.integers(0, 2**31)))
    stepwise = draw(st.booleans())
    names = [builder.population(c.HostInput, "x", (n,), "x", low=-9, high=9, stepwise=stepwise)]
    steps = draw(st.integers(1, 5))
    for g in range(draw(st.integers(1, 3))):
        group = []
        for i in range(draw(st.integers(1, most))):
            kind = draw(st.sampled_from([c.LIF, c.LIF, c.GradedRelay, c.GradedRelu]))
            fields = {}
            if kind is c.LIF:
                fields = {
                    "vth": draw(st.integers(0, 40)),
                    "reset": True,
                    "dv": draw(st.sampled_from([0, 500, 4096])),
                    "du": draw(st.sampled_from([4095, 4095, 2047, 0])),
                }
                if draw(st.booleans()):
                    fields["bias"] = builder.tensor(
                        f"b{g}{i}", rng.integers(-50, 2000, n).astype(np.int16)
                    )
            name = builder.population(kind, f"p{g}{i}", (n,), f"p{g}{i}", **fields)
            for src in sorted(
                {draw(st.sampled_from(names)), *draw(st.lists(st.sampled_from(names), max_size=1))}
            ):
                builder.drive(name, [connection(builder, rng, src, n, draw(st.booleans()))])
            group.append(name)
        for _ in range(draw(st.integers(1, 4))):
            src, dst = draw(st.sampled_from(group)), draw(st.sampled_from(group))
            loop = replace(connection(builder, rng, src, n, draw(st.booleans())), recurrent=True)
            builder.drive(dst, [loop])
        names += group
    return builder.finish("random", steps)


def connection(
    builder: Builder, rng: np.random.Generator, src: str, n: int, dense: bool
) -> c.Projection:
    if dense:
        weight = builder.tensor("w", 2 * rng.integers(-2, 3, (n, n)).astype(np.int16))
        return c.Dense(name="", src=Ref(src), dst=Ref(""), weight=weight)
    return strided(src, (n,), (1,), (1,), weight=int(rng.choice([-2, -1, 1, 2])))


def inputs(circuit: c.CircuitGraph, count: int, seed: int = 0) -> np.ndarray:
    """Random int32 samples over the whole range of the circuit's input."""
    (host,) = circuit.inputs
    steps = (circuit.steps,) if host.stepwise else ()
    return (
        np.random.default_rng(seed)
        .integers(host.low, host.high + 1, (count, *steps, *host.shape))
        .astype(np.int32)
    )
