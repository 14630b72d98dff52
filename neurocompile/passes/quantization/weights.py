"""Weights of linear layers: a scale each, or one for each group of channels, in units that all the
fields of what reads them hold.

``W ~ s q`` with ``q`` of ``weight_bits`` bits. In units of the neuron's input a weight is ``2^k
q``, stored as ``2^(9 - bits) q`` with the weight exponent ``k - (9 - bits)``: a finer unit resolves
the threshold, a coarser one (``k`` down to 0) leaves room where sums or biases are large. Since
every weight is a multiple of ``2^(9 - bits)``, no shift rounds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.passes.quantization.compensated import rounded
from neurocompile.passes.quantization.means import note_shift, per_input_channel, per_weight
from neurocompile.passes.quantization.residuals import FEW_LEVELS, weighted_in_trunk
from neurocompile.passes.quantization.scales import (
    best_scale,
    channel_groups,
    row_grids,
    weight_grid,
)
from neurocompile.passes.quantization.state import Quantization
from neurocompile.passes.quantization.thresholds import (
    LEAST_LEVELS,
    exact_level,
    soft_bias,
    soft_threshold,
)

__all__ = ["Layer", "readers", "weighted"]

_REACH_OVER_VALUE = 64
"""How much larger the bound of a graded value is taken to be than its usual size: 4, 16 and 64 lose
4, 3 and 1 of 360 images on the zoo's Meta-SpikeFormer in factors."""
_ROOM = 0.9
"""Of a bias field: the rest is for the means that rounding takes."""
_TRIES = 40


def weighted(
    state: Quantization, node: s.Conv2d | s.Linear, unit: float
) -> tuple[s.Node, float | np.ndarray]:
    """The layer in integers, and the float value of 1 of its output: one, or one a channel."""
    weight = np.asarray(state.graph.tensors[node.weight], np.float64)
    if node.name in state.trunks:
        return weighted_in_trunk(state, node, unit, state.trunks[node.name])
    node, unit = _coarser_input(state, node, unit, weight)
    layer = Layer.of(state, node, unit, state.bound[node.x].low, state.bound[node.x].high)
    found = (
        layer.silent()
        if not weight.any()
        else layer.on_grid() or layer.on_grids() or layer.rounded()
    )
    scale = _column(found.scale, weight)
    note_shift(state, node, weight, weight - scale * found.q)
    bits = state.options.weight_bits
    stored = state.rewriter.tensor(
        f"{node.name}.weight", (found.q * (1 << (9 - bits))).astype(np.int16)
    )
    if layer.lif is not None:
        state.shifts[layer.lif.name] = found.shift
        if found.vth is not None:
            state.thresholds[layer.lif.name] = _of_channels(node, found.vth)
    lost = _lost_bits(found, weight)
    state.precision.note(node, bits, lost, layer.lif, found.groups)
    new = replace(node, weight=stored, exponent=found.power - (9 - bits))
    value = unit * found.scale / 2.0**found.power
    if found.groups == 1:
        return new, float(value)
    return new, _of_channels(node, value)


def _of_channels(node: s.Conv2d | s.Linear, values: float | np.ndarray) -> np.ndarray:
    """One value, or one a channel so that it broadcasts over the layer's output."""
    found = np.asarray(values)
    return found.reshape(-1, 1, 1) if found.ndim and isinstance(node, s.Conv2d) else found


def _lost_bits(found: _Choice, weight: np.ndarray) -> float:
    """Of the channel that lost most to the fields; channels without weights lose nothing."""
    heard = np.abs(weight).reshape(len(weight), -1).max(axis=1) > 0
    coarser = np.broadcast_to(found.scale / found.ideal, heard.shape)[heard]
    return float(np.log2(coarser.max(initial=1.0)))


def _coarser_input(
    state: Quantization, node: s.Conv2d | s.Linear, unit: float, weight: np.ndarray
) -> tuple[s.Conv2d | s.Linear, float]:
    """A real value that is not the model's input, in a coarser unit: it and the weights share the
    bits of a sum, and what rarely comes near its bound gets the larger part.
    """
    largest = np.abs(weight).max()
    if state.integer[node.x] is not None or isinstance(state.graph.node.get(node.x), s.Input):
        return node, unit
    bits, lif = state.options.weight_bits, state.consumer(node.name)
    limit = (
        state.payload_limit(node.name)
        if lif is None
        else min(state.input_limit(lif), state.fields.payload)
    )
    terms = np.abs(weight).reshape(len(weight), -1).sum(axis=1).max() / max(largest, 1e-300)
    terms = max(terms, 1.0) * (1 << (9 - bits))
    all_bits = limit / (terms * ((1 << (bits - 1)) - 1))
    levels = max(all_bits, np.sqrt(_REACH_OVER_VALUE * limit / terms), LEAST_LEVELS)
    node = replace(node, x=state.coarser(node.x, int(levels), nearest=levels < FEW_LEVELS))
    return node, state.unit[node.x]


@dataclass(frozen=True)
class _Choice:
    """``weight ~ scale * q``; one unit of the output is ``scale / 2^power`` of the input's."""

    scale: np.ndarray
    """(), or (channels,)."""
    q: np.ndarray
    power: int
    ideal: np.ndarray
    """The scale without any limit of a field."""
    vth: int | np.ndarray | None = None
    """The threshold, one or one a channel, where it is not the nearest to the float one."""
    shift: int = 0
    groups: int = 1


@dataclass(frozen=True)
class Layer:
    """A layer's weights, what they read, and the limits of what reads them."""

    state: Quantization
    node: s.Conv2d | s.Linear
    unit: float
    """Of the input."""
    low: int
    high: int
    """Of the input's integers."""
    lif: s.LIF | None
    weight: np.ndarray
    bias: np.ndarray
    """(channels,) or (1,): largest absolute bias of the neuron, as a sum of the layer; 0 without."""
    alone: bool
    """Only this neuron, with a hard reset, reads the layer, channel by channel."""

    @classmethod
    def of(
        cls, state: Quantization, node: s.Conv2d | s.Linear, unit: float, low: int, high: int
    ) -> Layer:
        weight = np.asarray(state.graph.tensors[node.weight], np.float64)
        lif, direct, alone = _reader(state, node)
        bias = np.zeros(1)
        if lif is not None and lif.bias is not None:
            values = np.abs(np.asarray(state.graph.tensors[lif.bias], np.float64)) / lif.gain
            bias = np.full(1, values.max(initial=0.0))
            if direct:
                full = np.broadcast_to(
                    values, np.broadcast_shapes(values.shape, _ones(node, state))
                )
                axis = 0 if isinstance(node, s.Conv2d) else full.ndim - 1
                others = tuple(i for i in range(full.ndim) if i != axis)
                bias = np.broadcast_to(full.max(axis=others), len(weight))
        return cls(
            state,
            node,
            unit,
            low,
            high,
            lif,
            weight,
            bias,
            alone and lif is not None and not lif.soft_reset,
        )

    @property
    def called(self) -> str:
        """By its node and the neuron behind it, which has the name of the user's module."""
        return f"'{self.node.name}'" + (f" (neuron '{self.lif.name}')" if self.lif else "")

    # ---- limits --------------------------------------------------------------------------------

    @property
    def levels(self) -> int:
        """Largest q."""
        return (1 << (self.state.options.weight_bits - 1)) - 1

    @property
    def threshold(self) -> float:
        """Of the neuron, as a sum of the layer in float."""
        assert self.lif is not None
        return self.lif.v_threshold / self.lif.gain

    @property
    def limit(self) -> int:
        """Largest sum."""
        if self.lif is None:
            return self.state.payload_limit(self.node.name)
        return min(self.state.input_limit(self.lif), self.state.fields.payload)

    def reach(self, weight: np.ndarray) -> np.ndarray:
        """(channels,): largest absolute sum that ``weight`` can make of the input's integers."""
        flat = weight.reshape(len(weight), -1)
        positive, negative = np.maximum(flat, 0).sum(axis=1), -np.minimum(flat, 0).sum(axis=1)
        high, low = max(self.high, 0), max(-self.low, 0)
        return np.maximum(positive * high + negative * low, positive * low + negative * high)

    def least(self) -> np.ndarray:
        """(channels,): the least scale at power 0 for which sums, threshold and bias have their
        fields; proportional to 2^power.
        """
        reach = self.reach(self.weight)
        if self.lif is None:
            return reach / self.limit
        bias, threshold = self.bias / self.unit, self.threshold / self.unit
        if self.lif.soft_reset:
            kept, lif = 1 - 1 / self.state.taus(self.lif).max(), self.lif
            most = (
                max(
                    (
                        1.0,
                        lif.taken * kept / lif.v_threshold,
                        *(v / lif.v_threshold for v in lif.more),
                    )
                )
                * 1.02
            )
            sums = np.maximum(reach + 1.1 * bias, most * threshold) / self.limit
            return np.maximum(sums, bias / (_ROOM * soft_bias(self.state.fields)))
        sums = np.maximum(reach / self.limit, threshold / self.state.fields.threshold)
        return np.maximum(sums, bias / (_ROOM * self.state.fields.bias))

    def room(self) -> float:
        """How many times more levels the input could have until a scale must be coarser than the
        best one.
        """
        if not self.weight.any():
            return np.inf
        if self.node.name in self.state.trunks:  # one unit for all of a residual's layers
            step = 1 << (9 - self.state.options.weight_bits)
            reach = float(self.reach(self.weight).max()) * step / self.state.fields.current
            return self._ideal(np.arange(len(self.weight))) / max(reach, 1e-300)
        least = self.least()
        if (grid := weight_grid(self.weight, self.levels)) is not None:
            return grid / max(float(least.max()), 1e-300)
        return min(
            self._ideal(rows) / max(float(least[rows].max()), 1e-300)
            for rows in self._groups(np.zeros_like(least))
        )

    # ---- choices -------------------------------------------------------------------------------

    def silent(self) -> _Choice:
        """No weights: the neuron reads its bias alone, in a unit that resolves it."""
        scale = 2.0**-12 / self.unit
        if self.lif is not None:
            least = float(self.least().max())
            scale = max(self.threshold / self.unit / (1 << 12), least)
            scale = self._moved(scale, 0, least)[0]
        one = np.asarray(scale)
        return _Choice(one, np.zeros_like(self.weight), 0, one)

    def on_grid(self) -> _Choice | None:
        """Weights that lie on a grid of their own (quantization-aware training) stay as they are;
        None if they lie on none, or a field does not hold them.

        The power is the least at which the integer threshold means what the float one does at every
        membrane (:func:`exact_level`), or, where there is none, the largest that fits.
        """
        grid = weight_grid(self.weight, self.levels)
        if grid is None:
            return None
        q, scale, bits = (
            np.rint(self.weight / grid),
            np.asarray(grid),
            self.state.options.weight_bits,
        )
        least = float(self.least().max())
        powers = [k for k in range(17 - bits) if least * 2**k <= grid and self._resolves(grid, k)]
        if not powers:
            return None
        if self.lif is None or self.lif.soft_reset:
            power = min(powers, key=lambda k: abs(k - (9 - bits)))
            shift = 0 if self.lif is None else self._soft_shift(grid, power)
            return _Choice(scale, q, power, scale, shift=shift)
        for power in powers if not self.lif.current else ():
            vth = exact_level(
                self.lif.gain * self.unit * grid,
                self.lif.v_threshold,
                self.state.taus(self.lif),
                self.state.options.steps,
                power,
            )
            if (
                vth is not None
                and vth <= self.state.fields.threshold
                and self._bias_on(grid, power)
            ):
                return _Choice(scale, q, power, scale, vth)
        power = powers[-1]
        ideal = self.threshold * 2.0**power / (self.unit * grid)
        near = round(ideal)
        vth = near - 1 if abs(ideal - near) < 1e-6 * ideal else round(ideal - 1 / 64)
        return _Choice(scale, q, power, scale, max(vth, 0))

    def on_grids(self) -> _Choice | None:
        """The same where channels have grids of their own, up to eight different ones; None also if
        something else than one neuron with a hard reset reads them.
        """
        lif = self.lif
        if not self.alone or lif is None or lif.current:
            return None
        found = row_grids(self.weight, self.levels)
        if found is None:
            return None
        scale, least, bits = found, self.least(), self.state.options.weight_bits
        units = np.unique(scale)
        for power in range(17 - bits):
            if (least * 2**power > scale).any() or not all(self._resolves(u, power) for u in units):
                continue
            levels = {
                unit: exact_level(
                    lif.gain * self.unit * unit,
                    lif.v_threshold,
                    self.state.taus(lif),
                    self.state.options.steps,
                    power,
                )
                for unit in units.tolist()
            }
            vth = np.asarray([-1 if levels[u] is None else levels[u] for u in scale.tolist()])
            if (
                vth.min() >= 0
                and vth.max() <= self.state.fields.threshold
                and self._bias_on(scale, power)
            ):
                q = np.rint(self.weight / _column(scale, self.weight))
                return _Choice(scale, q, power, scale, vth, groups=len(units))
        return None

    def rounded(self) -> _Choice:
        """Weights to the nearest of a scale; the scale is the best one, or the least that all
        fields allow.
        """
        least, bits = self.least(), self.state.options.weight_bits
        groups = self._groups(least)
        power, found = 9 - bits, []
        for rows in groups:
            ideal = self._ideal(rows)
            while power > 0 and least[rows].max() * 2**power > ideal:
                power -= 1
            found.append((rows, ideal))
        if self.lif is not None:  # a threshold of a few units would move the scale far
            while (
                power < 16 - bits
                and not all(self._resolves(ideal, power) for _, ideal in found)
                and all(least[rows].max() * 2 ** (power + 1) <= ideal for rows, ideal in found)
            ):
                power += 1
        scale, ideals = np.zeros(len(self.weight)), np.zeros(len(self.weight))
        q, shift = np.zeros_like(self.weight), 0
        for rows, ideal in found:
            scale[rows], q[rows], shift = self._fitted(rows, ideal, least, power)
            ideals[rows] = ideal
        if len(groups) == 1:
            return _Choice(scale[:1].reshape(()), q, power, ideals[:1].reshape(()), shift=shift)
        return _Choice(scale, q, power, ideals, groups=len(groups))

    def _fitted(
        self, rows: np.ndarray, ideal: float, least: np.ndarray, power: int
    ) -> tuple[float, np.ndarray, int]:
        """Scale, q and shift of ``rows``."""
        floor = float(least[rows].max()) * 2**power
        weight, wanted = self.weight[rows], max(ideal, floor)
        if wanted > np.abs(weight).max() > 0:
            raise NeurocompileError(
                "NC2002",
                f"layer {self.called}: sums, threshold or bias leave their fields at every scale: "
                f"its largest weight, {np.abs(weight).max():.3g}, would be less than the unit, {wanted:.3g}",
                layer=self.node.name,
            )
        for _ in range(_TRIES):
            scale, shift = self._moved(wanted, power, floor)
            q = rounded(self.state, self.node, weight / scale, rows)
            reach = float(self.reach(q).max()) * 2**power
            if reach <= self.limit:
                return scale, q, shift
            wanted *= max(reach / self.limit, 1.0) * 1.0005
            floor = wanted
        raise NeurocompileError(
            "NC2002",
            f"layer {self.called}: sums, threshold or bias leave their fields at every scale",
            layer=self.node.name,
        )

    def _moved(self, scale: float, power: int, floor: float) -> tuple[float, int]:
        """The scale moved by at most half a unit of the threshold, so that ``h = v_threshold`` is
        exactly ``v = 64 vth + 1``, and the bits that a soft-reset neuron drops.
        """
        if self.lif is None:
            return scale, 0
        whole = self.threshold * 2.0**power / self.unit
        shift = self._soft_shift(scale, power)
        if self.lif.soft_reset:
            parts = (1 - 1 / self.state.taus(self.lif)) * self.lif.taken / self.lif.v_threshold
            parts = np.append(parts, np.asarray(self.lif.more) / self.lif.v_threshold)
            vth = soft_threshold(whole / scale / (1 << shift), parts)
            exact = float(vth << shift)
        else:
            vth = round(whole / scale - 1 / 64)
            if whole / (vth + 1 / 64) < floor and vth > 1:
                vth -= 1
            exact = vth + 1 / 64
        if vth < 1:
            raise NeurocompileError(
                "NC2002",
                f"layer {self.called}: sums, threshold or bias leave their fields at every "
                f"scale (vth {vth})",
                layer=self.node.name,
            )
        return whole / exact, shift

    def _soft_shift(self, scale: float, power: int) -> int:
        """Bits to drop from input sums so that a soft-reset membrane holds them; 0 for a hard
        reset.
        """
        assert self.lif is not None
        if not self.lif.soft_reset:
            return 0
        unit = self.unit * scale / 2.0**power
        reach = self.reach(self.weight).max() * self.unit
        total = max(reach + 1.1 * self.bias.max(), self.threshold) / unit
        limit = self.limit >> self.state.fields.shift
        return next(
            (k for k in range(self.state.fields.shift) if total / (1 << k) <= limit),
            self.state.fields.shift,
        )

    def _resolves(self, scale: float, power: int) -> bool:
        """True if the threshold is 16 units or more: the scale then moves by 3 % at most."""
        return self.lif is None or self.threshold * 2.0**power / (self.unit * scale) >= 16

    def _bias_on(self, grid: float | np.ndarray, power: int) -> bool:
        """True if the neuron's biases are whole numbers of the weights' grid, or of the grids of
        their channels, and so of every membrane's.
        """
        assert self.lif is not None
        if self.lif.bias is None:
            return True
        bias = np.asarray(self.state.graph.tensors[self.lif.bias], np.float64)
        whole = bias / (self.lif.gain * self.unit * _of_channels(self.node, grid))
        return bool((np.abs(whole - np.rint(whole)) <= 1e-5).all())

    def _ideal(self, rows: np.ndarray) -> float:
        """The scale of least expected error for some rows."""
        weight, state = self.weight[rows], self.state
        largest = max(float(np.abs(weight).max()), 1e-300)
        mean = state.mean.get(self.node.x)
        moments = None if mean is None else per_input_channel(self.node, mean + mean * mean)
        return best_scale(weight, largest, self.levels, moments, state.options.most_weights)

    def noise(self, scale: np.ndarray) -> np.ndarray:
        """Standard deviation of what rounding weights of ``scale`` adds to a sum, in thresholds;
        NaN where nothing is known of the input.
        """
        mean, found = self.state.mean.get(self.node.x), self.state.options.calibration.input
        taps = self.weight[0].size
        if mean is not None:
            moments = per_weight(
                self.state, self.node, per_input_channel(self.node, mean + mean**2)
            )
            total = float(moments.sum())
        elif isinstance(self.state.graph.node.get(self.node.x), s.Input):
            total = taps * (found.min**2 + found.min * found.max + found.max**2) / 3
        else:
            return np.full_like(scale, np.nan)
        return scale * np.sqrt(total / 12) / self.threshold

    def _groups(self, least: np.ndarray) -> list[np.ndarray]:
        """Rows that share a scale: all, unless channels that only one neuron reads differ so much
        that one scale for all would drown the small ones.
        """
        every = [np.arange(len(self.weight))]
        if not self.alone:
            return every
        largest = np.abs(self.weight.reshape(len(self.weight), -1)).max(axis=1) / self.levels
        needed = np.maximum(largest, least)
        return channel_groups(needed, self.noise(needed)) or every


def readers(graph: s.SpikingGraph, node: s.Node) -> Iterator[s.Conv2d | s.Linear]:
    """Linear layers that read a value, directly or through views."""
    for user in graph.users[node.name]:
        if isinstance(user, (s.Conv2d, s.Linear)):
            yield user
        elif isinstance(user, s.Rearrange):
            yield from readers(graph, user)


def _reader(state: Quantization, node: s.Node) -> tuple[s.LIF | None, bool, bool]:
    """The neuron that a layer feeds; whether it keeps the layer's channel axis; whether nothing
    else reads the layer.
    """
    direct = alone = True
    current = node
    while True:
        users = state.graph.users[current.name]
        alone &= len(users) == 1
        found = next((u for u in users if isinstance(u, (s.LIF, s.MaxPool2d, s.Rearrange))), None)
        if found is None:
            return None, False, False
        if isinstance(found, s.LIF):
            return found, direct, alone
        direct &= isinstance(found, s.MaxPool2d)
        current = found


def _ones(node: s.Node, state: Quantization) -> tuple[int, ...]:
    size = state.size[node.name]
    axis = 0 if isinstance(node, s.Conv2d) else len(size) - 1
    return tuple(n if i == axis else 1 for i, n in enumerate(size))


def _column(scale: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Scales of rows, to multiply ``weight`` with."""
    return scale.reshape(-1, *[1] * (weight.ndim - 1)) if scale.ndim else scale
