"""Which points of a sweep no other beats, and their picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from neurocompile.sweeping.sweep import Found, Sweep

__all__ = ["COSTS", "draw", "front"]


def _energy(one: Found) -> float | None:
    """Under the first profile."""
    return None if one.placement is None else next(iter(one.placement.energy_pj.values()), None)


COSTS: dict[str, Callable[[Found], float | None]] = {
    "error": lambda one: (
        None
        if one.evaluation is None or one.evaluation.accuracy is None
        else 1.0 - one.evaluation.accuracy
    ),
    "spikes": lambda one: (
        None
        if one.evaluation is None or one.evaluation.problem is not None
        else one.evaluation.spikes_a_sample
    ),
    "cores": lambda one: None if one.placement is None else float(one.placement.cores),
    "steps": lambda one: None if one.placement is None else float(one.placement.steps),
    "packets": lambda one: None if one.placement is None else one.placement.packets,
    "energy": _energy,
}
"""Of a point, each the less the better; None where it is unknown."""


def front(
    sweep: Sweep, names: Sequence[str] = ("error", "cores", "steps", "energy")
) -> list[Found]:
    """Points that no other beats in one of the costs ``names`` without losing in another, among
    those whose costs are all known; a cost that no point has is left out.
    """
    built = [one for one in sweep if one.placement is None or one.placement.problem is None]
    known = [n for n in names if any(COSTS[n](one) is not None for one in built)]
    rows = [(one, [COSTS[n](one) for n in known]) for one in built]
    full = [(one, [c for c in costs if c is not None]) for one, costs in rows if None not in costs]
    return [
        one
        for one, mine in full
        if known
        and not any(
            theirs != mine and all(t <= m for t, m in zip(theirs, mine)) for _, theirs in full
        )
    ]


_PANELS = (("energy", "error"), ("cores", "error"), ("cores", "steps"))
_LABELS = {
    "error": "wrong predictions, %",
    "energy": "energy a sample, uJ (modelled)",
    "cores": "cores",
    "steps": "steps a sample",
}
_FACTORS = {"error": 100.0, "energy": 1e-6}
_MARKS = "osD^vP*X<>"


def draw(sweep: Sweep) -> Figure:
    """Energy and cores against wrong predictions, cores against steps, each with its front."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4), dpi=110, layout="constrained")
    for axes, (x, y) in zip(figure.subplots(1, 3), _PANELS):
        _panel(axes, sweep, x, y)
    axes.legend(fontsize=7, title="target, T, bits", title_fontsize=7)
    figure.suptitle(
        f"{sweep.settings.model}, {sweep.settings.samples:,} samples: emulated, NOT hardware",
        fontsize=11,
    )
    return figure


def _panel(axes: Axes, sweep: Sweep, x: str, y: str) -> None:
    groups: dict[str, list[tuple[float, float]]] = {}
    for one in sweep:
        across, up = COSTS[x](one), COSTS[y](one)
        if across is None or up is None or (one.placement and one.placement.problem):
            continue
        at = one.point.integers
        place = across * _FACTORS.get(x, 1.0), up * _FACTORS.get(y, 1.0)
        groups.setdefault(f"{at.target}, {at.T}, {at.bits}", []).append(place)
    for k, (name, places) in enumerate(groups.items()):
        axes.plot(*zip(*places), _MARKS[k % len(_MARKS)], ms=5, label=name)
    best = [
        (c * _FACTORS.get(x, 1.0), u * _FACTORS.get(y, 1.0))
        for one in front(sweep, (x, y))
        if (c := COSTS[x](one)) is not None and (u := COSTS[y](one)) is not None
    ]
    if best:
        axes.plot(*zip(*sorted(best)), "k-", lw=0.8, alpha=0.6)
    axes.set_xlabel(_LABELS[x])
    axes.set_ylabel(_LABELS[y])
