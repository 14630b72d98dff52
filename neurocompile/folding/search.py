"""Which folds of a model there are, what each needs, and which one to take.

Candidates are few: whole rows of the input in a window, or a part of one row, with attention's sums
kept twice or once. Each is lowered, which takes a second for millions of neurons, and counted; only
the Pareto front of cores and steps a sample is worth a mapping.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import ClassVar

from neurocompile.calibration import Calibration
from neurocompile.errors import NeurocompileError, argument
from neurocompile.folding.policy import Folder
from neurocompile.folding.schedules import Fold
from neurocompile.ir.circuit import CircuitGraph, HostInput, synapse_count
from neurocompile.ir.circuit_rules import IS_SCHEDULED
from neurocompile.ir.spiking import SpikingGraph
from neurocompile.ir.spiking_rules import IS_QUANTIZED
from neurocompile.mapping.fold_choice import FoldChoice
from neurocompile.mapping.modelled_packets import modelled_packets
from neurocompile.mapping.rates import modelled_rates
from neurocompile.mapping.resources import CostCounter
from neurocompile.passes.base import Pass
from neurocompile.passes.narrow_weights import narrow_weights
from neurocompile.targets.fields import ChipFields
from neurocompile.targets.schema import Target

__all__ = [
    "FoldChoice",
    "FoldInTime",
    "choice_of",
    "families",
    "family_of",
    "fold_circuit",
    "folder_for",
    "folds_of",
    "front_text",
    "pareto",
]

_WORSE = 2
"""So many finer folds that need more cores than a coarser one end the search in their direction."""


def folder_for(quantized: SpikingGraph, T: int, weight_bits: int, target: Target) -> Folder:
    """Folds ``quantized`` for the fields of ``target``."""
    return Folder(quantized, T, weight_bits, ChipFields.of(target))


def fold_circuit(
    quantized: SpikingGraph,
    T: int,
    weight_bits: int,
    target: Target,
    fold: Fold,
    folder: Folder | None = None,
) -> CircuitGraph:
    """The scheduled circuit of a fold, with the delays and synapses of ``target``; NC3104.

    Args:
        folder: of the same graph and target, where several folds are made.
    """
    circuit = FoldInTime(T, weight_bits, target, fold, folder)(quantized)
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
    folder: Folder | None = field(default=None, compare=False, repr=False)
    """Made for the same graph and fields, where several folds are made."""

    def apply(self, graph: SpikingGraph) -> CircuitGraph:
        folder = self.folder or folder_for(graph, self.steps, self.weight_bits, self.target)
        return folder.fold(self.fold)


def choice_of(
    circuit: CircuitGraph, target: Target, fold: str, rates: Mapping[str, float] | None = None
) -> FoldChoice:
    """Sizes of a scheduled circuit, and what it sends if each neuron of a population sends with the
    probability ``rates`` in a step.
    """
    counter = CostCounter(circuit, target)
    shortages = counter.shortages()
    messages, operations = _sent(circuit, rates or {})
    clocks = sum(p.size for p in circuit.inputs if p.pattern is not None)
    return FoldChoice(
        fold=fold,
        windows=circuit.windows,
        steps=circuit.sample_period,
        latency=circuit.latency,
        neurons=sum(p.size for p in circuit.populations if not isinstance(p, HostInput)),
        cores_at_least=max((cores for _, cores in shortages.values()), default=0),
        host_values=circuit.windows * sum(p.size for p in circuit.inputs),
        host_clocks=circuit.windows * clocks,
        messages=messages,
        packets=float(f"{modelled_packets(counter, rates or {}):.6g}"),
        operations=operations,
    )


def _sent(circuit: CircuitGraph, rates: Mapping[str, float]) -> tuple[float, float]:
    """Messages and synaptic operations of a sample."""
    steps, size = circuit.sample_steps, {p.name: p.size for p in circuit.populations}
    messages = sum(rates.get(name, 0.0) * n for name, n in size.items()) * steps
    operations = sum(rates.get(q.src, 0.0) * synapse_count(circuit, q) for q in circuit.projections)
    return float(f"{messages:.6g}"), float(f"{operations * steps:.6g}")


def folds_of(
    quantized: SpikingGraph,
    T: int,
    weight_bits: int,
    target: Target,
    *,
    max_steps: int | None = None,
    statistics: Calibration | None = None,
) -> list[FoldChoice]:
    """Every fold that the model has, by steps a sample; those that it cannot have are left out.

    Args:
        statistics: rates of the layers, for what folds send.
    """
    folder = folder_for(quantized, T, weight_bits, target)
    found = chain.from_iterable(
        family_of(folder, target, family, max_steps=max_steps, statistics=statistics)
        for family in families(quantized)
    )
    return sorted(found, key=lambda c: (c.steps, c.cores_at_least))


def family_of(
    folder: Folder,
    target: Target,
    family: Sequence[Fold],
    *,
    max_steps: int | None = None,
    statistics: Calibration | None = None,
) -> Iterator[FoldChoice]:
    """The folds of one family, from coarse to fine, with longer pauses where these save neurons;
    until finer ones need more cores than a coarser one, or more steps than ``max_steps``.

    Args:
        folder: :func:`folder_for` the graph and ``target``.
    """
    given = folder.graph, folder.steps, folder.weight_bits, target

    def counted(fold: Fold) -> FoldChoice | None:
        """None where it takes too many steps; NC3104."""
        circuit = fold_circuit(*given, fold, folder)
        if max_steps is not None and circuit.sample_period > max_steps:
            return None
        rates = modelled_rates(circuit, statistics) if statistics else None
        return choice_of(circuit, target, str(fold), rates)

    best, worse = None, 0
    for fold in family:
        try:
            made = counted(fold)
        except NeurocompileError as error:
            if error.code != "NC3104":
                raise
            continue
        if made is None:
            return  # finer ones take longer
        longer = [m for f in folder.longer_pauses(fold) if (m := counted(f))]
        yield from (made, *longer)
        least = min(c.cores_at_least for c in (made, *longer))
        if best is not None and least >= best:
            worse += 1
            if worse == _WORSE:
                return
        else:
            best, worse = least, 0


def families(graph: SpikingGraph) -> Iterator[list[Fold]]:
    """Folds from coarse to fine, with two buffers and with one."""
    if len(graph.input.shape) != 3:
        return
    _, height, width = graph.input.shape
    rows = [n for n in range(height, 0, -1) if height % n == 0]
    columns = [n for n in range(width - 1, 0, -1) if width % n == 0]
    narrow = [Fold(1, n) for n in columns]
    yield [*(Fold(n, width) for n in rows), *narrow]
    # one buffer saves what attention keeps, which coarse folds have little of beside their gates
    few = [n for n in rows if n <= max(1, height // 16)]
    yield [replace(fold, single=True) for fold in (*(Fold(n, width) for n in few), *narrow)]


def pareto(choices: Sequence[FoldChoice]) -> list[FoldChoice]:
    """Those that no other beats in both cores and steps, by steps."""
    front: list[FoldChoice] = []
    for choice in sorted(choices, key=lambda c: (c.steps, c.cores_at_least)):
        if not front or choice.cores_at_least < front[-1].cores_at_least:
            front.append(choice)
    return front


def _times(choice: FoldChoice, unrolled: Sequence[FoldChoice]) -> str:
    """How much more a fold sends than the unrolled model."""
    if not unrolled or not (unrolled[0].messages and unrolled[0].packets):
        return ""
    first = unrolled[0]
    return (
        f", {choice.messages / first.messages:.1f} times the messages in "
        f"{choice.packets / first.packets:.1f} times the packets"
    )


def front_text(front: Sequence[FoldChoice], limit: int, max_steps: int | None = None) -> str:
    """One line: what the unrolled model needs, and the folds that could fit; those that were searched
    take at most ``max_steps`` a sample.
    """
    unrolled = [c for c in front if c.fold == "none"]
    folded = [c for c in front if c.fold != "none"]
    fitting = [c for c in folded if c.cores_at_least <= limit]
    shown = fitting or folded[-1:]
    text = "; ".join(
        f"{c.cores_at_least:,} at {c.steps:,} steps a sample ({argument('fold', c.fold)}{_times(c, unrolled)})"
        for c in shown[:6]
    )
    first = f"needs at least {unrolled[0].cores_at_least:,} cores unrolled; " if unrolled else ""
    few = "" if max_steps is None else f" of at most {max_steps:,} steps a sample"
    more = "" if max_steps is None else "; of more steps others may (raise `max_steps`)"
    if not folded:
        return first + f"no fold{few} of it is known{more}"
    if fitting:
        return first + f"folded: {text}"
    return first + f"no fold{few} fits, the smallest: {text}{more}"
