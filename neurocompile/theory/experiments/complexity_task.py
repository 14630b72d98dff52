"""Theorem 11 and Corollary 12: depth and size of attention as a threshold circuit, and PARITY with
bounded spikes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from neurocompile.ir import spiking as s
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.passes.lower import lower
from neurocompile.theory.bounds.complexity import complexity
from neurocompile.theory.experiments.attention_task import slope
from neurocompile.theory.experiments.parity_task import parity_accuracy
from neurocompile.theory.experiments.result import Result, Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["attention_graph", "complexity_task"]

SIDES = (2, 4, 8, 16)
STEPS = (1, 2, 4, 6, 8, 10)
BITS = (4, 8, 12, 16, 24, 32, 48, 64)
SPIKES = (2, 4, 8)


def attention_graph(side: int, channels: int = 8) -> s.SpikingGraph:
    """Spiking self-attention Q (K^T V) over ``side^2`` tokens of ``channels`` channels, with a
    residual and a readout.
    """
    rng = np.random.default_rng(0)
    tokens = side * side
    tensors = {
        k: (2 * rng.integers(-20, 21, (channels, channels, 1, 1))).astype(np.int16)
        for k in ("in", "q", "k", "v", "proj")
    }
    tensors["head"] = (2 * rng.integers(-20, 21, (4, channels * tokens))).astype(np.int16)
    nodes: list[s.Node] = [
        s.Input(name="x", shape=(channels, side, side), unit=1.0, low=0, high=15)
    ]

    def layer(name: str, source: str) -> None:
        nodes.append(s.Conv2d(name=f"{name}.conv", x=Ref(source), weight=TensorRef(name)))
        nodes.append(s.IntegerLIF(name=name, x=Ref(f"{name}.conv"), vth=40, dv=2048))

    layer("in", "x")
    for name in "qkv":
        layer(name, "in")
        column, row = (tokens, channels), (channels, tokens)
        transposed = name != "k"
        nodes.append(
            s.Rearrange(
                name=f"{name}.tokens",
                x=Ref(name),
                shape=column if transposed else row,
                sizes=column if transposed else row,
                strides=(1, tokens) if transposed else (tokens, 1),
            )
        )
    nodes.append(s.MatMul(name="kv", a=Ref("k.tokens"), b=Ref("v.tokens")))
    nodes.append(s.MatMul(name="qkv", a=Ref("q.tokens"), b=Ref("kv")))
    shape = (channels, side, side)
    nodes.append(
        s.Rearrange(
            name="map", x=Ref("qkv"), shape=shape, sizes=(channels, tokens), strides=(1, channels)
        )
    )
    nodes.append(s.IntegerLIF(name="attention", x=Ref("map"), vth=3, dv=2048))
    layer("proj", "attention")
    size = channels * tokens
    nodes.append(
        s.Rearrange(name="flat", x=Ref("proj"), shape=(size,), sizes=(size,), strides=(1,))
    )
    nodes.append(s.Linear(name="head", x=Ref("flat"), weight=TensorRef("head")))
    nodes.append(s.TimeMean(name="mean", x=Ref("head")))
    nodes.append(s.Output(name="y", x=Ref("mean"), unit=1.0))
    return s.SpikingGraph(f"attention-{tokens}", "quantized", tuple(nodes), tensors)


def complexity_task() -> Result:
    """Count attention circuits as n and T grow, and run PARITY on the emulator with bounded numbers
    of spikes.
    """
    by_n = [(side * side, complexity(lower(attention_graph(side), 4))) for side in SIDES]
    by_T = [complexity(lower(attention_graph(4), T)) for T in STEPS]
    logarithmic = [
        (side * side, complexity(lower(attention_graph(side), int(np.log2(side * side)))))
        for side in SIDES
    ]
    grows = {
        name: slope(
            np.array([n for n, _ in rows[1:]]), np.array([float(k.gates) for _, k in rows[1:]])
        )[0]
        for name, rows in (("T = 4", by_n), ("T = log2 n", logarithmic))
    }
    columns = (">n", ">T", ">neurons", ">gates", ">depth", ">gates, unrolled", ">depth, unrolled")

    def row(n: int, k: Any) -> tuple[Any, ...]:
        return (
            n,
            k.T,
            f"{k.neurons:,}",
            f"{k.gates:,}",
            k.depth,
            f"{k.unrolled_gates:,}",
            k.unrolled_depth,
        )

    parity: dict[int, list[tuple[float, float, float]]] = {
        k: [parity_accuracy(n, k) for n in BITS] for k in SPIKES
    }
    full = [parity_accuracy(n, n) for n in BITS]
    tables = (
        Table(
            "n grows, T = 4: spiking self-attention, counted on the lowered circuit",
            columns,
            tuple(row(n, k) for n, k in by_n),
        ),
        Table("T grows, n = 16", columns, tuple(row(16, k) for k in by_T)),
        Table("T = log2 n", columns, tuple(row(n, k) for n, k in logarithmic)),
        Table(
            "PARITY of n bits, accuracy on the emulator with at most so many hidden spikes (optimum over all thresholds)",
            (">n", *(f">{k} spikes" for k in SPIKES), ">n spikes"),
            tuple(
                (
                    n,
                    *(f"{parity[k][i][0]:.1%} ({parity[k][i][2]:.1%})" for k in SPIKES),
                    f"{full[i][0]:.1%}",
                )
                for i, n in enumerate(BITS)
            ),
        ),
    )
    notes = (
        f"Theorem 11: depth does not change with n, nor with T from 2 on, and gates grow as n^{grows['T = 4']:.2f} at T = 4, "
        f"n^{grows['T = log2 n']:.2f} at T = log2 n. At fixed n they grow as 2^T: with hard reset the theorem needs T = O(log n).",
        "Corollary 12: with a bounded number of spikes accuracy on PARITY falls towards 50 % as n grows; with n spikes it is "
        "exact. But PARITY lies in TC0 (this is such a circuit), so the corollary's 'outside TC0 (e.g., PARITY)' is wrong: "
        "what fails is the bound on spikes. For this family of circuits; the demonstration is no proof for others.",
        "Above 12 bits accuracies are of 4,096 random inputs, the optimum in brackets is exact.",
    )
    data = {
        "by_n": [{"n": n, **vars(k)} for n, k in by_n],
        "by_T": [vars(k) for k in by_T],
        "logarithmic": [{"n": n, **vars(k)} for n, k in logarithmic],
        "exponents": grows,
        "parity": [
            {
                "n": n,
                "spikes": k,
                "accuracy": parity[k][i][0],
                "most_spikes": parity[k][i][1],
                "optimum": parity[k][i][2],
            }
            for k in SPIKES
            for i, n in enumerate(BITS)
        ],
        "parity_full": [{"n": n, "accuracy": full[i][0]} for i, n in enumerate(BITS)],
    }
    return Result(
        "complexity",
        "circuits lowered from attention graphs; PARITY on the emulator",
        tables,
        notes,
        data,
        lambda: _draw(by_n, by_T, parity, full),
    )


def _draw(
    by_n: Any, by_T: Any, parity: dict[int, list[tuple[float, float, float]]], full: Any
) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 4.0), dpi=110, layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    left.loglog([n for n, _ in by_n], [k.gates for _, k in by_n], "o-", label="constant depth")
    left.loglog(
        [n for n, _ in by_n], [k.unrolled_gates for _, k in by_n], "s--", label="unrolled in time"
    )
    left.set_xlabel("tokens n (T = 4)")
    left.set_ylabel("threshold gates")
    left.legend(fontsize=8)
    middle.plot([k.T for k in by_T], [k.depth for k in by_T], "o-", label="constant depth")
    middle.plot(
        [k.T for k in by_T], [k.unrolled_depth for k in by_T], "s--", label="unrolled in time"
    )
    middle.set_xlabel("T (n = 16)")
    middle.set_ylabel("depth")
    middle.set_ylim(0)
    middle.legend(fontsize=8)
    for i, (k, points) in enumerate(parity.items()):
        right.plot(
            BITS, [100 * p[0] for p in points], "o", color=f"C{i}", ms=4, label=f"{k} spikes"
        )
        right.plot(BITS, [100 * p[2] for p in points], "-", color=f"C{i}", lw=0.8)
    right.plot(BITS, [100 * p[0] for p in full], "k^-", ms=4, label="n spikes")
    right.axhline(50, color="0.6", ls=":", lw=0.8)
    right.set_xlabel("bits n")
    right.set_ylabel("PARITY, accuracy in %")
    right.legend(fontsize=8)
    figure.suptitle(
        "Theorem 11 and Corollary 12 on our own circuits (lines right: optimum of any thresholds)",
        fontsize=11,
    )
    return figure
