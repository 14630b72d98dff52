"""Energy of counts under one profile: constant times count, item by item; a constant that is absent
prices nothing.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from neurocompile.energy.counts import COLUMNS
from neurocompile.energy.profile import Profile

__all__ = ["ITEMS", "complete", "price", "priced", "unpriced"]

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
        add(
            "synapses",
            f"synops_{kind}",
            getattr(e, f"synaptic_operation_{kind}"),
            e.synaptic_operation,
        )
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


def complete(profile: Profile) -> bool:
    """Whether there is a constant of each thing that every inference does; a barrier's was never
    published of any chip.
    """
    e = profile.energy
    kinds = [f"synaptic_operation_{k}" for k in ("dense", "sparse", "convolution")]
    operations = e.synaptic_operation or all(getattr(e, k) for k in kinds) or (e.ac and e.mac)
    updates, hops = (
        e.neuron_update_active and e.neuron_update_inactive,
        e.hop_east_west and e.hop_north_south,
    )
    return bool(operations and updates and hops and (e.packet or e.packet_within_tile))


def unpriced(profile: Profile, counts: Mapping[str, float]) -> dict[str, float]:
    """What was counted and has no price, with its count: the energy leaves it out.

    Operations are priced by their kind of connection, or as ACs and MACs. Packets that leave a tile
    may pay by hops alone.

    Args:
        profile: the constants.
        counts: totals by the names of :data:`neurocompile.energy.counts.COLUMNS`, and ``inactive``
            and ``barriers``.
    """
    e = profile.energy
    by_packet = e.packet or e.packet_within_tile
    hops = bool(e.hop_east_west and e.hop_north_south)
    kinds = [
        (
            f"{k} synaptic operations",
            f"synops_{k}",
            e.synaptic_operation or getattr(e, f"synaptic_operation_{k}"),
        )
        for k in ("dense", "sparse", "convolution")
    ]
    operations = [("ACs", "acs", e.ac), ("MACs", "macs", e.mac)] if e.ac or e.mac else kinds
    checks = [
        *operations,
        ("active neuron updates", "active", e.neuron_update_active),
        ("inactive neuron updates", "inactive", e.neuron_update_inactive),
        ("spikes sent", "spikes", e.spike),
        ("graded messages sent", "graded_messages", e.spike),
        ("packets", "packets", by_packet or hops),
        ("hops east-west", "hops_east_west", e.hop_east_west),
        ("hops north-south", "hops_north_south", e.hop_north_south),
        ("chip crossings", "chip_crossings", e.chip_crossing),
        ("barriers", "barriers", e.barrier),
    ]
    return {
        name: counts[column] for name, column, constant in checks if not constant and counts[column]
    }
