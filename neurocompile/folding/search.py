"""Which folds of a model there are, what each needs, and which one to take.

Candidates are few: whole rows of the input in a window, or a part of one row, with attention's sums
kept twice or once. Each is lowered, which takes a second for millions of neurons, and counted; only
the Pareto front of cores and steps a sample is worth a mapping.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

from neurocompile.errors import NeurocompileError
from neurocompile.folding.lower import fold_graph
from neurocompile.folding.schedules import Fold
from neurocompile.ir.circuit import CircuitGraph, HostInput
from neurocompile.ir.circuit_rules import IS_SCHEDULED
from neurocompile.ir.spiking import SpikingGraph
from neurocompile.ir.spiking_rules import IS_QUANTIZED
from neurocompile.mapping.fold_choice import FoldChoice
from neurocompile.mapping.resources import CostCounter
from neurocompile.passes.base import Pass
from neurocompile.passes.narrow_weights import narrow_weights
from neurocompile.targets.schema import Target

__all__ = [
    "FoldChoice",
    "FoldInTime",
    "choice_of",
    "fold_circuit",
    "folds_of",
    "front_text",
    "pareto",
]

_WORSE = 2
"""So many finer folds that need more cores than a coarser one end the search in their direction."""


def fold_circuit(
    quantized: SpikingGraph, T: int, weight_bits: int, target: Target, fold: Fold
) -> CircuitGraph:
    """The scheduled circuit of a fold, with the delays and synapses of ``target``; NC3104."""
    circuit = FoldInTime(T, weight_bits, target, fold)(quantized)
    return narrow_weights(circuit, target.synapse.weight_bits.high)


@dataclass(frozen=True)
class FoldInTime(Pass[SpikingGraph, CircuitGraph]):
    """Requires stage quantized. Ensures a scheduled circuit, in place of lower and schedule."""

    name: ClassVar[str] = "fold"
    takes = SpikingGraph
    requires = (IS_QUANTIZED,)
    ensures = (IS_SCHEDULED,)

    steps: int
    weight_bits: int
    target: Target
    fold: Fold

    def apply(self, graph: SpikingGraph) -> CircuitGraph:
        delay = self.target.delay
        spike = delay.max_spike_delay.value
        return fold_graph(
            graph,
            self.steps,
            self.fold,
            weight_bits=self.weight_bits,
            max_spike_delay=spike,
            graded_delay=spike if delay.graded_delay.value else 1,
            power_of_two_period=self.target.reset.power_of_two.value,
        )


def choice_of(circuit: CircuitGraph, target: Target, fold: str) -> FoldChoice:
    """Sizes of a scheduled circuit."""
    shortages = CostCounter(circuit, target).shortages()
    return FoldChoice(
        fold=fold,
        windows=circuit.windows,
        steps=circuit.sample_period,
        latency=circuit.latency,
        neurons=sum(p.size for p in circuit.populations if not isinstance(p, HostInput)),
        cores_at_least=max((cores for _, cores in shortages.values()), default=0),
        host_values=circuit.windows * sum(p.size for p in circuit.inputs),
    )


def folds_of(
    quantized: SpikingGraph,
    T: int,
    weight_bits: int,
    target: Target,
    *,
    max_steps: int | None = None,
) -> list[FoldChoice]:
    """Every fold that the model has, by steps a sample; those that it cannot have are left out."""
    found: list[FoldChoice] = []
    for family in _families(quantized):
        best, worse = None, 0
        for fold in family:
            try:
                circuit = fold_circuit(quantized, T, weight_bits, target, fold)
            except NeurocompileError as error:
                if error.code != "NC3104":
                    raise
                continue
            if max_steps is not None and circuit.sample_period > max_steps:
                break  # finer ones take longer
            made = choice_of(circuit, target, str(fold))
            found.append(made)
            if best is not None and made.cores_at_least >= best:
                worse += 1
                if worse == _WORSE:
                    break
            else:
                best, worse = made.cores_at_least, 0
    return sorted(found, key=lambda c: (c.steps, c.cores_at_least))


def _families(graph: SpikingGraph) -> Iterator[list[Fold]]:
    """Folds from coarse to fine, with two buffers and with one."""
    if len(graph.input.shape) != 3:
        return
    _, height, width = graph.input.shape
    rows = [n for n in range(height, 0, -1) if height % n == 0]
    columns = [n for n in range(width - 1, 0, -1) if width % n == 0]
    for single in (False, True):
        yield [
            *(Fold(n, width, single=single) for n in rows),
            *(Fold(1, n, single=single) for n in columns),
        ]


def pareto(choices: Sequence[FoldChoice]) -> list[FoldChoice]:
    """Those that no other beats in both cores and steps, by steps."""
    front: list[FoldChoice] = []
    for choice in sorted(choices, key=lambda c: (c.steps, c.cores_at_least)):
        if not front or choice.cores_at_least < front[-1].cores_at_least:
            front.append(choice)
    return front


def front_text(front: Sequence[FoldChoice], limit: int) -> str:
    """One line: what the unrolled model needs, and the folds that could fit."""
    unrolled = [c for c in front if c.fold == "none"]
    folded = [c for c in front if c.fold != "none"]
    fitting = [c for c in folded if c.cores_at_least <= limit]
    shown = fitting or folded[-1:]
    text = "; ".join(
        f"{c.cores_at_least:,} at {c.steps:,} steps a sample (--fold {c.fold})" for c in shown[:6]
    )
    first = f"needs at least {unrolled[0].cores_at_least:,} cores unrolled; " if unrolled else ""
    if not folded:
        return first + "no fold of it is known"
    return first + ("folded: " if fitting else "no fold fits, the smallest: ") + text
