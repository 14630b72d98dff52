"""Convergence of the ready-made circuits: a table, and a log-log plot with --plot FILE. About three minutes.

    python benchmarks/bench_circuits.py --inputs 200 --plot circuits.png
"""

from __future__ import annotations

import argparse
import json
import time

from neurocompile.circuits.convergence import CIRCUITS, STEPS, Curve, measure


def draw(curves: list[Curve], path: str) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 5))
    for curve in curves:
        low, high = curve.interval
        axes.loglog(curve.steps, curve.error, marker="o", ms=3, label=f"{curve.name}: {curve.slope:.2f} [{low:.2f}, {high:.2f}]")
    axes.set(xlabel="T (steps)", ylabel="RMS over inputs of the largest error")
    axes.legend(title="slope, 95 % interval", fontsize=7)
    axes.grid(True, which="both", lw=0.2)
    figure.savefig(path, dpi=150, bbox_inches="tight")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=200)
    parser.add_argument("--longest", type=int, default=max(STEPS))
    parser.add_argument("--circuit", action="append", choices=list(CIRCUITS))
    parser.add_argument("--plot")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    steps, curves = [t for t in STEPS if t <= options.longest], []
    if not options.json:
        print("| circuit | " + " | ".join(f"T={t}" for t in steps) + " | slope [95 %] | s |")
        print("|---" * (len(steps) + 3) + "|")
    for name in options.circuit or CIRCUITS:
        start = time.perf_counter()
        curve = measure(name, options.inputs, steps)
        curves.append(curve)
        if not options.json:
            low, high = curve.interval
            row = " | ".join(f"{e:.5f}" for e in curve.error)
            print(f"| {name} | {row} | {curve.slope:.2f} [{low:.2f}, {high:.2f}] | {time.perf_counter() - start:.0f} |", flush=True)
    if options.json:
        print(json.dumps([{"circuit": c.name, "T": c.steps, "rms": list(c.error), "mean": list(c.mean), "slope": c.slope,
                           "interval": c.interval} for c in curves]))  # fmt: skip
    if options.plot:
        draw(curves, options.plot)


if __name__ == "__main__":
    main()
