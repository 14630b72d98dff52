"""Cores and steps a sample of every reference model, folded in time: the table of docs/models.md.

    uv run python benchmarks/bench_folds.py [NAME ...] [--json OUT.json] [--map CORES]
        [--reuse] [--markdown docs/models.md]

For each model, with random weights at 8 bits and T = 4: the Pareto front of cores and steps a sample
on Loihi 2's published limits. Cores are lower bounds; with --map, the coarsest fold that fits one
chip, and one Kapoho Point, is also mapped where its bound is at most CORES.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from bench_models import child, peak_megabytes

MODELS = (
    "qkformer-4-256",
    "spikformer-4-256",
    "spike-driven-transformer-2-256",
    "qkformer-4-384",
    "spikformer-4-384",
    "spike-driven-transformer-2-512",
    "spiking-resformer-cifar",
    "qkformer-hst-10-384",
    "spikformer-8-512",
    "qkformer-hst-10-768",
    "spike-driven-transformer-8-768",
    "meta-spikeformer-8-512",
    "spiking-resformer-ti",
    "spiking-resformer-l",
)
MACHINES = (("loihi2", 120), ("kapoho_point", 960), ("hala_point", 140_544))
START, END = "<!-- folds -->", "<!-- end of folds -->"


def quantized(path: str) -> tuple[Any, int, Any]:
    """The model of an ONNX file: quantized, its T, and its statistics."""
    from neurocompile import pipeline
    from neurocompile.calibration import calibration_from_metadata
    from neurocompile.passes.canonicalize import canonicalize
    from neurocompile.passes.quantize import Quantize

    loaded, imported = pipeline.import_model(path)
    steps = max(imported.graph.exported_T, 1)
    statistics = calibration_from_metadata(loaded.metadata)
    return Quantize(steps, statistics)(canonicalize(imported.graph)), steps, statistics


def searched(name: str, graph: Any, steps: int) -> dict[str, Any]:
    """The front, and how long it took."""
    import msgspec

    from neurocompile.build_steps import build_circuit
    from neurocompile.folding.search import choice_of, folds_of, pareto
    from neurocompile.targets import load_target

    chip, start = load_target("loihi2"), time.process_time()
    unrolled = choice_of(build_circuit(graph, steps, 8, chip), chip, "none")
    front = pareto([unrolled, *folds_of(graph, steps, 8, chip)])
    return {
        "model": name,
        "front": [msgspec.to_builtins(c) for c in front],
        "seconds": time.process_time() - start,
        "megabytes": peak_megabytes(),
        "mapped": {},
    }


def map_folds(found: dict[str, Any], graph: Any, steps: int, statistics: Any, most: int) -> None:
    """Map what each machine would get, if its bound is at most ``most``: the first that fits."""
    for target, cores in MACHINES[:2]:
        for choice in found["front"]:
            if choice["cores_at_least"] > cores:
                continue
            if choice["cores_at_least"] > most:
                break
            mapped = placed(graph, steps, statistics, target, choice["fold"])
            if mapped is not None:
                found["mapped"][target] = {"fold": choice["fold"], "cores": mapped}
                break


def placed(graph: Any, steps: int, statistics: Any, target: str, fold: str) -> int | None:
    """Cores of a mapping; None if it does not fit."""
    from neurocompile.build_steps import build_circuit
    from neurocompile.errors import NeurocompileError
    from neurocompile.folding.schedules import Fold
    from neurocompile.folding.search import fold_circuit
    from neurocompile.mapping import map_circuit
    from neurocompile.mapping.rates import modelled_rates
    from neurocompile.targets import load_target

    machine = load_target(target)
    if fold == "none":
        circuit = build_circuit(graph, steps, 8, machine)
    else:
        circuit = fold_circuit(graph, steps, 8, machine, Fold.parse(fold))
    try:
        return map_circuit(circuit, machine, modelled_rates(circuit, statistics)).cores_used
    except NeurocompileError as error:
        print(f"{fold} on {target}: {error.code}", file=sys.stderr)
        return None


def cell(one: dict[str, Any], machine: tuple[str, int]) -> str:
    """The fewest steps that fit by the bound, and what mapping took."""
    target, cores = machine
    fitting = [c for c in one["front"] if c["cores_at_least"] <= cores]
    if not fitting:
        return f"no fold: {one['front'][-1]['cores_at_least']:,} at least"
    first = fitting[0]
    text = f"{first['steps']:,} steps at {first['cores_at_least']:,} (`{first['fold']}`)"
    mapped = one["mapped"].get(target)
    if mapped:
        taken = next(c for c in one["front"] if c["fold"] == mapped["fold"])
        text = f"**{mapped['cores']:,} mapped**, {taken['steps']:,} steps (`{taken['fold']}`)"
    return text


def table(found: list[dict[str, Any]], kept: dict[str, str] | None = None) -> str:
    """The section of docs/models.md; rows of models that were not measured now are ``kept``."""
    lines = [
        START,
        "| model | unrolled | one chip, 120 cores | Kapoho Point, 960 | Hala Point, 140,544 | Pareto front: cores@steps a sample | search, CPU s | MB |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rows = dict(kept or {})
    for one in found:
        front = " ".join(f"{c['cores_at_least']:,}@{c['steps']:,}" for c in one["front"])
        cells = " | ".join(cell(one, machine) for machine in MACHINES)
        rows[one["model"]] = (
            f"| {one['model']} | {one['front'][0]['cores_at_least']:,} | {cells} | {front} | "
            f"{one['seconds']:.0f} | {one['megabytes']:,.0f} |"
        )
    return "\n".join((*lines, *(rows[name] for name in MODELS if name in rows), END))


def kept_rows(text: str) -> dict[str, str]:
    """Model -> its row of a table that is there already."""
    cells = (line.split("|") for line in text.splitlines() if line.startswith("| "))
    return {c[1].strip(): "|".join(c) for c in cells if c[1].strip() in MODELS}


def main() -> None:
    """Measure, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--map", type=int, default=0, help="map folds of at most so many cores")
    parser.add_argument("--reuse", action="store_true", help="search what --json lacks, map all")
    parser.add_argument("--json", type=Path, help="keep all figures; models not named stay")
    parser.add_argument("--markdown", type=Path, help="write rows of the table; others stay")
    arguments = parser.parse_args()
    known: dict[str, Any] = {}
    if arguments.json and arguments.json.exists():
        known = {one["model"]: one for one in json.loads(arguments.json.read_text())}
    for name in arguments.names or ([] if known else MODELS):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{name}.onnx"
            child("export", name, path)
            graph, steps, statistics = quantized(str(path))
            if name not in known or not arguments.reuse:
                known[name] = searched(name, graph, steps)
            map_folds(known[name], graph, steps, statistics, arguments.map)
        if arguments.json:
            arguments.json.write_text(json.dumps(list(known.values()), indent=1) + "\n")
    found = [known[name] for name in MODELS if name in known]
    print(table(found))
    if arguments.markdown:
        head, rest = arguments.markdown.read_text(encoding="utf-8").split(START, 1)
        before, rest = rest.split(END, 1)
        text = table(found, kept_rows(before))
        arguments.markdown.write_text(head + text + rest, encoding="utf-8")


if __name__ == "__main__":
    main()
