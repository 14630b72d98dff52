"""Max-pooling as a tournament: ``max(a, b) = a + relu(b - a)``, exact on integers of any sign.

A graded value is a sum of populations here. A round pairs values: ``a`` is relayed, ``relu(b - a)``
computed, and their sum is the winner, one step later; a value without partner is relayed. Windows
are separable, so the rounds run along H, then along W: ceil(log2 k) steps each. A window's indices
beyond the border are clamped to it, which changes no maximum.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from neurocompile.circuits.builder import Builder, strided
from neurocompile.ir import circuit as c

__all__ = ["max_pool", "row_maximum"]


@dataclass(frozen=True)
class _Graded:
    """The sum of ``populations``, all of one array shape, read at ``tap`` of an axis' windows
    (None: as it is).
    """

    populations: tuple[str, ...]
    tap: int | None = None


@dataclass(frozen=True)
class _Axis:
    """Windows along one axis of an (H, W, C) array."""

    shape: tuple[int, ...]
    axis: int
    kernel: int
    stride: int
    padding: int
    more: int = 0

    @property
    def out(self) -> int:
        size = self.shape[self.axis] + 2 * self.padding + self.more
        return (size - self.kernel) // self.stride + 1

    @property
    def out_shape(self) -> tuple[int, ...]:
        return tuple(self.out if i == self.axis else n for i, n in enumerate(self.shape))

    def pieces(self, tap: int) -> list[tuple[int, int, int, int]]:
        """(first output, count, first input, input step) of the runs of clamped indices of one tap."""
        last = self.shape[self.axis] - 1
        index = [min(max(i * self.stride + tap - self.padding, 0), last) for i in range(self.out)]
        runs, start = [], 0
        while start < self.out:
            end, step = start + 1, 0
            if end < self.out:
                step = index[end] - index[start]
                while end < self.out and index[end] - index[end - 1] == step:
                    end += 1
            runs.append((start, end - start, index[start], step))
            start = end
        return runs

    def read(self, value: _Graded, weight: int) -> list[c.Strided]:
        """Projections of ``value`` times ``weight`` to an array of :attr:`out_shape`."""
        inner = prod(self.shape[self.axis + 1 :])
        outer = prod(self.shape[: self.axis])
        if value.tap is None:
            n = prod(self.out_shape)
            return [strided(p, (n,), (1,), (1,), weight=weight) for p in value.populations]
        return [
            strided(
                population,
                (outer, count, inner),
                (self.shape[self.axis] * inner, step * inner, 1),
                (self.out * inner, inner, 1),
                weight=weight,
                src_offset=first_in * inner,
                dst_offset=first_out * inner,
            )
            for population in value.populations
            for first_out, count, first_in, step in self.pieces(value.tap)
        ]


def max_pool(
    builder: Builder,
    population: str,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int],
    name: str,
    layer: str,
    more: tuple[int, int] = (0, 0),
) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Pool a graded (H, W, C) population. Returns the populations whose sum is the result, and
    their shape.

    Args:
        more: border behind the last row and column beyond ``padding``.
    """
    winners: tuple[str, ...] = (population,)
    shape = builder.shape(population)
    for axis, label in ((0, "h"), (1, "w")):
        windows = _Axis(shape, axis, kernel[axis], stride[axis], padding[axis], more[axis])
        values = [_Graded(winners, tap) for tap in range(kernel[axis])]
        round_ = 0
        while len(values) > 1 or values[0].tap is not None:
            values = [
                _play(
                    builder, windows, values[i : i + 2], f"{name}.{label}{round_}.{i // 2}", layer
                )
                for i in range(0, len(values), 2)
            ]
            round_ += 1
        winners, shape = values[0].populations, windows.out_shape
    return winners, shape


def _play(
    builder: Builder, windows: _Axis, players: list[_Graded], name: str, layer: str
) -> _Graded:
    keep = builder.population(c.GradedRelay, f"{name}.keep", windows.out_shape, layer)
    builder.drive(keep, windows.read(players[0], 1))
    if len(players) == 1:
        return _Graded((keep,))
    lead = builder.population(c.GradedRelu, f"{name}.lead", windows.out_shape, layer)
    builder.drive(lead, (*windows.read(players[1], 1), *windows.read(players[0], -1)))
    return _Graded((keep, lead))


def row_maximum(builder: Builder, values: str, rows: int, n: int, name: str, layer: str) -> str:
    """The largest of each row of ``n``: a graded population (rows, 1)."""
    while n > 1:
        half, odd = n // 2, n % 2
        better = builder.population(c.GradedRelu, f"{name}.better", (rows, half), layer)
        winner = builder.population(c.GradedRelay, f"{name}.winner", (rows, half + odd), layer)
        pairs = ((rows, half), (n, 1))
        builder.drive(better, [strided(values, *pairs, (half, 1), src_offset=half)])
        builder.drive(better, [strided(values, *pairs, (half, 1), weight=-1)])
        builder.drive(
            winner,
            [
                strided(values, *pairs, (half + odd, 1)),
                strided(better, (rows, half), (half, 1), (half + odd, 1)),
            ],
        )
        if odd:
            builder.drive(
                winner,
                [strided(values, (rows,), (n,), (half + 1,), src_offset=n - 1, dst_offset=half)],
            )
        values, n = winner, half + odd
    return values
