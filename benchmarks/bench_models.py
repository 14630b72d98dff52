"""Every reference model through the compiler's front half: time, peak memory, neurons, and the
tables of docs/models.md, between its marks.

    uv run python benchmarks/bench_models.py [NAME ...] [--markdown docs/models.md] [--json
    OUT.json]

For each model, with random weights: ``export_onnx`` in one process, then import, canonicalize,
quantize, lower and schedule for one Loihi 2 in another, whose time and peak memory count. The tiny
models, their normalizations calibrated, also run on Lava's process models, and every spike is
compared, as is every layer with the float model. Without names: all models, half an hour on two
cores.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FAMILIES = {
    "spikformer": ("Spikformer", "Zhou et al. 2023, arXiv:2209.15425"),
    "spikformer-v2": ("Spikformer V2", "Zhou et al. 2024, arXiv:2401.02020"),
    "qkformer": ("QKFormer", "Zhou et al. 2024, arXiv:2403.16552"),
    "spiking-resformer": ("SpikingResformer", "Shi et al. 2024, arXiv:2403.14302"),
    "spike-driven-transformer": ("Spike-driven Transformer", "Yao et al. 2023, arXiv:2307.01694"),
    "meta-spikeformer": ("Meta-SpikeFormer", "Yao et al. 2024, arXiv:2404.03663"),
    "e-spikeformer": ("E-SpikeFormer", "Yao et al. 2025, arXiv:2411.16061"),
}
LABELS = {
    "Conv2d": "conv",
    "Linear": "linear",
    "LIF": "LIF",
    "Add": "add",
    "MatMul": "Q K^T V products",
    "Mul": "masks",
    "MaxPool2d": "max-pool",
    "SumPool2d": "average pool",
    "BatchNorm": "factors a head",
    "Sum": "sums",
}
CALIBRATION_IMAGES, PARITY_IMAGES = 16, 4


def export(name: str, path: str) -> dict[str, Any]:
    """Write the model with random weights; seconds and parameters."""
    import torch
    from neurocompile.models.random_weights import calibrated
    from neurocompile.models.registry import build

    import neurocompile

    images = pictures(name, CALIBRATION_IMAGES if "tiny" in name else 2)
    if "tiny" in name:
        model = calibrated(name, torch.from_numpy(images))
    else:
        torch.manual_seed(0)
        model = build(name).eval()
        for module in model.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(module.bias, 0.2, 1.0)  # or deep layers never fire
    start = time.perf_counter()
    # sums of random weights lie at thresholds: of large models only the size is asked
    compare = "tiny" in name
    neurocompile.export_onnx(model, images, path, calibration=images, compare=compare)
    return {
        "export": time.perf_counter() - start,
        "parameters": sum(p.numel() for p in model.parameters()),
    }


def pictures(name: str, count: int) -> Any:
    """Random images (count, C, H, W) float32 for a model, the same in each process."""
    import numpy as np
    from neurocompile.models.registry import MODELS

    config = MODELS[name].config
    shape = (count, config.in_channels, config.image_size, config.image_size)
    return (np.random.default_rng(0).integers(0, 256, shape) / 255).astype(np.float32)


def stages(name: str, path: str) -> dict[str, Any]:
    """Compile as far as a scheduled circuit: seconds of each stage, peak memory, and sizes."""
    from neurocompile import pipeline
    from neurocompile.calibration import calibration_from_metadata
    from neurocompile.ir.circuit import HostInput
    from neurocompile.mapping import lower_bound_cores
    from neurocompile.passes.canonicalize import canonicalize
    from neurocompile.passes.quantize import Quantize
    from neurocompile.targets import load_target

    seconds: dict[str, float] = {}

    def timed(stage: str, function: Any, *arguments: Any) -> Any:
        start = time.perf_counter()
        found = function(*arguments)
        seconds[stage] = time.perf_counter() - start
        return found

    chip = load_target("loihi2")
    loaded, imported = timed("import", pipeline.import_model, path)
    steps = max(imported.graph.exported_T, 1)
    canonical = timed("canonicalize", canonicalize, imported.graph)
    statistics = calibration_from_metadata(loaded.metadata)
    quantized = timed("quantize", Quantize(steps, statistics), canonical)
    circuit = timed("lower", pipeline.build_circuit, quantized, steps, 8, chip)
    kinds = Counter(type(n).__name__ for n in imported.graph.nodes)
    return {
        "seconds": seconds,
        "megabytes": peak_megabytes(),
        "operators": {k: kinds[k] for k in LABELS if kinds[k]},
        "lif_neurons": sum(v for v in _lif_sizes(imported.graph)),
        "neurons": sum(p.size for p in circuit.populations if not isinstance(p, HostInput)),
        "populations": len(circuit.populations),
        "depth": circuit.depth,
        "least_cores": lower_bound_cores(circuit, chip),
        "cores_a_chip": chip.mesh.cores_usable.value,
    }


def peak_megabytes() -> float:
    """Of this process since it started (getrusage would count the process that forked it, which
    holds torch).
    """
    found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def _lif_sizes(graph: Any) -> Iterator[int]:
    from math import prod

    from neurocompile.ir.analysis import shapes

    size = shapes(graph)
    return (prod(size[n.name]) for n in graph.spiking_layers)


def parity(name: str, path: str) -> dict[str, Any]:
    """Compile and run a tiny model on the emulator and on Lava's process models, and compare it
    with its float model.
    """
    from neurocompile.models.registry import MODELS

    import neurocompile

    images = pictures(name, CALIBRATION_IMAGES)
    program = neurocompile.compile(path, T=MODELS[name].config.T, calibration=images, cache=False)
    report = program.parity(images[:PARITY_IMAGES], against=("emulator", "lava"), reference=path)
    assert report.reference is not None
    return {
        "differences": sum(b.differences for b in report.backends),
        "values": report.backends[-1].values,
        "cores": program.mapping.cores_used,
        "layers": [
            (one.layer, one.agreement, one.rate_reference, one.rate_quantized)
            for one in report.reference.layers
        ],
    }


def child(step: str, name: str, path: Path) -> dict[str, Any]:
    """Run one step in a process of its own."""
    command = [sys.executable, __file__, "--child", step, "--path", str(path), name]
    done = subprocess.run(
        command, stdout=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "2"}
    )
    if done.returncode:
        raise SystemExit(f"{step} of {name} failed")
    return json.loads(done.stdout.splitlines()[-1])


def measure(name: str) -> dict[str, Any]:
    """All figures of one model."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.onnx"
        found = {"model": name, **child("export", name, path), **child("stages", name, path)}
        if "tiny" in name:
            found |= child("parity", name, path)
    seconds = found["seconds"]
    total, neurons = sum(seconds.values()), found["neurons"]
    print(
        f"{name:38s} {total:7.1f} s {found['megabytes']:8,.0f} MB {neurons:13,} neurons",
        file=sys.stderr,
    )
    return found


def family(name: str) -> str:
    """The key of :data:`FAMILIES`."""
    return next(key for key in sorted(FAMILIES, key=len, reverse=True) if name.startswith(key))


def rows(found: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Lines of docs/models.md: section -> model -> row of its table."""
    from neurocompile.models.registry import MODELS

    sections: dict[str, dict[str, str]] = {"exactness": {}, "layers": {}, "size": {}}
    for one in found:
        name = one["model"]
        if "differences" in one:
            title, source = FAMILIES[family(name)]
            operators = ", ".join(f"{LABELS[k]} {n}" for k, n in one["operators"].items())
            sections["exactness"][name] = (
                f"| {title} | {source} | {name} | {operators} | {one['differences']} | {one['values']:,} | {one['cores']} |"
            )
        if "layers" in one:
            mean = sum(a for _, a, *_ in one["layers"]) / len(one["layers"])
            layers = ", ".join(
                f"{layer} {agreement:.1%} ({rate:.2f}, {compiled:.2f})"
                for layer, agreement, rate, compiled in one["layers"]
            )
            sections["layers"][name] = f"| {name} | {mean:.1%} | {layers} |"
        if "tiny" not in name:
            published = MODELS[name].published
            beside = "" if published is None else f" ({published:.2f})"
            sections["size"][name] = (
                f"| {name} | {one['parameters'] / 1e6:.2f}{beside} | {one['lif_neurons'] / 1e6:.2f} | "
                f"{one['neurons'] / 1e6:.2f} | {one['populations']} | {one['depth']} | {sum(one['seconds'].values()):.1f} | "
                f"{one['megabytes'] / 1024:.2f} | {one['least_cores']:,} |"
            )
    return sections


def written(text: str, found: list[dict[str, Any]]) -> str:
    """``text`` of docs/models.md with the rows of ``found``; other rows, and all prose, stay."""
    from neurocompile.models.registry import MODELS

    for section, new in rows(found).items():
        start, end = (text.index(f"<!-- {mark}{section} -->\n") for mark in ("", "end of "))
        head, rule, *old = text[start:end].splitlines()[1:]
        known = {named(line): line for line in old} | new
        order = sorted(known, key=list(MODELS).index)
        lines = [f"<!-- {section} -->", head, rule, *(known[name] for name in order)]
        text = text[:start] + "\n".join(lines) + "\n" + text[end:]
    return text


def named(row: str) -> str:
    """The model of a row: the first cell that is a name of the registry."""
    from neurocompile.models.registry import MODELS

    return next(cell.strip() for cell in row.split("|") if cell.strip() in MODELS)


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--child", choices=("export", "stages", "parity"), help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    parser.add_argument(
        "--markdown", type=Path, help="write the rows into its tables; the rest stays"
    )
    parser.add_argument(
        "--json",
        type=Path,
        help="write all figures; figures already there are kept for models not named",
    )
    arguments = parser.parse_args()
    if arguments.child:
        step = {"export": export, "stages": stages, "parity": parity}[arguments.child]
        print(json.dumps(step(arguments.names[0], arguments.path)))
        return
    from neurocompile.models.registry import MODELS

    known = {}
    if arguments.json and arguments.json.exists():
        known = {one["model"]: one for one in json.loads(arguments.json.read_text())}
    for name in arguments.names or [n for n in MODELS if n != "qkformer-tiny-digits"]:
        known[name] = measure(name)
        if arguments.json:
            arguments.json.write_text(json.dumps(list(known.values()), indent=1) + "\n")
    if arguments.markdown:
        text = arguments.markdown.read_text(encoding="utf-8")
        arguments.markdown.write_text(written(text, list(known.values())), encoding="utf-8")


if __name__ == "__main__":
    main()
