"""From floating point to the chip's integers. After this pass every backend computes the same numbers.

Weights: one scale a layer, ``W ~ s q`` with ``q`` of ``weight_bits`` bits, stored as ``w = 2^(9 - bits) q`` because signed
weights lose their low bits on Loihi 2. The scale minimizes the expected error of the layer's input, from the rates of
its channels, and is then moved by at most half a threshold unit so that ``h >= v_threshold`` of the float model is
exactly ``v > 64 vth`` of the integer one. The mean of what rounding leaves goes into the bias.

A LIF with soft reset keeps its membrane in integers of 2^-6 input units and loses ``(1 - 1/tau) v_threshold`` in the step
after a spike. Here the scale is moved so that the threshold is an integer of input units, and so is what is lost, as near
as a threshold within 1 % of the best one allows; ``h = v_threshold`` of the float model then is exactly the threshold.

A LIF that reads integers without weights (attention) keeps its float meaning exactly, see :func:`exact_threshold`.

A mean over time inside of a model is counted: a sum over the T steps in units of 1/T. A softmax becomes spikes whose rates it
is, and its product with values that are constant over the steps is counted again; what follows sees no spikes of it.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from fractions import Fraction
from math import ceil, prod
from typing import ClassVar

import numpy as np

from neurocompile.calibration import Calibration, mean_values
from neurocompile.circuits.latch import LARGEST_HELD
from neurocompile.circuits.softmax import plan_exponentials
from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import Range, range_of, ranges, shapes
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.passes.base import Rewriter, SpikingPass
from neurocompile.passes.magnitude import magnitudes
from neurocompile.passes.trunk import Trunk, find_trunks

__all__ = ["Quantize", "exact_threshold"]

_LARGEST_THRESHOLD = 131071
_LARGEST_CURRENT = 131071  # |a| * 2^6 must stay below 2^23, or the current wraps
_LARGEST_PAYLOAD = (1 << 23) - 1
_LARGEST_MANTISSA = 4095
_LARGEST_SOFT_BIAS = 32767  # two synapses from a constant
_LARGEST_SHIFT = 7
_REACH_OVER_VALUE = 64
"""How much larger the bound of a graded value is taken to be than its usual size: 4, 16 and 64 lose 4, 3 and 1 of 360 images on
the zoo's Meta-SpikeFormer in factors."""
_LARGEST_FACTOR = 65535  # of a product with spikes: a gate takes twice as much from five synapses
_LARGEST_WEIGHT = 254  # of an unweighted connection, with the sign mode excitatory
_INPUT_LEVELS = 255
_LEAST_LEVELS = 31
_CLIPS = np.linspace(1.0, 0.55, 46)


def exact_threshold(gain: float, threshold: float, tau: float, steps: int, largest: int) -> tuple[int, int] | None:
    """Integer weight k and threshold vth that reproduce a float LIF on integer input exactly, or None.

    With ``1 - 1/tau = m / 2^p``, membranes over T steps are multiples of ``g = 2^(-p (T-1))``, and ``h >= R`` with
    ``R = threshold / gain`` is ``h >= ceil(R / g) g``. In units of ``2^-6 / k`` that is an integer comparison: k must be
    a power of two that makes every membrane an integer, and leave room for a threshold that is a multiple of 2^6.

    Args:
        largest: bound of the input's absolute value.
    """
    leak = Fraction(round(4096 / tau), 4096)
    near = abs(4096 / tau - 4096 * leak) <= 4096 / tau * np.finfo(np.float32).eps  # 4/3 is not a float32
    if gain <= 0 or threshold <= 0 or leak >= 1 or not near:
        return None
    bits = (1 - leak).denominator.bit_length() - 1
    grid = Fraction(1, 1 << (bits * (steps - 1)))
    level = ceil(Fraction(float(np.float32(threshold))) / Fraction(float(np.float32(gain))) / grid) * grid
    for exponent in range(8):
        k = 1 << exponent
        vth = ceil(k * level) - 1
        if k > _LARGEST_WEIGHT or k * largest > _LARGEST_CURRENT or vth > _LARGEST_THRESHOLD:
            return None
        if (64 * k * grid).denominator == 1 and vth >= k * (level - grid):
            return k, vth
    return None


def soft_threshold(ideal: float, kept: float | np.ndarray) -> int:
    """The integer threshold within 1 % of ``ideal`` whose parts ``kept`` are nearest to integers, then nearest to ``ideal``."""
    low, high = max(int(np.ceil(0.99 * ideal)), 1), max(int(1.01 * ideal), round(ideal), 1)
    near = range(max(low, round(ideal) - 16), min(high, round(ideal) + 16) + 1)
    kept = np.asarray(kept)

    def cost(v: int) -> tuple[float, float]:
        return round(float(np.abs(kept * v - np.rint(kept * v)).max()) / v, 5), abs(v - ideal)

    return min(near, key=cost, default=max(round(ideal), 1))


def input_limit(soft_reset: bool, tau: float, steps: int) -> int:
    """Largest input a step for which every current of a neuron, and of what closes its loop, stays below 2^17.

    Soft reset, before the 7 bits that a shift can drop: a membrane grows to ``g`` times the input (g steps, as far as the leak lets it), and silence takes an
    inhibition as strong, which a leaky current accumulates g times (``passes/close_loops.py``).
    """
    if not soft_reset:
        return _LARGEST_CURRENT
    if np.isinf(tau):
        return _LARGEST_CURRENT // (2 * steps + 3) << _LARGEST_SHIFT
    kept = 1 - 1 / tau
    grown = (1 - kept ** (2 * steps)) / (1 - kept)  # a period is shorter than 2 T
    return int(_LARGEST_CURRENT / (grown * (grown + 2))) << _LARGEST_SHIFT


@dataclass(frozen=True)
class Quantize(SpikingPass):
    """Requires stage canonical. Ensures stage quantized.

    Raises NC2001 (no integer form) and NC2002 (a range is exceeded), NC2003 (weight bits).
    """

    name: ClassVar[str] = "quantize"

    steps: int
    calibration: Calibration
    weight_bits: int = 8

    def apply(self, graph: s.SpikingGraph) -> s.SpikingGraph:
        if not 2 <= self.weight_bits <= 8:
            raise NeurocompileError("NC2003", f"--weight-bits {self.weight_bits} is not within 2..8")
        return _Quantizer(graph, self).run()


@dataclass
class _Quantizer:
    graph: s.SpikingGraph
    options: Quantize
    rewriter: Rewriter = field(init=False)

    def __post_init__(self) -> None:
        self.rewriter = Rewriter(self.graph)
        self.size = shapes(self.graph)
        self.integer = ranges(self.graph)  # values that are integers in the float model already
        self.mean = mean_values(self.graph, self.options.calibration, self.size)
        self.unit: dict[str, float] = {}  # float value of the integer 1
        self.shift: dict[str, np.ndarray] = {}  # float mean that rounding weights took away, broadcasts
        self.bound: dict[str, Range] = {}
        self.magnitude = magnitudes(self.graph, self.size, self.options.calibration)
        self.trunks = find_trunks(self.graph, self.integer, self.size)
        self.trunk_units: dict[tuple[s.Node, ...], float] = {}
        self.shifts: dict[str, int] = {}  # bits that a soft-reset LIF drops from its input

    def run(self) -> s.SpikingGraph:
        for node in self.graph.nodes:
            new, unit = self.quantized(node)
            self.unit[node.name] = unit
            if node.inputs and not isinstance(node, (s.Conv2d, s.Linear)):
                self.carry_shift(node)
            self.rewriter.emit(new)
            self.track_bound(new)
        return self.rewriter.finish(stage="quantized")

    def track_bound(self, new: s.Node) -> None:
        """Bounds of the new integers; NC2002 if a payload does not hold them."""
        inputs = [self.bound.get(i) for i in new.inputs]
        found = range_of(new, inputs, self.rewriter.tensors, self.size, quantized=True)
        if found is not None and not isinstance(new, (s.TimeMean, s.Output)):
            self.bound[new.name] = found
            limit = _LARGEST_PAYLOAD
            if found.magnitude > limit:
                raise NeurocompileError(
                    "NC2002", f"layer '{new.name}' can reach {found.magnitude:,}, a payload holds {limit:,}; use fewer weight bits"
                )

    def carry_shift(self, node: s.Node) -> None:
        found = [self.shift[i] for i in node.inputs if i in self.shift]
        if isinstance(node, s.Add) and found:
            self.shift[node.name] = sum(found, np.zeros(()))
        elif isinstance(node, s.TimeMean) and found:
            self.shift[node.name] = found[0]
        elif isinstance(node, s.MaxPool2d) and found and found[0].shape[1:] == (1, 1):
            self.shift[node.name] = found[0]
        elif isinstance(node, s.Rearrange) and found:
            self.shift[node.name] = node.apply(np.broadcast_to(found[0], self.size[node.x]))

    def quantized(self, node: s.Node) -> tuple[s.Node, float]:
        self.check_softmax(node)
        units = [self.unit[i] for i in node.inputs]
        if isinstance(node, s.Input):
            return self.input(node)
        if isinstance(node, (s.Conv2d, s.Linear)):
            return self.weighted(node, units[0])
        if isinstance(node, s.LIF):
            return self.lif(node, units[0]), 1.0
        if isinstance(node, s.Or):
            return node, 1.0
        if isinstance(node, s.Softmax):
            return self.softmax(node, units[0])
        if isinstance(node, s.MatMul) and isinstance(self.graph.node[node.a], s.Softmax):
            return self.softmax_product(node)
        if isinstance(node, (s.Mul, s.MatMul)):
            return self.product(node)
        if isinstance(node, s.TimeMean) and not all(isinstance(user, s.Output) for user in self.graph.users[node.name]):
            x = self.coarser(node.x, self.held(node.x) // self.options.steps)
            return s.TimeSum(name=node.name, x=x, steps=self.options.steps), self.unit[x] / self.options.steps
        if isinstance(node, (s.Sum, s.SumPool2d)) and self.integer[node.x] is None:
            terms = prod(self.size[node.x][i] for i in node.axes) if isinstance(node, s.Sum) else prod(node.kernel)
            x = self.coarser(node.x, _LARGEST_PAYLOAD // terms)
            return replace(node, x=x), self.unit[x]
        if isinstance(node, s.Offset):
            lost = self.shift.get(node.x, 0.0)
            values = np.rint((self.graph.tensors[node.offset] + lost) / units[0]).astype(np.int64)
            return replace(node, offset=self.rewriter.tensor(f"{node.offset}.int", values)), units[0]
        if isinstance(node, s.Add):
            if abs(units[0] - units[1]) > 1e-12 * max(units):
                raise NeurocompileError(
                    "NC2001", f"layer '{node.name}' adds values of different units ({units[0]:.4g}, {units[1]:.4g}); "
                    "sums of spikes, and of outputs of linear layers, are supported"
                )  # fmt: skip
            return node, units[0]
        if isinstance(node, s.Output):
            unit = units[0] * node.unit
            bias = None
            if node.bias is not None:
                rounded = np.rint(self.graph.tensors[node.bias] / units[0]).astype(np.int64)
                bias = self.rewriter.tensor(f"{node.name}.bias.int", rounded)
            return replace(node, unit=unit, bias=bias), unit
        return node, units[0]

    def input(self, node: s.Input) -> tuple[s.Node, float]:
        found = self.options.calibration.input
        largest = max(abs(found.min), abs(found.max), 1e-12)
        levels = min(_INPUT_LEVELS, max(self.input_levels(node, found.min / largest, found.max / largest), _LEAST_LEVELS))
        unit = largest / levels
        if found.grid and largest / found.grid <= levels + 1e-6:
            unit = found.grid  # the inputs are exact
        low, high = (int(np.rint(v / unit)) for v in (found.min, found.max))
        return replace(node, unit=unit, low=low, high=high), unit

    def input_levels(self, node: s.Input, low: float, high: float) -> int:
        """Levels of the input that leave its layers' weights all their bits: sums must stay below 2^17.

        Weights and inputs share these 17 bits, and a weight's rounding repeats in every sample.
        """
        step, levels = 1 << (9 - self.options.weight_bits), (1 << (self.options.weight_bits - 1)) - 1
        fit = [_INPUT_LEVELS]
        for layer in self.graph.users[node.name]:
            if isinstance(layer, (s.Conv2d, s.Linear)):
                weight = np.asarray(self.graph.tensors[layer.weight], np.float64)
                flat = weight.reshape(len(weight), -1) / max(float(np.abs(weight).max()), 1e-300)
                positive, negative = np.maximum(flat, 0).sum(axis=1), -np.minimum(flat, 0).sum(axis=1)
                up, down = max(high, 0.0), max(-low, 0.0)
                reach = max(float((positive * up + negative * down).max()), float((positive * down + negative * up).max()))
                fit.append(int(_LARGEST_CURRENT / (step * levels * max(reach, 1e-12))))
        return min(fit)

    # ---- weights -----------------------------------------------------------------------------------------------

    def consumer(self, name: str) -> s.LIF | None:
        """The LIF that a linear layer feeds, directly or through a pool or a view."""
        for user in self.graph.users[name]:
            if isinstance(user, s.LIF):
                return user
            if isinstance(user, (s.MaxPool2d, s.Rearrange)):
                return self.consumer(user.name)
        return None

    # ---- softmax -----------------------------------------------------------------------------------------------

    def check_softmax(self, node: s.Node) -> None:
        """NC2012 unless a softmax and what reads it have the form that its circuits compute."""
        steps = self.options.steps
        for name in node.inputs:
            if not isinstance(self.graph.node[name], s.Softmax):
                continue
            if not isinstance(node, s.MatMul) or node.a != name or isinstance(self.graph.node[node.b], s.Softmax):
                raise NeurocompileError(
                    "NC2012", f"layer '{node.name}' ({type(node).__name__}) reads the softmax '{name}'; a product softmax @ V of two "
                    "matrices is supported"
                )  # fmt: skip
            if node.b not in self.graph.constants:
                raise NeurocompileError(
                    "NC2012", f"layer '{node.name}': softmax '{name}' times values that change from step to step; take their mean "
                    "over time as for the scores: softmax(scores.mean(0)) @ v.mean(0)"
                )  # fmt: skip
        if isinstance(node, s.Softmax) and steps < 4:
            raise NeurocompileError("NC2012", f"layer '{node.name}': a softmax at T = {steps}; 4 steps at least, and its error is O(1/T)")

    def held(self, name: str) -> int:
        """Largest magnitude of a sum over time of values like ``name``."""
        return LARGEST_HELD >> (self.bound[name].low < 0)

    def softmax(self, node: s.Softmax, unit: float) -> tuple[s.Node, float]:
        x = self.coarser(node.x, self.held(node.x))
        bound, n = self.bound[x], self.size[node.x][-1]
        grid = plan_exponentials(n, self.options.steps, node.gain * self.unit[x], max(bound.magnitude, 1))
        thresholds = self.rewriter.tensor(f"{node.name}.thresholds", grid.thresholds.astype(np.int32))
        return s.RateSoftmax(name=node.name, x=x, thresholds=thresholds, span=grid.span, shift=grid.shift), 1.0

    def softmax_product(self, node: s.MatMul) -> tuple[s.Node, float]:
        """Counted: each of a row's n spike trains is rounded once, so that a row fires less than T + n times."""
        steps = self.options.steps
        fired = steps + self.size[node.a][-1]
        b = self.coarser(node.b, min(self.held(node.b) // fired, _LARGEST_FACTOR))
        step = replace(node, name=self.rewriter.fresh(f"{node.name}.step"), b=b)
        self.unit[step.name], self.size[step.name], self.integer[step.name] = self.unit[b], self.size[node.name], None
        if b in self.shift and self.shift[b].ndim == 0:
            self.shift[node.name] = self.shift[b]  # rows sum to 1
        self.rewriter.emit(step)
        self.track_bound(step)
        largest = max(fired * self.bound[b].magnitude, 1)
        return s.TimeSum(name=node.name, x=Ref(step.name), steps=steps, largest=largest), self.unit[b] / steps

    # ---- products ----------------------------------------------------------------------------------------------

    def product(self, node: s.Mul | s.MatMul) -> tuple[s.Node, float]:
        """A product; a real factor in a unit coarse enough that the sum of the products fits whoever reads it."""
        real = [i for i in node.inputs if self.integer[i] is None]
        if len(real) == 1:
            other = node.b if node.a == real[0] else node.a
            lif, terms = self.consumer(node.name), self.size[node.a][-1] if isinstance(node, s.MatMul) else 1
            limit = _LARGEST_PAYLOAD if lif is None else min(self.input_limit(lif), _LARGEST_PAYLOAD)
            coarse = self.coarser(real[0], min(limit // terms, _LARGEST_FACTOR))
            if coarse in self.shift and other in self.mean:
                lost = np.broadcast_to(self.shift[coarse], self.size[coarse])
                mean = np.broadcast_to(self.mean[other], self.size[other])
                pair = (lost, mean) if node.a == real[0] else (mean, lost)
                # a plain sum: a matrix product's rounding may depend on the number of threads
                self.shift[node.name] = np.einsum("...ik,...kj->...ij", *pair) if isinstance(node, s.MatMul) else lost * mean
            node = replace(node, a=coarse if node.a == real[0] else node.a, b=coarse if node.b == real[0] else node.b)
        return node, self.unit[node.a] * self.unit[node.b]

    def coarser(self, name: Ref, limit: int) -> Ref:
        """``name``, or the value shifted right until its magnitude is at most ``limit``."""
        grid = 1 << (9 - self.options.weight_bits)
        while self.bound[name].magnitude > limit:
            bits = 1
            while bits < _LARGEST_SHIFT and self.bound[name].magnitude >> bits > limit:
                bits += 1
            new = s.Shift(name=self.rewriter.fresh(f"{name}.coarse"), x=name, bits=bits)
            self.unit[new.name], self.size[new.name] = self.unit[name] * (1 << bits), self.size[name]
            self.integer[new.name] = self.integer[name]
            # what rounding down takes on average
            lost = 0.5 * max((1 << bits) - grid, 0) * self.unit[name]
            self.shift[new.name], grid = self.shift.get(name, np.zeros(())) + lost, 1
            self.rewriter.emit(new)
            self.track_bound(new)
            name = Ref(new.name)
        return name

    def weighted(self, node: s.Conv2d | s.Linear, unit: float) -> tuple[s.Node, float]:
        weight = np.asarray(self.graph.tensors[node.weight], np.float64)
        mean = self.mean.get(node.x)
        moments = None if mean is None else self.per_input_channel(node, mean + mean * mean)
        bits, largest = self.options.weight_bits, float(np.abs(weight).max())
        if largest == 0:
            raise NeurocompileError("NC2001", f"layer '{node.name}' has only zero weights")
        if node.name in self.trunks:
            return self.weighted_in_trunk(node, unit, self.trunks[node.name])
        lif = self.consumer(node.name)
        if self.integer[node.x] is None and not isinstance(self.graph.node.get(node.x), s.Input):
            # both share the bits of a sum: a graded value, which rarely comes near its bound, gets the larger part
            limit = _LARGEST_PAYLOAD if lif is None else min(self.input_limit(lif), _LARGEST_PAYLOAD)
            terms = np.abs(weight).reshape(len(weight), -1).sum(axis=1).max() / largest * (1 << (9 - bits))
            all_bits = limit / (terms * ((1 << (bits - 1)) - 1))
            levels = max(all_bits, np.sqrt(_REACH_OVER_VALUE * limit / terms), _LEAST_LEVELS)
            node = replace(node, x=self.coarser(node.x, int(levels)))
            unit = self.unit[node.x]
        for narrower in range(bits - 1):  # a very wide layer or a large bias gives up low bits so that all fits
            step, levels = 1 << (9 - bits), (1 << (bits - 1 - narrower)) - 1
            scale = _best_scale(weight, largest, levels, moments)
            q = np.clip(np.rint(weight / scale), -levels, levels)
            vth = None
            if lif is not None:
                self.shifts[lif.name] = self.soft_shift(lif, self.reach(node, step * q), unit * scale / step)
                vth, exact = self.threshold(lif, lif.v_threshold / (lif.gain * unit * scale / step))
                if 1 <= vth <= _LARGEST_THRESHOLD:
                    scale = lif.v_threshold / (lif.gain * unit * exact) * step
            limit = _LARGEST_PAYLOAD if lif is None else min(self.input_limit(lif), _LARGEST_PAYLOAD)
            current = unit * scale / step
            fits = vth is None or (1 <= vth <= _LARGEST_THRESHOLD and self.bias_fits(lif, lif.gain * current))
            if fits and self.reach(node, step * q) <= limit:
                break
        else:
            raise NeurocompileError(
                "NC2002", f"layer '{node.name}': sums, threshold or bias leave their fields at every scale (vth {vth})"
            )
        self.note_shift(node, weight - scale * q)
        stored = self.rewriter.tensor(f"{node.name}.weight", (step * q).astype(np.int16))
        return replace(node, weight=stored), unit * scale / step

    def threshold(self, lif: s.LIF, ideal: float) -> tuple[int, float]:
        """The threshold field nearest to ``ideal`` units, and the units at which the float threshold then lies."""
        if lif.soft_reset:
            shift = self.shifts[lif.name]
            vth = soft_threshold(ideal / (1 << shift), 1 - 1 / self.taus(lif))
            limit = self.input_limit(lif) >> _LARGEST_SHIFT
            return vth if vth <= limit else _LARGEST_THRESHOLD + 1, vth << shift
        vth = round(ideal - 1 / 64)
        return vth, vth + 1 / 64

    def soft_shift(self, lif: s.LIF, reach: int, current: float) -> int:
        """Bits to drop from input sums of up to ``reach`` so that a soft-reset membrane holds them; 0 for a hard reset."""
        if not lif.soft_reset:
            return 0
        bias = 0.0 if lif.bias is None else float(np.abs(self.graph.tensors[lif.bias]).max(initial=0)) / (lif.gain * current)
        total = max(reach + 1.1 * bias, lif.v_threshold / (lif.gain * current))
        limit = self.input_limit(lif) >> _LARGEST_SHIFT
        return next((k for k in range(_LARGEST_SHIFT) if total / (1 << k) <= limit), _LARGEST_SHIFT)

    def note_shift(self, node: s.Conv2d | s.Linear, lost: np.ndarray) -> None:
        """Remember the mean of what rounding took from the layer's output: ``lost`` weights times the input's mean."""
        mean = self.mean.get(node.x)
        if mean is None:
            return
        # a plain sum: a matrix product's rounding may depend on the number of threads
        channels = self.per_weight(node, self.per_input_channel(node, mean))
        shift = (lost.reshape(len(lost), -1) * channels).sum(axis=1)
        self.shift[node.name] = shift[:, None, None] if isinstance(node, s.Conv2d) else shift

    def weighted_in_trunk(self, node: s.Conv2d | s.Linear, unit: float, trunk: Trunk) -> tuple[s.Node, float]:
        """Quantize in the trunk's unit, with a weight exponent that gives the layer's own scale up to a factor of 2."""
        if trunk.producers not in self.trunk_units:
            self.trunk_units[trunk.producers] = self.trunk_unit(trunk)
        common, step = self.trunk_units[trunk.producers], 1 << (9 - self.options.weight_bits)
        weight = np.asarray(self.graph.tensors[node.weight], np.float64)
        levels = (1 << (self.options.weight_bits - 1)) - 1
        scale, ideal = common * step / unit, self.ideal_scale(node)
        if self.integer[node.x] is None and scale > ideal and not isinstance(self.graph.node[node.x], s.Input):
            bits = int(np.log2(scale / ideal))  # a real input gives up bits that the weights would lose
            node = replace(node, x=self.coarser(node.x, max(self.bound[node.x].magnitude >> bits, _LEAST_LEVELS)))
            unit = self.unit[node.x]
            scale = common * step / unit
        exponent = max(ceil(np.log2(ideal / scale) - 1e-9), 0)
        if exponent > 7:
            raise NeurocompileError("NC2002", f"layer '{node.name}' needs weight exponent {exponent} > 7 in its residual")
        scale *= 1 << exponent
        q = np.clip(np.rint(weight / scale), -levels, levels)
        self.note_shift(node, weight - scale * q)
        stored = self.rewriter.tensor(f"{node.name}.weight", (step * q).astype(np.int16))
        return replace(node, weight=stored, exponent=exponent), common

    def ideal_scale(self, node: s.Conv2d | s.Linear) -> float:
        """Weight scale of least expected error for one layer alone."""
        weight, mean = np.asarray(self.graph.tensors[node.weight], np.float64), self.mean.get(node.x)
        moments = None if mean is None else self.per_input_channel(node, mean + mean * mean)
        return _best_scale(weight, float(np.abs(weight).max()), (1 << (self.options.weight_bits - 1)) - 1, moments)

    def trunk_unit(self, trunk: Trunk) -> float:
        """Fine enough for the finest layer, coarse enough for every field: sums, thresholds, biases, exponents."""
        if trunk.others:
            kinds = sorted({f"'{n.name}' ({type(n).__name__})" for n in trunk.others})
            raise NeurocompileError(
                "NC2001", f"a residual of real values also takes {', '.join(kinds)}; only linear layers may feed it"
            )
        ideals, total = [], 0.0
        step = 1 << (9 - self.options.weight_bits)
        for producer in trunk.producers:
            known = self.bound.get(producer.x) or self.integer[producer.x]
            weight = np.abs(np.asarray(self.graph.tensors[producer.weight], np.float64)).reshape(-1)
            if not weight.any():
                continue  # refused by name when its turn comes
            rows = weight.reshape(len(self.graph.tensors[producer.weight]), -1).sum(axis=1)
            if known is None:  # a real value that is not quantized yet: it will take a unit that suits the trunk's
                total += float(rows.max()) * self.magnitude[producer.x]
                continue
            unit = self.unit.get(producer.x, 1.0)
            ideals.append(unit * self.ideal_scale(producer) / step)
            total += float(rows.max()) * known.magnitude * unit
        if not ideals:
            names = ", ".join(f"'{p.name}'" for p in trunk.producers)
            raise NeurocompileError("NC2001", f"no layer of a residual of real values reads spikes or the input: {names}")
        floors = [min(ideals), max(ideals) / (1 << 7), 1.02 * total / _LARGEST_PAYLOAD]
        for lif, summed in trunk.neurons:
            limit = self.input_limit(lif)
            floors.append(1.02 * total * summed / limit)
            largest = 0.0 if lif.bias is None else float(np.abs(self.graph.tensors[lif.bias]).max(initial=0))
            floors.append(lif.v_threshold / (lif.gain * min(limit, _LARGEST_THRESHOLD)))
            floors.append(largest * 64 / (lif.gain * 0.9 * (_LARGEST_MANTISSA << 7)))
            if lif.soft_reset:
                floors.append(largest / (lif.gain * 0.9 * _LARGEST_SOFT_BIAS))
        return max(floors)

    def bias_fits(self, lif: s.LIF, current: float) -> bool:
        """True if the bias of ``lif`` has a mantissa where one unit of input is ``current``, with room for means."""
        largest = 0.0 if lif.bias is None else float(np.abs(self.graph.tensors[lif.bias]).max(initial=0))
        if lif.soft_reset:
            return largest / current <= 0.9 * _LARGEST_SOFT_BIAS
        return largest * 64 / current <= 0.9 * (_LARGEST_MANTISSA << 7)

    def reach(self, node: s.Conv2d | s.Linear, weight: np.ndarray) -> int:
        """Largest absolute sum that ``weight`` can make."""
        x = self.bound[node.x]
        flat = weight.reshape(len(weight), -1)
        positive, negative = np.maximum(flat, 0).sum(axis=1), -np.minimum(flat, 0).sum(axis=1)
        high, low = max(x.high, 0), -min(x.low, 0)
        return int(max((positive * high + negative * low).max(), (positive * low + negative * high).max()))

    @staticmethod
    def per_input_channel(node: s.Conv2d | s.Linear, values: np.ndarray) -> np.ndarray:
        """Mean of ``values`` (the input's shape) over everything but the channel axis."""
        axis = 0 if isinstance(node, s.Conv2d) else values.ndim - 1
        return values.mean(axis=tuple(i for i in range(values.ndim) if i != axis))

    def per_weight(self, node: s.Conv2d | s.Linear, channels: np.ndarray) -> np.ndarray:
        """``channels`` spread over one output's weights, flat; groups see the mean of all groups."""
        if isinstance(node, s.Linear):
            return channels
        _, group_in, kh, kw = self.graph.tensors[node.weight].shape
        return np.repeat(channels.reshape(-1, group_in).mean(axis=0), kh * kw)

    # ---- neurons -----------------------------------------------------------------------------------------------

    def taus(self, lif: s.LIF) -> np.ndarray:
        """tau, or that of each channel, float64."""
        return np.asarray(self.graph.tensors[lif.tau] if isinstance(lif.tau, TensorRef) else lif.tau, np.float64)

    def input_limit(self, lif: s.LIF) -> int:
        """:func:`input_limit`, of the channel that leaks least."""
        return input_limit(lif.soft_reset, float(self.taus(lif).max()), self.options.steps)

    def integers(self, name: str, values: np.ndarray) -> int | TensorRef:
        """One integer if they are all equal, or a tensor."""
        if values.min() == values.max():
            return int(values.flat[0])
        return self.rewriter.tensor(name, values.astype(np.int32))

    def lif(self, node: s.LIF, unit: float) -> s.IntegerLIF | s.SoftIntegerLIF:
        if node.soft_reset:
            return self.soft_lif(node, unit)
        taus, bound = self.taus(node), self.bound[node.x]
        dv = self.integers(f"{node.name}.dv", np.minimum(np.rint(4096 / taus), 4095))
        if node.bias is None and self.integer[node.x] is not None:
            found = {
                exact_threshold(node.gain, node.v_threshold, float(tau), self.options.steps, bound.magnitude)
                for tau in np.unique(taus)
            }
            if len(found) == 1 and (exact := found.pop()):
                return s.IntegerLIF(name=node.name, x=node.x, gain=exact[0], vth=exact[1], dv=dv)
        k = 1
        if self.integer[node.x] is not None:  # no weights to scale: take the finest threshold that fits
            fits = min(_LARGEST_CURRENT // max(bound.magnitude, 1), _LARGEST_WEIGHT,
                       int(_LARGEST_THRESHOLD * node.gain * unit / node.v_threshold))  # fmt: skip
            k = 1 << max(fits.bit_length() - 1, 0)
        current = node.gain * unit / k  # membrane value of one unit of input
        vth = round(node.v_threshold / current - 1 / 64)
        if not 0 <= vth <= _LARGEST_THRESHOLD or k * bound.magnitude > _LARGEST_CURRENT:
            raise NeurocompileError(
                "NC2002", f"layer '{node.name}': threshold {vth:,} or input {k * bound.magnitude:,} exceeds {_LARGEST_THRESHOLD:,}"
            )
        bias, exponent = self.lif_bias(node, current / 64)
        return s.IntegerLIF(name=node.name, x=node.x, gain=k, vth=vth, dv=dv, bias=bias, bias_exp=exponent)

    def soft_lif(self, node: s.LIF, unit: float) -> s.SoftIntegerLIF:
        decay = np.minimum(np.rint(4096 / self.taus(node)), 4095)
        limit, bound = self.input_limit(node) >> _LARGEST_SHIFT, self.bound[node.x].magnitude
        ideal, k = node.v_threshold / (node.gain * unit), 1
        if self.integer[node.x] is not None:  # no weights to scale: the finest power of two that fits
            k = 1 << max(min(int(limit / max(bound, ideal)), _LARGEST_WEIGHT).bit_length() - 1, 0)
        bias, largest, exact = None, k * bound, self.membrane_bias(node)
        if exact.any():
            units = np.rint(exact * k / (node.gain * unit)).astype(np.int64)
            strongest = int(np.abs(units).max())
            if strongest > _LARGEST_SOFT_BIAS:
                raise NeurocompileError("NC2002", f"layer '{node.name}': bias {strongest:,} exceeds {_LARGEST_SOFT_BIAS:,}")
            bias = self.rewriter.tensor(f"{node.name}.bias.int", units.astype(np.int32))
            largest += strongest
        needed = max(largest, round(k * ideal))
        shift = self.shifts.get(node.name, 0)
        while needed >> shift > limit:
            shift += 1
        if shift > _LARGEST_SHIFT or largest > _LARGEST_PAYLOAD:
            raise NeurocompileError(
                "NC2002", f"layer '{node.name}' resets softly: input or threshold {needed:,} exceeds {limit << _LARGEST_SHIFT:,} "
                f"at T = {self.options.steps}; use fewer steps or weight bits"
            )  # fmt: skip
        threshold = max(round(k * ideal / (1 << shift)), 1)
        reset, several = np.rint(threshold * (4096 - decay) / 4096), decay.min() != decay.max()
        leak = (
            {"reset": self.rewriter.tensor(f"{node.name}.reset", reset.astype(np.int32)),
             "decay": self.rewriter.tensor(f"{node.name}.decay", decay.astype(np.int32))}
            if several else {"reset": int(reset.flat[0]), "decay": int(decay.flat[0])}
        )  # fmt: skip
        return s.SoftIntegerLIF(name=node.name, x=node.x, threshold=threshold, gain=k, bias=bias, shift=shift, **leak)

    def membrane_bias(self, node: s.LIF) -> np.ndarray:
        """Float bias of a membrane, with what rounding weights took away."""
        total = np.zeros(()) if node.bias is None else np.asarray(self.graph.tensors[node.bias], np.float64)
        lost = self.shift.get(node.x)
        return total if lost is None else total + node.gain * lost

    def lif_bias(self, node: s.LIF, resolution: float) -> tuple[s.TensorRef | None, int]:
        total = self.membrane_bias(node)
        if not total.any():
            return None, 0
        units = total / resolution
        exponent = 0
        while np.abs(np.rint(units / (1 << exponent))).max() > _LARGEST_MANTISSA:
            exponent += 1
        if exponent > 7:
            raise NeurocompileError("NC2002", f"layer '{node.name}': bias {np.abs(total).max():.4g} needs exponent {exponent} > 7")
        mantissa = np.rint(units / (1 << exponent)).astype(np.int16)
        return self.rewriter.tensor(f"{node.name}.bias.int", mantissa), exponent


def _best_scale(weight: np.ndarray, largest: float, levels: int, moments: np.ndarray | None) -> float:
    """The scale of least expected squared error; ``moments`` is E[x^2] of each input channel."""
    importance = np.ones(1)
    if moments is not None and weight.ndim == 4 and moments.size == weight.shape[1]:
        importance = np.maximum(moments, 1e-6).reshape(1, -1, 1, 1)
    elif moments is not None and weight.ndim == 2:
        importance = np.maximum(moments, 1e-6).reshape(1, -1)
    best = (np.inf, largest / levels)
    for clip in _CLIPS:
        scale = clip * largest / levels
        error = weight - scale * np.clip(np.rint(weight / scale), -levels, levels)
        best = min(best, (float((importance * error * error).sum()), scale))
    return best[1]
