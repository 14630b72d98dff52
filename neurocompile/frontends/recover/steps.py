"""One step of a neuron: a comparison with a constant, and the potential it compares as a
polynomial.

From the potential h of the step before and its spike s, with the current x, a step of a LIF
computes (with ``v = h - h s + v_reset s`` for a hard, ``v = h - v_threshold s`` for a soft reset)::

    h' = a v + b x + c
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import onnx

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.recover.affine import Affine, affine_path, close, shown
from neurocompile.frontends.recover.algebra import (
    CONSTANT,
    ELEMENTWISE,
    Number,
    Polynomial,
    arithmetic_below,
    expand,
    spike_atom,
)
from neurocompile.frontends.recover.graph import Graph, label_of
from neurocompile.frontends.recover.staircases import Staircase

__all__ = ["COMPARISONS", "Step", "StepReader", "threshold_of"]

COMPARISONS = frozenset({"Greater", "GreaterOrEqual", "Less", "LessOrEqual"})
_MIRRORED = {
    "Greater": "Less",
    "Less": "Greater",
    "GreaterOrEqual": "LessOrEqual",
    "LessOrEqual": "GreaterOrEqual",
}


@dataclass
class Step:
    """What one comparison says of its neuron."""

    node: onnx.NodeProto
    """The comparison."""
    potential: str
    """The value h."""
    bound: Number
    """A spike is ``h >= bound``, or ``h > bound`` if ``strict``."""
    strict: bool
    inverted: bool
    """The comparison is true where there is no spike."""
    previous: Step | None = None
    """The step before; None at t = 0, where the fields below say nothing."""
    a: Number = 0.0
    b: Number = 0.0
    c: Number = 0.0
    hard: bool = True
    reset: Number = 0.0
    """v_reset of a hard reset, what a soft reset subtracts."""
    back: Number = 0.0
    """What a spike adds where nothing of the membrane is kept, so that it has no reset."""
    current: str = ""
    """The value x."""
    scale: np.ndarray | None = None
    """Thresholds of the channels, in which potentials are counted here; None for one threshold."""
    stairs: Staircase | None = None
    """Of a neuron that counts: ``node`` then makes the number of its spikes."""


class StepReader:
    """Reads the comparisons of a graph, in topological order."""

    def __init__(self, graph: Graph, unreset: bool = False) -> None:
        """With ``unreset``, neurons may be such that no spike resets them."""
        self.graph, self.unreset = graph, unreset
        self.suspects = False
        """Some comparison may be of a neuron that is never reset."""
        self.copies: dict[str, Step] = {}
        self.compared = Counter(
            i for n in graph.nodes if n.op_type in COMPARISONS and not n.domain for i in n.input
        )
        self.steps: list[Step] = []
        self.atoms: dict[str, Polynomial] = {}
        self.by_potential: dict[str, Step] = {}
        self.units: dict[str, np.ndarray] = {}

    def read(self, node: onnx.NodeProto) -> Step:
        """The step of one comparison; NC1003 or NC1009 if it is none."""
        left, right, kind = node.input[0], node.input[1], node.op_type
        if left in self.graph.uniform:
            left, right, kind = right, left, _MIRRORED[kind]
        fixed = [i for i in (right, left) if i not in self.graph.dynamic]
        scale = self._unit(fixed[0]) if fixed and not self.graph.vectors else None
        if scale is not None and left in self.graph.uniform:
            left, right, kind = right, left, _MIRRORED[kind]
        scale = self._divided(left) if scale is None and not self.graph.vectors else scale
        if self.graph.number(left) is not None:
            left, right, kind = right, left, _MIRRORED[kind]
        bound = self.graph.number(right)
        if bound is None:
            if right in self.graph.dynamic and left in self.graph.dynamic:
                raise NeurocompileError(
                    "NC1003",
                    f"{label_of(node)} compares two signals; a neuron compares with a constant",
                )
            raise self._per_channel(
                node, right if right not in self.graph.dynamic else left, "threshold"
            )
        twin = self._twin(node, left, bound, kind)
        if twin is not None:
            return twin
        marked, previous = self._cone(left)
        seen = self._potential(left, previous is not None)
        step = Step(
            node,
            seen.value,
            (bound - seen.offset) / seen.scale,
            kind in ("Greater", "LessOrEqual"),
            kind.startswith("Less"),
            previous,
            scale=scale,
        )
        if previous is not None:
            p = expand(step.potential, self.graph, self.atoms, marked.__contains__)
            self._refuse_opaque(p, marked - {previous.potential})
            self._coefficients(step, previous, p)
        self.steps.append(step)
        self.by_potential[step.potential] = step
        spike = (spike_atom(node.output[0]),)
        self.atoms[step.potential] = {(step.potential,): 1.0}
        self.atoms[node.output[0]] = {CONSTANT: 1.0, spike: -1.0} if step.inverted else {spike: 1.0}
        return step

    def read_stairs(self, node: onnx.NodeProto, stairs: Staircase) -> Step:
        """The step of a neuron that sends several spikes, whose number ``node`` makes."""
        marked, previous = self._cone(stairs.source)
        step = Step(
            node, stairs.source, stairs.thresholds[0], False, False, previous, stairs=stairs
        )
        if previous is not None:
            p = expand(step.potential, self.graph, self.atoms, marked.__contains__)
            self._refuse_opaque(p, marked - {previous.potential})
            self._coefficients(step, previous, p)
        self.steps.append(step)
        self.by_potential[step.potential] = step
        self.atoms[step.potential] = {(step.potential,): 1.0}
        spike = (spike_atom(stairs.value),)
        for value, factor in stairs.multiples.items():
            self.atoms[value] = {spike: factor}
            self.copies[value] = step
        return step

    def _twin(self, node: onnx.NodeProto, left: str, bound: Number, kind: str) -> Step | None:
        """The step that compares the same potential in the same way already, for its output here
        or for the reset of the step after it.
        """
        for place in affine_path(left, self.graph):
            step = self.by_potential.get(place.value)
            if step is None or not np.all(place.scale > 0):
                continue
            strict = kind in ("Greater", "LessOrEqual")
            if strict != step.strict or not close((bound - place.offset) / place.scale, step.bound):
                return None
            self.copies[node.output[0]] = step
            spike = (spike_atom(step.node.output[0]),)
            inverted = kind.startswith("Less")
            self.atoms[node.output[0]] = {CONSTANT: 1.0, spike: -1.0} if inverted else {spike: 1.0}
            return step
        return None

    def _unit(self, constant: str) -> np.ndarray | None:
        """A threshold for each channel: potentials are counted in it, so that it is 1, and currents
        are divided by it.
        """
        if constant in self.units:
            return self.units[constant]
        array = self.graph.constants.get(constant)
        if (
            array is None
            or constant in self.graph.uniform
            or array.dtype.kind != "f"
            or not (array > 0).all()
        ):
            return None
        self.units[constant] = array
        self.graph.uniform[constant] = 1.0
        return array

    def _divided(self, value: str) -> np.ndarray | None:
        """The same, where ``value`` is ``h - threshold`` or ``h / threshold``, and h is read
        elsewhere too.
        """
        path = [self.graph.producer.get(p.value) for p in affine_path(value, self.graph)]
        for node in path:
            if node is not None and node.op_type in ("Sub", "Div") and node.input[1] in self.units:
                return self.units[node.input[1]]
        end = path[-1]
        if (
            end is None
            or end.op_type not in ("Sub", "Div")
            or end.input[0] not in self.graph.dynamic
        ):
            return None
        return self._unit(end.input[1]) if self.graph.readers[end.input[0]] > 1 else None

    def _potential(self, value: str, has_state: bool) -> Affine:
        """The potential behind the compared ``value``: what else is read or, at the last step, what
        has no constant.
        """
        whole = [p for p in affine_path(value, self.graph) if np.all(p.scale > 0)]
        if self.graph.readers[value] > self.compared[value]:
            return whole[0]
        for place in whole[1:]:
            if self.graph.readers[place.value] > 1:
                return place
        end = self.graph.producer.get(whole[-1].value)
        self._refuse_vector(end)
        if has_state and end is not None and end.op_type in ("Add", "Sub"):
            return whole[-1]
        return affine_path(value, self.graph, scaling=False)[-1]

    def _refuse_vector(self, node: onnx.NodeProto | None) -> None:
        """``h - vector >= 0`` or ``h / vector >= 1``, where h is read elsewhere too, for its reset."""
        if node is None or node.op_type not in ("Add", "Sub", "Mul", "Div"):
            return
        vectors = [i for i in node.input if i not in self.graph.dynamic]
        if len(vectors) == 1 and any(
            i not in vectors and self.graph.readers[i] > 1 for i in node.input
        ):
            raise self._per_channel(node, vectors[0], "threshold")

    def _refuse_opaque(self, p: Polynomial, marked: set[str]) -> None:
        """What depends on the membrane in a way that is no polynomial, such as a division by a
        vector.
        """
        for value in {v for monomial in p for v in monomial if v in marked}:
            node = self.graph.producer[value]
            constants = [i for i in node.input if i not in self.graph.dynamic]
            if constants:
                raise self._per_channel(node, constants[0], "tau")
            raise NeurocompileError(
                "NC1003", f"{label_of(node)} of a membrane is not what a LIF computes"
            )

    def _cone(self, value: str) -> tuple[set[str], Step | None]:
        """The step before, found among the arithmetic that makes ``value``, and the values there
        that depend on it.
        """
        visited, stack, seen = [], [value], {value}
        while stack:
            place = stack.pop()
            visited.append(place)
            node = self.graph.producer.get(place)
            if (
                place in self.atoms
                or node is None
                or node.op_type not in ELEMENTWISE
                or self.graph.number(place) is not None
            ):
                continue
            operands = [
                i for i in node.input[: 1 if node.op_type == "Expand" else None] if i not in seen
            ]
            seen.update(operands)
            stack += operands
        within = [s for v in visited if (s := self.by_potential.get(v)) is not None]
        spikes = {v for v, s in self.copies.items() if v in seen and s in within}
        found = [
            s
            for s in within
            if s.node.output[0] in seen or any(self.copies[v] is s for v in spikes)
        ]
        if not found and within:
            self.suspects = True
        if not within:
            self._refuse_bounded(visited)
        if not found and not (self.unreset and within):
            return set(), None
        previous = max(found or within, key=lambda s: self.graph.order[s.node.output[0]])
        marked = {previous.potential, previous.node.output[0], *spikes}
        for place in sorted(visited, key=lambda v: self.graph.order.get(v, -1)):
            node = self.graph.producer.get(place)
            if (
                node is not None
                and place not in self.atoms
                and node.op_type in ELEMENTWISE
                and marked.intersection(node.input)
            ):
                marked.add(place)
        return marked, previous

    def _refuse_bounded(self, visited: list[str]) -> None:
        """A membrane with a bound below, as sinabs' ``min_v_mem`` makes it."""
        for value in visited:
            node = self.graph.producer.get(value)
            if node is None or node.op_type not in ("Relu", "Clip", "Max"):
                continue
            if any(v in self.by_potential for v in arithmetic_below(node.input[0], self.graph)):
                raise NeurocompileError(
                    "NC1009",
                    f"{label_of(node)} bounds a membrane from below, which no LIF does: set min_v_mem=None "
                    "(sinabs); several spikes a step, and none, are supported",
                )

    def _coefficients(self, step: Step, previous: Step, p: Polynomial) -> None:
        """Read a, b, c, the reset and x off ``p``."""
        h, s = previous.potential, spike_atom(previous.node.output[0])
        with_h, with_s, with_both = p.get((h,), 0.0), p.get((s,), 0.0), p.get((s, h), 0.0)
        others = {m: k for m, k in p.items() if m not in ((h,), (s,), (s, h), CONSTANT)}
        strange = [m for m in others if len(m) > 1 or m[0].startswith("spike:")]
        if strange and all(
            close(p.get((s, *m), 0.0), -k) for m, k in others.items() if m not in strange
        ):
            raise NeurocompileError(
                "NC1009",
                f"{label_of(step.node)}: a spike takes the input of the step after it away too, as RLeaky and RSynaptic of "
                "snnTorch do with reset_mechanism='zero', which no LIF does; 'subtract' is supported",
            )
        if strange:
            constants = [
                v
                for m in strange
                for v in m
                if v not in self.graph.dynamic and not v.startswith("spike:")
            ]
            if constants:
                raise self._per_channel(step.node, constants[0], "tau, threshold or v_reset")
            raise NeurocompileError(
                "NC1003", f"{label_of(step.node)}: its potential is no LIF's: {_text(p)}"
            )
        if np.any(with_both):
            if not np.all(with_both):
                raise NeurocompileError(
                    "NC1009",
                    f"{label_of(step.node)}: some channels are reset hard, others keep nothing",
                )
            step.hard, step.a = True, -with_both
            step.reset = with_s / step.a
        else:
            step.hard = False
            # A current that is the first potential itself, so that their coefficients add up.
            step.a = with_h if others else with_h - 1.0
            step.reset = -with_s / step.a if np.all(step.a) else 0.0
            step.back = 0.0 if np.all(step.a) else with_s
        if not self.unreset and not np.any(with_s) and not np.any(with_both):
            raise NeurocompileError(
                "NC1009", f"{label_of(step.node)}: a neuron that is never reset"
            )
        if not close(with_h, step.a):
            others[(h,)] = with_h - step.a
        step.c = p.get(CONSTANT, 0.0)
        step.b, step.current = self._current(step, others, p)

    def _current(self, step: Step, others: Polynomial, p: Polynomial) -> tuple[Number, str]:
        """b and x; several currents of the same weight are added up."""
        factors = list(others.values())
        if not factors or not all(close(k, factors[0]) for k in factors):
            raise NeurocompileError(
                "NC1003",
                f"{label_of(step.node)}: no current, or several of unequal weight: {_text(p)}",
            )
        total, *rest = (m[0] for m in others)
        for value in rest:
            both = self.graph.fresh(f"{total}.sum")
            self.graph.add(
                onnx.helper.make_node("Add", [total, value], [both], name=both), like=step.potential
            )
            total = both
        return factors[0], total

    def _per_channel(self, node: onnx.NodeProto, constant: str, what: str) -> NeurocompileError:
        array = self.graph.constants.get(constant)
        shape = f" {list(array.shape)}" if array is not None else ""
        return NeurocompileError(
            "NC1009",
            f"{label_of(node)}: {what} of constant '{constant}'{shape} makes no LIF; one number for a layer, or one for each "
            "channel, is supported",
        )


def threshold_of(step: Step) -> Number:
    """The least float32 that spikes."""
    if not step.strict:
        return step.bound
    least = np.nextafter(np.asarray(step.bound, np.float32), np.float32(np.inf)).astype(np.float64)
    return least if least.ndim else float(least)


def _text(p: Polynomial) -> str:
    return " + ".join(f"{shown(k)} {' '.join(m)}".strip() for m, k in p.items())[:200]
