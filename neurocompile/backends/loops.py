"""Loops of strided projections, brought into the order and form that the interpreter runs fastest,
and the common digits of gates and of the sum that reads them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from neurocompile.ir.circuit import Strided

__all__ = ["Digits", "common_digits", "is_copy", "ordered"]

Loop = tuple[int, ...]
"""Size, then strides."""


def merged(loops: Sequence[Loop], width: int) -> list[Loop]:
    """Neighbours that are one loop, and loops of one turn, taken together; the inner one last, and
    at least one, of ``width`` numbers.
    """
    found: list[Loop] = []
    for loop in loops:
        if loop[0] == 1:
            continue
        if found and all(a == loop[0] * b for a, b in zip(found[-1][1:], loop[1:])):
            found[-1] = (found[-1][0] * loop[0], *loop[1:])
        else:
            found.append(loop)
    return found or [(1,) * width]


def ordered(q: Strided) -> list[Loop]:
    """(size, source stride, destination stride) of each loop, the one that runs fastest last."""
    loops = merged(
        sorted(zip(q.sizes, q.src_strides, q.dst_strides), key=lambda loop: (-loop[2], -loop[1])), 3
    )

    def worth(loop: Loop) -> tuple[bool, int]:
        return (loop[2] == 1 and loop[1] in (0, 1)) or (loop[2] == 0 and loop[1] == 1), loop[0]

    best = max(range(len(loops)), key=lambda k: worth(loops[k]))
    return [*loops[:best], *loops[best + 1 :], loops[best]]


def is_copy(q: Strided, size: int) -> bool:
    """Whether the projection is the identity on ``size`` neurons."""
    whole = q.weight == 1 and q.weight_exp == 0 and q.src_offset == q.dst_offset == 0
    return whole and ordered(q) == [(size, 1, 1)]


@dataclass(frozen=True)
class Digits:
    """Gates, of which each (size, stride in the sum, stride of every input) is a digit of their
    number; the innermost last.
    """

    loops: list[Loop]


def common_digits(size: int, reader: Strided, inputs: Sequence[Strided]) -> Digits | None:
    """Digits that the ``size`` gates' ``inputs`` and their only ``reader`` have in common; None
    where there are none, or where one of them does not concern each gate exactly once.
    """
    views = [_digits(reader.sizes, reader.src_strides, reader.dst_strides)]
    views += [_digits(q.sizes, q.dst_strides, q.src_strides) for q in inputs]
    offsets = [reader.src_offset, *(q.dst_offset for q in inputs)]
    if any(offsets) or not all(_covers(view, size) for view in views):
        return None
    bounds = sorted({place for view in views for _, place, _ in view} | {1, size})
    if any(b % a for a, b in zip(bounds, bounds[1:])):
        return None
    loops = []
    for low, high in zip(bounds, bounds[1:]):
        strides = []
        for view in views:
            n, place, other = next(d for d in view if d[1] <= low < d[0] * d[1])
            if low % place or (n * place) % high:
                return None
            strides.append(other * (low // place))
        loops.append((high // low, *strides))
    return Digits(merged(loops[::-1], 2 + len(inputs)))


def _digits(
    sizes: Sequence[int], places: Sequence[int], others: Sequence[int]
) -> list[tuple[int, int, int]]:
    found = [digit for digit in zip(sizes, places, others) if digit[0] > 1]
    return sorted(found, key=lambda digit: digit[1])


def _covers(view: list[tuple[int, int, int]], size: int) -> bool:
    place = 1
    for n, at, _ in view:
        if at != place:
            return False
        place *= n
    return place == size and prod(n for n, _, _ in view) == size
