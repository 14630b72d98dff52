"""The exact evaluation on a GPU: equality with the definition, and images a second beside
SpikingJelly's float forward on the same GPU in the same run.

    python benchmarks/bench_gpu.py [NAME ...] [--images 1000] [--repeats 3] [--json OUT.json]
    python benchmarks/bench_gpu.py digits-qkformer --images 4 --device torch-cpu --seconds 0.2

Every value of every layer and step of each model of the zoo and of two models of CIFAR size, on
random images, is compared with ``neurocompile.ir.evaluate`` (numpy, in processes) by SHA-256 of
chunks; a chunk that differs is evaluated again, and its first difference is shown. Speed: the
fastest of several batch sizes on either side is found first, then both take turns ``--repeats``
times, and the median of the ratios counts; images and results on the GPU, TF32 allowed to
SpikingJelly, random weights. Lines for people go to stderr, one JSON object to stdout. Ends with 1
on any difference. The second command is the whole run in small, without a GPU.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import evaluate

SIZED = ("qkformer-4-256", "spikformer-4-384")
FAST = (*SIZED, "qkformer-hst-10-768")
CHUNK = 25
"""Images of one digest."""
Subject = tuple[s.SpikingGraph, int]
"""Integers and T."""


def say(text: str) -> None:
    """A line for people."""
    print(text, file=sys.stderr, flush=True)


def quantized(path: str | Path) -> Subject:
    """The integers of an ONNX file with statistics, and its T."""
    from neurocompile import pipeline
    from neurocompile.calibration import calibration_from_metadata
    from neurocompile.passes.canonicalize import canonicalize
    from neurocompile.passes.quantize import Quantize

    loaded, imported = pipeline.import_model(str(path))
    steps = max(imported.graph.exported_T, 1)
    statistics = calibration_from_metadata(loaded.metadata)
    return Quantize(steps, statistics)(canonicalize(imported.graph)), steps


def sized(name: str) -> Subject:
    """A reference model with random weights whose normalizations fit random images."""
    import torch
    from neurocompile.models.random_weights import calibrated
    from neurocompile.models.registry import MODELS

    import neurocompile

    torch.set_num_threads(4)
    config = MODELS[name].config
    shape = (8 if config.image_size < 100 else 2, config.in_channels) + (config.image_size,) * 2
    images = (np.random.default_rng(0).integers(0, 256, shape) / 255).astype(np.float32)
    model = calibrated(name, torch.from_numpy(images))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        # spikes of random weights lie near thresholds, where float sums in another order differ
        neurocompile.export_onnx(
            model, images, str(path), calibration=images, compare=config.image_size < 100
        )
        return quantized(path)


def zoo() -> dict[str, Path]:
    """The models that ship, by name."""
    import neurocompile.models.zoo as package

    paths = sorted(Path(package.__file__).parent.glob("*/*.onnx"))
    return {f"zoo {path.stem}": path for path in paths}


def inputs(graph: s.SpikingGraph, count: int) -> np.ndarray:
    """Random integers over the whole range of the input."""
    node, rng = graph.input, np.random.default_rng(1)
    return rng.integers(node.low, node.high + 1, (count, *node.sample_shape)).astype(np.int32)


def digests(values: dict[str, np.ndarray]) -> dict[str, str]:
    """SHA-256 of every value, whatever its type."""
    return {
        name: hashlib.sha256(
            np.ascontiguousarray(v, np.float64 if v.dtype.kind == "f" else np.int32).data
        ).hexdigest()
        for name, v in values.items()
    }


def of_definition(work: tuple[s.SpikingGraph, np.ndarray, int]) -> dict[str, str]:
    """Digests of one chunk."""
    return digests(evaluate(*work))


def compare(
    name: str, graph: s.SpikingGraph, steps: int, count: int, pool: Any, device: str
) -> dict[str, Any]:
    """Every value of ``count`` random images."""
    from neurocompile.gpu import Evaluator

    evaluator, x = Evaluator(graph, steps, device), inputs(graph, count)
    parts = [x[i : i + CHUNK] for i in range(0, count, CHUNK)]
    expected = pool.map(of_definition, [(graph, part, steps) for part in parts])
    values = differences = 0
    first = None
    for k, part in enumerate(parts):
        found = evaluator.evaluate(part)
        values += sum(v.size for v in found.values())
        theirs, ours = next(expected), digests(found)
        wrong = [n.name for n in graph.nodes if theirs[n.name] != ours[n.name]]
        if wrong:
            right = evaluate(graph, part, steps)
            counts = {w: int((right[w] != found[w]).sum()) for w in wrong}
            differences += sum(counts.values())
            place = next((w for w in wrong if counts[w]), wrong[0])
            where = [int(i[0]) for i in np.nonzero(right[place] != found[place])]
            first = first or (place, k * CHUNK, where)
    result = {"model": name, "images": count, "values": values, "differences": differences}
    say(
        f"{name:40s} {count:6,} images {values:16,} values {differences:6,} differences"
        + (f"  first: {first}" if first else "")
    )
    return {**result, "first": first}


def rate(step: Callable[[], None], images: int, seconds: float) -> float:
    """Images a second of ``step``, which does ``images``, over about ``seconds``."""
    import torch

    wait = torch.cuda.synchronize if torch.cuda.is_available() else lambda: None
    for _ in range(2):
        step()
    wait()
    start, rounds = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        step()
        wait()
        rounds += 1
    return rounds * images / (time.perf_counter() - start)


Config = tuple[str, int, Callable[[], None]]
"""What it is, its images, and what does them."""


def ours(graph: s.SpikingGraph, steps: int, batches: list[int], device: str) -> list[Config]:
    """Our evaluator, by batch."""
    import torch

    from neurocompile.gpu import Evaluator
    from neurocompile.gpu.products import exact_arithmetic

    evaluator = Evaluator(graph, steps, device)
    runner, names = evaluator._runners[0], frozenset({evaluator.readout})

    def step(x: torch.Tensor) -> None:
        with exact_arithmetic():
            runner.run(x, names)

    found: list[Config] = []
    for batch in batches:
        x = torch.from_numpy(inputs(graph, batch)).to(runner.device)
        found.append((f"batch {batch}", batch, lambda x=x: step(x)))
    return found


def theirs(name: str, batches: list[int], device: str) -> list[Config]:
    """SpikingJelly, by backend of its neurons, memory format and batch."""
    import torch
    from neurocompile.models.registry import MODELS, build
    from spikingjelly.activation_based import functional, neuron

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    config, place = MODELS[name].config, "cpu" if device == "torch-cpu" else "cuda:0"
    # version 2 fuses the steps of a neuron on its own; before, CuPy's kernels are asked for
    backends = ["its own"]
    if hasattr(functional, "set_backend"):
        backends = ["torch", "cupy"] if place != "cpu" else ["torch"]

    def step(model: Any, x: torch.Tensor) -> None:
        with torch.no_grad():
            model(x)
        functional.reset_net(model)

    found: list[Config] = []
    for backend, layout in itertools.product(backends, ("channels_last", "contiguous_format")):
        model = build(name).eval().to(place).to(memory_format=getattr(torch, layout))
        if backend == "cupy":
            functional.set_backend(model, backend, neuron.LIFNode)
        for batch in batches:
            x = torch.rand(batch, config.in_channels, config.image_size, config.image_size)
            x = x.to(place).contiguous(memory_format=getattr(torch, layout))
            what = f"{backend}, {layout}, batch {batch}"
            found.append((what, batch, lambda model=model, x=x: step(model, x)))
    return found


def trials(configs: list[Config], seconds: float) -> dict[str, float]:
    """Images a second of each that fits the memory."""
    import torch

    found = {}
    for what, images, step in configs:
        try:
            found[what] = rate(step, images, seconds)
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
    return found


def speed(
    name: str, graph: s.SpikingGraph, steps: int, device: str, seconds: float, repeats: int
) -> dict[str, Any]:
    """Both sides taking turns, each at its fastest, and the median of their ratios."""
    batches = [8, 16, 32, 64] if graph.input.shape[-1] > 100 else [64, 128, 256, 512]
    if device == "torch-cpu":
        batches = [1, 2]
    sides = {
        "ours": ours(graph, steps, batches, device),
        "spikingjelly": theirs(name, batches, device),
    }
    found: dict[str, Any] = {"model": name}
    best: dict[str, Config] = {}
    for side, configs in sides.items():
        tried = trials(configs, seconds / 4)
        fastest = max(tried, key=lambda what: tried[what])
        best[side] = next(config for config in configs if config[0] == fastest)
        found[side] = {"tried": tried, "best": fastest, "images a second": []}
    for _ in range(repeats):
        for side, (_, images, step) in best.items():
            found[side]["images a second"].append(rate(step, images, seconds))
    mine, other = (found[side]["images a second"] for side in sides)
    found["ratios"] = [a / b for a, b in zip(mine, other, strict=True)]
    found["ratio"] = median(found["ratios"])
    shown = ", ".join(f"{ratio:.2f}" for ratio in found["ratios"])
    say(
        f"{name:40s} {median(mine):10,.0f} images a second, SpikingJelly {median(other):10,.0f}: "
        f"{found['ratio']:.2f} times ({shown})"
    )
    return found


def main() -> None:
    """Compare, then measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="only these reference models, and no zoo")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    parser.add_argument("--device", default="cuda", help="to compare on; speed is that of cuda:0")
    parser.add_argument("--repeats", type=int, default=3, help="of each speed")
    parser.add_argument("--seconds", type=float, default=2.0, help="of each of them")
    parser.add_argument("--no-speed", action="store_true")
    parser.add_argument("--json", type=Path, help="write the object there too")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes: one core each
    found: dict[str, Any] = {"equality": [], "speed": []}
    began = time.perf_counter()
    context = get_context("spawn")
    with ProcessPoolExecutor(options.processes, mp_context=context) as pool:
        # the largest model takes longest to make, so it comes first, and the others are compared
        names = options.names or list(reversed(FAST))
        made = {name: pool.submit(sized, name) for name in names}
        given = (options.images, pool, options.device)
        for name, path in {} if options.names else zoo().items():
            found["equality"].append(compare(name, *quantized(path), *given))
        for name in reversed(names):
            if name not in FAST or name in SIZED:
                found["equality"].append(compare(name, *made[name].result(), *given))
        graphs = {name: work.result() for name, work in made.items()}
    found["seconds of equality"] = time.perf_counter() - began
    if not options.no_speed:
        alone = "cuda:0" if options.device == "cuda" else options.device
        for name in reversed(names):
            taken = (alone, options.seconds, options.repeats)
            found["speed"].append(speed(name, *graphs[name], *taken))
    found["seconds"] = time.perf_counter() - began
    found["differences"] = sum(one["differences"] for one in found["equality"])
    print(json.dumps(found), flush=True)
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1))
    if found["differences"]:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
