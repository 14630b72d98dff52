"""Move biases of linear layers into the LIF or the output that reads them, where the chip and the
host add them.

A product and a maximum need their operand with its bias, and so does a padded convolution of a bias
by channel: there an Offset adds it, behind the layer it comes from. A bias by position goes through
any convolution, ``w * (x + b) = w * x + w * b``, and stays one by position.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import shapes
from neurocompile.ir.evaluate import evaluate_node
from neurocompile.ir.text import Ref
from neurocompile.passes.base import Rewriter, SpikingPass

__all__ = ["MoveBias"]


@dataclass(frozen=True)
class MoveBias(SpikingPass):
    """Requires a float graph without BatchNorm and Scale. Ensures that only LIF, Output and Offset
    have a bias.
    """

    name: ClassVar[str] = "move-bias"

    def apply(self, graph: s.SpikingGraph) -> s.SpikingGraph:
        rewriter, size = Rewriter(graph), shapes(graph)
        bias: dict[
            str, np.ndarray
        ] = {}  # old value = new value + bias, which broadcasts against the value's shape
        needed = _needed(graph)
        for old in graph.nodes:
            for name in old.inputs:
                if name in bias and not _carries(old, bias[name]):
                    _add(rewriter, graph.node[name], bias.pop(name))
            node = rewriter.resolved(old)
            found = [bias.get(i) for i in old.inputs]
            if isinstance(node, (s.Conv2d, s.Linear)):
                carried = _through_linear(rewriter, old, node, found[0], size)
                node = replace(node, bias=None)
            elif isinstance(node, s.LIF):
                if found[0] is not None:
                    own = 0.0 if node.bias is None else rewriter.tensors[node.bias]
                    node = replace(
                        node, bias=rewriter.tensor(f"{node.name}.bias", node.gain * found[0] + own)
                    )
                carried = None
            elif isinstance(node, s.Output):
                if found[0] is not None:
                    own = 0.0 if node.bias is None else rewriter.tensors[node.bias]
                    total = np.broadcast_to(found[0] + own, size[old.x])
                    node = replace(
                        node, bias=rewriter.tensor(f"{node.name}.bias", np.array(total, np.float64))
                    )
                carried = None
            elif isinstance(node, s.Offset):
                own = np.asarray(rewriter.tensors[node.offset], np.float64)
                bias[old.name] = own if found[0] is None else own + found[0]
                rewriter.forward(old, node.x)
                if _is_needed(old, bias[old.name], needed):
                    _add(rewriter, old, bias.pop(old.name))
                continue
            else:
                carried = _carry(old, node, found, size)
            rewriter.emit(node)
            if (
                carried is not None
                and not isinstance(node, s.Rearrange)
                and _is_needed(old, carried, needed)
            ):
                _add(rewriter, old, carried)
            elif carried is not None:
                bias[old.name] = carried
        return rewriter.finish()


def _needed(graph: s.SpikingGraph) -> dict[str, bool]:
    """Values that somebody needs with their bias, and what views of these show: True if a product
    does, False if it is a padded convolution alone.
    """
    needed: dict[str, bool] = {}
    for node in reversed(graph.nodes):
        if (
            isinstance(node, (s.Mul, s.MatMul, s.Softmax, s.Integrator))
            or isinstance(node, s.LIF)
            and node.current
        ):
            needed.update(dict.fromkeys(node.inputs, True))
        elif isinstance(node, s.Conv2d) and any(node.padding):
            needed.setdefault(node.x, False)
        elif isinstance(node, s.Rearrange) and node.name in needed:
            needed[node.x] = needed.get(node.x, False) or needed[node.name]
    return needed


def _is_needed(node: s.Node, bias: np.ndarray, needed: dict[str, bool]) -> bool:
    """Whether ``bias`` has to be added where ``node`` makes its value."""
    return needed.get(node.name, False) or node.name in needed and _by_channel(bias)


def _by_channel(bias: np.ndarray) -> bool:
    """Whether a bias of a feature map is one number a channel."""
    return bias.size == 1 or bias.shape[1:] == (1, 1)


def _carries(node: s.Node, bias: np.ndarray) -> bool:
    """Whether ``node`` can read a value without its bias and pass it on."""
    if isinstance(node, s.Conv2d):
        return not _by_channel(bias) or not any(node.padding)
    if isinstance(node, s.SumPool2d):
        return not _by_channel(bias) or not any((*node.padding, *node.more))
    if isinstance(node, s.MaxPool2d):
        return _by_channel(bias)
    if isinstance(node, s.LIF):
        return not node.current
    return not isinstance(node, (s.Mul, s.MatMul, s.Softmax, s.Integrator))


def _add(rewriter: Rewriter, old: s.Node, bias: np.ndarray) -> None:
    """An Offset behind the value ``old``, for all that read it from now on."""
    offset = rewriter.tensor(f"{old.name}.offset", np.array(bias, np.float64))
    node = s.Offset(
        name=rewriter.fresh(f"{old.name}.biased"), x=rewriter.resolve(Ref(old.name)), offset=offset
    )
    rewriter.forward(old, rewriter.emit(node))


def _through_linear(
    rewriter: Rewriter,
    old: s.Node,
    node: s.Conv2d | s.Linear,
    incoming: np.ndarray | None,
    size: dict[str, tuple[int, ...]],
) -> np.ndarray | None:
    own = None if node.bias is None else np.asarray(rewriter.tensors[node.bias], np.float64)
    if own is not None and isinstance(node, s.Conv2d):
        own = own[:, None, None]
    if incoming is None:
        return own
    weight = np.asarray(rewriter.tensors[node.weight], np.float64)
    if isinstance(node, s.Conv2d) and _by_channel(incoming):
        incoming = np.broadcast_to(incoming, (weight.shape[1] * node.groups, 1, 1))
        kernel = weight.sum(axis=(2, 3)).reshape(node.groups, -1, weight.shape[1])
        through = (kernel * incoming.reshape(node.groups, 1, -1)).sum(axis=2).reshape(-1, 1, 1)
    elif isinstance(node, s.Conv2d):
        whole = np.broadcast_to(incoming, size[old.inputs[0]])
        through = evaluate_node(replace(node, bias=None), [whole], [weight])
    else:
        through = np.broadcast_to(incoming, size[old.inputs[0]]) @ weight.T
    return through if own is None else through + own


def _carry(
    old: s.Node, node: s.Node, found: list[np.ndarray | None], size: dict[str, tuple[int, ...]]
) -> np.ndarray | None:
    if all(b is None for b in found):
        return None
    first = found[0]
    if isinstance(node, s.Add):
        return sum((b for b in found if b is not None), np.zeros(()))
    assert first is not None or len(found) > 1
    if first is not None and isinstance(node, s.TimeMean):
        return first
    if first is not None and isinstance(node, s.MaxPool2d):
        return first
    if first is not None and isinstance(node, s.SumPool2d):
        if not _by_channel(first):
            return evaluate_node(node, [np.broadcast_to(first, size[old.inputs[0]])], [])
        return first * node.kernel[0] * node.kernel[1]
    if first is not None and isinstance(node, s.Sum):
        full = np.broadcast_to(first, size[old.inputs[0]])
        return np.asarray(full.sum(axis=node.axes, keepdims=node.keepdims))
    if first is not None and isinstance(node, s.Rearrange):
        return node.apply(np.broadcast_to(first, size[old.inputs[0]]))
    raise NeurocompileError(
        "NC2001",
        f"layer '{old.name}' ({type(old).__name__}) reads a value with a bias; put a LIF between",
    )
