"""The inner loop of :mod:`neurocompile.mapping.placement`."""

from __future__ import annotations

import numpy as np

from neurocompile.mapping.jit import helper, kernel
from neurocompile.mapping.refine_kernels import below, draw

__all__ = ["anneal"]


@helper
def swap_change(a, b, here, there, offsets, columns, weight, pull, x, y, px, py):
    """Change of the cost if a at ``here`` changed places with b (or nothing, -1) at ``there``."""
    ax, ay, bx, by = x[here], y[here], x[there], y[there]
    change = pull[a, there] - pull[a, here]
    if b >= 0:
        change += pull[b, here] - pull[b, there]
    if ax == bx and ay == by:
        return change
    for i in range(offsets[a], offsets[a + 1]):
        k = columns[i]
        if k != b:
            change += weight[i] * (
                abs(bx - px[k]) + abs(by - py[k]) - abs(ax - px[k]) - abs(ay - py[k])
            )
    if b >= 0:
        for i in range(offsets[b], offsets[b + 1]):
            k = columns[i]
            if k != a:
                change += weight[i] * (
                    abs(ax - px[k]) + abs(ay - py[k]) - abs(bx - px[k]) - abs(by - py[k])
                )
    return change


@helper
def swap(a, b, here, there, at, who, x, y, px, py):
    """Book that a and b changed places."""
    at[a], who[there], who[here] = there, a, b
    px[a], py[a] = x[there], y[there]
    if b >= 0:
        at[b] = here
        px[b], py[b] = x[here], y[here]


@kernel
def descend(at, offsets, columns, weight, pull, x, y, who, px, py):
    """Swap as long as some swap helps: afterwards none does. Changes ``at``."""
    for i in range(who.size):
        who[i] = -1
    for a in range(at.size):
        who[at[a]] = a
        px[a], py[a] = x[at[a]], y[at[a]]
    better = True
    while better:
        better = False
        for a in range(at.size):
            for there in range(x.size):
                here, b = at[a], who[there]
                if (
                    there != here
                    and swap_change(a, b, here, there, offsets, columns, weight, pull, x, y, px, py)
                    < 0
                ):
                    swap(a, b, here, there, at, who, x, y, px, py)
                    better = True


def anneal(offsets, columns, weight, pull, x, y, near, start, swaps, hot, cold, seed, exponential):
    """Swap things with things or free places; the best placement found. See
    ``placement.anneal_places``.
    """
    at = start.copy()
    who = np.full(x.size, -1, dtype=np.int64)
    who[at] = np.arange(at.size)
    px, py, best = x[at], y[at], at.copy()
    state = np.empty(1, dtype=np.uint64)
    with np.errstate(over="ignore"):
        state[0] = np.uint64(seed) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x7654321)
    _anneal(
        offsets,
        columns,
        weight,
        pull,
        x,
        y,
        near,
        at,
        who,
        px,
        py,
        best,
        state,
        swaps,
        hot,
        cold,
        exponential,
    )
    descend(best, offsets, columns, weight, pull, x, y, who, px, py)
    return best


@kernel
def _anneal(
    offsets,
    columns,
    weight,
    pull,
    x,
    y,
    near,
    at,
    who,
    px,
    py,
    best,
    state,
    swaps,
    hot,
    cold,
    exponential,
):
    things, places = at.size, x.size
    for _ in range(8):
        draw(state)
    total, least, aimed = 0, 0, near.shape[1]
    epochs = max(1, min(1000, swaps // 500))
    factor = (cold / hot) ** (1.0 / epochs)
    temperature = hot
    for epoch in range(epochs):
        for _ in range(swaps // epochs):
            a = below(state, things)
            here, there = at[a], 0
            if (
                aimed > 0 and offsets[a + 1] > offsets[a] and draw(state) >> np.uint64(62) != 0
            ):  # beside one that it talks to
                k = columns[offsets[a] + below(state, offsets[a + 1] - offsets[a])]
                there = near[at[k], below(state, aimed)]
            else:
                there = below(state, places)
            b = who[there]
            if x[here] == x[there] and y[here] == y[there] and pull[a, here] == pull[a, there]:
                continue
            change = swap_change(a, b, here, there, offsets, columns, weight, pull, x, y, px, py)
            if change > temperature * exponential[np.int64(draw(state) >> np.uint64(52))]:
                continue
            swap(a, b, here, there, at, who, x, y, px, py)
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
