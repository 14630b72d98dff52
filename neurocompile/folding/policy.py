"""What a fold leaves open, and how it is settled: the pause between samples, which maps must be
wide, and how many windows a map of one size hands its lanes on in.

Legality is checked where maps meet (:mod:`neurocompile.folding.reading`); here alternatives are
lowered, counted, and the one with the fewest neurons is taken. Layers of one size that are dense in
different ways can rarely read each other, so each size gets one way where that is cheaper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from neurocompile.errors import NeurocompileError, argument
from neurocompile.folding.gathering import Facts
from neurocompile.folding.lower import Lowering, repeats
from neurocompile.folding.net import Net, Reach
from neurocompile.folding.schedules import Fold, Schedules
from neurocompile.folding.slots import Unfoldable
from neurocompile.ir import circuit as c
from neurocompile.ir import spiking as s
from neurocompile.ir.circuit_rules import check_circuit
from neurocompile.targets.fields import LOIHI2, ChipFields

__all__ = ["PAUSES", "Folder", "fold_graph"]

PAUSES = (1, 2, 3, 4, 6, 8, 12, 16)
"""Rows of windows between samples that are tried, in turn."""

_SAVED = (1, 2, 3)
"""Lines that a residual's digits must save."""

_BITS = 4 * 64
"""Bits of weights that a core has no room for because of one neuron more: it takes an axon, an entry
of the axon map and a word or two of synapses besides itself."""

Splits = Mapping[tuple[int, int], int]


@dataclass(frozen=True)
class _Attempt:
    graph: c.CircuitGraph
    wide: frozenset[str]
    options: dict[tuple[int, int], tuple[int, ...]]
    splits: Splits
    saved: int
    again: bool

    @property
    def size(self) -> int:
        """Neurons, and what weights take in their place."""
        neurons = sum(p.size for p in self.graph.populations if not isinstance(p, c.HostInput))
        weights = sum(
            self.graph.tensors[q.weight].size * q.weight_bits
            for q in self.graph.projections
            if isinstance(q, (c.Conv2d, c.Dense))
        )
        return neurons + weights // _BITS


@dataclass
class Folder:
    """Folds one quantized graph; what all folds of it share is computed once."""

    graph: s.SpikingGraph
    steps: int
    weight_bits: int = 8
    fields: ChipFields = LOIHI2
    facts: Facts = field(init=False)
    _last: tuple[Fold, _Attempt] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.graph = self.graph.live()
        self.facts = Facts(self.graph)
        adds = [n for n in self.graph.nodes if isinstance(n, s.Add)]
        names = {n.name for n in adds}
        self._residuals = any(names.intersection(n.inputs) for n in adds)
        self._repeats = any(repeats(self.graph, n) for n in self.graph.nodes)

    def fold(self, fold: Fold) -> c.CircuitGraph:
        """The scheduled circuit, with the first pause that works unless ``fold`` names one; its
        rules are not checked yet.

        Raises:
            NC3104: for a layer that this fold cannot carry; it names the layer and why.
        """
        return self._settled(fold).graph

    def longer_pauses(self, fold: Fold) -> list[Fold]:
        """Folds with a longer pause than ``fold`` takes and noticeably fewer neurons: where layers
        had to be wide, a pause may let them be dense. A single buffer has a pause long enough.
        """
        found: list[Fold] = []
        base = self._settled(fold)
        if fold.pause or fold.single:
            return found
        least = base.size
        for pause in PAUSES:
            longer = replace(fold, pause=pause)
            if self._windows(longer) <= base.graph.windows:
                continue
            made = self._tried(longer, base.splits, base.saved, base.again)
            if made and made.size < least - least // 32:
                found.append(longer)
                least = made.size
        return found

    def _windows(self, fold: Fold) -> int:
        return Schedules(fold, self.graph, frozenset()).windows

    def _settled(self, fold: Fold) -> _Attempt:
        if self._last and self._last[0] == fold:
            return self._last[1]
        pauses = (fold.pause,) if fold.pause else PAUSES
        for pause in pauses:
            paused = replace(fold, pause=pause)
            try:
                found = self._refined(paused, self._attempt(paused))
            except _Refused as refused:
                if pause == pauses[-1]:
                    raise NeurocompileError(
                        "NC3104",
                        f"layer '{refused.layer}' cannot be folded {fold}: {refused.__cause__}; "
                        f"take another fold, or {argument('fold', 'none')}",
                        layer=refused.layer,
                    ) from refused.__cause__
                continue
            self._last = fold, found
            return found
        raise AssertionError("unreachable")

    def _refined(self, fold: Fold, best: _Attempt) -> _Attempt:
        """Convolutions computed twice, one way to be dense for all layers of a size, and residuals
        as digits, wherever that saves neurons."""
        if self._repeats:
            made = self._tried(fold, again=True)
            if made and made.size < best.size:
                best = made
        for size in sorted(best.options):
            for split in best.options[size]:
                made = self._tried(fold, {**best.splits, size: split}, best.saved, best.again)
                if made and made.size < best.size:
                    best = made
        for lines in _SAVED if self._residuals else ():
            made = self._tried(fold, best.splits, lines, best.again)
            if made and made.size < best.size:
                best = made
        return best

    def _tried(
        self, fold: Fold, splits: Splits | None = None, saved: int = 0, again: bool = False
    ) -> _Attempt | None:
        try:
            return self._attempt(fold, splits, saved, again)
        except _Refused:
            return None

    def _attempt(
        self, fold: Fold, splits: Splits | None = None, saved: int = 0, again: bool = False
    ) -> _Attempt:
        """Lower with these choices; maps become wide where nothing else can be read."""
        from neurocompile.passes.schedule import period_for

        # two steps at least: a memory needs one to hold and one to open
        period = max(2, period_for(self.steps, self.fields.power_of_two_period))
        reach = Reach(self.fields.max_spike_delay, self.fields.graded_delay)
        wide: set[str] = set()
        while True:
            schedules = Schedules(fold, self.graph, frozenset(wide), splits or {})
            net = Net(schedules.windows, period, self.steps, reach, self.fields, fold.ticked)
            lowering = Lowering(self.facts, net, schedules, self.weight_bits, saved, again)
            try:
                for node in self.graph.nodes:
                    lowering.lower(node)
                made = net.finish(self.graph.name)
                options = schedules.options()
                return _Attempt(made, frozenset(wide), options, splits or {}, saved, again)
            except Unfoldable as error:
                if lowering.suspect is None or lowering.suspect in wide:
                    raise _Refused(lowering.now) from error
                wide.add(lowering.suspect)


class _Refused(Exception):
    """An attempt that failed at ``layer``; the cause says why."""

    def __init__(self, layer: str) -> None:
        super().__init__(layer)
        self.layer = layer


def fold_graph(
    graph: s.SpikingGraph,
    steps: int,
    fold: Fold,
    *,
    weight_bits: int = 8,
    fields: ChipFields = LOIHI2,
) -> c.CircuitGraph:
    """The scheduled circuit of a quantized ``graph``, folded; exact: the same integers in every
    layer.

    Raises:
        NC3104: for a layer that this fold cannot carry; it names the layer and why.
    """
    folder = Folder(graph, steps, weight_bits, fields)
    made = folder.fold(fold)
    check_circuit(made, "fold")
    return made
