"""Errors of the circuits of real operators against their number of digits: a table and a plot.

Over 200 inputs each, random and adversarial (outlier channels, ties, one-hot rows), calibrated on others
of the same kind; the error is that of the integers, which emulator and Lava compute exactly, against
float64 of the same encoded inputs. Stages (sum of squares, inverse square root, reciprocal, largest of a
row) are those of the quantized LayerNorm and softmax, each against float64 of its own integers, up to a
factor. ``python benchmarks/bench_circuits.py [--out DIR]``; about a minute.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from neurocompile.calibration import calibrate_on
from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import encode_input, evaluate
from neurocompile.ir.functions import FUNCTIONS
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.passes.canonicalize import canonicalize
from neurocompile.passes.lower import lower
from neurocompile.passes.quantize import Quantize
from neurocompile.passes.schedule import schedule

DIGITS = (4, 6, 8, 10, 12)
SAMPLES = 200
Inputs = Callable[[np.random.Generator, int], np.ndarray]


def normal(n: int, scale: float = 2.0) -> Inputs:
    """Of one size."""
    return lambda rng, count: scale * rng.standard_normal((count, n))


def tokens(n: int, outliers: bool) -> Inputs:
    """Rows whose standard deviations differ by a factor of 6; with two channels 12 times larger and an
    offset as vision transformers have them."""

    def make(rng: np.random.Generator, count: int) -> np.ndarray:
        size = np.exp(rng.uniform(np.log(0.05), np.log(0.3), (count, 1)))
        x = rng.standard_normal((count, n)) * size
        if outliers:
            x = 0.3 * x
            x[:, :2] *= 12
            x += size / 2
        return x

    return make


def hard_rows(n: int) -> Inputs:
    """Ties, one-hot rows, and rows of two sizes."""

    def make(rng: np.random.Generator, count: int) -> np.ndarray:
        x = rng.integers(-2, 3, (count, n)).astype(float)
        x[::4] = 0
        x[1::4] = 8 * np.eye(n)[rng.integers(0, n, len(x[1::4]))]
        return x

    return make


def divided(n: int) -> Inputs:
    """Normal values, and what they are divided by, 0.25 to 8."""

    def make(rng: np.random.Generator, count: int) -> np.ndarray:
        below = np.exp(rng.uniform(np.log(0.25), np.log(8), (count, n)))
        return np.concatenate([rng.standard_normal((count, n)), below], axis=1)

    return make


def product(kind: type[s.Node], n: int) -> list[s.Node]:
    """Of the two halves of the input: (n,), or (4, n) @ (n, 4)."""
    if kind is s.Mul:
        views = [((n,), (n,), (1,), 0), ((n,), (n,), (1,), n)]
    else:
        views = [((4, n), (4, n), (n, 1), 0), ((n, 4), (n, 4), (1, n), 4 * n)]
    parts = [
        s.Rearrange(
            name=f"v{i}", x=Ref("x"), shape=shape, sizes=sizes, strides=strides, offset=start
        )
        for i, (shape, sizes, strides, start) in enumerate(views)
    ]
    return [*parts, kind(name="y", a=Ref("v0"), b=Ref("v1"))]  # type: ignore[call-arg]


def masked(n: int) -> list[s.Node]:
    """A softmax whose last third is hidden, as attention's masks hide it."""
    return [
        s.Offset(name="scores", x=Ref("x"), offset=TensorRef("mask")),
        s.StepSoftmax(name="y", x=Ref("scores")),
    ]


def hidden(n: int) -> np.ndarray:
    """The mask of :func:`masked`."""
    return np.where(np.arange(n) < n - n // 3, 0.0, -1e4).astype(np.float32)


def cases() -> Iterator[tuple[str, list[s.Node], int, Inputs]]:
    """(name, nodes that end in y, size of the input, inputs)."""
    for name in FUNCTIONS:
        yield name, [s.Function(name="y", x=Ref("x"), function=name)], 16, normal(16)
    yield "product", product(s.Mul, 16), 32, normal(32)
    yield "product, sum of 64", product(s.MatMul, 64), 512, normal(512)
    for n in (64, 192, 384, 768, 1024):
        for outliers in (False, True):
            node = s.Normalization(name="y", x=Ref("x"), axes=(0,), epsilon=1e-6)
            what = ", outliers" if outliers else ""
            yield f"LayerNorm, d = {n}{what}", [node], n, tokens(n, outliers)
    parts = product(s.Mul, 16)[:2]
    quotient = s.Quotient(name="y", a=Ref("v0"), b=Ref("v1"))
    yield "quotient", [*parts, quotient], 32, divided(16)
    node = s.Normalization(name="y", x=Ref("x"), axes=(0,), epsilon=1e-6, centered=False)
    yield "RMSNorm, d = 384", [node], 384, tokens(384, False)
    for n in (1, 8, 64, 197, 256, 1024):
        yield f"softmax, n = {n}", [s.StepSoftmax(name="y", x=Ref("x"))], n, normal(n)
        if n > 1:
            hard = f"softmax, n = {n}, ties and one-hot"
            yield hard, [s.StepSoftmax(name="y", x=Ref("x"))], n, hard_rows(n)
    for n in (64, 197):
        yield f"softmax, n = {n}, a third masked", masked(n), n, normal(n)


LAYER, SOFTMAX = "LayerNorm, d = 384", "softmax, n = 64"
STAGES: dict[str, tuple[str, str, Callable[[np.ndarray], np.ndarray]]] = {
    f"sum of squares, in {LAYER}": (LAYER, "squares", lambda q: (q * q).sum(-1, keepdims=True)),
    f"inverse square root, in {LAYER}": (LAYER, "inverse", lambda q: (q + 0.5) ** -0.5),
    f"reciprocal, in {SOFTMAX}": (SOFTMAX, "inverse", lambda q: 1 / (q + 0.5)),
    f"largest of a row, in {SOFTMAX}": (SOFTMAX, "largest", lambda q: q.max(-1, keepdims=True)),
}
"""Row -> the case whose quantized graph has it, the stage's name, what it computes of its integers."""


def built(
    nodes: list[s.Node], size: int, make: Inputs, digits: int
) -> tuple[s.SpikingGraph, s.SpikingGraph, np.ndarray]:
    """Canonical and quantized graph, and other inputs than those it was calibrated on."""
    rng = np.random.default_rng(0)
    flat = [s.Input(name="x", shape=(size,)), *nodes]
    tail = [s.TimeMean(name="mean", x=Ref("y")), s.Output(name="out", x=Ref("mean"))]
    tensors = {"mask": hidden(size)} if any(isinstance(n, s.Offset) for n in nodes) else {}
    graph = canonicalize(s.SpikingGraph("circuit", "imported", (*flat, *tail), tensors))
    known, x = (make(rng, SAMPLES).astype(np.float32) for _ in range(2))
    return graph, Quantize(1, calibrate_on(graph, known, 1), digits=digits)(graph), x


def stage(
    nodes: list[s.Node], size: int, make: Inputs, digits: int, name: str, meant: Any
) -> dict[str, float]:
    """Error of one stage of a quantized graph against ``meant`` of its own integers."""
    _, quantized, x = built(nodes, size, make, digits)
    node = next(n for n in quantized.nodes if n.name.startswith(f"y.{name}"))
    values = evaluate(quantized, encode_input(quantized.input, x), 1, [*node.inputs, node.name])
    found = values[node.name].astype(np.float64)
    expected = meant(values[node.inputs[0]].astype(np.float64))
    expected *= (found * expected).sum() / (expected**2).sum()
    rows = np.abs(found - expected).reshape(len(x), -1)
    each = np.sqrt((rows**2).mean(axis=1)) / np.sqrt((expected**2).mean())
    circuit = schedule(lower(quantized, 1), max_spike_delay=62, power_of_two_period=True)
    sizes = [p.size for p in circuit.populations if p.name.startswith(node.name)]
    return {
        "rms": float(np.sqrt((each**2).mean())),
        "largest": float(each.max()),
        "steps": 0,
        "neurons": sum(sizes),
    }


def measured(nodes: list[s.Node], size: int, make: Inputs, digits: int) -> dict[str, float]:
    """Error and cost at one number of digits."""
    graph, quantized, x = built(nodes, size, make, digits)
    given = encode_input(quantized.input, x)
    found = evaluate(quantized, given, 1, ["out"])["out"]
    meant = evaluate(graph, (given * quantized.input.unit).astype(np.float32), 1, ["out"])["out"]
    error = found - meant.astype(np.float64)
    if isinstance(nodes[-1], s.StepSoftmax):  # total variation
        rows = np.abs(error).sum(axis=-1) / 2
    else:
        rows = np.sqrt((error**2).reshape(len(error), -1).mean(axis=1))
        rows = rows / max(float(np.sqrt((meant.astype(np.float64) ** 2).mean())), 1e-12)
    circuit = schedule(lower(quantized, 1), max_spike_delay=62, power_of_two_period=True)
    return {
        "rms": float(np.sqrt((rows**2).mean())),
        "largest": float(rows.max()),
        "steps": circuit.depth,
        "neurons": sum(p.size for p in circuit.populations),
    }


def rows() -> Iterator[tuple[str, Callable[[int], dict[str, float]]]]:
    """Name of a row and what measures it at a number of digits: the cases, then stages of two."""
    known = {name: case for name, *case in cases()}
    for name, case in known.items():
        yield name, partial(measured, *case)
    for name, (of, part, meant) in STAGES.items():
        yield name, partial(_stage, known[of], part, meant)


def _stage(case: list[Any], part: str, meant: Any, digits: int) -> dict[str, float]:
    return stage(*case, digits, part, meant)


def plot(table: dict[str, dict[int, dict[str, float]]], path: Path) -> None:
    """Error against digits."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(12, 7), sharey=True, layout="constrained")
    groups = (
        ("LayerNorm", "RMSNorm"),
        ("softmax",),
        (*FUNCTIONS, "product", "quotient", "sum of", "inverse", "reciprocal"),
    )
    for axis, names in zip(axes, groups, strict=True):
        axis.set_prop_cycle(color=plt.get_cmap("tab20").colors, marker=list(".^") * 10)
        for name, row in table.items():
            if name.startswith(names) and max(v["rms"] for v in row.values()) > 1e-9:
                axis.semilogy(list(row), [v["rms"] for v in row.values()], label=name)
        axis.set_xlabel("digits B")
        axis.grid(alpha=0.3)
        axis.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncol=2)
    axes[0].set_ylabel("error (rms); what is less than 1e-6 is left out")
    axes[0].set_ylim(1e-6, 2)
    figure.savefig(path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, help="folder for circuits.json and circuits.png")
    parser.add_argument("--only", default="", help="cases whose name contains this")
    asked = parser.parse_args()
    table: dict[str, dict[int, dict[str, float]]] = {}
    heads = " | ".join(f"B={digits}" for digits in DIGITS)
    print(f"| circuit | {heads} | largest at 10 | steps | neurons |")
    print("|---" * (len(DIGITS) + 4) + "|")
    for name, measure in rows():
        if asked.only not in name:
            continue
        row = table[name] = {d: measure(d) for d in DIGITS}
        cells = " | ".join(f"{row[d]['rms']:.2g}" for d in DIGITS)
        ten = row[10]
        print(
            f"| {name} | {cells} | {ten['largest']:.2g} | {ten['steps'] or ''} | {ten['neurons']:,} |",
            flush=True,
        )
    if asked.out:
        asked.out.mkdir(parents=True, exist_ok=True)
        (asked.out / "circuits.json").write_text(json.dumps(table, indent=1))
        plot(table, asked.out / "circuits.png")


if __name__ == "__main__":
    main()
