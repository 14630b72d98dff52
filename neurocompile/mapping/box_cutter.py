"""Cuts of very large models: terms fill the neurons of cores, their sums what is left there of
axons and words.

Terms (gates of attention, say) are cut to boxes of a given width along each axis, with rests where
that does not divide, up to ``1 - room`` of a core's neurons. Then their sums are cut such that one,
two or three tiles fill what such a box leaves of a core. Neurons bind such models, and so nearly
all of them are used; the price is a message from each term to its sum.
"""

from __future__ import annotations

from itertools import product
from math import prod

from neurocompile.ir.circuit import Strided
from neurocompile.mapping.cutter import Chosen, Cut, Cutter, orders_of
from neurocompile.mapping.resources import Usage
from neurocompile.mapping.tile import Tile

__all__ = ["BoxCutter", "filling_of"]

ALIGNED = 0.97
"""Part of a width down to which it is rounded to a multiple that consumers read at."""
WIDTHS = 64
"""Widths of channels that are tried."""


def filling_of(cutter: Cutter, boxes: Chosen, projection: Strided) -> Chosen | None:
    """Sums cut to tiles of which one to three fill what a box of terms leaves of a core; None if
    single ones do not fit.
    """
    fullest = max((usage for _, usage in boxes.tiles), key=lambda usage: usage.total)
    found: list[tuple[int, int, Chosen]] = []
    cutter.terms = projection, boxes.cut.parts
    for share in (1, 2, 3):
        cutter.beside, cutter.share = fullest, share
        chosen = cutter.search(1)
        if chosen is not None:
            found.append((-(-len(chosen.tiles) // share), share, chosen))
    return min(found, key=lambda item: item[:2])[2] if found else None


class BoxCutter(Cutter):
    """Cuts to boxes of a given width along each axis, with rests: a cut is known by its widths, not
    by numbers of parts.
    """

    def fits(self, tile: Tile, usage: Usage) -> bool:
        """Whether a tile leaves room for others' neurons."""
        return usage.neurons <= (
            1 - self.style.room
        ) * self.counter.target.core.neurons.value and super().fits(tile, usage)

    def best(self) -> Chosen | None:
        """The best cut; None if single neurons do not fit."""
        return self.search(1)

    def _cuts(self) -> list[Cut]:
        """For each order of the token axes and each width of channels the cut with the widest
        tokens that fits.
        """
        shape, found = self.population.shape, dict[tuple[int, ...], Cut]()
        whole_ = self._judge(shape)
        if whole_ is not None or not shape:
            return [whole_] if whole_ is not None else []
        for width in _widths_worth_trying(shape[-1]):
            for order in orders_of(shape):
                low, high = 0, sum(shape[a] - 1 for a in order)
                if self._judge(self._widths(high, width, order)) is None:
                    continue
                while low < high:
                    middle = (low + high) // 2
                    low, high = (
                        (low, middle)
                        if self._judge(self._widths(middle, width, order))
                        else (middle + 1, high)
                    )
                cut_ = self._judge(self._widths(high, width, order))
                if cut_ is not None:
                    found[cut_.parts] = cut_
        return list(found.values())

    def _widths(self, level: int, channels: int, order: tuple[int, ...]) -> tuple[int, ...]:
        """Widths after ``level`` steps: the first axis of the order shrinks by one a step, at 1 the
        next one.
        """
        widths = list(self.population.shape)
        for axis in order:
            step = min(level, widths[axis] - 1)
            widths[axis] -= step
            level -= step
        return (*widths[:-1], channels)

    def _ranges(self, parts: tuple[int, ...]) -> list[list[tuple[int, int]]]:
        found = []
        for n, width, align in zip(self.population.shape, parts, self.align, strict=True):
            step = width // align * align
            step = step if step > ALIGNED * width else width
            found.append([(a, min(a + step, n)) for a in range(0, n, step)])
        return found

    def _single(self) -> tuple[int, ...]:
        return (1,) * len(self.population.shape)

    def _try(self, parts: tuple[int, ...]) -> Cut | None:
        ranges, share, total, packets = self._ranges(parts), 0.0, 0, 0.0
        kinds, most = [], (1 - self.style.room) * self.counter.target.core.neurons.value
        for along in ranges:
            rest = along[-1][1] - along[-1][0] < along[0][1] - along[0][0]
            full = len(along) - rest
            kinds.append([(along[full // 2], full), *([(along[-1], 1)] if rest else [])])
        for kind in product(*kinds):
            tile = Tile(
                self.population.name, tuple(r[0] for r, _ in kind), tuple(r[1] for r, _ in kind)
            )
            count, usage = prod(n for _, n in kind), self.usage(tile)
            if not self.fits(tile, usage):
                return None
            taken = [
                (getattr(usage, r), limit) for r, limit in self.counter.target.capacity.items()
            ]
            share += count / min(
                *(limit // used for used, limit in taken if used), int(most // usage.neurons)
            )
            total, packets = total + count * usage.total, packets + count * self._arriving(tile)
        return Cut(parts, round(share, 6), packets, total)


def _widths_worth_trying(length: int) -> list[int]:
    """All of a short axis, of a long one some between 1 and its length."""
    return sorted({max(1, length * i // WIDTHS) for i in range(1, WIDTHS + 1)}, reverse=True)
