"""The largest and the smallest of several signals, And and Or: of spikes, any or all that fire; the
largest of numbers of spikes and of currents, a window over them, laid side by side.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from neurocompile.frontends.onnx.bounds import bounds_of
from neurocompile.frontends.onnx.context import Importer, Rule, Traced
from neurocompile.frontends.onnx.joins import added, side_by_side
from neurocompile.frontends.onnx.pools import largest
from neurocompile.ir import spiking as s

__all__ = ["MAXIMUM_RULES"]


def _max(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    """Of spikes an OR: a neuron without memory that any of them makes fire."""
    operands = [im.traced.get(i) for i in node.input]
    signals = [x for x in operands if x is not None]
    found = [bounds_of(im, x.ref) for x in signals]
    constants = [im.constants[i] for i, x in zip(node.input, operands) if x is None]
    if len(signals) == 1 and all(
        b is not None and (value <= b[0]).all() for b in found for value in constants
    ):
        im.keep(node, signals[0])  # nothing is raised
        return
    if constants:
        raise im.error(
            "NC1009",
            "the largest of a signal and a number that it may be below; of signals it is supported",
        )
    if not _spikes(im, signals):
        largest(im, node, side_by_side(im, node, signals), [len(signals[0].dims)], False)
        return
    _fires(im, node, signals, 1)


def _min(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    """Of spikes an AND: a neuron without memory that all of them make fire."""
    operands = [im.traced.get(i) for i in node.input]
    signals = [x for x in operands if x is not None]
    found = [bounds_of(im, x.ref) for x in signals]
    constants = [im.constants[i] for i, x in zip(node.input, operands) if x is None]
    if len(signals) == 1 and all(
        b is not None and (value >= b[1]).all() for b in found for value in constants
    ):
        im.keep(node, signals[0])  # nothing is lowered
        return
    _logical(im, node, signals, constants, len(signals))


def _or(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    _logical(im, node, *_operands(im, node), 1)


def _and(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    signals, constants = _operands(im, node)
    _logical(im, node, signals, constants, len(signals))


def _operands(im: Importer, node: onnx.NodeProto) -> tuple[list[Traced], list[np.ndarray]]:
    signals = [im.traced[i] for i in node.input if i in im.traced]
    return signals, [im.constants[i] for i in node.input if i not in im.traced]


def _logical(
    im: Importer,
    node: onnx.NodeProto,
    signals: list[Traced],
    constants: list[np.ndarray],
    needed: int,
) -> None:
    """Fires where at least ``needed`` of the ``signals``, spikes, do."""
    if constants or not _spikes(im, signals):
        raise im.error(
            "NC1009",
            f"{node.op_type} of other values than spikes; of spikes (0 and 1) it is supported",
        )
    _fires(im, node, signals, needed)


def _spikes(im: Importer, signals: list[Traced]) -> bool:
    found = [bounds_of(im, x.ref) for x in signals]
    return all(b is not None and b[2] and b[0] >= 0 and b[1] <= 1 for b in found)


def _fires(im: Importer, node: onnx.NodeProto, signals: list[Traced], needed: int) -> None:
    wanted = node.name or node.output[0]
    total = signals[0]
    for x in signals[1:]:
        total = added(im, f"{wanted}.sum", total, x)
    ref = im.emit(
        s.LIF,
        wanted,
        im.shapes[total.ref],
        x=total.ref,
        tau=1.0,
        v_threshold=float(needed),
        decay_input=False,
    )
    made = im.over(total, ref)
    im.layer_values[ref], im.layouts[ref] = node.output[0], made.layout
    im.keep(node, made)


MAXIMUM_RULES: dict[str, Rule] = {"Max": _max, "Min": _min, "Or": _or, "And": _and}
