"""What the report page embeds for its script: cores, chips, links and layers, as compact lists of
rounded numbers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from neurocompile.energy.counts import COLUMNS, Counts
from neurocompile.energy.packets import link_loads
from neurocompile.energy.price import price
from neurocompile.energy.profile import Profile
from neurocompile.targets.schema import RESOURCES

if TYPE_CHECKING:
    from neurocompile.program import Program

__all__ = ["page_data"]

CORE_LIMIT = 20_000
"""Cores that are embedded one by one; of a larger mapping only chips are."""
LINK_LIMIT = 4_000
"""Links that are embedded, the busiest."""
TILE_LIMIT = 24
"""Tiles of a core that are named."""

_ACTIVITY = (
    ("spikes", "spikes sent"),
    ("graded_messages", "graded messages sent"),
    ("synops", "synaptic operations"),
    ("active", "active neuron updates"),
    ("packets", "packets sent"),
    ("packets_in", "packets received"),
)


def _short(values: Any) -> list[float]:
    """Four significant digits: what a colour or a line of text shows."""
    return [float(f"{v:.4g}") for v in np.asarray(values, dtype=np.float64).tolist()]


def page_data(program: Program, counts: Counts, profile: Profile | None) -> dict[str, Any]:
    """Plain data for JSON; activity is of one inference."""
    mapping, target = program.mapping, program.target
    column = {name: counts.cores[:, i] for i, name in enumerate(COLUMNS)}
    column["synops"] = (
        column["synops_dense"] + column["synops_sparse"] + column["synops_convolution"]
    )
    usage = np.array([core.used.values() for core in mapping.cores], dtype=np.float64).reshape(
        -1, len(RESOURCES)
    )
    used = {name: usage[:, i] for i, name in enumerate(RESOURCES)} | {"total": usage.sum(axis=1)}
    share = (
        np.max([used[n] / max(limit, 1) for n, limit in target.capacity.items()], axis=0)
        if len(usage)
        else np.zeros(0)
    )
    metrics: list[dict[str, Any]] = [
        {"name": "fullest resource", "unit": "%", "limit": 100, "values": 100 * share}
    ]
    metrics += [
        {"name": n.replace("_", " "), "unit": "", "limit": limit, "values": used[n]}
        for n, limit in target.capacity.items()
    ]
    metrics += [
        {"name": label, "unit": "", "limit": None, "values": column[n]} for n, label in _ACTIVITY
    ]
    if profile is not None and len(usage):
        energy = price(profile, np.nan_to_num(counts.cores)).sum(axis=-1)
        metrics.append(
            {"name": f"energy, {profile.name}", "unit": "pJ", "limit": None, "values": energy}
        )
    chip = np.array([c.chip for c in mapping.cores], dtype=np.int64)
    chips, member = np.unique(chip, return_inverse=True)
    for metric in metrics:
        values, held = metric["values"], np.bincount(member, minlength=len(chips))
        sums = np.bincount(member, weights=values, minlength=len(chips))
        metric["chips"] = _short(sums if metric["limit"] is None else sums / np.maximum(held, 1))
        metric["values"] = _short(values) if len(mapping.cores) <= CORE_LIMIT else []
    names = [p.name for p in program.circuit.populations]
    index = {name: i for i, name in enumerate(names)}
    cores = [
        [
            c.chip,
            c.x,
            c.y,
            c.core,
            len(c.tiles),
            [
                [
                    index[t.population],
                    ", ".join(f"{a}:{b}" for a, b in zip(t.start, t.stop, strict=True)),
                ]
                for t in c.tiles[:TILE_LIMIT]
            ],
        ]
        for c in (mapping.cores if len(mapping.cores) <= CORE_LIMIT else ())
    ]
    mesh = target.mesh
    return {
        "populations": [[p.name, p.layer, type(p).__name__] for p in program.circuit.populations],
        "mesh": [
            mesh.columns.value,
            mesh.rows.value,
            mesh.cores_per_tile.value,
            mesh.cores_usable.value,
        ],
        "board": [target.chips.value, target.chip_columns.value],
        "chips": chips.tolist(),
        "chip_cores": np.bincount(member, minlength=len(chips)).tolist() if len(chips) else [],
        "cores": cores,
        "core_count": len(mapping.cores),
        "metrics": metrics,
        "links": _links(program, counts),
    }


def _links(program: Program, counts: Counts) -> list[list[Any]]:
    """[row, column, direction, packets an inference] of the busiest links."""
    found = []
    for direction, load in enumerate(
        link_loads(counts.packets, program.mapping, program.target).values()
    ):
        rows, columns = np.nonzero(load > 1e-9)
        found += [
            [int(y), int(x), direction, float(f"{load[y, x]:.4g}")]
            for y, x in zip(rows, columns, strict=True)
        ]
    found.sort(key=lambda link: (-link[3], link[:3]))
    return found[:LINK_LIMIT]
