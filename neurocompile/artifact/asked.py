"""What a manifest says was asked for and came of it, against the graphs, the mapping and the chip."""

from __future__ import annotations

import re
from collections.abc import Iterator

from neurocompile.manifest import Optimized
from neurocompile.mapping.budget import SpikeBudget, parse_budget
from neurocompile.mapping.grants import parts_used
from neurocompile.program import Program

__all__ = ["asked_problems"]

_SHA256 = re.compile(r"[0-9a-f]{64}")
_ROUNDING = 1e-6
"""Grants are kept with nine digits."""


def asked_problems(program: Program) -> Iterator[str]:
    """One line for each statement of the manifest that the rest of the artifact contradicts."""
    manifest = program.manifest
    options = manifest.options
    yield from _model(program)
    yield from _place(program)
    yield from _optimized(options.optimize, manifest.optimized)
    if (options.budget is None) != (manifest.budget is None):
        yield "a budget was asked for and none kept, or kept and not asked for"
    elif manifest.budget is not None and options.budget is not None:
        yield from _budget(program, manifest.budget, options.budget)
    elif program.mapping.spikes_per_core_step is not None:
        yield "the mapping keeps a budget that nobody asked for"


def _model(program: Program) -> Iterator[str]:
    manifest, quantized, circuit = program.manifest, program.quantized, program.circuit
    if not manifest.model == quantized.name == circuit.name:
        yield (
            f"the manifest is of '{manifest.model[:80]}', the graphs of '{quantized.name[:80]}' "
            f"and '{circuit.name[:80]}'"
        )
    if manifest.exported_T != quantized.exported_T:
        yield (
            f"exported_T is {manifest.exported_T:,}, the quantized graph's {quantized.exported_T:,}"
        )
    for name, text in (("source_sha256", manifest.source_sha256), ("proof", manifest.proof.sha256)):
        if not _SHA256.fullmatch(text):
            yield f"{name} is '{text[:80]}', no SHA-256"


def _place(program: Program) -> Iterator[str]:
    options, mapping, circuit = program.manifest.options, program.mapping, program.circuit
    if options.max_cores is not None and mapping.cores_used > options.max_cores:
        yield f"max_cores is {options.max_cores:,}, the mapping has {mapping.cores_used:,} cores"
    steps = circuit.sample_period
    if circuit.windows > 1 and options.max_steps is not None and steps > options.max_steps:
        yield f"max_steps is {options.max_steps:,}, a sample takes {steps:,} steps"
    if circuit.windows > 1 and options.fold == "none":
        yield f"the manifest says that nothing is folded, its circuit has {circuit.windows:,} windows"
    seeds = options.seed, mapping.seed, program.manifest.proof.seed
    if len(set(seeds)) > 1:
        yield "options, mapping and proof have the seeds " + ", ".join(str(n)[:40] for n in seeds)


def _optimized(objective: str | None, found: Optimized | None) -> Iterator[str]:
    if (found is None) != (objective is None):
        yield "a refined mapping was asked for and none is recorded, or recorded and not asked for"
    elif found is not None and (
        found.objective != objective or found.samples < 1 or found.after > found.before
    ):
        yield (
            f"refined for '{found.objective[:80]}' on {found.samples:,} samples, from "
            f"{found.before:g} to {found.after:g}; asked for was '{objective}'"
        )


def _budget(program: Program, budget: SpikeBudget, asked: str) -> Iterator[str]:
    circuit, mapping = program.circuit, program.mapping
    request = parse_budget(asked)
    if (budget.text, budget.epsilon, budget.constant) != (asked, request.epsilon, request.constant):
        yield f"the budget is '{budget.text[:80]}', asked for was '{asked}'"
    if request.spikes is not None and budget.total != request.spikes:
        yield f"the budget is {budget.total:g} spikes, asked for were {request.spikes:g}"
    names = [share.layer for share in budget.layers]
    if len(set(names)) < len(names) or not {*names} <= {view.layer for view in circuit.views}:
        yield "the budget's layers are not those of the circuit, each once"
    for what, most, parts in (
        ("shares", 1.0, [share.share for share in budget.layers]),
        ("spikes", budget.total, [share.spikes for share in budget.layers]),
        ("messages", budget.messages, [share.granted for share in budget.layers]),
    ):
        if sum(parts) > most * (1 + _ROUNDING):
            yield f"the budget's {what} by layer come to {sum(parts):g}, of {most:g}"
    cores = [load.core for load in budget.moved]
    if max([budget.held_out_core, *cores]) >= max(mapping.cores_used, 1):
        yield "the budget names a core that the mapping lacks"
    if budget.cores_without > program.target.cores or (budget.moved and not budget.binds):
        yield "the budget says what it did to cores that were not there, or did not change"
    grants = {s.layer: s.per_core_step for s in budget.layers if s.per_core_step > 0}
    if mapping.spikes_per_core_step != grants:
        yield "the mapping keeps another budget than the manifest"
    else:
        used = parts_used(
            circuit, (core.tiles for core in mapping.cores), program.manifest.rates, grants
        )
        if used.max(initial=0.0) > 1 + _ROUNDING:
            yield f"core {int(used.argmax())} sends {used.max():.3g} times what its layers grant"
