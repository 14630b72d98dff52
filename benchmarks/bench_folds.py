"""Cores and steps a sample of every reference model, folded in time: the table of docs/models.md.

    uv run python benchmarks/bench_folds.py [NAME ...] [--folder OUT] [--map CORES] [--jobs N]
        [--reuse] [--markdown docs/models.md]

For each model, with random weights at 8 bits and T = 4: the Pareto front of cores and steps a sample
on Loihi 2's published limits. Cores are lower bounds; with --map, the first folds that fit one chip,
and one Kapoho Point, and the fold of fewest cores are also mapped where their bound is at most
CORES, and every mapping is counted again. --jobs N measures models, and maps folds, in N processes.
--folder keeps every figure as soon as it is known; with --reuse nothing is measured that is there.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from itertools import chain
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


def searched(name: str, graph: Any, steps: int, statistics: Any) -> dict[str, Any]:
    """The front, and how long it took."""
    import msgspec

    from neurocompile.build_steps import build_circuit
    from neurocompile.folding.search import choice_of, folds_of, pareto
    from neurocompile.mapping.rates import modelled_rates
    from neurocompile.targets import load_target

    chip, start = load_target("loihi2"), time.process_time()
    circuit = build_circuit(graph, steps, 8, chip)
    unrolled = choice_of(circuit, chip, "none", modelled_rates(circuit, statistics))
    front = pareto([unrolled, *folds_of(graph, steps, 8, chip, statistics=statistics)])
    return {
        "model": name,
        "front": [msgspec.to_builtins(c) for c in front],
        "seconds": time.process_time() - start,
        "megabytes": peak_megabytes(),
        "mapped": {},
    }


_MODEL: dict[str, Any] = {}
"""The graph that forked processes map folds of."""


def map_folds(
    found: dict[str, Any], model: tuple[Any, int, Any], most: int, jobs: int
) -> Iterator[None]:
    """Map what each machine would get, if its bound is at most ``most``: the first that fits, and
    the fold of fewest cores; ``jobs`` folds at a time. Yields whenever one is known.
    """
    _MODEL.update(graph=model[0], steps=model[1], statistics=model[2])
    wanted: dict[str, list[str]] = {}
    for target, cores in MACHINES:
        fitting = [c["fold"] for c in found["front"] if c["cores_at_least"] <= min(cores, most)]
        alone = target == MACHINES[-1][0]
        if alone and any(c["cores_at_least"] <= MACHINES[1][1] for c in found["front"]):
            continue
        wanted[target] = fitting[-1:] if alone else fitting
    fork = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(jobs, mp_context=fork) as pool:
        tries: dict[str, list[tuple[str, Future[Any]]]] = {}
        for target, folds in wanted.items():
            few = folds[:3] if jobs > 1 else folds
            tries[target] = [(fold, pool.submit(placed, target, fold)) for fold in few]
            if target == MACHINES[1][0] and folds[4:]:
                tries["fewest"] = [(folds[-1], pool.submit(placed, target, folds[-1]))]
        for name, futures in tries.items():
            for fold, future in futures:
                mapped = future.result()
                if mapped is not None:
                    found["mapped"][name] = {"fold": fold, **mapped}
                    for _, later in futures:
                        later.cancel()
                    yield
                    break


def placed(target: str, fold: str) -> dict[str, Any] | None:
    """A mapping, counted again; None if the fold does not fit."""
    from neurocompile.build_steps import build_circuit
    from neurocompile.errors import NeurocompileError
    from neurocompile.folding.schedules import Fold
    from neurocompile.folding.search import fold_circuit
    from neurocompile.mapping import check_mapping, map_circuit
    from neurocompile.mapping.rates import modelled_rates
    from neurocompile.targets import load_target

    graph, steps = _MODEL["graph"], _MODEL["steps"]
    machine, start = load_target(target), time.process_time()
    if fold == "none":
        circuit = build_circuit(graph, steps, 8, machine)
    else:
        circuit = fold_circuit(graph, steps, 8, machine, Fold.parse(fold))
    try:
        mapping = map_circuit(circuit, machine, modelled_rates(circuit, _MODEL["statistics"]))
    except NeurocompileError as error:
        print(f"{graph.name} {fold} on {target}: {error.code} {error}", file=sys.stderr, flush=True)
        return None
    seconds = time.process_time() - start
    problems = check_mapping(circuit, mapping, machine)
    traffic = mapping.traffic
    found = {
        "cores": mapping.cores_used,
        "bound": mapping.lower_bound,
        "packets": circuit.sample_steps * (traffic.packets + traffic.local + traffic.from_host),
        "problems": problems,
        "seconds": seconds,
        "megabytes": peak_megabytes(),
    }
    print(graph.name, fold, target, json.dumps(found), file=sys.stderr, flush=True)
    return found


def measured(name: str, folder: Path | None, reuse: bool, most: int, jobs: int) -> dict[str, Any]:
    """One model: its front, and what its folds map to."""
    kept = folder / f"{name}.json" if folder else None
    found = json.loads(kept.read_text()) if reuse and kept and kept.exists() else None
    if found and (found["mapped"] or not most):
        return found
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / f"{name}.onnx"
        child("export", name, path)
        graph, steps, statistics = quantized(str(path))
    found = found or searched(name, graph, steps, statistics)
    print(f"{name}: a front of {len(found['front'])}", file=sys.stderr, flush=True)
    model = graph, steps, statistics
    maps = map_folds(found, model, most, max(1, jobs // 5)) if most else ()
    for _ in chain([None], maps):
        if kept:
            kept.write_text(json.dumps(found, indent=1) + "\n")
    return found


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
        text = mapped_text(one, mapped)
    return text


def mapped_text(one: dict[str, Any], mapped: dict[str, Any]) -> str:
    """What a mapping took, beside the bound and the packets of the unrolled model."""
    taken = next(c for c in one["front"] if c["fold"] == mapped["fold"])
    ratio = f"{mapped['cores'] / taken['cores_at_least']:.2f} of the bound"
    if one["front"][0].get("packets"):
        ratio += f", {taken['packets'] / one['front'][0]['packets']:.2f} times the packets"
    return f"**{mapped['cores']:,} mapped**, {taken['steps']:,} steps (`{taken['fold']}`; {ratio})"


def fewest(one: dict[str, Any]) -> str:
    """The fold of fewest cores."""
    mapped = one["mapped"].get("fewest")
    if mapped:
        return mapped_text(one, mapped)
    last = one["front"][-1]
    return f"{last['cores_at_least']:,}, {last['steps']:,} steps (`{last['fold']}`)"


def table(found: list[dict[str, Any]], kept: dict[str, str] | None = None) -> str:
    """The section of docs/models.md; rows of models that were not measured now are ``kept``."""
    lines = [
        START,
        "| model | unrolled | one chip, 120 cores | Kapoho Point, 960 | Hala Point, 140,544 | fewest at any fold | Pareto front: cores@steps a sample | search, CPU s | MB |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    rows = dict(kept or {})
    for one in found:
        front = " ".join(f"{c['cores_at_least']:,}@{c['steps']:,}" for c in one["front"])
        cells = " | ".join(cell(one, machine) for machine in MACHINES)
        rows[one["model"]] = (
            f"| {one['model']} | {one['front'][0]['cores_at_least']:,} | {cells} | {fewest(one)} | {front} | "
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
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--reuse", action="store_true", help="measure what --folder lacks")
    parser.add_argument("--folder", type=Path, help="keep all figures, a file a model")
    parser.add_argument("--markdown", type=Path, help="write rows of the table; others stay")
    a = parser.parse_args()
    if a.folder:
        a.folder.mkdir(parents=True, exist_ok=True)
    names, found = a.names or MODELS, []
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(a.jobs, len(names)), mp_context=spawn) as pool:
        runs = [pool.submit(measured, n, a.folder, a.reuse, a.map, a.jobs) for n in names]
        for run, name in zip(runs, names, strict=True):
            try:
                found.append(run.result())
            except Exception as error:  # the others' figures are worth keeping
                print(f"{name}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
    print(table(found))
    if a.markdown:
        head, rest = a.markdown.read_text(encoding="utf-8").split(START, 1)
        before, rest = rest.split(END, 1)
        a.markdown.write_text(head + table(found, kept_rows(before)) + rest, encoding="utf-8")


if __name__ == "__main__":
    main()
