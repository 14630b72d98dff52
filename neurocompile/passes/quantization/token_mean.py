"""RWKV's weighted mean over tokens in integers that keep their digits wherever the weights lie.

A weight e^k spans many octaves, an integrator holds 17 bits. The authors keep exponents below a running
maximum, a factor that all sums share and a mean does not see; a sum that is multiplied by another value
in every step is no loop that a chip makes. The same freedom, block floating point: k lies in a
*window* of :data:`_OCTAVES` octaves, its weight is an integer of ``bits`` bits above the window's lower
end, and each window sums its tokens in a unit of its own, which loops hold exactly as before. Then, in
each step and without a loop, the sums of all windows are read in the unit of the highest one in which
the divisor has enough bits, and divided.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, floor, log, log2
from typing import Any

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.ir.text import Ref
from neurocompile.passes.quantization.fitting import fitted, range_of_real
from neurocompile.passes.quantization.neurons import integrator_of
from neurocompile.passes.quantization.real import (
    Quantized,
    bits_of,
    digits_needed,
    divided,
    pieces,
    product_bits,
    tabulated,
)
from neurocompile.passes.quantization.state import Quantization
from neurocompile.passes.quantization.tables import Segments, segments
from neurocompile.passes.quantization.thresholds import integrator_limit

__all__ = ["token_mean"]

_OCTAVES = 5
"""Of a window of weights."""
_MOST_WINDOWS = 10
"""The lowest weights of a wider range count as those of the lowest window's end."""
_HEADROOM = 0.5
"""Of k, above what was calibrated: weights beyond count as that."""
_FRACTION = 3
"""Bits behind the point of a weight, in sums: a step's own weight is multiplied by a factor."""


def token_mean(state: Quantization, node: s.TokenMean) -> Quantized:
    """The mean in windows of octaves, see the module."""
    at = _Windows.of(state, node)
    weights, values = at.products()
    decay, first = (
        np.asarray(state.graph.tensors[t], np.float64) for t in (node.decay, node.first)
    )
    sums, products = ([at.summed(x, decay, first) for x in parts] for parts in (weights, values))
    bits = min(bits_of(state) + 4, state.fields.digits - 1)
    divisor, numerator = at.read(sums, products, bits)
    low = max(1 << max(bits - _OCTAVES - 2, 0), 1)
    return divided(state, node, numerator, divisor, (low, state.bound[divisor].high), bits)


@dataclass(frozen=True, eq=False)
class _Windows:
    """k in integers, and where its windows end."""

    state: Quantization
    node: s.TokenMean
    k: Ref
    ends: tuple[int, ...]
    """Integers of k that are the last below a window, rising; and the last of the highest."""
    steps: int
    """Integers of k in a window."""
    scale: float
    """Of an integer of k, in the exponent."""

    @classmethod
    def of(cls, state: Quantization, node: s.TokenMean) -> _Windows:
        known = state.options.calibration.values.get(node.k)
        low, high = range_of_real(state, node.k)
        if known is not None:
            low, high = known
            more = _HEADROOM / max(abs(node.gain), 1e-30)
            low, high = (low, high + more) if node.gain > 0 else (low - more, high)
        k = fitted(state, node.k, 1 << min(bits_of(state) + 3, state.fields.digits), (low, high))
        if node.gain < 0:
            turned = s.Combination(
                name=state.rewriter.fresh(f"{node.name}.turned"), a=k, b=k, times_a=-1, times_b=0
            )
            k = state.put(turned, state.unit[k], state.size[k])
            low, high = -high, -low
        scale = abs(node.gain) * state.unit[k]
        steps = max(round(_OCTAVES * log(2) / scale), 1)
        top, bottom = ceil(high / state.unit[k]), floor(low / state.unit[k])
        count = min(max(ceil((top - bottom + 1) / steps), 1), _MOST_WINDOWS)
        ends = tuple(top - (count - i) * steps for i in range(count + 1))
        clip = s.Clip(
            name=state.rewriter.fresh(f"{node.name}.within"), x=k, low=ends[0] + 1, high=top
        )
        k = state.put(clip, state.unit[k], state.size[k])
        return cls(state, node, k, ends, steps, scale)

    def _put(self, kind: type[s.Node], name: str, unit: float, **fields: Any) -> Ref:
        made = kind(name=self.state.rewriter.fresh(f"{self.node.name}.{name}"), **fields)
        return self.state.put(made, unit, self.state.size[self.node.k])

    def _table(self, name: str, x: Ref, corners: list[tuple[int, int]], constant: int = 0) -> Ref:
        """Exact segments: (knot, what is added to the slope there)."""
        knots, weights = np.array(corners, np.int64).T
        table = Segments(knots, weights, constant, 0, 1.0)
        fresh = self.state.rewriter.fresh(f"{self.node.name}.{name}")
        made = tabulated(self.state, fresh, x, table)
        return self.state.put(made, 1.0, self.state.size[self.node.k])

    def _step(self, name: str, x: Ref, below: int) -> Ref:
        """1 where the value is above ``below``."""
        return self._table(name, x, [(below, 1), (below + 1, -1)])

    def products(self) -> tuple[list[Ref], list[Ref]]:
        """Weights, and weights times values, of each window: 0 in all but one."""
        state, node = self.state, self.node
        decay = np.rint(128 * np.asarray(state.graph.tensors[node.decay], np.float64))
        limit = integrator_limit(float(decay.max()) / 128, state.options.steps, state.fields)
        if limit < 1 << _OCTAVES + 1:
            raise NeurocompileError(
                "NC2002",
                f"layer '{node.name}' sums weights over {state.options.steps:,} tokens, which leaves {max(limit, 0):,} levels "
                f"for one; {1 << _OCTAVES + 1} are needed; use fewer tokens",
                layer=node.name,
            )
        bits = bits_of(state)
        # where in its window k lies, 1 .. steps; then its weight
        inner = [c for end in self.ends[1:-1] for c in ((end, -self.steps), (end + 1, self.steps))]
        corners = [(self.ends[0], 1), *inner]
        place = self._table("place", self.k, corners)
        table = segments(
            lambda r: np.exp(self.scale * (r - self.steps)),
            0,
            self.steps,
            pieces(bits + 2),
            min(limit, (1 << bits + 3) - 1),
            state.fields,
            True,
        )
        fresh = state.rewriter.fresh(f"{node.name}.weight")
        weight = state.put(tabulated(state, fresh, place, table), table.unit, state.size[node.k])
        weight = self._put(s.Clip, "weight.held", table.unit, x=weight, low=0, high=limit)
        digits = fitted(state, node.v, (1 << bits) - 1, range_of_real(state, node.v))
        own = digits_needed(state, digits)
        shift = max(own + state.bound[weight].high.bit_length() - product_bits(state), 0)
        product = self._put(
            s.DigitMul,
            "product",
            state.unit[digits] * table.unit * 2.0**shift,
            digits=digits,
            value=weight,
            bits=own,
            signed=state.bound[digits].low < 0,
            shift=shift,
        )
        product = state.coarser(product, state.bound[weight].high, nearest=True)
        found: tuple[list[Ref], list[Ref]] = ([], [])
        for i, (low, high) in enumerate(zip(self.ends, self.ends[1:])):
            corners = [(low, 1), (low + 1, -1), (high, -1), (high + 1, 1)]
            here = self._table(f"window{i}", self.k, corners)
            for parts, value in zip(found, (weight, product), strict=True):
                part = self._gated(f"part{i}", here, value)
                parts.append(part)
        return found

    def _gated(self, name: str, spike: Ref, value: Ref) -> Ref:
        """``value`` where ``spike`` is 1."""
        unit = self.state.unit[value]
        return self._put(s.DigitMul, name, unit, digits=spike, value=value, bits=1)

    def summed(self, x: Ref, decay: np.ndarray, first: np.ndarray) -> Ref:
        """``x`` over the steps before, and this step's times ``first``, with up to :data:`_FRACTION`
        bits behind the point.

        What is kept is an integrator's value one step later.
        """
        state, node = self.state, self.node
        kept = integrator_of(state, state.rewriter.fresh(f"{node.name}.kept"), x, decay)
        shape, unit = state.size[x], state.unit[x]
        state.put(kept, unit, shape)
        before = self._put(s.Delay, "before", unit, x=Ref(kept.name))
        most, levels = float(first.max()), (1 << state.options.weight_bits - 1) - 1
        bits = floor(log2(levels / most))
        if bits < 0:
            raise NeurocompileError(
                "NC2002",
                f"layer '{node.name}' counts its own step {most:.4g} times; up to {levels} is supported",
                layer=node.name,
            )
        fraction = min(bits, _FRACTION)
        drop = min(bits - fraction, 7)
        scaled = np.broadcast_to(first, shape).reshape(-1) * 2.0 ** (fraction + drop)
        # no step is without a weight of its own: the first of a sample has no other
        weights = np.maximum(np.rint(scaled), 1)
        own = self._each(x, weights.astype(np.int16), drop)
        fields: dict[str, Any] = {"a": before, "b": own, "times_a": 1 << fraction}
        return self._put(s.Combination, "sum", unit / (1 << fraction), **fields)

    def _each(self, x: Ref, weights: np.ndarray, drop: int) -> Ref:
        """``floor(weights * x / 2^drop)``, a weight of 8 bits each."""
        state, name = self.state, self.node.name
        shape, n, unit = state.size[x], weights.size, state.unit[x]
        aligned = 9 - state.options.weight_bits

        def view(of: Ref, to: tuple[int, ...], what: str) -> Ref:
            fields: dict[str, Any] = {"shape": to, "sizes": (n,), "strides": (1,)}
            made = s.Rearrange(name=state.rewriter.fresh(f"{name}.{what}"), x=of, **fields)
            return state.put(made, state.unit[of], to)

        layer = s.Conv2d(
            name=state.rewriter.fresh(f"{name}.own"),
            x=view(x, (n, 1, 1), "channels"),
            weight=state.rewriter.tensor(f"{name}.own", (weights << aligned).reshape(n, 1, 1, 1)),
            bias=None,
            stride=(1, 1),
            padding=(0, 0),
            dilation=(1, 1),
            groups=n,
            exponent=-aligned,
        )
        y = state.put(layer, unit, (n, 1, 1))
        if drop:
            shifted = s.Shift(name=state.rewriter.fresh(f"{name}.own.coarse"), x=y, bits=drop)
            y = state.put(shifted, unit, (n, 1, 1))
        return view(y, shape, "values")

    def read(self, weights: list[Ref], values: list[Ref], bits: int) -> tuple[Ref, Ref]:
        """Divisor and numerator in the unit of the highest window, or the one above all, in which the
        divisor has more than ``bits - _OCTAVES`` bits: then it has ``bits`` at most.
        """
        least, most = 1 << max(bits - _OCTAVES, 1), (1 << bits) - 1
        divisors = self._totals(weights, 0, least, most)
        numerators = self._totals(values, -1, least, most)
        reached = [self._step("reached", x, least - 1) for x in divisors[1:]]
        found: list[tuple[Ref, Ref]] = []
        above: Ref | None = None
        for i in range(len(divisors) - 1, -1, -1):
            at: Ref | None = None if not i else reached[i - 1]
            if above is None:
                assert at is not None
                chosen = at
            elif at is None:  # the lowest, where no other has enough
                chosen = self._table("lowest", above, [(0, -1)], 1)
            else:
                fields = {"a": at, "b": above, "times_b": -1}
                both = self._put(s.Combination, "chosen", 1.0, **fields)
                chosen = self._put(s.Clip, "chosen", 1.0, x=both, low=0, high=1)
            found.append(
                (
                    self._gated("divisor", chosen, divisors[i]),
                    self._gated("numerator", chosen, numerators[i]),
                )
            )
            above = at
        divisor, numerator = (self._added([pair[i] for pair in found]) for i in (0, 1))
        # of all windows one is chosen, which intervals do not know
        return self._clip("divisor", divisor, 0, most), self._clip(
            "numerator", numerator, -most, most
        )

    def _totals(self, sums: list[Ref], sign: int, least: int, most: int) -> list[Ref]:
        """The sum of all windows in the unit of each, from the lowest, and of one above all: right
        where it is below ``least`` in the unit above.
        """
        state, unit = self.state, self.state.unit[sums[0]]
        below: list[Ref | None] = [None]
        for part in sums:
            last = below[-1]
            if last is not None:
                part = self._put(s.Combination, "upward", unit, a=part, b=last)
            below.append(state.dropped(part, _OCTAVES, nearest=True))
        found: list[Ref] = []
        above: Ref | None = None
        for i in range(len(sums), -1, -1):
            total, rest = None if i == len(sums) else sums[i], below[i]
            if above is not None:
                fields = {"a": total, "b": above, "times_b": 1 << _OCTAVES}
                total = self._put(s.Combination, "downward", unit, **fields)
            above = None
            if total is not None and i:
                above = self._clip("held", total, sign * least, least)
            if total is None or rest is None:
                whole = total if rest is None else rest
            else:
                whole = self._put(s.Combination, "total", unit, a=total, b=rest)
            assert whole is not None
            found.append(self._clip("whole", whole, sign * most, most))
        return found[::-1]

    def _clip(self, name: str, x: Ref, low: int, high: int) -> Ref:
        return self._put(s.Clip, name, self.state.unit[x], x=x, low=low, high=high)

    def _added(self, parts: list[Ref]) -> Ref:
        total = parts[0]
        for part in parts[1:]:
            total = self._put(s.Combination, "read", self.state.unit[part], a=total, b=part)
        return total
