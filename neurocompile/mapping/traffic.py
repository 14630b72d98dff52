"""Traffic of a mapping: the mean messages of one step.

A neuron sends one message to each distinct core where it has a consumer, whatever the number of its
synapses there.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from neurocompile.mapping.tile import Tile

__all__ = ["Traffic", "home_cores"]


class Traffic(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Mean messages of one step; times the steps of a sample they are those of an inference."""

    packets: float
    """From one core to another: the sum over neurons of rate times distinct destination cores."""
    local: float
    """From a core to itself."""
    from_host: float
    """From HostInput populations to cores."""
    to_host: float
    """Values that the host reads."""
    hops: float
    """Packets between cores times the tiles they cross (0 within a tile). The host's place is
    unknown: left out.
    """
    chip_packets: float = 0.0
    """Those of ``packets`` that go from one chip to another."""


def home_cores(cores: Sequence[Sequence[Tile]]) -> dict[str, list[tuple[int, Tile]]]:
    """Where each population's tiles are."""
    homes: dict[str, list[tuple[int, Tile]]] = {}
    for core, tiles in enumerate(cores):
        for tile in tiles:
            homes.setdefault(tile.population, []).append((core, tile))
    return homes
