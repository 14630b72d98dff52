"""Time of a step: the slowest core, the busiest link, and the mesh barrier; and a model that
measurements can fit.

A step lasts as long as its slowest core or link, then the barrier (Davies et al. 2018: cores run
free within a step). Counts are means over the steps of a sample, so a step of more spikes than the
mean takes longer: the figure is modelled.
"""

from __future__ import annotations

from typing import Any

import msgspec

from neurocompile.energy.counts import COLUMNS, Counts
from neurocompile.energy.packets import link_loads
from neurocompile.energy.profile import Profile
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.mapping import Mapping
from neurocompile.targets.schema import Target

__all__ = ["Latency", "estimate_latency"]


class Latency(msgspec.Struct, frozen=True, kw_only=True):
    """Counts of the busiest places a step, and times where constants are known (else None)."""

    basis: str
    steps_first_answer: int
    """Depth + T."""
    period: int
    """Steps between two answers of the pipeline."""
    busiest_core: int
    """Core with the longest time if the profile has times, otherwise with the most synaptic
    operations.
    """
    core_operations: float
    """Synaptic operations a step on the core that has most of them."""
    core_updates: float
    """Neuron updates a step on the core that has most of them."""
    link_packets: float
    """Packets a step over the busiest link of the mesh."""
    tiles: int
    """Tiles in use, which the barrier spans."""
    core_ns: float | None = None
    link_ns: float | None = None
    barrier_ns: float | None = None
    step_ns: float | None = None
    first_answer_us: float | None = None
    samples_per_second: float | None = None
    model: str = ""
    """Where the times come from, or why there are none."""


def estimate_latency(
    counts: Counts, circuit: CircuitGraph, mapping: Mapping, target: Target, profile: Profile
) -> Latency:
    """Times of ``counts`` under the profile's time constants; counts alone where it has none."""
    steps, table = circuit.sample_period, counts.cores
    column = {name: table[:, i] / steps for i, name in enumerate(COLUMNS)}
    operations = column["synops_dense"] + column["synops_sparse"] + column["synops_convolution"]
    links = link_loads(counts.packets, mapping, target)
    x_load = max((float(links[n].max(initial=0.0)) for n in ("east", "west")), default=0.0) / steps
    y_load = (
        max((float(links[n].max(initial=0.0)) for n in ("south", "north")), default=0.0) / steps
    )
    tiles = len({(c.chip, c.x, c.y) for c in mapping.cores})
    t = profile.time
    found: dict[str, Any] = {}
    needed = (
        t.synaptic_operation,
        t.neuron_update_active,
        t.neuron_update_inactive,
        t.hop_east_west,
        t.hop_north_south,
    )
    busiest = int(operations.argmax()) if len(operations) else 0
    if all(needed) and len(operations):
        synapse, active, inactive, east, north = (n.value for n in needed)  # type: ignore[union-attr]
        core = (
            operations * synapse
            + column["active"] * active
            + (column["updates"] - column["active"]) * inactive
        )
        busiest, link = int(core.argmax()), max(x_load * east, y_load * north)
        found = {
            "core_ns": float(core.max()),
            "link_ns": link,
            "model": f"time constants of {profile.name}",
        }
        if t.barrier_1_tile and t.barrier_32_tiles and tiles <= 32:
            low, high = t.barrier_1_tile.value, t.barrier_32_tiles.value
            barrier = low + (high - low) * (tiles - 1) / 31
            found |= {"barrier_ns": barrier} | times(
                max(float(core.max()), link) + barrier, circuit
            )
            found["model"] += "; barrier interpolated between 1 and 32 tiles"
        elif not (t.barrier_1_tile and t.barrier_32_tiles):
            found["model"] += (
                "; it has no times of barriers (barrier_1_tile, barrier_32_tiles), so there is no time a step"
            )
        else:
            found["model"] += (
                f"; no barrier time is published for {tiles:,} tiles, so there is no time a step"
            )
    else:
        names = (
            "synaptic_operation",
            "neuron_update_active",
            "neuron_update_inactive",
            "hop_east_west",
            "hop_north_south",
        )
        gone = ", ".join(
            name for name, constant in zip(names, needed, strict=True) if constant is None
        )
        found["model"] = (
            f"{profile.name} has no time of {gone}: counts only"
            if any(needed)
            else f"{profile.name} has no time constants: counts only"
        )
    return Latency(
        basis=counts.basis,
        steps_first_answer=circuit.latency,
        period=circuit.sample_period,
        busiest_core=busiest,
        core_operations=float(operations.max(initial=0.0)),
        core_updates=float(column["updates"].max(initial=0.0)),
        link_packets=max(x_load, y_load),
        tiles=tiles,
        **found,
    )


def times(step_ns: float, circuit: CircuitGraph) -> dict[str, float]:
    """What a time per step means for answers."""
    first = circuit.latency * step_ns * 1e-3
    return {
        "step_ns": step_ns,
        "first_answer_us": first,
        "samples_per_second": 1e9 / (circuit.sample_period * step_ns),
    }
