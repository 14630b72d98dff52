"""SpikingGraph: what the model's author wrote, one node a layer, with time and batch implicit.

A value has the shape of one sample at one step, in the author's axis order (C, H, W). Each node
names its output. Nodes appear in topological order. Three stages share the class:

* ``imported``: as read from the file, floating point;
* ``canonical``: BatchNorm folded, LIF in one normal form, stateless LIFs recognized as OR, one
  TimeMean at the end;
* ``quantized``: integer weights, :class:`IntegerLIF`; everything up to the readout is exact integer
  arithmetic.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from neurocompile.ir.constancy import CONSTANCY
from neurocompile.ir.nodes.base import Node
from neurocompile.ir.nodes.digits import (
    Clip,
    Combination,
    DigitMatMul,
    DigitMul,
    DigitSum,
    Falling,
    IntegerFunction,
    Maximum,
    SquareSum,
)
from neurocompile.ir.nodes.ends import Input, Output
from neurocompile.ir.nodes.layers import BatchNorm, Conv2d, Linear, MaxPool2d, SumPool2d
from neurocompile.ir.nodes.neurons import (
    LIF,
    IntegerIntegrator,
    IntegerLIF,
    Integrator,
    Or,
    SoftIntegerLIF,
)
from neurocompile.ir.nodes.operators import Add, MatMul, Mul, Offset, Rearrange, Scale, Shift, Sum
from neurocompile.ir.nodes.real import (
    Delay,
    Function,
    Normalization,
    Quotient,
    StepSoftmax,
    TokenMean,
)
from neurocompile.ir.nodes.time import Previous, RateSoftmax, Softmax, TimeMean, TimeSum
from neurocompile.ir.text import build, parse, print_graph

__all__ = [
    "LIF",
    "Add",
    "BatchNorm",
    "Clip",
    "Combination",
    "Conv2d",
    "Delay",
    "DigitMatMul",
    "DigitMul",
    "DigitSum",
    "Falling",
    "Function",
    "Input",
    "IntegerFunction",
    "IntegerIntegrator",
    "IntegerLIF",
    "Integrator",
    "Linear",
    "MatMul",
    "MaxPool2d",
    "Maximum",
    "Mul",
    "Node",
    "Normalization",
    "Offset",
    "Or",
    "Output",
    "Previous",
    "Quotient",
    "RateSoftmax",
    "Rearrange",
    "Scale",
    "Shift",
    "SoftIntegerLIF",
    "Softmax",
    "SpikingGraph",
    "SquareSum",
    "StepSoftmax",
    "Sum",
    "SumPool2d",
    "TimeMean",
    "TimeSum",
    "TokenMean",
    "register_kind",
]


KINDS: dict[str, type[Node]] = {
    c.__name__: c
    for c in (
        Input,
        Previous,
        Conv2d,
        Linear,
        BatchNorm,
        LIF,
        Integrator,
        IntegerIntegrator,
        IntegerLIF,
        SoftIntegerLIF,
        Or,
        Add,
        Mul,
        MatMul,
        Scale,
        Offset,
        Shift,
        Sum,
        SumPool2d,
        MaxPool2d,
        Rearrange,
        TimeMean,
        TimeSum,
        Softmax,
        RateSoftmax,
        Function,
        Normalization,
        Quotient,
        TokenMean,
        StepSoftmax,
        Delay,
        Clip,
        Combination,
        Maximum,
        IntegerFunction,
        Falling,
        DigitMul,
        DigitMatMul,
        DigitSum,
        SquareSum,
        Output,
    )
}


def register_kind(kind: type[Node]) -> type[Node]:
    """Decorator: ``kind``, a node of another package, is known to the text form by its name; its
    rules go into the tables (docs/new_operator.md). ValueError if the name is taken.
    """
    if kind.__name__ in KINDS:
        raise ValueError(f"a kind '{kind.__name__}' is there already")
    KINDS[kind.__name__] = kind
    return kind


@dataclass(frozen=True)
class SpikingGraph:
    """Nodes in topological order and their tensors. Immutable: passes return new graphs."""

    name: str
    stage: str
    """imported, canonical or quantized."""
    nodes: tuple[Node, ...]
    tensors: Mapping[str, np.ndarray]
    exported_T: int = 0
    """Steps the file was exported with, for information; 0 if unknown."""

    @cached_property
    def node(self) -> dict[str, Node]:
        """Nodes by name."""
        return {n.name: n for n in self.nodes}

    @cached_property
    def loops(self) -> tuple[tuple[int, int], ...]:
        """(first, last) places in :attr:`nodes` of each part that has to be evaluated step by step:
        from a :class:`Previous` to its layer; parts that overlap are one.
        """
        place = {n.name: i for i, n in enumerate(self.nodes)}
        found: list[tuple[int, int]] = []
        for first, node in enumerate(self.nodes):
            if isinstance(node, Previous):
                last = place[node.of]
                if found and first <= found[-1][1]:
                    found[-1] = (found[-1][0], max(last, found[-1][1]))
                else:
                    found.append((first, last))
        return tuple(found)

    @cached_property
    def fed_back(self) -> frozenset[str]:
        """Layers whose spikes feed back."""
        return frozenset(n.of for n in self.nodes if isinstance(n, Previous))

    @cached_property
    def users(self) -> dict[str, tuple[Node, ...]]:
        """Nodes that read a value, by the value's name."""
        found: dict[str, list[Node]] = {n.name: [] for n in self.nodes}
        for n in self.nodes:
            for x in n.inputs:
                found[x].append(n)
        return {name: tuple(users) for name, users in found.items()}

    @property
    def items(self) -> tuple[Node, ...]:
        """All that rules look at."""
        return self.nodes

    @property
    def input(self) -> Input:
        """The one input."""
        return next(n for n in self.nodes if isinstance(n, Input))

    @property
    def output(self) -> Output:
        """The one output."""
        return next(n for n in self.nodes if isinstance(n, Output))

    @cached_property
    def constants(self) -> frozenset[str]:
        """Values that are the same in every step of a sample, whatever the input."""
        found: set[str] = set()
        for node in self.nodes:
            if CONSTANCY.of(node)(node, found.issuperset(node.inputs)):
                found.add(node.name)
        return frozenset(found)

    @property
    def spiking_layers(self) -> tuple[Node, ...]:
        """The nodes whose output is spikes: the layers that parity compares."""
        return tuple(n for n in self.nodes if isinstance(n, (LIF, IntegerLIF, SoftIntegerLIF, Or)))

    def layer_of(self, node: Node) -> str:
        """The spiking layer or output that ``node`` helps to compute: the first one downstream. In
        a graph that is :meth:`live` there is one.
        """
        while not isinstance(node, (LIF, IntegerLIF, SoftIntegerLIF, Or, Output)):
            node = self.users[node.name][0]
        return node.name

    def live(self) -> SpikingGraph:
        """Without what neither the output nor a spiking layer needs: nothing can show its value."""
        wanted = {n.name for n in (*self.spiking_layers, self.input, self.output)}
        for node in reversed(self.nodes):
            if node.name in wanted:
                wanted.update(node.inputs)
        if len(wanted) == len(self.nodes):
            return self
        return self.replace(nodes=tuple(n for n in self.nodes if n.name in wanted))

    def text(self) -> str:
        """The text form (tensors by dtype and shape only)."""
        return print_graph("spiking", self, self.nodes, ("nodes", "tensors"))

    @classmethod
    def parse(cls, text: str, tensors: Mapping[str, np.ndarray]) -> SpikingGraph:
        """Inverse of :meth:`text`; NC2005 on any error."""
        name, fields, nodes = parse(text, "spiking", KINDS, tensors)
        return build(
            lambda name, **header: cls(name, nodes=tuple(nodes), tensors=tensors, **header),
            name,
            **fields,
        )

    def replace(self, **changes: Any) -> SpikingGraph:
        """A copy with fields changed."""
        return dataclasses.replace(self, **changes)
