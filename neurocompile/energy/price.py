"""Energy of counts under one profile: constant times count, item by item; a constant that is absent prices nothing."""

from __future__ import annotations

import numpy as np

from neurocompile.energy.counts import COLUMNS
from neurocompile.energy.profile import Profile

__all__ = ["ITEMS", "missing", "price", "priced"]

ITEMS = ("synapses", "neurons", "spikes", "packets", "hops")
"""What energies are grouped into."""


def _terms(profile: Profile) -> list[tuple[str, str, float]]:
    """(item, column, pJ) of every constant that is there."""
    e = profile.energy
    found: list[tuple[str, str, float]] = []

    def add(item: str, column: str, *constants: object) -> None:
        value = next((c.value for c in constants if c is not None), None)  # type: ignore[attr-defined]
        if value is not None:
            found.append((item, column, value))

    for kind in ("dense", "sparse", "convolution"):
        add("synapses", f"synops_{kind}", getattr(e, f"synaptic_operation_{kind}"), e.synaptic_operation)
    add("synapses", "acs", e.ac)
    add("synapses", "macs", e.mac)
    add("neurons", "active", e.neuron_update_active)
    add("neurons", "inactive", e.neuron_update_inactive)
    for column in ("spikes", "graded_messages"):
        add("spikes", column, e.spike)
    for column in ("packets", "local_packets"):
        add("packets", column, e.packet)
    add("packets", "tile_packets", e.packet_within_tile)
    add("hops", "hops_east_west", e.hop_east_west)
    add("hops", "hops_north_south", e.hop_north_south)
    add("hops", "chip_crossings", e.chip_crossing)
    return found


def price(profile: Profile, table: np.ndarray) -> np.ndarray:
    """pJ of one inference.

    Args:
        table: float64 (..., columns of :data:`neurocompile.energy.counts.COLUMNS`).

    Returns:
        float64 (..., items of :data:`ITEMS`).
    """
    out = np.zeros((*table.shape[:-1], len(ITEMS)))
    column = {name: table[..., i] for i, name in enumerate(COLUMNS)}
    column["inactive"] = column["updates"] - column["active"]
    for item, name, value in _terms(profile):
        out[..., ITEMS.index(item)] += value * column[name]
    return out


def priced(profile: Profile) -> set[str]:
    """Items of :data:`ITEMS` for which the profile has some constant."""
    return {item for item, _, _ in _terms(profile)}


def missing(profile: Profile) -> list[str]:
    """Constants that the profile leaves empty, so that what they would price is not in its energy."""
    e = profile.energy
    if e.ac or e.mac:
        return ["neuron updates, packets, hops and barriers are not priced by this convention"]
    kinds = [f"synaptic_operation_{k}" for k in ("dense", "sparse", "convolution")]
    gone = [] if e.synaptic_operation or all(getattr(e, k) for k in kinds) else ["synaptic_operation"]
    gone += [n for n in ("neuron_update_active", "neuron_update_inactive", "hop_east_west", "hop_north_south", "barrier")
             if getattr(e, n) is None]  # fmt: skip
    if e.packet is None and e.packet_within_tile is None:
        gone.append("packet")
    return gone
