"""The steps of each neuron in order: who follows whom, and that all compare in one way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.recover.affine import close
from neurocompile.frontends.recover.feedback import Earlier
from neurocompile.frontends.recover.graph import Graph, label_of
from neurocompile.frontends.recover.staircases import Staircase
from neurocompile.frontends.recover.steps import Step

__all__ = ["Chain", "chains_of", "over_samples"]


@dataclass(frozen=True)
class Chain:
    """The steps of one neuron."""

    steps: Sequence[Step]
    name: str
    number: int
    """Among the graph's neurons."""
    graph: Graph
    earlier: Earlier

    @property
    def first(self) -> Step:
        return self.steps[0]

    @property
    def where(self) -> str:
        """For errors."""
        return f"neuron '{self.name}' at {label_of(self.first.node)}"

    @property
    def spikes(self) -> tuple[str, ...]:
        """The outputs of the comparisons, by step."""
        return tuple(step.node.output[0] for step in self.steps)

    @property
    def inverted(self) -> bool:
        """Whether the comparisons are true where there is no spike."""
        return self.first.inverted

    def check(self) -> None:
        """NC1003 for steps that compare in different ways."""
        first = self.first
        for step in self.steps:
            same = step.inverted == first.inverted and step.strict == first.strict
            if not same or not _same_stairs(step.stairs, first.stairs):
                raise NeurocompileError(
                    "NC1003", f"{self.where}: its steps compare in different ways"
                )

    def check_scales(self) -> None:
        """NC1009 for thresholds per channel that are others in other steps."""
        scale = self.first.scale
        scales = [step.scale for step in self.steps]
        if not all(
            s is None if scale is None else s is not None and np.array_equal(s, scale)
            for s in scales
        ):
            raise NeurocompileError("NC1009", f"{self.where}: thresholds per channel that change")


def _same_stairs(a: Staircase | None, b: Staircase | None) -> bool:
    if a is None or b is None:
        return a is b
    equal = len(a.thresholds) == len(b.thresholds) and a.below == b.below
    return equal and close(np.asarray(a.thresholds), np.asarray(b.thresholds))


def chains_of(steps: list[Step]) -> list[list[Step]]:
    """The steps of each neuron. Neurons that read one value may share their first step, behind
    which they keep or lose other amounts; NC1003 where two alike follow the same one, or later.
    """
    following: dict[int, list[Step]] = {}
    for step in steps:
        if step.previous is not None:
            others = following.setdefault(id(step.previous), [])
            alike = any(_goes_on_as(step, other) for other in others)
            if others and (alike or step.previous.previous is not None):
                raise NeurocompileError(
                    "NC1003",
                    f"{label_of(step.node)} and {label_of(others[0].node)} follow the same step of a neuron",
                )
            others.append(step)
    chains = []
    for step in steps:
        if step.previous is None:
            for second in following.get(id(step), [None]):
                chains.append([step])
                while second is not None:
                    chains[-1].append(second)
                    second = next(iter(following.get(id(second), ())), None)
    return chains


def _goes_on_as(a: Step, b: Step) -> bool:
    pairs = ((a.a, b.a), (a.b, b.b), (a.c, b.c), (a.reset, b.reset), (a.back, b.back))
    return (
        a.hard == b.hard
        and a.current == b.current
        and all(np.shape(p) == np.shape(q) and close(p, q) for p, q in pairs)
    )


def over_samples(chains: list[list[Step]], longest: int, graph: Graph) -> list[NeurocompileError]:
    """NC1008 for each neuron that runs over steps times samples, where others run over the steps."""
    dims = graph.shapes.get(graph.inputs[0]) if graph.inputs else None
    # a number of spikes without memory is made once, whatever axes it runs over
    lengths = [len(chain) for chain in chains if len(chain) > 1 or chain[0].stairs is None]
    batch, shortest = dims[0] if dims else None, min(lengths, default=0)
    if not batch or batch < 2 or longest != batch * shortest:
        return []
    return [
        NeurocompileError(
            "NC1008",
            f"{label_of(chain[0].node)}: a neuron runs over {longest} steps, the {shortest} of the others times the "
            f"{batch} samples of the file: samples of a batch leak into each other. Let it run over time alone, x of "
            "(T, B, ...); or export the file with a batch of 1, which says what it does to one sample",
        )
        for chain in chains
        if len(chain) == longest
    ]
