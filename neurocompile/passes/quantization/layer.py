"""A layer whose weights are to be rounded: what it reads, and the limits of what reads it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.passes.quantization.means import per_input_channel, per_weight
from neurocompile.passes.quantization.scales import best_scale, channel_groups, weight_grid
from neurocompile.passes.quantization.state import Quantization
from neurocompile.passes.quantization.thresholds import soft_bias, soft_threshold

__all__ = ["Layer", "column", "of_channels", "readers"]

_ROOM = 0.9
"""Of a bias field: the rest is for the means that rounding takes."""


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
    """Only this neuron, whose spikes do not feed back, reads the layer, channel by channel."""

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
            alone and lif is not None and lif.name not in state.graph.fed_back,
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
            return self.ideal(np.arange(len(self.weight))) / max(reach, 1e-300)
        least = self.least()
        if (grid := weight_grid(self.weight, self.levels)) is not None:
            return grid / max(float(least.max()), 1e-300)
        return min(
            self.ideal(rows) / max(float(least[rows].max()), 1e-300)
            for rows in self.groups(np.zeros_like(least))
        )

    def moved(self, scale: float, power: int, floor: float) -> tuple[float, int]:
        """The scale moved by at most half a unit of the threshold, so that ``h = v_threshold`` is
        exactly ``v = 64 vth + 1``, and the bits that a soft-reset neuron drops.
        """
        if self.lif is None:
            return scale, 0
        whole = self.threshold * 2.0**power / self.unit
        shift = self.soft_shift(scale, power)
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

    def soft_shift(self, scale: float, power: int) -> int:
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

    def whole(self, q: np.ndarray, scale: np.ndarray, power: int) -> bool:
        """True if a soft-reset membrane holds sums of ``scale * q``, and drops no bit of them."""
        assert self.lif is not None
        taken = max(1.0, self.lif.taken / self.lif.v_threshold) * self.threshold
        bias, most = ((v / (self.unit * scale)).max() for v in (1.1 * self.bias, taken))
        total = max(float(self.reach(q).max() + bias), float(most)) * 2.0**power
        return total <= self.limit >> self.state.fields.shift

    def resolves(self, scale: float, power: int) -> bool:
        """True if the threshold is 16 units or more: the scale then moves by 3 % at most."""
        return self.lif is None or self.threshold * 2.0**power / (self.unit * scale) >= 16

    def ideal(self, rows: np.ndarray) -> float:
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

    def groups(self, least: np.ndarray) -> list[np.ndarray]:
        """Rows that share a scale: all, unless channels that only one neuron reads differ so much
        that one scale for all would drown the small ones.
        """
        every = [np.arange(len(self.weight))]
        if not self.alone or self.lif is None or self.lif.more:
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


def column(scale: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Scales of rows, to multiply ``weight`` with."""
    return scale.reshape(-1, *[1] * (weight.ndim - 1)) if scale.ndim else scale


def of_channels(node: s.Conv2d | s.Linear, values: float | np.ndarray) -> np.ndarray:
    """One value, or one a channel so that it broadcasts over the layer's output."""
    found = np.asarray(values)
    return found.reshape(-1, 1, 1) if found.ndim and isinstance(node, s.Conv2d) else found
