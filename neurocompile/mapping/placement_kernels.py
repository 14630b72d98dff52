"""The inner loop of :mod:`neurocompile.mapping.placement`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from neurocompile.lanes import borrowed
from neurocompile.mapping.jit import helper, kernel
from neurocompile.mapping.random_kernels import below, draw, seeded

__all__ = ["Mesh", "anneal"]


class Mesh(NamedTuple):
    """Things that send each other messages, and places for them; all numbers are whole."""

    offsets: np.ndarray
    """int64 (things + 1): where a thing's partners begin."""
    columns: np.ndarray
    """int64: the partners."""
    weight: np.ndarray
    """int64: messages to each."""
    pull: np.ndarray
    """int64 (things, places): what a place costs a thing by itself."""
    x: np.ndarray
    """int64 (places)."""
    y: np.ndarray
    """int64 (places)."""
    near: np.ndarray
    """int64 (places, n): places beside each."""


class Placed(NamedTuple):
    """Where things are."""

    at: np.ndarray
    """int64 (things): place of each."""
    who: np.ndarray
    """int64 (places): the thing there, or -1."""
    px: np.ndarray
    """int64 (things)."""
    py: np.ndarray
    """int64 (things)."""


@helper
def _moved(a: int, b: int, here: int, there: int, mesh: Mesh, placed: Placed) -> int:
    """Change of the cost if a alone went from ``here`` to ``there``; messages to b are left out."""
    ax, ay, bx, by = mesh.x[here], mesh.y[here], mesh.x[there], mesh.y[there]
    change = mesh.pull[a, there] - mesh.pull[a, here]
    if ax == bx and ay == by:
        return change
    for i in range(mesh.offsets[a], mesh.offsets[a + 1]):
        k = mesh.columns[i]
        if k != b:
            kx, ky = placed.px[k], placed.py[k]
            far = abs(bx - kx) + abs(by - ky) - abs(ax - kx) - abs(ay - ky)
            change += mesh.weight[i] * far
    return change


@helper
def _swap_change(a: int, b: int, here: int, there: int, mesh: Mesh, placed: Placed) -> int:
    """Change of the cost if a at ``here`` changed places with b (or nothing, -1) at ``there``."""
    change = _moved(a, b, here, there, mesh, placed)
    return change + _moved(b, a, there, here, mesh, placed) if b >= 0 else change


@helper
def _swap(a: int, b: int, here: int, there: int, mesh: Mesh, placed: Placed) -> None:
    """Book that a and b changed places."""
    at, who, px, py = placed.at, placed.who, placed.px, placed.py
    at[a], who[there], who[here] = there, a, b
    px[a], py[a] = mesh.x[there], mesh.y[there]
    if b >= 0:
        at[b] = here
        px[b], py[b] = mesh.x[here], mesh.y[here]


@kernel
def _descend(mesh: Mesh, placed: Placed) -> None:
    """Swap as long as some swap helps: afterwards none does. Only ``at`` has to be right before."""
    at, who = placed.at, placed.who
    for i in range(who.size):
        who[i] = -1
    for a in range(at.size):
        who[at[a]] = a
        placed.px[a], placed.py[a] = mesh.x[at[a]], mesh.y[at[a]]
    better = True
    while better:
        better = False
        for a in range(at.size):
            for there in range(who.size):
                here, b = at[a], who[there]
                if there != here and _swap_change(a, b, here, there, mesh, placed) < 0:
                    _swap(a, b, here, there, mesh, placed)
                    better = True


def anneal(
    mesh: Mesh,
    start: np.ndarray,
    swaps: int,
    hot: float,
    cold: float,
    seed: int,
    exponential: np.ndarray,
) -> np.ndarray:
    """Swap things with things or free places; the best placement found, int64 (things). See
    ``placement.anneal_places``.
    """
    at = start.copy()
    who = np.full(mesh.x.size, -1, dtype=np.int64)
    who[at] = np.arange(at.size)
    placed, best = Placed(at, who, mesh.x[at], mesh.y[at]), at.copy()
    _anneal(mesh, placed, swaps, hot, cold, exponential, seeded(seed, 0x7654321), best)
    _descend(mesh, placed._replace(at=best))
    return best


@kernel
def _anneal(
    mesh: Mesh,
    placed: Placed,
    swaps: int,
    hot: float,
    cold: float,
    exponential: np.ndarray,
    state: np.ndarray,
    best: np.ndarray,
) -> None:
    mesh, placed, best = borrowed(mesh), borrowed(placed), borrowed(best)
    exponential, state = borrowed(exponential), borrowed(state)
    offsets, at, x, y = mesh.offsets, placed.at, mesh.x, mesh.y
    things, places = at.size, x.size
    for _ in range(8):
        draw(state)
    total, least, aimed = 0, 0, mesh.near.shape[1]
    epochs = max(1, min(1000, swaps // 500))
    factor = (cold / hot) ** (1.0 / epochs)
    temperature = hot
    for epoch in range(epochs):
        for _ in range(swaps // epochs):
            a = below(state, things)
            here, there = at[a], 0
            first, last = offsets[a], offsets[a + 1]
            # beside one that it talks to
            if aimed > 0 and last > first and draw(state) >> np.uint64(62) != 0:
                k = mesh.columns[first + below(state, last - first)]
                there = mesh.near[at[k], below(state, aimed)]
            else:
                there = below(state, places)
            b = placed.who[there]
            if x[here] == x[there] and y[here] == y[there]:
                if mesh.pull[a, here] == mesh.pull[a, there]:
                    continue
            change = _swap_change(a, b, here, there, mesh, placed)
            if change > temperature * exponential[np.int64(draw(state) >> np.uint64(52))]:
                continue
            _swap(a, b, here, there, mesh, placed)
            total += change
            if epoch == epochs - 1 and total < least:
                least = total
                for i in range(things):
                    best[i] = at[i]
        if total < least:
            least = total
            for i in range(things):
                best[i] = at[i]
        temperature *= factor
