"""How time and memory grow with a network: building, mapping, preparing and emulating against width,
depth, tokens, steps and samples, on log axes with fitted exponents.

    uv run python benchmarks/scaling.py [--out docs/scaling.png] [--repeats 3] [--no-map] [--json POINTS]
    uv run python benchmarks/scaling.py --draw POINTS --out docs/scaling.png

The network: 3x3 convolutions with LIF neurons on an image, 8 % of the inputs spiking, weights
random. Building takes the same network in float: canonicalize, calibrate on the samples, quantize,
lower, schedule. Each line varies one size and keeps the others; a point is the least processor time of the
repeats on one thread. Memory of a run is counted: arenas, scratch and weights of the plan; of a build
and of a mapping it is the most that Python and numpy held at once (tracemalloc, in calls of their own; a
build holds a few samples a thread: `taskset -c 0` for one). The exponent is the slope of a straight line through the upper half of the points (log-log), where fixed
costs count least.
"""

from __future__ import annotations

import argparse
import json
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

BASE = {"width": 32, "depth": 4, "tokens": 256, "T": 4, "samples": 8}
MAPPED = (BASE["samples"], BASE["T"])
"""Neither changes a mapping."""
MOST_MAPPED = 1 << 17
"""Neurons; mapping takes by far the longest."""
LINES = {
    "width": (8, 16, 32, 64, 128, 256),
    "depth": (2, 4, 8, 16, 32),
    "tokens": (64, 256, 1024, 4096),
    "T": (1, 2, 4, 8, 16, 32, 64),
    "samples": (2, 4, 8, 16, 32, 64),
}


def network(width: int, depth: int, tokens: int, T: int) -> Any:
    """A scheduled circuit: ``depth`` layers of ``width`` channels on ``tokens`` places."""
    from neurocompile.ir import circuit as c
    from neurocompile.ir.text import Ref, TensorRef
    from neurocompile.passes.schedule import schedule

    side = round(tokens**0.5)
    rng = np.random.default_rng(0)
    populations: list[c.Population] = [
        c.HostInput(name="l0", shape=(side, side, 16), layer="x", low=0, high=1, stepwise=True)
    ]
    projections: list[c.Projection] = []
    tensors = {}
    for k in range(depth):
        name, before = f"l{k + 1}", populations[-1].shape[2]
        weight = 2 * rng.integers(-127, 128, (width, 3, 3, before))
        tensors[f"w{k}"] = weight.astype(np.int16)
        # the sum of about 8 % of the inputs is beyond this in about 8 % of the cases
        threshold = int(1.4 * np.sqrt(0.08 * 9 * before) * weight.std())
        populations.append(
            c.LIF(
                name=name, shape=(side, side, width), layer=name, vth=threshold, dv=2048, reset=True
            )
        )
        projections.append(
            c.Conv2d(
                name=f"q{k}",
                src=Ref(f"l{k}"),
                dst=Ref(name),
                weight=TensorRef(f"w{k}"),
                padding=(1, 1),
            )
        )
    circuit = c.CircuitGraph("net", T, tuple(populations), tuple(projections), (), tensors)
    return schedule(circuit, max_spike_delay=62, power_of_two_period=False)


def floating(width: int, depth: int, tokens: int) -> Any:
    """The same network as it is imported."""
    from neurocompile.ir import spiking as s
    from neurocompile.ir.text import Ref, TensorRef

    side = round(tokens**0.5)
    rng = np.random.default_rng(0)
    nodes: list[s.Node] = [s.Input(name="x", shape=(16, side, side))]
    tensors, x, before = {}, "x", 16
    for k in range(depth):
        weight = rng.standard_normal((width, before, 3, 3)) / np.sqrt(0.08 * 9 * before)
        tensors[f"w{k}"] = weight.astype(np.float32)
        layer = s.LIF(
            name=f"l{k}",
            x=Ref(f"c{k}"),
            tau=2.0,
            v_threshold=0.7,
            v_reset=0.0,
            decay_input=True,
            soft_reset=False,
        )
        nodes += [
            s.Conv2d(name=f"c{k}", x=Ref(x), weight=TensorRef(f"w{k}"), padding=(1, 1)),
            layer,
        ]
        x, before = f"l{k}", width
    size = width * tokens
    tensors["head"] = (rng.standard_normal((10, size)) / np.sqrt(size)).astype(np.float32)
    nodes += [
        s.Rearrange(name="flat", x=Ref(x), shape=(size,), sizes=(size,), strides=(1,)),
        s.Linear(name="logits", x=Ref("flat"), weight=TensorRef("head")),
        s.TimeMean(name="mean", x=Ref("logits")),
        s.Output(name="out", x=Ref("mean")),
    ]
    return s.SpikingGraph("net", "imported", tuple(nodes), tensors)


def build(graph: Any, x: np.ndarray, T: int) -> Any:
    """From the imported graph to the circuit that is mapped."""
    from neurocompile.build_steps import build_circuit
    from neurocompile.calibration import calibrate_on
    from neurocompile.passes.canonicalize import canonicalize
    from neurocompile.passes.quantize import Quantize
    from neurocompile.targets import load_target

    canonical = canonicalize(graph)
    quantized = Quantize(T, calibrate_on(canonical, x, T))(canonical)
    return build_circuit(quantized, T, 8, load_target("hala_point"))


def least(function: Callable[[], Any], repeats: int) -> float:
    """Least processor time of some calls, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function()
        times.append(time.process_time() - start)
    return min(times)


def peak(function: Callable[[], Any]) -> float:
    """The most that Python and numpy hold beyond what they held before, in MB."""
    tracemalloc.start()
    try:
        function()
        return 1e-6 * tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def measure(sizes: dict[str, int], repeats: int, maps: bool) -> dict[str, float]:
    """Seconds and bytes of one network."""
    from neurocompile.backends.emulator import Emulator
    from neurocompile.backends.plan import make_plan
    from neurocompile.backends.weights import make_weights
    from neurocompile.mapping import map_circuit
    from neurocompile.targets import load_target

    samples = sizes["samples"]
    circuit = network(*(sizes[k] for k in ("width", "depth", "tokens", "T")))
    rng = np.random.default_rng(1)
    x = (rng.random((samples, *circuit.input_shape)) < 0.08).astype(np.int32)
    out = [circuit.populations[-1].name]
    executor = Emulator(1).open(circuit)
    executor.run(x[:1], out)
    weights = make_weights(circuit)
    plan = make_plan(circuit, weights, out)
    graph = floating(*(sizes[k] for k in ("width", "depth", "tokens")))
    images = (rng.random((samples, *graph.input.shape)) < 0.08).astype(np.float32)
    build(graph, images[:1], 1)
    found = {
        "build, s": least(lambda: build(graph, images, sizes["T"]), repeats),
        "prepare, s": least(lambda: make_plan(circuit, make_weights(circuit), out), repeats),
        "emulate, s": least(lambda: executor.run(x, out), repeats),
        "memory of run, MB": 1e-6
        * (
            weights.small.nbytes
            + weights.wide.nbytes
            + weights.bias.nbytes
            + plan.octets
            + 4 * (plan.words + sum(plan.scratch))
        ),
    }
    found["memory of build, MB"] = peak(lambda: build(graph, images, sizes["T"]))
    neurons = sum(p.size for p in circuit.populations)
    if maps and neurons <= MOST_MAPPED and (sizes["samples"], sizes["T"]) == MAPPED:
        rates = dict.fromkeys(circuit.population, 0.08)
        target = load_target("hala_point")
        found["map, s"] = least(lambda: map_circuit(circuit, target, rates, seed=0), 1)
        found["memory of map, MB"] = peak(lambda: map_circuit(circuit, target, rates, seed=0))
    return found


def exponent(sizes: list[int], values: list[float]) -> float:
    """Slope of the upper half of the points on log axes."""
    half = max(len(sizes) // 2 + 1, 2)
    return float(np.polyfit(np.log(sizes[-half:]), np.log(values[-half:]), 1)[0])


def draw(found: dict[str, dict[int, dict[str, float]]], path: Path) -> None:
    """One picture a line, one curve a quantity."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(found), figsize=(4 * len(found), 6), sharey=True)
    for axis, (name, points) in zip(axes, found.items()):
        for what in next(iter(points.values())):
            sizes = [n for n in points if what in points[n]]
            values = [points[n][what] for n in sizes]
            label = f"{what.split(',')[0]}: {exponent(sizes, values):.2f}"
            axis.loglog(sizes, values, "o-", label=label)
        axis.set_xlabel(name)
        axis.grid(alpha=0.3)
        axis.set_xticks(list(points), [str(n) for n in points])
        axis.minorticks_off()
        below = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14), "ncols": 2}
        axis.legend(title="exponent", fontsize=8, **below)
    axes[0].set_ylabel("seconds, or MB")
    figure.suptitle("Convolutional LIF network, one thread, others as " + str(BASE))
    figure.tight_layout()
    figure.savefig(path, dpi=80, metadata={"Software": None})


def main() -> None:
    """Measure, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--no-map", action="store_true")
    parser.add_argument("--json", type=Path, help="write the points there")
    parser.add_argument("--draw", type=Path, help="draw these points, measure nothing")
    options = parser.parse_args()
    found: dict[str, dict[int, dict[str, float]]] = {}
    if options.draw:
        points = json.loads(options.draw.read_text())
        found = {name: {int(n): v for n, v in line.items()} for name, line in points.items()}
        draw(found, options.out or Path("scaling.png"))
        return
    measure(BASE | {"width": 4, "tokens": 16}, 1, not options.no_map)  # kernels are compiled
    for name, sizes in LINES.items():
        found[name] = {
            n: measure(BASE | {name: n}, options.repeats, not options.no_map) for n in sizes
        }
        for what in next(iter(found[name].values())):
            values = [point[what] for point in found[name].values() if what in point]
            if len(values) < 2:
                continue
            slope = exponent(list(sizes)[-len(values) :], values)
            shown = "  ".join(f"{value:.3g}" for value in values)
            print(f"{name:<8} {what:<20} exponent {slope:5.2f}   {shown}", flush=True)
        if options.json:
            options.json.write_text(json.dumps(found))
    if options.out:
        draw(found, options.out)


if __name__ == "__main__":
    main()
