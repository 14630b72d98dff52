"""What quantization knows while it goes through a graph: units, bounds, and what rounding took."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from neurocompile.calibration import mean_values
from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import Range, ranges, shapes
from neurocompile.ir.bounds import Known, range_of
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.passes.base import Rewriter
from neurocompile.passes.magnitude import magnitudes
from neurocompile.passes.quantization.decided import settle_decided
from neurocompile.passes.quantization.thresholds import (
    fed_back_limit,
    input_limit,
    integrator_limit,
)
from neurocompile.passes.quantization.unheard import active_values, clip_unheard
from neurocompile.passes.trunk import find_trunks
from neurocompile.targets.fields import ChipFields

if TYPE_CHECKING:
    from neurocompile.passes.quantize import Quantize

__all__ = ["Quantization"]


@dataclass
class Quantization:
    """State of one run of the pass: the graph, what is known of its values by name, and the graph
    being written.
    """

    graph: s.SpikingGraph
    options: Quantize
    rewriter: Rewriter = field(init=False)

    def __post_init__(self) -> None:
        self.graph = settle_decided(self.graph, self.options.calibration)
        self.size = shapes(self.graph)
        self.integer = ranges(self.graph)  # values that are integers in the float model already
        self.mean = mean_values(self.graph, self.options.calibration, self.size)
        self.trunks = find_trunks(self.graph, self.integer, self.size)
        self.active = active_values(self.graph, self.mean, self.size)
        self.graph = clip_unheard(self.graph, self.active, self.trunks.values())
        self.rewriter = Rewriter(self.graph)
        # float value of the integer 1, or that of each channel (then it broadcasts)
        self.unit: dict[str, Any] = {}
        self.shift: dict[
            str, np.ndarray
        ] = {}  # float mean that rounding weights took away, broadcasts
        self.bound: dict[str, Range] = {}
        self.magnitude = magnitudes(self.graph, self.size, self.options.calibration)
        self.trunk_units: dict[tuple[s.Node, ...], float] = {}
        self.ideal_scales: dict[str, float] = {}  # of layers of trunks, each alone
        self.on_grids: set[tuple[s.Node, ...]] = set()  # trunks whose weights stay as they are
        self.seen_only: set[tuple[s.Node, ...]] = set()  # trunks whose real inputs are clipped
        self.thresholds: dict[
            str, int | np.ndarray
        ] = {}  # exact ones of LIFs whose layer lies on a grid
        self.precision = self.options.precision
        self.shifts: dict[str, int] = {}  # bits that a soft-reset LIF drops from its input
        self.row_sums: dict[str, int] = {}  # of a softmax's integers, bounds
        self.coarse: dict[
            tuple[str, int, bool], Ref
        ] = {}  # values in a coarser unit, by name, bits dropped and rounding

    @property
    def fields(self) -> ChipFields:
        """Of the chip that the integers are for."""
        return self.options.fields

    def track_bound(self, new: s.Node) -> None:
        """Bounds of the new integers; NC2002 if a payload does not hold them."""
        known = Known(self.rewriter.tensors, self.size, quantized=True)
        found = range_of(known, new, [self.bound.get(i) for i in new.inputs])
        if found is not None:
            self.bound[new.name] = found
            limit = self.fields.payload
            if found.magnitude > limit:
                raise NeurocompileError(
                    "NC2002",
                    f"layer '{new.name}' can reach {found.magnitude:,}, a payload holds {limit:,}; use fewer weight bits",
                    layer=new.name,
                )

    def coarser(self, name: Ref, limit: int, *, nearest: bool = False) -> Ref:
        """``name``, or the value shifted right until its magnitude is at most ``limit``.

        Args:
            nearest: round to the nearest, by a constant that the value takes first, instead of
                down: a value that is often 0 then stays 0, and what later layers make of the mean
                loss need not be guessed.
        """
        bound, bits = self.bound[name], 0
        while bits < 23 and max(bound.high >> bits, -(bound.low >> bits)) > limit:
            bits += 1
        return self.dropped(name, bits, nearest)

    def dropped(self, name: Ref, bits: int, nearest: bool = False) -> Ref:
        """``name``, or the value shifted right by ``bits``, made once."""
        key = (name, bits, nearest)
        if bits and key not in self.coarse:
            self.coarse[key] = self._shifted(name, bits, nearest)
        return self.coarse[key] if bits else name

    def put(self, node: s.Node, unit: float, shape: tuple[int, ...]) -> Ref:
        """Emit a node of a real value that the float graph does not have."""
        self.size[node.name], self.integer[node.name] = shape, None
        self.unit[node.name], self.active[node.name] = unit, np.ones(shape, bool)
        self.rewriter.emit(node)
        self.track_bound(node)
        return Ref(node.name)

    def _shifted(self, name: Ref, bits: int, nearest: bool) -> Ref:
        grid, half, found = 1 << (9 - self.options.weight_bits), 1 << (bits - 1), name
        lost = (
            max((1 << bits) - grid, 0) / 2
        )  # on average, if the multiples of ``grid`` leave all remainders as often
        if nearest and lost and self.bound[name].high + half <= self.fields.payload:
            shape = self.size[name]
            axis = 0 if len(shape) == 3 else len(shape) - 1
            values = np.full([n if i == axis else 1 for i, n in enumerate(shape)], half, np.int64)
            offset = self.rewriter.tensor(f"{name}.half", values)
            found = self._emit(
                s.Offset(name=self.rewriter.fresh(f"{name}.half"), x=name, offset=offset), name
            )
            lost = 0.0
        while bits:
            part = min(bits, self.fields.shift)
            unit = self.unit[found] * (1 << part)
            found = self._emit(
                s.Shift(name=self.rewriter.fresh(f"{name}.coarse"), x=found, bits=part), name
            )
            self.unit[found], bits = unit, bits - part
        taken = np.asarray(lost * self.unit[name])
        self.shift[found] = self.shift.get(name, np.zeros(())) + (
            taken if self.active[name].all() else taken * self.active[name]
        )
        return found

    def _emit(self, node: s.Node, like: Ref) -> Ref:
        """Emit a node whose float value is that of ``like``."""
        self.size[node.name], self.integer[node.name] = self.size[like], self.integer[like]
        self.unit[node.name], self.active[node.name] = self.unit[like], self.active[like]
        self.rewriter.emit(node)
        self.track_bound(node)
        return Ref(node.name)

    def consumer(self, name: str) -> s.LIF | None:
        """The LIF that a linear layer feeds, directly or through a pool or a view."""
        for user in self.graph.users[name]:
            if isinstance(user, s.LIF):
                return user
            if isinstance(user, (s.MaxPool2d, s.Rearrange)):
                return self.consumer(user.name)
        return None

    def payload_limit(self, name: str) -> int:
        """Largest value of a linear layer that no LIF reads directly: what a payload holds, or what
        an integrator behind it can sum up.
        """
        limits = [self.fields.payload]
        for user in self.graph.users[name]:
            if isinstance(user, s.Integrator):
                limits.append(integrator_limit(user.decay, self.options.steps, self.fields))
            elif isinstance(user, (s.Rearrange, s.Offset, s.Add)):
                limits.append(self.payload_limit(user.name))
        return min(limits)

    def fits(self, lif: s.LIF) -> bool:
        """True if ``lif`` reads a layer whose unit was chosen for it, directly or through a pool or
        a view.
        """
        node = self.graph.node[lif.x]
        while isinstance(node, (s.MaxPool2d, s.Rearrange)):
            node = self.graph.node[node.x]
        if not isinstance(node, (s.Conv2d, s.Linear)) or node.name in self.trunks:
            return False
        return self.consumer(node.name) is lif

    def taus(self, lif: s.LIF) -> np.ndarray:
        """tau, or that of each channel, float64."""
        return np.asarray(
            self.graph.tensors[lif.tau] if isinstance(lif.tau, TensorRef) else lif.tau, np.float64
        )

    def input_limit(self, lif: s.LIF) -> int:
        """:func:`input_limit`, of the channel that leaks least; :func:`fed_back_limit` where spikes
        feed back into a hard reset.
        """
        tau, steps = float(self.taus(lif).max()), self.options.steps
        if lif.name in self.graph.fed_back and not lif.soft_reset:
            return fed_back_limit(steps, lif.current, self.fields)
        return input_limit(lif.soft_reset, tau, steps, lif.current, self.fields)

    def membrane_bias(self, node: s.LIF) -> np.ndarray:
        """Float bias of a membrane, with what rounding weights took away."""
        total = (
            np.zeros(())
            if node.bias is None
            else np.asarray(self.graph.tensors[node.bias], np.float64)
        )
        lost = None if node.current else self.shift.get(node.x)
        return total if lost is None else total + node.gain * lost

    def held(self, name: str) -> int:
        """Largest magnitude of a sum over time of values like ``name``."""
        return self.fields.held >> (self.bound[name].low < 0)
