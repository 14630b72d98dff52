"""Cuts terms and their sum alike: a core then holds the sums of its own terms, and no term is sent."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from neurocompile.ir.circuit import Population, Strided
from neurocompile.mapping.cutter import Chosen, Cut, Cutter, Style
from neurocompile.mapping.resources import CostCounter, Usage
from neurocompile.mapping.tile import Tile, grid

__all__ = ["PairCutter"]


class PairCutter(Cutter):
    """Finds how to cut terms so that each tile's sums come from that tile alone; a tile stands for
    its sums too.
    """

    def __init__(
        self,
        counter: CostCounter,
        population: Population,
        rates: Mapping[str, float],
        style: Style,
        homes: Mapping[str, list[tuple[int, Tile]]],
        sink: Cutter,
        projection: Strided,
    ) -> None:
        super().__init__(counter, population, rates, style, homes)
        self.sink, self.projection, self.pattern = sink, projection, counter.pattern(projection)
        kept = {
            a for component in self.pattern.components if component.axes for a in component.src_axes
        }
        self.cuttable = tuple(n if a in kept else 1 for a, n in enumerate(population.shape))

    @property
    def uncut(self) -> Usage:
        """Of terms and sums."""
        return (
            self.counter.uncut[self.population.name] + self.counter.uncut[self.sink.population.name]
        )

    def sums_of(self, tile: Tile) -> Tile | None:
        """The tile of the sums, if no other term goes there."""
        box = self.pattern.image(tile.start, tile.stop)
        if box is None or sum(self.pattern.fan_out(*box).values()) != tile.size:
            return None
        return Tile(self.sink.population.name, *box)

    def possible(self) -> bool:
        """Always: whole terms may be no unit of a pair, so parts are tried."""
        return True

    def own(self, tile: Tile) -> Usage:
        """Of the terms alone: each has one destination."""
        listed = tile.size if self.counter.cost.least_listed <= 1 else 0
        return msgspec.structs.replace(self.counter.usage(tile), axon_memory=listed)

    def usage(self, tile: Tile) -> Usage:
        """Of terms and sums."""
        sums = self.sums_of(tile)
        return self.own(tile) + (self.sink.usage(sums) if sums is not None else Usage())

    def fits(self, tile: Tile, usage: Usage) -> bool:
        """Whether terms and sums fit together."""
        sums = self.sums_of(tile)
        if sums is None or not super().fits(tile, usage):
            return False
        used = sum(
            self.rates.get(t.population, 1.0) * t.size / max(most, 1e-300)
            for t, most in ((tile, self.most), (sums, self.sink.most))
        )
        return used * self.fineness <= 1

    def all_tiles(self, cut_: Cut) -> Chosen | None:
        tiles = grid(self.population, cut_.parts, self.align)
        sums = [self.sums_of(tile) for tile in tiles]
        covered = sum(tile.size for tile in sums if tile is not None)
        if any(tile is None for tile in sums) or covered != self.sink.population.size:
            return None
        own, held = (
            [self.own(tile) for tile in tiles],
            [self.sink.usage(tile) for tile in sums if tile is not None],
        )
        if not all(self.fits(tile, a + b) for tile, a, b in zip(tiles, own, held, strict=True)):
            return None
        pairs = [(tile, usage) for tile, usage in zip(sums, held, strict=True) if tile is not None]
        return Chosen(cut_, list(zip(tiles, own, strict=True)), pairs)

    def _arriving(self, tile: Tile) -> float:
        """Messages that terms and sums receive from elsewhere."""
        sums = self.sums_of(tile)
        return super()._arriving(tile) + (
            self._received(sums, self.projection.name) if sums is not None else 0.0
        )
