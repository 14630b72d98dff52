"""Errors of the ready-made circuits against T (Lemmas 2 to 6, Theorem 4), on the emulator, beside
the rates that the paper promises.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from neurocompile.progress import chunks
from neurocompile.theory.experiments.result import Result, Table
from neurocompile.theory.measure.convergence import CIRCUITS, STEPS, Curve, measure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PROMISED", "circuit_task"]

PROMISED = {
    "normalization, membrane 0": "-1/2 (Theorem 4)",
    "normalization, membrane S/2": "-1/2 (Theorem 4)",
    "normalization, one winner a step": "-1/2 (Theorem 4)",
    "normalization, stochastic": "-1/2 (Theorem 4)",
    "exp, Sobol trains": "-1/2 (Lemma 2)",
    "exp, Bernoulli trains": "-1/2 (Lemma 2)",
    "exp, registers on the chip": "-1/2 (Lemma 2)",
    "ReLU by rate": "(Lemma 5)",
    "softmax attention": "-1/2 (Lemma 6)",
    "softmax attention in a model": "-1/2 (Lemma 6)",
}
"""Slope of log error over log T in the paper's statement."""
_WANTED = (1024, 0.001)


def circuit_task(inputs: int = 200, longest: int = max(STEPS), *, progress: bool = False) -> Result:
    """Every circuit of :data:`neurocompile.theory.measure.convergence.CIRCUITS` on ``inputs`` random
    inputs, T = 4 to ``longest``.
    """
    steps, names = [t for t in STEPS if t <= longest], list(CIRCUITS)
    curves = [
        measure(names[part.start], inputs, steps)
        for part in chunks(len(names), 1, "circuits", progress)
    ]
    shown = [t for t in steps if t in (4, 16, 64, 256, 1024, 4096)]
    rows = tuple(
        (
            curve.name,
            *(f"{curve.error[steps.index(t)]:.5f}" for t in shown),
            f"{curve.slope:.2f} [{curve.interval[0]:.2f}, {curve.interval[1]:.2f}]",
            PROMISED[curve.name],
        )
        for curve in curves
    )
    tables = [
        Table(
            "error (root mean square over inputs of the largest over outputs) and slope of log error over log T, 95 % bootstrap interval",
            ("circuit", *(f">T={t}" for t in shown), ">slope", ">paper's rate"),
            rows,
        )
    ]
    T, limit = _WANTED
    at = steps.index(min(T, steps[-1]))
    tables.append(
        Table(
            f"error at T = {steps[at]:,} (largest over outputs): root mean square, mean and largest over the {inputs} inputs",
            ("circuit", ">rms", ">mean", ">max", f"mean at most {limit}"),
            tuple(
                (
                    c.name,
                    *(f"{v[at]:.5f}" for v in (c.error, c.mean, c.largest)),
                    "yes" if c.mean[at] <= limit else "no",
                )
                for c in curves
            ),
        )
    )
    notes = (
        "n = 16 inputs of 1..63; K = 6 terms and x uniform on 0..1 (registers: 10 bits); attention of 8 tokens and 4 channels, scores "
        "within +-3 ('in a model': spikes of LIF layers, reference in floating point on the same spikes).",
        "Stochastic forms keep the paper's -1/2. Deterministic ones reach -1: no spike is lost, only the rest of a membrane.",
        "Softmax attention has all phases within T steps; in a model each phase takes T steps, throughput is one sample in T. Its scores, "
        "values and sums share 18 bits, so its error stops falling between T = 1,024 and 4,096.",
    )
    data = {
        "T": steps,
        "circuits": {
            c.name: {
                "rms": c.error.tolist(),
                "mean": c.mean.tolist(),
                "max": c.largest.tolist(),
                "slope": c.slope,
                "interval": list(c.interval),
            }
            for c in curves
        },
    }
    setting = f"{inputs} random inputs a circuit, T = {steps[0]} to {steps[-1]:,}, neurocompile emulator (NOT hardware)"
    return Result("circuits", setting, tuple(tables), notes, data, lambda: _draw(curves))


def _draw(curves: list[Curve]) -> Figure:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5.2), dpi=110, layout="constrained")
    axes = figure.subplots()
    for i, curve in enumerate(curves):
        low, high = curve.interval
        axes.loglog(
            curve.steps,
            curve.error,
            "o-",
            ms=3,
            color=f"C{i}",
            label=f"{curve.name}: {curve.slope:.2f} [{low:.2f}, {high:.2f}]",
        )
    for power, style in ((-0.5, ":"), (-1.0, "--")):
        axes.loglog(
            curves[0].steps,
            [0.5 * t**power for t in curves[0].steps],
            style,
            color="0.6",
            lw=1,
            label=f"T^{power:g}",
        )
    axes.set_xlabel("T (steps)")
    axes.set_ylabel("error: rms over inputs of the largest")
    axes.set_title("Circuits: error against T", fontsize=11)
    axes.legend(fontsize=7, title="slope, 95 % interval", title_fontsize=7)
    axes.grid(True, which="both", lw=0.2)
    return figure
