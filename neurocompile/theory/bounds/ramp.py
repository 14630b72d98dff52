"""The ramp of a spiking neuron: what stands for its rate where a Lipschitz constant is asked for.

A spike is a step, so no spiking network has a Lipschitz constant. Rates have one on average: with a
constant input a neuron of leak ``1/tau`` is silent below ``V_th / tau`` and fires in every step
from ``V_th`` on, and its rate climbs from 0 to 1 in between. The ramp is the straight line between
these two points, of slope ``1 / (V_th (1 - 1/tau))``. Without leak (IF) it is the exact rate of an
infinite run with soft reset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import numpy as np

from neurocompile.ir import spiking as s
from neurocompile.ir.fields import ALL
from neurocompile.ir.tables import KindTable
from neurocompile.ir.text import TensorRef

__all__ = ["RAMPS", "Ramp", "ramp_of", "ramp_values"]


class Ramp:
    """``clip(slope * (x - start), 0, 1)`` of the input that the node reads, ``x`` before gain and
    bias.
    """

    def __init__(
        self, silent: float | np.ndarray, full: float | np.ndarray, gain: float = 1.0
    ) -> None:
        self.silent, self.full, self.gain = silent, full, gain
        """Input (after the gain) up to which it is silent, and from which it fires in every step.
        """

    @property
    def slope(self) -> float:
        """Steepest slope; infinite for a neuron that keeps nothing from step to step."""
        width = float(np.min(self.full - self.silent))
        return abs(self.gain) / width if width > 0 else float("inf")

    def __call__(self, x: np.ndarray, bias: np.ndarray | float = 0.0) -> np.ndarray:
        """Rates in 0..1."""
        x = self.gain * x + bias
        width = np.asarray(self.full - self.silent)
        return np.where(
            width > 0,
            np.clip((x - self.silent) / np.where(width > 0, width, 1.0), 0, 1),
            x >= self.full,
        )


def ramp_of(node: s.Node, tensors: Mapping[str, np.ndarray] = MappingProxyType({})) -> Ramp:
    """The ramp of a neuron (LIF, IntegerLIF, SoftIntegerLIF, Or), or the ramps of its channels.
    Resets to another value than 0 count as if to 0. NC2013 for any other node.
    """
    return RAMPS.of(node)(node, tensors)


RAMPS: KindTable[Callable[[Any, Mapping[str, np.ndarray]], Ramp]] = KindTable(
    "ramps", (), "the line that stands for its rate"
)
"""(neuron, tensors) -> its ramp."""


@RAMPS.rule(s.LIF)
def _lif(node: s.LIF, tensors: Mapping[str, np.ndarray]) -> Ramp:
    if isinstance(node.tau, TensorRef):
        return Ramp(node.v_threshold / tensors[node.tau], node.v_threshold, node.gain)
    leak = 0.0 if np.isinf(node.tau) else 1 / node.tau
    if not node.decay_input:
        return Ramp(leak * node.v_threshold, node.v_threshold, node.gain)
    if not leak:
        return Ramp(0, np.inf, node.gain)
    # h = v + (x - v) / tau: the input counts 1/tau
    return Ramp(node.v_threshold, node.v_threshold * node.tau, node.gain)


@RAMPS.rule(s.IntegerLIF)
def _integer_lif(node: s.IntegerLIF, tensors: Mapping[str, np.ndarray]) -> Ramp:
    vth, dv = (tensors[v] if isinstance(v, TensorRef) else v for v in (node.vth, node.dv))
    threshold = vth + 1 / 64  # the smallest membrane that fires
    return Ramp(threshold * dv / ALL, threshold, node.gain)


@RAMPS.rule(s.SoftIntegerLIF)
def _soft_lif(node: s.SoftIntegerLIF, tensors: Mapping[str, np.ndarray]) -> Ramp:
    """Gain and bias count before the shift."""
    threshold, decay = (
        tensors[v].astype(np.int64) if isinstance(v, TensorRef) else v
        for v in (node.threshold, node.decay)
    )
    threshold = threshold * 2**node.shift
    return Ramp(threshold * decay / ALL, threshold, node.gain)


@RAMPS.rule(s.Or)
def _or(node: s.Or, tensors: Mapping[str, np.ndarray]) -> Ramp:
    return Ramp(0, 1)


def ramp_values(graph: s.SpikingGraph, node: s.Node, x: np.ndarray) -> np.ndarray:
    """The ramp's output for the input ``x`` (samples, 1, *shape) of a neuron: for ``evaluate(...,
    alter=...)``.
    """
    bias: np.ndarray | float = 0.0
    tensor = getattr(node, "bias", None)
    if tensor is not None:
        bias = graph.tensors[tensor].astype(np.float64)
        bias = bias * 2.0**node.bias_exp / 64 if isinstance(node, s.IntegerLIF) else bias
    return ramp_of(node, graph.tensors)(np.asarray(x, np.float64), bias)
