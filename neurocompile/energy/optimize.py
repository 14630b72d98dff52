"""Refine a mapping on counted traffic: ``--optimize packets|time|energy``.

Messages of calibration samples are counted neuron by neuron on the emulator, which is exact. Other
mappings (:mod:`neurocompile.mapping.counted`) are then counted as ``energy --input`` counts, and the best
is kept that is not worse on held-out samples either: the first one where none is better.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec
import numpy as np

from neurocompile.backends.encoding import encode
from neurocompile.energy.activity import Activity, measured_activity
from neurocompile.energy.counts import COLUMNS, Counts, count
from neurocompile.energy.mesh import constants_of, samples_to_fill, simulate_mesh
from neurocompile.energy.price import complete, price
from neurocompile.energy.profile import Profile, load_profile, profile_of
from neurocompile.errors import NeurocompileError
from neurocompile.images.build import build_images
from neurocompile.images.machine import CoreMachine
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.manifest import Optimized
from neurocompile.mapping.counted import core_loads, others
from neurocompile.mapping.grants import granted
from neurocompile.mapping.mapping import Mapping as Placement
from neurocompile.mapping.resources import Usage
from neurocompile.mapping.tile import Tile
from neurocompile.targets.schema import Target

__all__ = ["held_out_load", "optimize_mapping"]

SAMPLES = 32
"""Calibration samples that are counted, and at most as many held-out ones behind them; for times, as
many as fill the pipeline twice at least.
"""


def optimize_mapping(
    circuit: CircuitGraph,
    mapping: Placement,
    target: Target,
    rates: Mapping[str, float],
    x: np.ndarray | None,
    objective: str,
) -> tuple[Placement, Optimized]:
    """The best mapping by its own count, and what that brought.

    Args:
        rates: population -> messages a neuron a step, as ``mapping`` was made with.
        x: float32 (samples, *input shape): calibration samples; the first :data:`SAMPLES` are counted, the
            next are held out: a mapping that is worse than ``mapping`` on them is not taken.
        objective: ``packets`` of an inference, ``energy`` of it, or ``time`` of a step on the mesh.

    Raises:
        NeurocompileError: NC1006 without samples.
    """
    if x is None:
        raise NeurocompileError(
            "NC1006",
            f"optimize {objective} counts the messages of calibration samples: give some (`calibration`)",
        )
    x, rest = x[:SAMPLES], x[SAMPLES : 2 * SAMPLES]
    activity = measured_activity(circuit, x)
    sent = _each_step(circuit, activity)
    measure, unit, profile = _measure(circuit, target, activity, x, objective)
    loads = _loads(circuit, mapping, target, activity) if objective == "time" else None
    best, least = mapping, measure(mapping)
    before, tried, refused = least, 0, 0
    held_out, kept = None, 0.0
    if len(rest):
        held_out, *_ = _measure(circuit, target, measured_activity(circuit, rest), rest, objective)
        kept = held_out(mapping)
    held_before = kept
    for other in others(circuit, mapping, target, rates, sent, loads):
        found, tried = measure(other), tried + 1
        if found >= least:
            continue
        there = held_out(other) if held_out else kept
        if there > held_before:
            refused += 1
            continue
        best, least, kept = other, found, there
    return best, Optimized(
        objective=objective,
        unit=unit,
        samples=len(x),
        profile=profile,
        before=before,
        after=least,
        tried=tried,
        held_out=len(rest),
        held_out_before=held_before,
        held_out_after=kept,
        held_out_refused=refused,
    )


def _loads(
    circuit: CircuitGraph, mapping: Placement, target: Target, activity: Activity
) -> Callable[[Sequence[Tile]], np.ndarray]:
    """Synaptic operations at the neurons of tiles: what a core is busy with longest."""

    def loads(tiles: Sequence[Tile]) -> np.ndarray:
        place, none = mapping.cores[0], Usage()
        alone = tuple(
            msgspec.structs.replace(place, tiles=(tile,), used=none) for tile in tiles
        )  # places do not matter here
        found = count(circuit, msgspec.structs.replace(mapping, cores=alone), target, activity)
        names = [i for i, name in enumerate(COLUMNS) if name.startswith("synops_")]
        return found.cores[:, names].sum(axis=1)

    return loads


def _each_step(circuit: CircuitGraph, activity: Activity) -> dict[str, np.ndarray]:
    """Messages of each neuron a step."""
    steps = activity.inferences * circuit.sample_steps
    return {name: values / steps for name, values in activity.messages.items()}


def _measure(
    circuit: CircuitGraph, target: Target, activity: Activity, x: np.ndarray, objective: str
) -> tuple[Callable[[Placement], float], str, str]:
    """What is made small, its unit, and the profile it takes."""

    def counted(mapping: Placement) -> Counts:
        return count(circuit, mapping, target, activity)

    if objective == "packets":
        return lambda mapping: counted(mapping).total("packets"), "packets an inference", ""
    own = profile_of(target)
    if objective == "energy":
        profile = own if complete(own) else load_profile("davies2018")

        def energy(mapping: Placement) -> float:
            return float(price(profile, counted(mapping).populations).sum())

        return energy, "pJ an inference", profile.name
    profile = _with_times(own)
    samples = np.resize(encode(circuit, x), (2 * samples_to_fill(circuit), *circuit.input_shape))

    def time(mapping: Placement) -> float:
        constants = constants_of(profile, len({(c.chip, c.x, c.y) for c in mapping.cores}))
        machine = CoreMachine(build_images(circuit, mapping, target))
        run = simulate_mesh(machine, machine.count(samples, by_step=True), target, constants)
        return float(run.total[run.full].mean())

    return time, "ns a step", profile.name


def _with_times(own: Profile) -> Profile:
    """The target's own times, or else Loihi 1's: of another chip only their order counts."""
    try:
        constants_of(own, 1)
    except NeurocompileError:
        return load_profile("davies2018")
    return own


def held_out_load(
    circuit: CircuitGraph, mapping: Placement, x: np.ndarray
) -> tuple[float, float, int]:
    """Of the core that sends most of what the mapping's budget grants it: messages in a step of
    float32 ``x`` on average, the part of the grant, and which it is.
    """
    sent = _each_step(circuit, measured_activity(circuit, x))
    shapes = {p.name: p.shape for p in circuit.populations}
    layer = {p.name: p.layer for p in circuit.populations}
    part = {
        name: each / max(granted(mapping.spikes_per_core_step, layer[name]), 1e-300)
        for name, each in sent.items()
    }
    parts = core_loads(mapping, shapes, part)
    core = int(parts.argmax()) if len(parts) else 0
    most = core_loads(mapping, shapes, sent)
    return float(most[core]) if len(most) else 0.0, float(parts.max(initial=0.0)), core
