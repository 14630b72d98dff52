"""The inner loop of :mod:`neurocompile.mapping.placement`."""

from __future__ import annotations

import numpy as np
from numba import njit

from neurocompile.mapping.refine_kernels import below, draw

__all__ = ["anneal"]


@njit(cache=True)
def anneal(offsets, columns, weight, pull, x, y, start, swaps, hot, cold, seed, exponential):
    """Swap things with things or free places; the best placement found. See ``placement.anneal_places``."""
    things, places = start.size, x.size
    at = start.copy()
    who = np.full(places, -1, dtype=np.int64)
    px = np.empty(things, dtype=np.int64)
    py = np.empty(things, dtype=np.int64)
    for i in range(things):
        who[at[i]] = i
        px[i], py[i] = x[at[i]], y[at[i]]
    state = np.empty(1, dtype=np.uint64)
    state[0] = seed * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x7654321)
    for _ in range(8):
        draw(state)
    total, least = 0, 0
    best = at.copy()
    epochs = max(1, min(1000, swaps // 500))
    factor = (cold / hot) ** (1.0 / epochs)
    temperature = hot
    for epoch in range(epochs):
        for _ in range(swaps // epochs):
            a = below(state, things)
            there = below(state, places)
            here = at[a]
            b = who[there]
            ax, ay, bx, by = x[here], y[here], x[there], y[there]
            change = pull[a, there] - pull[a, here]
            if ax != bx or ay != by:
                for i in range(offsets[a], offsets[a + 1]):
                    k = columns[i]
                    if k != b:
                        change += weight[i] * (abs(bx - px[k]) + abs(by - py[k]) - abs(ax - px[k]) - abs(ay - py[k]))
                if b >= 0:
                    for i in range(offsets[b], offsets[b + 1]):
                        k = columns[i]
                        if k != a:
                            change += weight[i] * (abs(ax - px[k]) + abs(ay - py[k]) - abs(bx - px[k]) - abs(by - py[k]))
            elif pull[a, there] == pull[a, here]:
                continue
            if b >= 0:
                change += pull[b, here] - pull[b, there]
            if change > temperature * exponential[np.int64(draw(state) >> np.uint64(52))]:
                continue
            at[a], who[there] = there, a
            px[a], py[a] = bx, by
            who[here] = b
            if b >= 0:
                at[b] = here
                px[b], py[b] = ax, ay
            total += change
            if epoch == epochs - 1 and total < least:
                least = total
                best[:] = at
        if total < least:
            least = total
            best[:] = at
        temperature *= factor
    return best
