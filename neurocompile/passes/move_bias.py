"""Move biases of linear layers into the LIF or the output that reads them, where the chip and the
host add them.

A product and a maximum need their operand with its bias, and so does a padded convolution of a bias
by channel: there an Offset adds it, behind the layer it comes from. A bias by position goes through
any convolution, ``w * (x + b) = w * x + w * b``, and stays one by position.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import evaluate_node
from neurocompile.ir.shapes import Shape, shapes
from neurocompile.ir.spiking_rules import IS_IMPORTED, NO_BATCH_NORM, NO_BIAS, NO_SCALE
from neurocompile.ir.tables import KindTable
from neurocompile.ir.text import Ref
from neurocompile.passes.base import Rewriter, SpikingPass

__all__ = ["BIASES", "NEEDS", "READS_WITHOUT", "MoveBias"]

_WHOLE = (
    s.Mul,
    s.MatMul,
    s.Softmax,
    s.Integrator,
    s.Function,
    s.Normalization,
    s.StepSoftmax,
    s.Quotient,
    s.TokenMean,
    s.Delay,
)
"""Kinds that need their operands with their biases."""


@dataclass(frozen=True)
class MoveBias(SpikingPass):
    """Requires a float graph without BatchNorm and Scale. Ensures that only LIF, Output and Offset
    have a bias.
    """

    name: ClassVar[str] = "move-bias"
    requires = (IS_IMPORTED, NO_BATCH_NORM, NO_SCALE)
    ensures = (NO_BIAS,)

    def apply(self, graph: s.SpikingGraph) -> s.SpikingGraph:
        rewriter, size = Rewriter(graph), shapes(graph)
        bias: dict[str, np.ndarray] = {}
        # old value = new value + bias, which broadcasts against the value's shape
        needed = _needed(graph)
        for old in graph.nodes:
            for name in old.inputs:
                if name in bias and not READS_WITHOUT.of(old)(old, bias[name]):
                    _add(rewriter, graph.node[name], bias.pop(name))
            found = [bias.get(i) for i in old.inputs]
            at = _Moving(rewriter, size, old)
            node, carried = BIASES.of(old)(at, rewriter.resolved(old), found)
            if node is None:
                rewriter.forward(old, rewriter.resolve(old.inputs[0]))
            else:
                rewriter.emit(node)
            if carried is None:
                continue
            if not isinstance(old, s.Rearrange) and _is_needed(old, carried, needed):
                _add(rewriter, old, carried)
            else:
                bias[old.name] = carried
        return rewriter.finish()


@dataclass(frozen=True)
class _Moving:
    """What rules may look at beside the new node."""

    rewriter: Rewriter
    size: dict[str, Shape]
    old: s.Node

    def full(self, bias: np.ndarray) -> np.ndarray:
        """``bias`` of the first input in its whole shape."""
        return np.broadcast_to(bias, self.size[self.old.inputs[0]])


Given = list["np.ndarray | None"]
Moved = tuple["s.Node | None", "np.ndarray | None"]
BIASES: KindTable[Callable[[_Moving, Any, Given], Moved]] = KindTable(
    "move-bias", ("canonical",), "what becomes of a bias in front of it"
)
"""(state, node that reads new values, biases that these lack) -> (new node, or None for its input
itself; bias that its value lacks)."""


@BIASES.rule(s.Conv2d)
def _move_through_convolution(at: _Moving, node: s.Conv2d, found: Given) -> Moved:
    tensors, incoming = at.rewriter.tensors, found[0]
    own = None if node.bias is None else np.asarray(tensors[node.bias], np.float64)[:, None, None]
    node = replace(node, bias=None)
    if incoming is None:
        return node, own
    weight = np.asarray(tensors[node.weight], np.float64)
    if _by_channel(incoming):
        incoming = np.broadcast_to(incoming, (weight.shape[1] * node.groups, 1, 1))
        kernel = weight.sum(axis=(2, 3)).reshape(node.groups, -1, weight.shape[1])
        through = (kernel * incoming.reshape(node.groups, 1, -1)).sum(axis=2).reshape(-1, 1, 1)
    else:
        through = evaluate_node(node, [at.full(incoming)], [weight])
    return node, through if own is None else through + own


@BIASES.rule(s.Linear)
def _move_through_linear(at: _Moving, node: s.Linear, found: Given) -> Moved:
    tensors, incoming = at.rewriter.tensors, found[0]
    own = None if node.bias is None else np.asarray(tensors[node.bias], np.float64)
    node = replace(node, bias=None)
    if incoming is None:
        return node, own
    through = at.full(incoming) @ np.asarray(tensors[node.weight], np.float64).T
    return node, through if own is None else through + own


@BIASES.rule(s.LIF)
def _move_into_lif(at: _Moving, node: s.LIF, found: Given) -> Moved:
    if found[0] is None:
        return node, None
    own = 0.0 if node.bias is None else at.rewriter.tensors[node.bias]
    bias = at.rewriter.tensor(f"{node.name}.bias", node.gain * found[0] + own)
    return replace(node, bias=bias), None


@BIASES.rule(s.Output)
def _move_into_output(at: _Moving, node: s.Output, found: Given) -> Moved:
    if found[0] is None:
        return node, None
    own = 0.0 if node.bias is None else at.rewriter.tensors[node.bias]
    total = at.full(found[0] + own)
    bias = at.rewriter.tensor(f"{node.name}.bias", np.array(total, np.float64))
    return replace(node, bias=bias), None


@BIASES.rule(s.Offset)
def _move_offset(at: _Moving, node: s.Offset, found: Given) -> Moved:
    own = np.asarray(at.rewriter.tensors[node.offset], np.float64)
    return None, own if found[0] is None else own + found[0]


@BIASES.rule(s.Input, s.Previous, s.Mul, s.MatMul, s.Softmax, s.Integrator, s.Or)
@BIASES.rule(s.Function, s.Normalization, s.StepSoftmax, s.Quotient, s.TokenMean, s.Delay)
def _nothing(at: _Moving, node: s.Node, found: Given) -> Moved:
    if any(b is not None for b in found):
        raise NeurocompileError(
            "NC2001",
            f"layer '{node.name}' ({type(node).__name__}) reads a value with a bias; put a LIF between",
            layer=node.name,
        )
    return node, None


@BIASES.rule(s.Add)
def _move_through_add(at: _Moving, node: s.Add, found: Given) -> Moved:
    given = [b for b in found if b is not None]
    return node, sum(given, np.zeros(())) if given else None


@BIASES.rule(s.TimeMean, s.MaxPool2d)
def _unchanged(at: _Moving, node: s.Node, found: Given) -> Moved:
    return node, found[0]


@BIASES.rule(s.SumPool2d)
def _move_through_pool(at: _Moving, node: s.SumPool2d, found: Given) -> Moved:
    if found[0] is None or _by_channel(found[0]):
        return node, None if found[0] is None else found[0] * node.kernel[0] * node.kernel[1]
    return node, evaluate_node(node, [at.full(found[0])], [])


@BIASES.rule(s.Sum)
def _move_through_sum(at: _Moving, node: s.Sum, found: Given) -> Moved:
    if found[0] is None:
        return node, None
    return node, np.asarray(at.full(found[0]).sum(axis=node.axes, keepdims=node.keepdims))


@BIASES.rule(s.Rearrange)
def _move_through_view(at: _Moving, node: s.Rearrange, found: Given) -> Moved:
    return node, None if found[0] is None else node.apply(at.full(found[0]))


NEEDS: KindTable[Callable[[Any, "bool | None"], "bool | None"]] = KindTable(
    "needed biases", ("canonical",), "whether it needs its operands with their biases"
)
"""(node, whether the node's own value is needed so) -> whether its operands are: True always, False
those by channel alone, None not at all."""
NEEDS.add(lambda node, own: True, *_WHOLE)
NEEDS.add(lambda node, own: True if node.current else None, s.LIF)
NEEDS.add(lambda node, own: False if any(node.padding) else None, s.Conv2d)
NEEDS.add(lambda node, own: own, s.Rearrange)
NEEDS.add(lambda node, own: None, s.Linear, s.Add, s.Sum, s.TimeMean, s.MaxPool2d, s.SumPool2d)
NEEDS.add(lambda node, own: None, s.Input, s.Previous, s.Offset, s.Output, s.Or)


def _needed(graph: s.SpikingGraph) -> dict[str, bool]:
    """Values that somebody needs with their bias, and what views of these show: True if a product
    does, False if it is a padded convolution alone.
    """
    needed: dict[str, bool] = {}
    for node in reversed(graph.nodes):
        need = NEEDS.of(node)(node, needed.get(node.name))
        if need is not None:
            needed.update((i, needed.get(i, False) or need) for i in node.inputs)
    return needed


def _is_needed(node: s.Node, bias: np.ndarray, needed: dict[str, bool]) -> bool:
    """Whether ``bias`` has to be added where ``node`` makes its value."""
    return needed.get(node.name, False) or node.name in needed and _by_channel(bias)


def _by_channel(bias: np.ndarray) -> bool:
    """Whether a bias of a feature map is one number a channel."""
    return bias.size == 1 or bias.shape[1:] == (1, 1)


READS_WITHOUT: KindTable[Callable[[Any, np.ndarray], bool]] = KindTable(
    "biases in front", ("canonical",), "whether it can read a value without its bias"
)
"""(node, bias) -> whether it can read a value without that bias and pass it on."""
READS_WITHOUT.add(lambda node, bias: False, *_WHOLE)
READS_WITHOUT.add(lambda node, bias: True, s.Linear, s.Add, s.Sum, s.TimeMean, s.Rearrange)
READS_WITHOUT.add(lambda node, bias: True, s.Input, s.Previous, s.Offset, s.Output, s.Or)
READS_WITHOUT.add(lambda node, bias: not node.current, s.LIF)
READS_WITHOUT.add(lambda node, bias: _by_channel(bias), s.MaxPool2d)
READS_WITHOUT.add(lambda node, bias: not _by_channel(bias) or not any(node.padding), s.Conv2d)
READS_WITHOUT.add(
    lambda node, bias: not _by_channel(bias) or not any((*node.padding, *node.more)), s.SumPool2d
)


def _add(rewriter: Rewriter, old: s.Node, bias: np.ndarray) -> None:
    """An Offset behind the value ``old``, for all that read it from now on."""
    offset = rewriter.tensor(f"{old.name}.offset", np.array(bias, np.float64))
    node = s.Offset(
        name=rewriter.fresh(f"{old.name}.biased"), x=rewriter.resolve(Ref(old.name)), offset=offset
    )
    rewriter.forward(old, rewriter.emit(node))
