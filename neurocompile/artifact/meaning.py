"""What the figures of a loaded artifact must mean before anything believes them.

Hashes show damage, not intent: whoever forges an artifact computes them again. So every command
that loads one checks here that numbers lie in their ranges, that manifest, texts and target speak
of the same program, and that the mapping lies on the chip. What costs more than a look (resources
counted again, the circuit lowered again, steps run again) is `neurocompile verify`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import numpy as np

from neurocompile.artifact.asked import asked_problems
from neurocompile.calibration import problem_of
from neurocompile.mapping.mapping import check_places
from neurocompile.passes.schedule import period_for
from neurocompile.program import Program

__all__ = ["meaning_problems"]

_MOST_PROOF_SAMPLES = 1000
_MOST_LETTERS = 4096
"""Of a name or another text."""
_SIGNED = frozenset({"calibration.input.min", "calibration.input.max"})
"""Numbers that may be negative."""
_REAL = "calibration.values."
"""And the ends of what real values reach."""


def meaning_problems(program: Program) -> list[str]:
    """One line for each figure that cannot be true, none if all is well."""
    found = [*_numbers(program), *_header(program), *_circuit(program)]
    found = found or check_places(program.circuit, program.mapping, program.target)
    return found or list(asked_problems(program))


def _header(program: Program) -> Iterator[str]:
    manifest, circuit = program.manifest, program.circuit
    options = manifest.options
    if options.T is None or options.weight_bits is None:
        yield "the manifest leaves T or weight_bits open"
    elif options.T != circuit.steps:
        yield f"the manifest says T = {options.T:,}, its circuit has {circuit.steps:,} steps"
    if options.target != program.target.name:
        yield (f"target.json is '{program.target.name}', the manifest says '{options.target[:80]}'")
    if not 0 <= manifest.import_agreement <= 1:
        yield f"import_agreement is {manifest.import_agreement:g}, a share of spikes"
    names = {p.name for p in circuit.populations}
    if manifest.rates.keys() != names:
        odd = sorted(manifest.rates.keys() ^ names)[0]
        yield f"rates and populations differ: '{odd[:80]}' is in one of them alone"
    for name, rate in manifest.rates.items():
        if not 0 <= rate <= 1:
            yield f"the rate of '{name[:80]}' is {rate:g}, of 0..1 messages a neuron and step"
            break
    proof = manifest.proof
    if not 1 <= proof.samples <= _MOST_PROOF_SAMPLES:
        yield f"the proof has {proof.samples:,} samples, of 1..{_MOST_PROOF_SAMPLES:,}"
    problem = problem_of(program.calibration)
    if problem is not None:
        yield f"calibration.json: {problem}"


def _circuit(program: Program) -> Iterator[str]:
    circuit, target = program.circuit, program.target
    if not 1 <= circuit.steps <= 1 << 16:
        yield f"its circuit has {circuit.steps:,} steps a sample, of 1..{1 << 16:,}"
        return
    period = period_for(circuit.steps, target.reset.power_of_two.value)
    if circuit.period != period:
        yield (
            f"its circuit has a period of {circuit.period:,} steps; T = {circuit.steps:,} on "
            f"{target.name} gives {period:,}"
        )
    deepest = sum(max(q.delay, 1) for q in circuit.projections)
    if any(not 0 <= p.depth <= deepest for p in circuit.populations):
        yield f"a population lies deeper than all connections together reach ({deepest:,} steps)"
    if circuit.name != program.mapping.circuit:
        yield f"its circuit is '{circuit.name[:80]}', mapped is '{program.mapping.circuit[:80]}'"
    if program.mapping.lower_bound > max(program.mapping.cores_used, 0):
        yield (
            f"the mapping has {program.mapping.cores_used:,} cores and says that at least "
            f"{program.mapping.lower_bound:,} are needed"
        )


def _numbers(program: Program) -> Iterator[str]:
    """Of the JSON members: every number is finite, and none is negative but where that means
    something.
    """
    parts = {
        "manifest": program.manifest,
        "mapping": program.mapping.traffic,
        "calibration": program.calibration,
    }
    for root, value in parts.items():
        for path, number in _walk(msgspec.to_builtins(value), root):
            if not np.isfinite(number):
                yield f"{path} is {number}"
            elif number < 0 and path not in _SIGNED and not path.startswith(_REAL):
                yield f"{path} is {number:g}; it cannot be negative"
    for root, text in {**parts, "mapping": program.mapping.method}.items():
        for path, letters in _texts(msgspec.to_builtins(text), root):
            if letters > _MOST_LETTERS:
                yield f"{path} has {letters:,} letters, of at most {_MOST_LETTERS:,}"
    mapping = program.mapping
    if mapping.lower_bound < 0 or mapping.seed < 0:
        yield f"the mapping has lower_bound {mapping.lower_bound}, seed {mapping.seed}"
    for path, number in _walk(mapping.spikes_per_core_step, "mapping.spikes_per_core_step"):
        if not 0 <= number < np.inf:
            yield f"{path} is {number:g}"


def _texts(value: Any, path: str) -> Iterator[tuple[str, int]]:
    """Where text stands, keys among it, and how long it is."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield f"a name in {path}", len(str(key))
            yield from _texts(item, f"{path}.{str(key)[:80]}")
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item, path)
    elif isinstance(value, str):
        yield path, len(value)


def _walk(value: Any, path: str) -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _walk(item, f"{path}.{str(key)[:80]}")
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _walk(item, path)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield path, float(value) if abs(value) < 1 << 62 else float("inf")
