"""Cuts populations into tiles that fit a core.

A population is cut along its token axes, its channel axis or both: k channel parts share its
weights out, but every input message goes k times; token parts repeat the weights and send each
message once. Among the cuts that fill few cores the one with the fewest packets is taken. Terms and
their sum (gates and what adds them up, say) may be cut alike: then a core holds the sums of its own
terms, no term is sent, and terms that need neurons share a core with sums that need axons and
words. Consumers are cut before their sources, so that the output lists of a source have a bound (as
if each tile of its consumers had a core of its own).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from neurocompile.errors import ViolationList
from neurocompile.ir.circuit import CircuitGraph, HostInput, Population, Strided
from neurocompile.mapping.advice import does_not_fit_core
from neurocompile.mapping.box_cutter import BoxCutter, filling_of
from neurocompile.mapping.cutter import SAVES, Chosen, Cutter, Style
from neurocompile.mapping.pair_cutter import PairCutter
from neurocompile.mapping.resources import CostCounter, Usage
from neurocompile.mapping.tile import Tile, whole
from neurocompile.targets.schema import Target

__all__ = ["Partition", "Style", "lower_bound_cores", "partition"]

AS_IS = Style()
CLOSE = 1.02
"""Slack of sums that fill cores of their terms: cores matter more than messages there."""
Partition = dict[str, list[tuple[Tile, Usage]]]
"""Population -> its tiles with what each takes (``axon_memory``: an upper bound)."""


def lower_bound_cores(circuit: CircuitGraph, target: Target) -> int:
    """Cores that any mapping needs at least, by the sums of the resources."""
    return max(cores for _, cores in CostCounter(circuit, target).shortages().values())


def partition(
    counter: CostCounter,
    rates: Mapping[str, float],
    style: Style = AS_IS,
    tick: Callable[[], object] = lambda: None,
) -> Partition:
    """Tiles of every population on the chip, in depth order; NC3102 names all populations that
    cannot be cut to fit.

    Args:
        counter: of the circuit and the target.
        rates: population -> mean probability that a neuron sends in a step; 1 where absent.
        style: what to prefer.
        tick: called after each population.
    """
    cut = _Cut(counter, rates, style)
    for population in reversed(counter.on_chip):
        tick()
        if population.name not in cut.found:
            cut.add(population)
    if cut.violations:
        raise ViolationList("NC3102", cut.violations[::-1])
    return {population.name: cut.found[population.name] for population in counter.on_chip}


class _Cut:
    """Populations that are cut so far, readers before what they read: a tile's output list is
    counted by the tiles that it goes to.
    """

    def __init__(self, counter: CostCounter, rates: Mapping[str, float], style: Style) -> None:
        self._counter, self._rates, self._style = counter, rates, style
        self._tiles: dict[str, list[tuple[int, Tile]]] = {}
        self.found: Partition = {}
        self.violations: list[str] = []
        wanted = style.pairs or style.room > 0
        self._sums: dict[str, Strided] = {q.dst: q for q in _pairs(counter)} if wanted else {}

    def add(self, population: Population) -> None:
        """Cut ``population``, and the terms that it sums where the two belong together."""
        pair = self._sums.get(population.name)
        if pair is not None and self._style.room > 0:
            apart = _apart(self._counter, pair, self._rates, self._style, self._tiles)
            if apart is not None:
                self._keep(pair.dst, apart[0])
                self._keep(pair.src, apart[1])
                return
        cutter = Cutter(self._counter, population, self._rates, self._style, self._tiles)
        if pair is not None and self._style.pairs:
            self._add_pair(cutter, pair)
        else:
            self._alone(cutter, population.name)

    def _add_pair(self, cutter: Cutter, pair: Strided) -> None:
        """The sums with their terms, or each alone, whichever is better."""
        counter, population = self._counter, self._counter.circuit.population
        source, given = population[pair.src], (self._rates, self._style, self._tiles)
        together = PairCutter(counter, source, *given, cutter, pair).best()
        if together is not None and together.cut.cores <= SAVES * sum(
            _filled(counter, p) for p in (source, population[pair.dst])
        ):
            self._keep(pair.dst, together.sums)  # better than any cuts of the two apart
            self._keep(pair.src, together.tiles)
            return
        chosen = self._alone(cutter, pair.dst)
        if chosen is None:
            return
        alone = Cutter(counter, source, *given).best()
        if together is not None and (alone is None or together.better(chosen, alone)):
            del self._tiles[pair.dst]
            self._keep(pair.dst, together.sums)
            self._keep(pair.src, together.tiles)
        elif alone is not None:
            self._keep(pair.src, alone.tiles)

    def _alone(self, cutter: Cutter, name: str) -> Chosen | None:
        """The best cut of one population; a violation where there is none."""
        chosen = cutter.best()
        if chosen is None:
            self.violations.append(
                does_not_fit_core(self._counter, cutter.heaviest(), cutter.usage)
            )
        self._keep(name, chosen.tiles if chosen else [])
        return chosen

    def _keep(self, name: str, chosen: list[tuple[Tile, Usage]]) -> None:
        self.found[name] = chosen
        # Numbers that no other population has: each tile stands for a core of its own.
        first = sum(map(len, self._tiles.values()))
        self._tiles[name] = [(first + i, tile) for i, (tile, _) in enumerate(chosen)]


def _apart(
    counter: CostCounter,
    projection: Strided,
    rates: Mapping[str, float],
    style: Style,
    homes: Mapping[str, list[tuple[int, Tile]]],
) -> tuple[list[tuple[Tile, Usage]], list[tuple[Tile, Usage]]] | None:
    """Tiles of sums that fill what boxes of their terms leave of cores, and these boxes; None if
    that does not fit.
    """
    source, sums = (counter.circuit.population[name] for name in (projection.src, projection.dst))
    boxes = BoxCutter(counter, source, rates, style, {}).best()
    if boxes is None:
        return None
    filling = filling_of(
        Cutter(counter, sums, rates, replace(style, slack=CLOSE), homes), boxes, projection
    )
    if filling is None:
        return None
    held = {**homes, sums.name: [(number, tile) for number, (tile, _) in enumerate(filling.tiles)]}
    counted = BoxCutter(counter, source, rates, style, held).all_tiles(
        boxes.cut
    )  # with the output lists
    return None if counted is None else (filling.tiles, counted.tiles)


def _filled(counter: CostCounter, population: Population) -> float:
    """Cores that a population fills at least."""
    uncut = counter.uncut[population.name]
    return max(getattr(uncut, r) / limit for r, limit in counter.target.capacity.items() if limit)


def _pairs(counter: CostCounter) -> list[Strided]:
    """Projections from terms that nothing else reads to their sum, which takes most of its entries
    for them.
    """
    found: list[Strided] = []
    for population in counter.on_chip:
        heaviest: tuple[int, Strided] | None = None
        for q in counter.circuit.incoming[population.name]:
            source = counter.circuit.population[q.src]
            if (
                isinstance(q, Strided)
                and not q.recurrent
                and len(counter.outgoing[q.src]) == 1
                and q.src not in counter.to_host
                and not isinstance(source, HostInput)
                and source.size >= 2 * population.size
            ):
                entries = sum(counter.synapses(q, whole(population)))
                heaviest = max(heaviest or (0, q), (entries, q), key=lambda item: item[0])
        used = {name for q in found for name in (q.src, q.dst)}
        if (
            heaviest is not None
            and 2 * heaviest[0] > counter.uncut[population.name].total
            and heaviest[1].src not in used
        ):
            found.append(heaviest[1])
    return found
