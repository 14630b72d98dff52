"""Real values within the range that the calibration saw, widened: what lies beyond is clipped."""

from __future__ import annotations

from math import ceil, log2

from neurocompile.ir import spiking as s
from neurocompile.ir.text import Ref
from neurocompile.passes.quantization.state import Quantization

__all__ = ["MARGIN", "fitted", "seen", "range_of_real"]

MARGIN = 0.25
"""Of a calibrated range, on each side: what other samples may exceed it by."""


def seen(state: Quantization, name: str) -> tuple[float, float] | None:
    """Ends of a real value of the float graph, directly or through views, that the calibration saw,
    widened; None for one that it did not look at.
    """
    while isinstance(node := state.graph.node.get(name), s.Rearrange):
        name = node.x
    known = state.options.calibration.values.get(name)
    return None if known is None else _widened(*known)


def range_of_real(state: Quantization, name: str) -> tuple[float, float]:
    """Of a quantized real value: calibrated and widened, or proven."""
    unit, bound = state.unit[name], state.bound[name]
    low, high = unit * bound.low, unit * bound.high
    known = state.options.calibration.values.get(name)
    if known is not None:
        known = _widened(*known)
        low, high = max(low, known[0]), min(high, known[1])
    return min(low, 0.0), max(high, 0.0)


def _widened(low: float, high: float) -> tuple[float, float]:
    more = MARGIN * max(high - low, abs(low), abs(high), 1e-12)
    return low - more, high + more


def fitted(state: Quantization, name: Ref, levels: int, around: tuple[float, float]) -> Ref:
    """``name`` in the finest unit of 2^k of its own in which its range ``around`` is at most
    ``levels``, clipped to it.
    """
    most = max(-around[0], around[1]) / state.unit[name]
    bits = max(ceil(log2(max(most, 1.0) / (levels + 0.5))), 0)
    x = state.dropped(name, bits, nearest=True)
    unit, bound = state.unit[x], state.bound[x]
    low, high = (round(end / unit) for end in around)
    low, high = max(low, -levels), min(high, levels)
    if low <= bound.low and bound.high <= high:
        return x
    clip = s.Clip(name=state.rewriter.fresh(f"{name}.clipped"), x=x, low=low, high=high)
    return state.put(clip, unit, state.size[name])
