"""The exact evaluation on a GPU: equality with the definition, and images a second beside
SpikingJelly's float forward on the same GPU in the same run.

    python benchmarks/bench_gpu.py [NAME ...] [--images 1000] [--processes N] [--json OUT.json]

Every value of every layer and step of each model of the zoo and of two models of CIFAR size, on
random images, is compared with ``neurocompile.ir.evaluate`` (numpy, in processes) by SHA-256 of
chunks; a chunk that differs is evaluated again, and its first difference is shown. Speed: the
fastest of several batch sizes on either side, images and results on the GPU, TF32 allowed to
SpikingJelly, random weights. Ends with 1 on any difference.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import evaluate

SIZED = ("qkformer-4-256", "spikformer-4-384")
FAST = (*SIZED, "qkformer-hst-10-768")
CHUNK = 25
"""Images of one digest."""


def quantized(path: str | Path) -> tuple[s.SpikingGraph, int]:
    """The integers of an ONNX file with statistics, and its T."""
    from neurocompile import pipeline
    from neurocompile.calibration import calibration_from_metadata
    from neurocompile.passes.canonicalize import canonicalize
    from neurocompile.passes.quantize import Quantize

    loaded, imported = pipeline.import_model(str(path))
    steps = max(imported.graph.exported_T, 1)
    statistics = calibration_from_metadata(loaded.metadata)
    return Quantize(steps, statistics)(canonicalize(imported.graph)), steps


def sized(name: str) -> tuple[s.SpikingGraph, int]:
    """A reference model with random weights whose normalizations fit random images."""
    import torch
    from neurocompile.models.random_weights import calibrated
    from neurocompile.models.registry import MODELS

    import neurocompile

    config = MODELS[name].config
    shape = (8 if config.image_size < 100 else 2, config.in_channels) + (config.image_size,) * 2
    images = (np.random.default_rng(0).integers(0, 256, shape) / 255).astype(np.float32)
    model = calibrated(name, torch.from_numpy(images))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        neurocompile.export_onnx(model, images, str(path), calibration=images)
        return quantized(path)


def zoo() -> Iterator[tuple[str, s.SpikingGraph, int]]:
    """The models that ship, by name."""
    import neurocompile.models.zoo as package

    for path in sorted(Path(package.__file__).parent.glob("*/*.onnx")):
        yield f"zoo {path.stem}", *quantized(path)


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
    print(
        f"{name:40s} {count:6,} images {values:16,} values {differences:6,} differences"
        + (f"  first: {first}" if first else ""),
        flush=True,
    )
    return {**result, "first": first}


def fastest(step: Any, images: int, seconds: float = 2.0) -> float:
    """Images a second of ``step``, which does ``images``: best of three means."""
    import torch

    for _ in range(2):
        step()
    torch.cuda.synchronize()
    best = 0.0
    for _ in range(3):
        start, rounds = time.perf_counter(), 0
        while time.perf_counter() - start < seconds / 3:
            step()
            torch.cuda.synchronize()
            rounds += 1
        best = max(best, rounds * images / (time.perf_counter() - start))
    return best


def ours(graph: s.SpikingGraph, steps: int, batches: list[int]) -> dict[str, float]:
    """Images a second by batch."""
    import torch

    from neurocompile.gpu import Evaluator
    from neurocompile.gpu.products import exact_arithmetic

    evaluator = Evaluator(graph, steps, "cuda:0")
    runner, found = evaluator._runners[0], {}
    names = frozenset({evaluator.readout})
    for batch in batches:
        x = torch.from_numpy(inputs(graph, batch)).cuda()
        try:
            with exact_arithmetic():
                found[f"batch {batch}"] = fastest(lambda x=x: runner.run(x, names), batch)
        except torch.cuda.OutOfMemoryError:
            torch.cuda.empty_cache()
    return found


def theirs(name: str, batches: list[int]) -> dict[str, float]:
    """SpikingJelly's images a second, by memory format, backend of its neurons and batch."""
    import torch
    from neurocompile.models.registry import MODELS, build
    from spikingjelly.activation_based import functional, neuron

    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = True
    torch.backends.cudnn.benchmark = True
    config, found = MODELS[name].config, {}
    # version 2 fuses the steps of a neuron on its own; before, CuPy's kernels are asked for
    backends = ("torch", "cupy") if hasattr(functional, "set_backend") else ("its own",)
    for backend, layout in itertools.product(backends, ("channels_last", "contiguous_format")):
        model = build(name).eval().cuda().to(memory_format=getattr(torch, layout))
        if backend == "cupy":
            functional.set_backend(model, backend, neuron.LIFNode)
        for batch in batches:
            x = torch.rand(batch, config.in_channels, config.image_size, config.image_size)
            x = x.cuda().contiguous(memory_format=getattr(torch, layout))

            def step(model: Any = model, x: torch.Tensor = x) -> None:
                with torch.no_grad():
                    model(x)
                functional.reset_net(model)

            try:
                found[f"{backend}, {layout}, batch {batch}"] = fastest(step, batch)
            except torch.cuda.OutOfMemoryError:
                torch.cuda.empty_cache()
    return found


def speed(name: str, graph: s.SpikingGraph, steps: int) -> dict[str, Any]:
    """Both sides, and their ratio."""
    batches = [8, 16, 32, 64] if graph.input.shape[-1] > 100 else [64, 128, 256, 512]
    mine, other = ours(graph, steps, batches), theirs(name, batches)
    ratio = max(mine.values()) / max(other.values()) if mine and other else float("nan")
    print(
        f"{name:40s} {max(mine.values(), default=0):10,.0f} images a second, SpikingJelly "
        f"{max(other.values(), default=0):10,.0f}: {ratio:.2f} times",
        flush=True,
    )
    return {"model": name, "ours": mine, "spikingjelly": other, "ratio": ratio}


def main() -> None:
    """Compare, then measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help="only these reference models, and no zoo")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=max(1, (os.cpu_count() or 2) - 1))
    parser.add_argument("--device", default="cuda", help="to compare on; speed is that of cuda:0")
    parser.add_argument("--no-speed", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes: one core each
    found: dict[str, list[Any]] = {"equality": [], "speed": []}
    context = get_context("spawn")
    with ProcessPoolExecutor(options.processes, mp_context=context) as pool:
        subjects = [] if options.names else list(zoo())
        graphs = {name: sized(name) for name in options.names or FAST}
        subjects += [(n, *g) for n, g in graphs.items() if g[0].input.shape[-1] < 100]
        for subject in subjects:
            found["equality"].append(compare(*subject, options.images, pool, options.device))
    if not options.no_speed:
        for name, graph in graphs.items():
            found["speed"].append(speed(name, *graph))
    if options.json is not None:
        options.json.write_text(json.dumps(found, indent=1))
    if any(one["differences"] for one in found["equality"]):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
