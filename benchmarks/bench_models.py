"""Every reference model through the compiler's front half: time, peak memory, neurons, and the
table of docs/models.md.

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


def markdown(found: list[dict[str, Any]]) -> str:
    """docs/models.md."""
    from neurocompile.models.registry import MODELS

    lines = [
        "# Models",
        "",
        "Written by `uv run python benchmarks/bench_models.py --markdown docs/models.md` (random weights; two shared cores).",
        "The models are our own implementations in `models/`, one file a family, on SpikingJelly's neurons; parameter counts",
        "are tested against the published ones (`tests/models/test_reference_models.py`). The authors' own code compiles in the",
        "forms that `docs/import.md` lists.",
        "",
        "## Exactness",
        "",
        f"The tiny models, random weights, normalizations calibrated on {CALIBRATION_IMAGES} random images, run on",
        f"{PARITY_IMAGES} of them: every population, sample and step of Lava's process models against the emulator, and of the",
        "emulator against the quantized model's definition.",
        "",
        "| family | source | model | operators | differences | in values | cores |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in found:
        if "differences" in one:
            title, source = FAMILIES[family(one["model"])]
            operators = ", ".join(f"{LABELS[k]} {n}" for k, n in one["operators"].items())
            lines.append(
                f"| {title} | {source} | {one['model']} | {operators} | {one['differences']} | {one['values']:,} | {one['cores']} |"
            )
    lines += [
        "",
        "## Float against 8 bits, layer by layer",
        "",
        "The same runs: the share of a layer's spikes that equal the float model's (onnxruntime), and the spike rates there and",
        "after compilation. Noise through random layers drifts apart with depth; trained models lose less, see *Accuracy*.",
        "",
        "| model | mean | layers in order: agreement % (rate, compiled) |",
        "|---|---|---|",
    ]
    for one in found:
        if "layers" in one:
            mean = sum(a for _, a, *_ in one["layers"]) / len(one["layers"])
            layers = ", ".join(
                f"{layer} {agreement:.1%} ({rate:.2f}, {compiled:.2f})"
                for layer, agreement, rate, compiled in one["layers"]
            )
            lines.append(f"| {one['model']} | {mean:.1%} | {layers} |")
    lines += [
        "",
        "## Size",
        "",
        "From ONNX to a scheduled circuit for Loihi 2 (import, canonicalize, quantize, lower, schedule), without export and",
        "mapping. *Neurons* are all that the chip needs: LIFs, gates of products, tournaments of maxima, relays. *Least cores*",
        "is the lower bound by summed resources (docs/mapping.md has what mapping takes); a chip has 120.",
        "",
        "| model | parameters, M (published) | LIF neurons, M | neurons, M | populations | depth | time, s | peak memory, GB | least cores |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for one in found:
        if "tiny" not in one["model"]:
            published = MODELS[one["model"]].published
            beside = "" if published is None else f" ({published:.2f})"
            lines.append(
                f"| {one['model']} | {one['parameters'] / 1e6:.2f}{beside} | {one['lif_neurons'] / 1e6:.2f} | "
                f"{one['neurons'] / 1e6:.2f} | {one['populations']} | {one['depth']} | {sum(one['seconds'].values()):.1f} | "
                f"{one['megabytes'] / 1024:.2f} | {one['least_cores']:,} |"
            )
    return "\n".join(lines) + "\n" + ACCURACY


FOLDS = "<!-- folds -->", "<!-- end of folds -->"
"""Around what ``bench_folds.py`` writes."""

ACCURACY = f"""
## Folded in time

By `uv run python benchmarks/bench_folds.py --map 6000 --jobs 16 --folder FOLDS --markdown docs/models.md` (one machine of 16 cores; a
part of the models by name): random weights at 8 bits, T = 4, Loihi 2's
published limits (graded messages do not wait). Cores are **lower bounds** by summed resources unless they are said to be mapped;
mapping takes up to 1.1 times the bound. *cores@steps*: the Pareto front of least cores and steps from one sample to the next; 4
steps is unrolled. `--fold auto` takes the first that maps. How folding works: [folding.md](folding.md).

{FOLDS[0]}
{FOLDS[1]}

Not in the table yet; single folds by `neurocompile build MODEL --target hala_point --fold FOLD --estimate-only`, lower bounds too:
QKFormer-4-256 107 cores at 264 steps (`1x32s`; 116 mapped) and 98 at 420 (`1x16`; 107 mapped); Meta-SpikeFormer-8-512 4,550 at
124 (`8x224`) and 3,820 at 236 (`4x224`); SpikingResformer-Ti 7,029 at 116 (`8x224`), 4,545 at 456 (`4x224s`), 3,972 at 1,800 (`1x224s`).

## Accuracy

Trained small models on scikit-learn's digits, 360 held-out images, T = 4, 8-bit weights: `models/zoo/digits/card.md` and
`models/zoo/qkformer_digits/card.md`; `uv run pytest tests/models/test_zoo_digits.py` compares float and compiled accuracy.
Models of the papers' sizes on a JPEG copy of CIFAR-10, with the script that trains them: `models/zoo/cifar10/card.md`.
`neurocompile zoo list` has all.

## The dense baseline

ViT-B/16 (`models/vit.py`) is 86.57 M parameters and 17.56 G multiply-adds an image, counted from its layers and by torch: 80.79 mJ at
4.6 pJ each (`horowitz45`; `tests/models/test_vit.py`). Table V of the paper has 17.6 there, which is the number of operations.
A ViT of two blocks (5 tokens, 24 channels) trained on digits compiles end to end, LayerNorm, softmax and GELU in binary digits: 355 of 360 images right,
356 in float, on 69 of the 120 cores of one Loihi 2 ([circuits.md](circuits.md), `benchmarks/bench_vit.py`).

## What does not compile

SpikedAttention needs its own neurons: `neurocompile check MODEL` lists every reason with its place in the model
(`tests/frontends/test_why_not.py`).

## Text models

SpikeGPT compiles token by token, as its authors write a step (`models/spike_gpt.py`: 215.4 M parameters at 18 x 768, 112.9 M at 18 x 512). A step of
the chip is a token: token shifts are delays, RWKV's weighted mean integrates over tokens in windows of octaves. A tiny one is exact
between definition, emulator and Lava (`pytest --nightly tests/models/test_spike_gpt.py`); one trained on characters, on 725 of Kapoho Point's cores, whose
perplexity compiled is 6.21 where float has 6.13, writes text (`neurocompile generate`): `models/zoo/characters/card.md`. SpikingBERT compiles as its authors write it, with softmax, layer
normalization and GELU in each step, and loses 0.7 points of accuracy on SST-2: `models/zoo/sst2/card.md`.
Its sizes are 52.8 M parameters at 4 x 768 (the authors' code) and 67.0 M at 6 x 768 (the paper's Table I: 66.4), of which the host keeps 23.8 M of embeddings
(`pytest tests/models/test_spiking_bert.py`); Tables IV and VI of the trained one: [theory.md](theory.md).
"""


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--child", choices=("export", "stages", "parity"), help=argparse.SUPPRESS)
    parser.add_argument("--path", help=argparse.SUPPRESS)
    parser.add_argument("--markdown", type=Path, help="write the table")
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
    found = [known[name] for name in MODELS if name in known]
    if arguments.markdown:
        text = markdown(found)
        if arguments.markdown.exists():  # the table of bench_folds.py stays
            old = arguments.markdown.read_text(encoding="utf-8")
            if FOLDS[0] in old:
                kept = old[old.index(FOLDS[0]) : old.index(FOLDS[1])]
                text = text.replace(FOLDS[0] + "\n", kept)
        arguments.markdown.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
