"""What proven ranges allow: the type that each value is kept in, and how each product is exact.

Nothing here needs torch. A matrix product of integers is exact, in any order of summation and on
any blocking, where every partial sum is a number of the type that sums:

* ``int8``: operands within -128..127, sums below 2^31 in int32;
* ``half``: operands up to 2^11 in float16, sums below 2^24 in float32;
* ``single``: sums below 2^24 in float32, without rounding of operands (TF32 off);
* ``double``: sums below 2^53 in float64.

Bounds of partial sums are sums of absolute values, so no order of summation exceeds them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import Range, ranges, shapes
from neurocompile.ir.fields import ALL, PAYLOAD
from neurocompile.ir.tables import KindTable
from neurocompile.ir.text import TensorRef

__all__ = ["COPIES", "NARROW", "Plan", "WeightedSum", "may_clip", "narrow", "neuron_fits"]

NARROW = (np.int8, np.int16, np.int32, np.int64)
"""Types of values, the first that holds a value's range is taken."""

_LIMIT = PAYLOAD
"""Of a membrane."""


def narrow(low: int, high: int) -> type[np.signedinteger]:
    """The narrowest type that holds ``low``..``high``."""
    for kind in NARROW:
        info = np.iinfo(kind)
        if info.min <= low and high <= info.max:
            return kind
    raise NeurocompileError("NC9001", f"{low}..{high} exceeds 64 bits")


def form_of(a: int, b: int, total: int, what: str) -> str:
    """How a product of operands of magnitude ``a`` and ``b`` with sums up to ``total`` is exact on a
    GPU.
    """
    if a <= 127 and b <= 127 and total < 1 << 31:
        return "int8"
    if a <= 1 << 11 and b <= 1 << 11 and total < 1 << 24:
        return "half"
    if total < 1 << 24:
        return "single"
    if total < 1 << 53:
        return "double"
    raise NeurocompileError(
        "NC4008", f"{what}: sums reach {total:.3g}, and 2^53 is the largest that is exact"
    )


@dataclass(frozen=True)
class WeightedSum:
    """A Conv2d or Linear: ``(x * weight) << shift``, the weight without its common power of two."""

    weight: np.ndarray
    """int64, of the node's own shape."""
    shift: int
    total: int
    """Bound of every partial sum of ``x * weight``."""
    form: str


@dataclass(frozen=True)
class Plan:
    """A quantized graph, and what is proven of it."""

    graph: s.SpikingGraph
    steps: int
    size: dict[str, tuple[int, ...]]
    range: dict[str, Range | None]
    sums: dict[str, WeightedSum]
    last: Mapping[str, str]
    """Value -> the node that reads it last."""

    @classmethod
    def of(cls, graph: s.SpikingGraph, steps: int) -> Plan:
        """Prove ``graph``; NC1015 if it is not quantized, NC4008 where nothing exact is known."""
        if graph.stage != "quantized":
            raise NeurocompileError(
                "NC1015", f"a graph of stage 'quantized' is needed, not '{graph.stage}'"
            )
        graph.input.check_steps(steps)
        bounds, sums = ranges(graph), {}
        for node in graph.nodes:
            if isinstance(node, (s.Conv2d, s.Linear)):
                sums[node.name] = _weighted_sum(graph, node, bounds[node.x])
        last = {str(i): n.name for n in graph.nodes for i in n.inputs}
        return cls(graph, steps, shapes(graph), bounds, sums, last)

    def known(self, name: str) -> Range:
        """The range of an integer value; NC4008 if there is none."""
        found = self.range[name]
        if found is None:
            raise NeurocompileError("NC4008", f"'{name}' has no proven range of integers")
        return found

    def storage(self, name: str) -> type[np.signedinteger]:
        """The type that a value is kept in."""
        found = self.known(name)
        return narrow(found.low, found.high)

    def matmul_form(self, node: s.MatMul) -> tuple[str, int]:
        """How ``node`` is exact, and the bound of its sums."""
        a, b = self.known(node.a).magnitude, self.known(node.b).magnitude
        total = a * b * self.size[node.a][-1]
        return form_of(a, b, total, f"'{node.name}'"), total

    def sample_bytes(self, kernels: bool, record: frozenset[str] = frozenset()) -> int:
        """Upper estimate of the memory that one sample needs at the widest point of a run, with
        copies that operations make.

        Args:
            kernels: convolutions and neurons are kernels, which make none.
            record: values that are kept to the end.
        """
        alive, most, held = 0, 0, {}
        for node in self.graph.nodes:
            known = self.range[node.name]
            width = 8 if known is None else np.dtype(narrow(known.low, known.high)).itemsize
            steps = 1 if node.name in self.graph.constants else self.steps
            held[node.name] = prod(self.size[node.name]) * steps * width
            alive += held[node.name]
            most = max(most, alive + COPIES.of(node)(self, node, kernels) + 2 * held[node.name])
            for i in set(node.inputs):
                if self.last[i] == node.name and i not in record:
                    alive -= held[i]
        return most

    def steps_of(self, node: s.Node) -> int:
        """In which a product is computed: one if an operand is the same in all of them."""
        return 1 if any(i in self.graph.constants for i in node.inputs) else self.steps

    @property
    def widest_step(self) -> int:
        """Elements of one sample's largest value in one step, or of the rows that its product
        reads."""
        sizes = [prod(size) for size in self.size.values()]
        rows = [
            prod(self.size[n.name][1:])
            * 16
            * -(-prod(self.graph.tensors[n.weight].shape[1:]) // 16)
            for n in self.graph.nodes
            if isinstance(n, s.Conv2d) and self.graph.tensors[n.weight].shape[1] < 16
        ]
        return max(*sizes, *rows, 1)


COPIES: KindTable[Callable[[Plan, Any, bool], int]] = KindTable(
    "memory of GPUs", ("quantized",), "how much memory computing it needs"
)
"""(plan, node, whether kernels compute it) -> bytes of one sample beside its operands and its value."""
COPIES.add(lambda plan, node, kernels: 0, s.Input, s.Previous, s.Output, s.TimeMean, s.TimeSum)
COPIES.add(lambda plan, node, kernels: 0, s.MaxPool2d, s.SumPool2d, s.Sum, s.Rearrange, s.Delay)
COPIES.add(lambda plan, node, kernels: 0, s.Add, s.Mul, s.Offset, s.Shift, s.Or, s.RateSoftmax)


@COPIES.rule(s.Clip, s.Combination, s.Maximum, s.IntegerFunction, s.Falling)
@COPIES.rule(s.SquareSum, s.DigitSum)
def _of_functions(plan: Plan, node: s.Node, kernels: bool) -> int:
    return 24 * plan.steps_of(node) * max(prod(plan.size[i]) for i in node.inputs)


@COPIES.rule(s.DigitMul, s.DigitMatMul)
def _of_digits(plan: Plan, node: s.DigitMul | s.DigitMatMul, kernels: bool) -> int:
    sizes = (prod(plan.size[i]) for i in (*node.inputs, node.name))
    return 16 * (node.bits + 1) * plan.steps_of(node) * sum(sizes)


@COPIES.rule(s.Conv2d)
def _of_windows(plan: Plan, node: s.Conv2d, kernels: bool) -> int:
    steps = plan.steps_of(node)
    read = steps * prod(plan.size[node.x])
    if kernels and node.groups == 1:
        return read
    taps = prod(plan.graph.tensors[node.weight].shape[1:]) * node.groups
    size = plan.size[node.name]
    return steps * (4 * prod(size[1:]) * taps + 8 * prod(size)) + read


@COPIES.rule(s.Linear, s.MatMul)
def _of_products(plan: Plan, node: s.Linear | s.MatMul, kernels: bool) -> int:
    sizes = (prod(plan.size[i]) for i in (*node.inputs, node.name))
    return 12 * plan.steps_of(node) * sum(sizes)


@COPIES.rule(s.IntegerLIF, s.SoftIntegerLIF, s.IntegerIntegrator)
def _of_neurons(plan: Plan, node: s.Node, kernels: bool) -> int:
    return (4 if kernels else 48) * prod(plan.size[node.name])


def _weighted_sum(
    graph: s.SpikingGraph, node: s.Conv2d | s.Linear, known: Range | None
) -> WeightedSum:
    if known is None:
        raise NeurocompileError("NC4008", f"the input of '{node.name}' has no proven range")
    weight = graph.tensors[node.weight].astype(np.int64)
    shift = 0
    joined = int(np.bitwise_or.reduce(np.abs(weight), axis=None)) if weight.size else 0
    if joined:
        shift = (joined & -joined).bit_length() - 1
        weight = weight >> shift
    if shift + node.exponent < 0:  # the definition shifts to the right, and nothing is lost there
        if joined:
            raise NeurocompileError(
                "NC4008", f"'{node.name}': exponent {node.exponent} would drop bits of its weights"
            )
        shift = -node.exponent
    rows = np.abs(weight).reshape(len(weight), -1)
    total = int(rows.sum(axis=1).max(initial=0)) * known.magnitude
    largest = int(rows.max(initial=0))
    form = form_of(known.magnitude, largest, total, f"'{node.name}'")
    shift += node.exponent
    if total << shift >= 1 << 62:
        raise NeurocompileError(
            "NC4008", f"'{node.name}': sums reach {total << shift:.3g}, and 2^62 is the largest"
        )
    return WeightedSum(weight, shift, total, form)


def _drive(plan: Plan, node: s.IntegerLIF) -> int:
    """Bound of what enters the membrane of ``node`` in a step."""
    bias = 0
    if node.bias is not None:
        bias = int(np.abs(plan.graph.tensors[node.bias].astype(np.int64)).max(initial=0))
    return (plan.known(node.x).magnitude * abs(node.gain) << 6) + (bias << node.bias_exp)


def may_clip(plan: Plan, node: s.IntegerLIF) -> bool:
    """Whether a membrane may reach its limit within the steps of a sample."""
    leaks = plan.graph.tensors[node.dv] if isinstance(node.dv, TensorRef) else np.array(node.dv)
    keep, drive, most = ALL - int(leaks.min(initial=ALL)), _drive(plan, node), 0
    for _ in range(plan.steps):
        most = (most * keep >> 12) + drive
        if most > _LIMIT:
            return True
    return False


def neuron_fits(plan: Plan, node: s.IntegerLIF) -> bool:
    """Whether 32 bits hold all that the neuron computes, so that a kernel may, and one parameter a
    channel is enough: no synaptic current."""
    graph, reach = plan.graph, _drive(plan, node) + _LIMIT
    vth = graph.tensors[node.vth] if isinstance(node.vth, TensorRef) else np.array(node.vth)
    return (
        node.current == ALL
        and reach < 1 << 31
        and abs(node.gain) << 6 < 1 << 31
        and int(np.abs(vth.astype(np.int64)).max(initial=0)) << 6 < 1 << 31
    )
