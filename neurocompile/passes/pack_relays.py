"""Relays of one depth and layer that wait for nothing but time, as one population.

A graded value that is read several steps later waits in a line of relays, and a layer of many small
circuits (:mod:`neurocompile.circuits.digits`) has hundreds of lines. A core holds a few groups of
neurons, one a population, so that lines side by side in one population fit where thousands do not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from neurocompile.ir import circuit as c
from neurocompile.ir.text import Ref

__all__ = ["packed"]

_MANY = 8
"""Relays of one layer and depth, from which on they are packed: a core of Loihi 2 holds 8 groups."""


def packed(
    relays: Sequence[c.Population], projections: Sequence[c.Projection], taken: Iterable[str]
) -> tuple[list[c.Population], list[c.Projection]]:
    """Relays and projections with graded relays side by side, and the projections' ends moved.

    Args:
        relays: with depths.
        projections: all of the circuit; those from and to a relay that is packed are strided.
        taken: names of the populations that are there.
    """
    fixed = {end for q in projections for end in (q.src, q.dst) if not isinstance(q, c.Strided)}
    groups: dict[tuple[str, int], list[c.Population]] = {}
    for p in relays:
        if not p.spiking and p.name not in fixed:
            groups.setdefault((p.layer, p.depth), []).append(p)
    places: dict[str, tuple[str, int]] = {}
    made: list[c.Population] = []
    names = set(taken)
    for (layer, depth), members in groups.items():
        if len(members) < _MANY:
            continue
        name = f"{layer}.wait{depth}"
        while name in names:
            name += ".all"
        names.add(name)
        start = 0
        for p in members:
            places[p.name] = name, start
            start += p.size
        made.append(replace(members[0], name=name, shape=(start,)))
    kept = [p for p in relays if p.name not in places]
    return [*kept, *made], [_moved(q, places) for q in projections]


def _moved(q: c.Projection, places: dict[str, tuple[str, int]]) -> c.Projection:
    if not isinstance(q, c.Strided) or (q.src not in places and q.dst not in places):
        return q
    src, read = places.get(q.src, (q.src, 0))
    dst, write = places.get(q.dst, (q.dst, 0))
    return replace(
        q,
        src=Ref(src),
        dst=Ref(dst),
        src_offset=q.src_offset + read,
        dst_offset=q.dst_offset + write,
    )
