"""Scales of weights: the best one for a set of rows, the grid they lie on, rows of one scale."""

from __future__ import annotations

import numpy as np

__all__ = ["best_scale", "channel_groups", "row_grids", "weight_grid"]

_CLIPS = np.linspace(1.0, 0.55, 46)
_BLOCK = 1 << 14
"""Weights that are looked at together."""
_TOLERANCE = 0.02
"""Of a threshold: noise of rounded weights in a sum that one scale for all channels may have.
0.02 changes about one spike in 200."""
_GAIN = 0.6
"""Least noise that groups must leave, of that of one scale, to be worth their neurons."""
_MOST_GROUPS = 4
"""A core of Loihi 2 holds 8 groups of neurons."""
_ON_GRID = 2e-5
_TELLING = 4
"""Different weights from which a row is no multiple of something by chance."""


def best_scale(
    weight: np.ndarray,
    largest: float,
    levels: int,
    moments: np.ndarray | None,
    most: int | None = None,
) -> float:
    """The scale of least expected squared error; ``moments`` is E[x^2] of each input channel. Of
    more than ``most`` weights every so many are looked at."""
    importance = np.ones(1)
    if moments is not None and weight.ndim == 4 and moments.size == weight.shape[1]:
        importance = np.maximum(moments, 1e-6).reshape(1, -1, 1, 1)
    elif moments is not None and weight.ndim == 2:
        importance = np.maximum(moments, 1e-6).reshape(1, -1)
    scales, flat = _CLIPS * largest / levels, weight.reshape(-1)
    each = np.broadcast_to(importance, weight.shape).reshape(-1) if importance.size > 1 else None
    if most is not None and flat.size > most:
        flat, each = (
            flat[:: flat.size // most],
            None if each is None else each[:: flat.size // most],
        )
    errors, buffer = np.zeros(len(scales)), np.empty(min(_BLOCK, flat.size))
    for start in range(0, flat.size, _BLOCK):  # what fits the cache, for all scales
        part = flat[start : start + _BLOCK]
        shares = None if each is None else each[start : start + _BLOCK]
        rest = buffer[: part.size]
        for i, scale in enumerate(scales):
            np.rint(np.divide(part, scale, out=rest), out=rest)
            np.minimum(np.maximum(rest, -levels, out=rest), levels, out=rest)
            np.subtract(part, np.multiply(rest, scale, out=rest), out=rest)
            np.multiply(rest, rest, out=rest)
            errors[i] += rest.sum() if shares is None else np.multiply(rest, shares, out=rest).sum()
    return min(zip(errors.tolist(), scales.tolist(), strict=True))[1]


def weight_grid(weight: np.ndarray, levels: int) -> float | None:
    """The largest g of which every weight is a multiple of at most ``levels``, within float32
    rounding; None without one.

    Weights that were trained in integers, and those of DequantizeLinear, lie on such a grid.
    """
    flat = np.abs(weight.reshape(-1))
    few = np.unique(flat[:: max(flat.size >> 12, 1)])  # most weights have none, which shows early
    if not few.any() or len(np.unique(np.float32(few))) > 4 * levels + 4:
        return None
    points = np.unique(flat)
    largest, smallest = float(points[-1]), float(points[points > largest_zero(points)][0])
    for divisor in range(1, levels + 1):
        grid = smallest / divisor
        if largest / grid > levels + 0.5:
            return None
        multiples = np.rint(points / grid)
        if np.abs(points / grid - multiples).max() <= _ON_GRID:
            return float((points * multiples).sum() / (multiples * multiples).sum())
    return None


def row_grids(weight: np.ndarray, levels: int, most: int) -> np.ndarray | None:
    """(rows,): what each row's weights are multiples of, by :func:`weight_grid`; None where a row
    has no grid, or more than ``most`` grids differ. A row of few different weights takes the largest
    grid of another row that holds it, or its own.
    """
    flat = weight.reshape(len(weight), -1)
    found, few = np.zeros(len(flat)), []
    for i, row in enumerate(flat):
        if len(np.unique(np.abs(row[row != 0]))) < _TELLING:
            few.append(i)
            continue
        grid = weight_grid(row, levels)
        if grid is None:
            return None
        near = found[:i][np.abs(found[:i] - grid) <= _ON_GRID * grid]
        found[i] = near[0] if len(near) else grid
    grids = np.unique(found[found > 0])[::-1]
    if not 0 < len(grids) <= most:
        return None
    for i in few:
        multiples = flat[i] / grids[:, None]
        whole = np.abs(multiples - np.rint(multiples)).max(axis=1) <= _ON_GRID * levels
        fits = np.flatnonzero(whole & (np.abs(multiples).max(axis=1) <= levels + 0.5))
        own = grids[fits[0]] if len(fits) else weight_grid(flat[i], levels)
        if own is None:
            return None
        found[i] = own
    return found if len(np.unique(found)) <= most else None


def largest_zero(points: np.ndarray) -> float:
    """What counts as 0 beside the largest of ``points``."""
    return float(points[-1]) * 1e-9


def channel_groups(needed: np.ndarray, noise: np.ndarray) -> list[np.ndarray] | None:
    """Rows in groups of one scale each, coarsest first; None where one scale for all does.

    The fewest groups, up to 4, that come near a scale for each row. Weighed is the variance of the
    noise over the row's own scale: between what all sums together lose, which only the coarsest
    rows decide, and what each row loses of its bits.

    Args:
        needed: (rows,) the scale that each row needs.
        noise: (rows,) standard deviation that each row's own scale adds to its sum, in thresholds.
    """
    worst = float(noise.max())
    if not worst > _TOLERANCE:
        return None
    order = np.argsort(-needed, kind="stable")
    scale = needed[order]
    n, square = len(order), scale * scale
    # one[i, j]: of rows i..j in a group, whose scale is that of row i
    start, end = np.arange(n)[:, None], np.arange(1, n + 1)[None]
    inverse = np.concatenate([[0.0], np.cumsum(1 / np.maximum(scale, 1e-6 * scale[0]))])
    one = np.where(end > start, (inverse[end] - inverse[start]) * square[:, None], np.inf)
    cost, cuts = one[0], []
    own = float(scale.sum())
    for groups in range(1, _MOST_GROUPS + 1):
        if groups > 1:
            total = np.concatenate([[np.inf], cost[:-1]])[:, None] + one
            cuts.append(total.argmin(axis=0))
            cost = total.min(axis=0)
        if cost[-1] <= 1.44 * own:
            break
    found, last = [], n
    for cut in reversed(cuts):
        found.append(np.sort(order[cut[last - 1] : last]))
        last = int(cut[last - 1])
    found.append(np.sort(order[:last]))
    found = [rows for rows in reversed(found) if len(rows)]
    left = sum(len(rows) * float(needed[rows].max()) ** 2 for rows in found)
    return None if len(found) == 1 or left > _GAIN**2 * n * square[0] else found
