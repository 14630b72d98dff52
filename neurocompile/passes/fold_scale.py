"""Carry constant factors forward until weights, a LIF's gain or the output absorbs them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.ir.shapes import Shape, shapes
from neurocompile.ir.spiking_rules import IS_IMPORTED, NO_BATCH_NORM, NO_SCALE
from neurocompile.ir.tables import KindTable
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.passes.base import Rewriter, SpikingPass
from neurocompile.passes.factors import multiplied, multiplied_in_place

__all__ = ["FACTORS", "FoldScale"]


@dataclass(frozen=True)
class FoldScale(SpikingPass):
    """Requires a float graph without BatchNorm. Ensures that no Scale is left: where the summands
    of a sum have unequal factors, one goes into the weights of its layer, or into a convolution of
    its own, and so does a factor <= 0 of a maximum or a LIF.
    """

    name: ClassVar[str] = "fold-scale"
    requires = (IS_IMPORTED, NO_BATCH_NORM)
    ensures = (NO_SCALE,)

    def apply(self, graph: s.SpikingGraph) -> s.SpikingGraph:
        at = _Folding(graph, Rewriter(graph), shapes(graph))
        factor: dict[str, float] = {}  # old value = factor * new value
        for old in graph.nodes:
            factors = [factor[i] for i in old.inputs]
            if isinstance(old, s.Scale):
                at.rewriter.forward(old, at.rewriter.resolve(old.x))
                factor[old.name] = old.factor * factors[0]
                continue
            rule = FACTORS.of(old)
            node, factor[old.name] = rule(at, old, at.rewriter.resolved(old), factors)
            at.rewriter.emit(node)
        return at.rewriter.finish()


@dataclass(frozen=True)
class _Folding:
    """What rules may look at: the old graph, and the new one so far."""

    graph: s.SpikingGraph
    rewriter: Rewriter
    size: dict[str, Shape]


Folded = tuple[s.Node, float]
FACTORS: KindTable[Callable[[_Folding, Any, Any, list[float]], Folded]] = KindTable(
    "fold-scale", ("canonical",), "what becomes of a factor in front of it"
)
"""(state, old node, the same reading new values, factors that these lack) -> (new node, factor that
its value lacks)."""


@FACTORS.rule(s.Input, s.Previous)
def _input(at: _Folding, old: s.Node, node: s.Node, factors: list[float]) -> Folded:
    return node, 1.0


@FACTORS.rule(s.Rearrange, s.Sum, s.SumPool2d, s.TimeMean, s.Integrator, s.Delay)
def _linear(at: _Folding, old: s.Node, node: s.Node, factors: list[float]) -> Folded:
    return node, factors[0]


@FACTORS.rule(s.Mul, s.MatMul)
def _product(at: _Folding, old: s.Node, node: s.Node, factors: list[float]) -> Folded:
    return node, factors[0] * factors[1]


@FACTORS.rule(s.Add)
def _add(at: _Folding, old: s.Add, node: s.Add, factors: list[float]) -> Folded:
    return _alike(at.rewriter, at.graph, old, node, factors, at.size)


@FACTORS.rule(s.MaxPool2d)
def _max_pool(at: _Folding, old: s.MaxPool2d, node: s.MaxPool2d, factors: list[float]) -> Folded:
    if factors[0] > 0:
        return node, factors[0]
    # the largest value becomes the smallest
    x = _multiplied(at.rewriter, at.graph, old.x, factors[0], at.size)
    return replace(node, x=x), 1.0


@FACTORS.rule(s.Conv2d, s.Linear)
def _weights(at: _Folding, old: s.Node, node: s.Conv2d | s.Linear, factors: list[float]) -> Folded:
    if factors[0] != 1.0:
        node = replace(node, weight=_scaled(at.rewriter, node.weight, factors[0]))
    return node, 1.0


@FACTORS.rule(s.Offset)
def _offset(at: _Folding, old: s.Offset, node: s.Offset, factors: list[float]) -> Folded:
    _refuse_zero(factors[0], f"layer '{old.name}' adds to")
    if factors[0] != 1.0:
        node = replace(node, offset=_scaled(at.rewriter, node.offset, 1.0 / factors[0]))
    return node, factors[0]


@FACTORS.rule(s.LIF)
def _lif(at: _Folding, old: s.LIF, node: s.LIF, factors: list[float]) -> Folded:
    _refuse_zero(factors[0], f"layer '{old.name}' reads")
    if factors[0] < 0:
        x = _multiplied(at.rewriter, at.graph, old.x, factors[0], at.size)
        return replace(node, x=x), 1.0
    return replace(node, gain=node.gain * factors[0]), 1.0


@FACTORS.rule(s.Or)
def _or(at: _Folding, old: s.Or, node: s.Or, factors: list[float]) -> Folded:
    if factors[0] != 1.0:
        raise NeurocompileError(
            "NC2001",
            f"layer '{old.name}' is an OR of values times {factors[0]}; it reads integers",
            layer=old.name,
        )
    return node, 1.0


@FACTORS.rule(s.Softmax)
def _softmax(at: _Folding, old: s.Softmax, node: s.Softmax, factors: list[float]) -> Folded:
    if not node.gain * factors[0] > 0:
        raise NeurocompileError(
            "NC2012",
            f"layer '{old.name}' is a softmax of scores times {factors[0]}; factors > 0 are supported",
            layer=old.name,
        )
    return replace(node, gain=node.gain * factors[0]), 1.0


@FACTORS.rule(s.StepSoftmax, s.Function)
def _gain(
    at: _Folding, old: s.Node, node: s.StepSoftmax | s.Function, factors: list[float]
) -> Folded:
    return replace(node, gain=node.gain * factors[0]), 1.0


@FACTORS.rule(s.TokenMean)
def _token_mean(at: _Folding, old: s.Node, node: s.TokenMean, factors: list[float]) -> Folded:
    return replace(node, gain=node.gain * factors[0]), factors[1]


@FACTORS.rule(s.Normalization)
def _normalization(
    at: _Folding, old: s.Node, node: s.Normalization, factors: list[float]
) -> Folded:
    _refuse_zero(factors[0], f"layer '{old.name}' reads")
    node = replace(node, epsilon=node.epsilon / factors[0] ** 2)
    return node, 1.0 if factors[0] > 0 else -1.0


@FACTORS.rule(s.Quotient)
def _quotient(at: _Folding, old: s.Node, node: s.Quotient, factors: list[float]) -> Folded:
    _refuse_zero(factors[1], f"layer '{old.name}' divides by")
    if factors[1] < 0:
        raise NeurocompileError(
            "NC2001",
            f"layer '{old.name}' divides by a value times {factors[1]}; above 0 is supported",
            layer=old.name,
        )
    return node, factors[0] / factors[1]


@FACTORS.rule(s.Output)
def _output(at: _Folding, old: s.Output, node: s.Output, factors: list[float]) -> Folded:
    _refuse_zero(factors[0], f"output '{old.name}' reads")
    bias = node.bias
    if bias is not None and factors[0] != 1.0:
        bias = _scaled(at.rewriter, bias, 1.0 / factors[0])
    return replace(node, unit=node.unit * factors[0], bias=bias), 1.0


def _refuse_zero(factor: float, who: str) -> None:
    if factor == 0:
        raise NeurocompileError("NC2001", f"{who} a value scaled by 0")


def _alike(
    rewriter: Rewriter,
    graph: s.SpikingGraph,
    old: s.Node,
    node: s.Add,
    factors: list[float],
    size: dict[str, tuple[int, ...]],
) -> tuple[s.Add, float]:
    """A sum whose summands have one factor, and that factor."""
    if factors[0] == factors[1]:
        return node, factors[0]
    names = old.inputs
    for moved, kept in ((1, 0), (0, 1)):
        # a negative factor of the sum would be no neuron's gain
        good = factors[kept] > 0 or factors[kept] and max(factors) <= 0
        if good and multiplied_in_place(
            rewriter, graph, names[moved], factors[moved] / factors[kept]
        ):
            return node, factors[kept]
    kept = 0 if factors[0] and (factors[0] > 0 or factors[1] <= 0) else 1
    x = _multiplied(rewriter, graph, names[1 - kept], factors[1 - kept] / factors[kept], size)
    return replace(node, b=x) if kept == 0 else replace(node, a=x), factors[kept]


def _multiplied(
    rewriter: Rewriter,
    graph: s.SpikingGraph,
    name: Ref,
    factor: float,
    size: dict[str, tuple[int, ...]],
) -> Ref:
    """The value ``name`` of ``graph`` without its own factor, times ``factor``."""
    return multiplied(rewriter, rewriter.resolve(name), size[name], factor, name)


def _scaled(rewriter: Rewriter, weight: TensorRef, factor: float) -> TensorRef:
    return rewriter.tensor(
        f"{weight}.scaled", np.asarray(rewriter.tensors[weight], np.float64) * factor
    )
