"""Cores and steps a sample of every reference model, folded in time: the table of docs/models.md.

    uv run python benchmarks/bench_folds.py [NAME ...] [--folder OUT] [--map CORES] [--jobs N]
        [--seconds S] [--reuse] [--markdown docs/models.md]

For each model, with random weights at 8 bits and T = 4: the Pareto front of cores and steps a sample
on Loihi 2's published limits. Cores are lower bounds; with --map, the first folds that fit one chip,
and one Kapoho Point, and the fold of fewest cores are also mapped where their bound is at most
CORES, and every mapping is counted again. --jobs N lets N processes search and map at a time.
--folder keeps every figure as soon as it is known, so that --seconds can stop at any time; with
--reuse nothing is searched that is there, and a mapping there gives way to a better one.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Iterator
from itertools import chain
from multiprocessing.connection import wait
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
AHEAD = 3
"""Folds that are mapped at once for one machine."""
MAPPING = 0.35
"""Part of the time that is kept for mapping what was found."""
GRACE = 2.0
"""Seconds that a model gets to end in time."""
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


def searched(
    name: str, model: tuple[Any, int, Any], until: float, before: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The front, and how long it took: a process for each family of folds. What is not found by
    ``until`` is left out, and ``whole`` says so; a search that was stopped ``before`` goes on.
    """
    import msgspec

    from neurocompile.build_steps import build_circuit
    from neurocompile.folding.search import choice_of, families, pareto
    from neurocompile.mapping.fold_choice import FoldChoice
    from neurocompile.mapping.rates import modelled_rates
    from neurocompile.targets import load_target

    chip, start = load_target("loihi2"), time.process_time()
    graph, steps, statistics = model
    before = before or {}
    choices = [msgspec.convert(c, FoldChoice) for c in before.get("found", before.get("front", []))]
    if not choices:
        circuit = build_circuit(graph, steps, 8, chip)
        choices = [choice_of(circuit, chip, "none", modelled_rates(circuit, statistics))]
        del circuit
    known = [c.fold for c in choices]
    seconds = before.get("seconds", 0.0) + time.process_time() - start
    fork = multiprocessing.get_context("fork")
    running = {}
    for number in range(len(list(families(graph)))):
        here, there = fork.Pipe(duplex=False)
        process = fork.Process(target=_search, args=(there, model, number, known), daemon=True)
        process.start()
        there.close()
        running[here] = process
    ended = 0
    while running and time.time() < until:
        for here in wait(list(running), timeout=1.0):
            try:
                one = here.recv()
            except EOFError:  # it died
                one = None
            if isinstance(one, dict):
                choices.append(msgspec.convert(one, FoldChoice))
                print(name, one["fold"], one["cores_at_least"], file=sys.stderr, flush=True)
                continue
            ended += one is not None
            running.pop(here).join()
            seconds += one or 0.0
    whole = not running and ended == len(list(families(graph)))
    for process in running.values():
        process.terminate()
    return {
        "model": name,
        "front": [msgspec.to_builtins(c) for c in pareto(choices)],
        "found": [msgspec.to_builtins(c) for c in choices],
        "seconds": seconds,
        "megabytes": peak_megabytes(),
        "whole": whole,
        "mapped": {},
    }


def _search(there: Any, model: tuple[Any, int, Any], number: int, known: list[str]) -> None:
    """Send the folds of a family that are not ``known``, one after the other, and at the end the
    seconds they took.
    """
    import msgspec

    from neurocompile.folding.search import families, family_of, folder_for
    from neurocompile.targets import load_target

    start, (graph, steps, statistics) = time.process_time(), model
    chip = load_target("loihi2")
    family = [fold for fold in list(families(graph))[number] if str(fold) not in known]
    folder = folder_for(graph, steps, 8, chip)
    for choice in family_of(folder, chip, family, statistics=statistics):
        there.send(msgspec.to_builtins(choice))
    there.send(time.process_time() - start)


_MODEL: dict[str, Any] = {}
"""The graph that forked processes map folds of."""


class Tries:
    """Folds of one model that one machine may take, by steps: the first that maps is wanted."""

    def __init__(self, name: str, target: str, folds: list[str], ahead: int) -> None:
        self.name, self.target, self.folds = name, target, folds
        self.state: dict[str, Any] = {}
        """Fold -> what came of it; None where it does not fit."""
        self.running: dict[str, tuple[Any, Any]] = {}
        self._ahead = ahead

    @property
    def best(self) -> str | None:
        """The fewest steps that mapped."""
        return next((f for f in self.folds if self.state.get(f)), None)

    def merit(self, mapped: dict[str, Any]) -> tuple[int, int]:
        """Of two mappings the lower is better."""
        steps = mapped["choice"]["steps"] if self.name in ("loihi2", "kapoho_point") else 0
        return steps, mapped["cores"]

    @property
    def waiting(self) -> list[str]:
        """Folds worth a process now."""
        if self.best is not None or len(self.running) >= self._ahead:
            return []
        return [f for f in self.folds if f not in self.state and f not in self.running]

    def start(self, fold: str) -> None:
        """Map ``fold`` in a process of its own."""
        fork = multiprocessing.get_context("fork")
        here, there = fork.Pipe(duplex=False)
        process = fork.Process(target=_send, args=(there, self.target, fold), daemon=True)
        process.start()
        there.close()
        self.running[fold] = process, here

    def collect(self) -> list[str]:
        """Folds that ended since; those behind one that mapped are given up."""
        ended = []
        for fold, (process, here) in list(self.running.items()):
            if here.poll() or not process.is_alive():
                self.state[fold] = here.recv() if here.poll() else None
                self._stop(fold)
                ended.append(fold)
        best = self.best
        for fold in list(self.running):
            if best is not None and self.folds.index(fold) > self.folds.index(best):
                self._stop(fold)
                ended.append(fold)
        return ended

    def give_up(self) -> list[str]:
        """Stop what still runs, and name it."""
        stopped = list(self.running)
        for fold in stopped:
            self._stop(fold)
        return stopped

    def _stop(self, fold: str) -> None:
        process, here = self.running.pop(fold)
        process.terminate()
        process.join()
        here.close()


def _send(there: Any, target: str, fold: str) -> None:
    there.send(placed(target, fold))


def map_folds(
    found: dict[str, Any], model: tuple[Any, int, Any], most: int, slots: Any, until: float
) -> Iterator[None]:
    """Map what each machine would get, if its bound is at most ``most``: the first that fits, and
    the fold of fewest cores. Yields whenever one is known; stops at ``until``. What is kept from
    before gives way to what is better.
    """
    _MODEL.update(graph=model[0], steps=model[1], statistics=model[2])
    wanted: list[Tries] = []
    fewest = found["front"][-1]
    for target, cores in MACHINES:
        fitting = [c["fold"] for c in found["front"] if c["cores_at_least"] <= min(cores, most)]
        if target == MACHINES[-1][0]:
            if fewest["cores_at_least"] > MACHINES[1][1]:
                wanted.append(Tries(target, target, fitting[-1:], 1))
        else:
            wanted.append(Tries(target, target, fitting, AHEAD))
    if fewest["cores_at_least"] <= MACHINES[1][1]:
        wanted.append(Tries("fewest", MACHINES[1][0], [fewest["fold"]], 1))
    while any(t.running or t.waiting for t in wanted) and time.time() < until:
        for tries in wanted:
            for fold in tries.waiting[:1]:
                if slots.acquire(block=False):
                    tries.start(fold)
            ended = tries.collect()
            for _ in ended:
                slots.release()
            if tries.best is not None and ended:
                choice = next(c for c in found["front"] if c["fold"] == tries.best)
                new = {"choice": choice, **tries.state[tries.best]}
                old = found["mapped"].get(tries.name, new)
                found["mapped"][tries.name] = min(new, old, key=tries.merit)
                yield
        time.sleep(0.1)
    for tries in wanted:
        for fold in tries.give_up():
            print(found["model"], fold, tries.target, "did not end", file=sys.stderr, flush=True)


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
        "method": mapping.method,
        "tiles": sum(len(core.tiles) for core in mapping.cores),
        "fill": filled(mapping, machine),
        "seconds": seconds,
        "megabytes": peak_megabytes(),
    }
    print(graph.name, fold, target, json.dumps(found), file=sys.stderr, flush=True)
    return found


def filled(mapping: Any, machine: Any) -> dict[str, list[float]]:
    """Resource -> its mean share of a core's, the share of cores that are full of it (97 %), and of
    those where it is the fullest.
    """
    import numpy as np

    limits = {r: limit for r, limit in machine.capacity.items() if limit}
    shares = np.array([[getattr(c.used, r) / n for r, n in limits.items()] for c in mapping.cores])
    most = shares == shares.max(axis=1, keepdims=True)
    of_each = zip(shares.mean(0), (shares > 0.97).mean(0), most.mean(0), strict=True)
    found = {r: [round(float(v), 3) for v in f] for r, f in zip(limits, of_each, strict=True)}
    return {**found, "fullest": [round(float(shares.max(axis=1).mean()), 3)]}


def measured(
    name: str, folder: Path, reuse: bool, most: int, slots: Any, until: float, seconds: float
) -> None:
    """One model: its front, and what its folds map to, in a file of ``folder``."""
    kept = folder / f"{name}.json"
    found = json.loads(kept.read_text()) if reuse and kept.exists() else None
    if found and not most:
        return
    with slots:
        with tempfile.TemporaryDirectory() as place:
            path = Path(place) / f"{name}.onnx"
            child("export", name, path)
            model = quantized(str(path))
        print(f"{name}: quantized", file=sys.stderr, flush=True)
        if not found or not found.get("whole", True):
            mapped = found["mapped"] if found else {}
            found = {**searched(name, model, until - MAPPING * seconds, found), "mapped": mapped}
        print(f"{name}: a front of {len(found['front'])}", file=sys.stderr, flush=True)
    maps = map_folds(found, model, most, slots, until) if most else ()
    for _ in chain([None], maps):
        part = kept.with_suffix(".part")
        part.write_text(json.dumps(found, indent=1) + "\n")
        part.replace(kept)


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
    """What a mapping took, beside the bound."""
    taken = mapped["choice"]
    ratio = f"{mapped['cores'] / taken['cores_at_least']:.2f} of the bound"
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
    parser.add_argument(
        "--reuse", action="store_true", help="search what --folder lacks; with --map, map again"
    )
    parser.add_argument("--seconds", type=float, default=86_400, help="stop after so long")
    parser.add_argument("--folder", type=Path, help="keep all figures, a file a model")
    parser.add_argument("--markdown", type=Path, help="write rows of the table; others stay")
    a = parser.parse_args()
    if a.folder:
        a.folder.mkdir(parents=True, exist_ok=True)
    names, until = a.names or MODELS, time.time() + a.seconds
    with tempfile.TemporaryDirectory() as place:
        folder = a.folder or Path(place)
        spawn = multiprocessing.get_context("spawn")
        slots = spawn.Semaphore(a.jobs)
        given = folder, a.reuse, a.map, slots, until, a.seconds
        running = [spawn.Process(target=measured, args=(n, *given)) for n in names]
        for process in running:
            process.start()
        for process in running:
            process.join(max(0.0, until + GRACE - time.time()))
            process.terminate()
        files = [folder / f"{n}.json" for n in names]
        found = [json.loads(f.read_text()) for f in files if f.exists()]
    print(table(found))
    if a.markdown:
        head, rest = a.markdown.read_text(encoding="utf-8").split(START, 1)
        before, rest = rest.split(END, 1)
        a.markdown.write_text(head + table(found, kept_rows(before)) + rest, encoding="utf-8")


if __name__ == "__main__":
    main()
