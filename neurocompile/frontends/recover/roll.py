"""Roll time up again: from T values, one a step, to one tensor; a new graph made of what its
outputs need.

T values ``v_0, ..., v_{T-1}``, one a step, are called lanes. They exist in two forms: ``steps``,
(T, B, ...), and ``rows``, (T B, ...), on which one node does the work of T equal nodes that treat
each row alone.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.diagnosis import NotSupportedError, unsupported
from neurocompile.frontends.onnx.general import DELAY, INTEGRATOR, PREVIOUS, TOKEN_MEAN
from neurocompile.frontends.onnx.lif import DOMAIN
from neurocompile.frontends.recover.forms import Neuron
from neurocompile.frontends.recover.graph import Graph, captured, label_of
from neurocompile.frontends.recover.join import Join, Joins
from neurocompile.frontends.recover.recurrences import find_recurrence
from neurocompile.frontends.recover.rows import UNDERSTOOD, UnsuitableError, constant_inputs
from neurocompile.frontends.recover.tokens import (
    Successors,
    TokenMean,
    find_token_mean,
    is_zero,
    pushed,
)
from neurocompile.frontends.recover.twins import Twins
from neurocompile.frontends.recover.unroll import copy_renamed
from neurocompile.frontends.recover.values import same_constant
from neurocompile.frontends.recover.writer import Writer
from neurocompile.host.operators import BINARY, HOST_VIEWS, UNARY

__all__ = ["Roller"]

Lanes = tuple[str, ...]
Key = tuple[str, Any]
"""What is wanted: ("one", value), ("steps", lanes), ("rows", lanes), or of a neuron, by its index, its
spikes ("lif", index) or those of the step before ("before", index).
"""
Rule = Generator[Key, str, str]
"""A rule yields what it needs, is sent its name, and returns the name of what it made."""


_LIGHT = UNARY | BINARY | HOST_VIEWS


class Roller(Writer):
    """Builds the new graph."""

    def __init__(self, graph: Graph, neurons: list[Neuron], opset: int) -> None:
        super().__init__(graph)
        self.neurons, self.opset = neurons, opset
        self.joins = Joins(graph, neurons)
        self._made: dict[Key, str] = {}
        self._needed: set[str] | None = None
        self._twins: Twins | None = None
        self._successors: Successors | None = None
        self._means: dict[Lanes, TokenMean | None] = {}

    def resolve(self, key: Key) -> str:
        """Make what ``key`` wants and whatever it needs; an explicit stack, so that depth has no
        limit.
        """
        stack, active, name = [(key, self._rule(key))], {key}, ""
        while stack:
            key, rule = stack[-1]
            try:
                wanted = rule.send(name or None)  # type: ignore[arg-type]
            except StopIteration as end:
                name = self._made[key] = end.value
                active.discard(key)
                stack.pop()
                continue
            if wanted in self._made:
                name = self._made[wanted]
                continue
            if wanted in active:
                value = wanted[1][0] if isinstance(wanted[1], tuple) else wanted[1]
                value = self.neurons[value].name if isinstance(value, int) else value
                raise NeurocompileError(
                    "NC1009",
                    f"'{value}' feeds back to itself; recurrent layers are not supported",
                    layer=value,
                )
            active.add(wanted)
            stack.append((wanted, self._rule(wanted)))
            name = ""
        return name

    def _rule(self, key: Key) -> Rule:
        rules: dict[str, Callable[[Any], Rule]] = {
            "one": self._one,
            "lif": self._lif,
            "steps": self._steps,
            "rows": self._rows,
        }
        rules["before"] = self._before
        return rules[key[0]](key[1])

    # ---- values outside of time, or with all of it -----------------------------------------------

    def _one(self, value: str) -> Rule:
        graph = self.graph
        value = graph.alias(value)
        if value in graph.constants:
            return self.constant(value, graph.constants[value])
        if value not in graph.producer:
            return value
        label = self.joins.label(value)
        if isinstance(label, int) and self.joins.count == 1:
            return (yield "rows", (value,))
        if isinstance(label, int) and not self._behind(value):
            raise self._alone(value)
        if isinstance(label, int) and (graph.step(value) is not None or not self._is_light(value)):
            return (yield from self._picked(value, label))
        node = graph.producer[value]
        join = self.joins.join(value, self._behind(value))
        if join is not None:
            return (yield from self._joined(join, value))
        names = {}
        for operand in [*node.input, *sorted(captured(node))]:
            if operand:
                if self._is_alone(graph.alias(operand)):
                    raise self._alone(operand, node)
                names[operand] = yield "one", operand
        copy = copy_renamed(node, names)
        self.register(copy)
        for old, new in zip(node.output, copy.output):
            self._made["one", old] = new
        return self._made["one", value]

    def _picked(self, value: str, step: int) -> Rule:
        """One step of all, which the host has."""
        picked = self.graph.step(value)
        if picked is not None:
            whole = yield "one", picked[0]
            index = np.asarray([picked[1]] if picked[2] else picked[1], np.int64)
        else:
            lanes = self._twins_of(value)
            if lanes is None:
                raise self._alone(value)
            whole = yield "steps", lanes
            index = np.asarray(step, np.int64)
        return self.emit("Gather", [whole, self.constant("step", index)], value, axis=0)

    def _joined(self, join: Join, value: str) -> Rule:
        """All steps together, their mean, or their sum with weights."""
        if join.form not in ("mean", "weighted"):
            name = yield join.form, join.lanes
            return name if not join.axis else self._move_time(name, join.axis, join.lanes[0], value)
        steps = yield "steps", join.lanes
        if join.form == "mean":
            name = self._mean(steps, value, join.factor)
        else:
            name = self._weighted(steps, join, value)
        for extra, factor in join.extras:
            other = yield "one", extra
            if factor != 1.0:
                times = self.constant(f"{extra}.factor", np.asarray(factor, np.float32))
                other = self.emit("Mul", [other, times], value)
            name = self.emit("Add", [name, other], value)
        return name

    def _weighted(self, steps: str, join: Join, like: str) -> str:
        """The sum over time, each step times its weight."""
        rank = self.graph.rank(join.lanes[0])
        if rank is None:
            raise NeurocompileError(
                "NC1009", f"the number of axes of '{join.lanes[0]}' is not known"
            )
        fitted = [w.reshape((1,) * (rank - w.ndim) + w.shape) for w in join.weights]
        weights = np.stack(np.broadcast_arrays(*fitted)).astype(np.float32)
        name = self.emit("Mul", [steps, self.constant(f"{like}.weights", weights)], like)
        if self.opset >= 13:
            axes = self.constant("time_axis", np.zeros(1, np.int64))
            return self.emit("ReduceSum", [name, axes], like, keepdims=0)
        return self.emit("ReduceSum", [name], like, axes=[0], keepdims=0)

    def _behind(self, value: str) -> bool:
        """Whether no neuron depends on ``value``."""
        if self._needed is None:
            self._needed, stack = set(), [c for n in self.neurons for c in n.currents]
            while stack:
                place = stack.pop()
                if place not in self._needed:
                    self._needed.add(place)
                    node = self.graph.producer.get(place)
                    stack += [i for i in node.input if i] if node is not None else []
        return value not in self._needed

    def _is_alone(self, value: str) -> bool:
        """Whether ``value`` is of one step that cannot be picked from all."""
        if not isinstance(self.joins.label(value), int) or self.joins.count == 1:
            return False
        if not self._behind(value):
            return True
        picked = self.graph.step(value) is not None or self._is_light(value)
        return not picked and self._twins_of(value) is None

    def _is_light(self, value: str) -> bool:
        """Whether the host may as well compute ``value`` of one step alone: no layer, no spike."""
        return self.graph.producer[value].op_type in _LIGHT and self.joins.spikes_of(value) is None

    def _twins_of(self, value: str) -> Lanes | None:
        """What is made at each step as ``value`` is made at its own; None if that is not known."""
        if self._twins is None:
            spikes = {v: n.spikes for n in self.neurons for v in n.spikes}
            self._twins = Twins(self.graph, self.joins.label, spikes)
        return self._twins.of(value, self.joins.count)

    def _alone(self, value: str, reader: onnx.NodeProto | None = None) -> NeurocompileError:
        where = label_of(reader if reader is not None else self.graph.producer[value])
        return NeurocompileError(
            "NC1003",
            f"{where} uses '{value}', step {self.joins.label(self.graph.alias(value))} of time, alone; "
            "supported is what treats all steps alike, stacks them, or averages them",
        )

    def _mean(self, steps: str, like: str, factor: float) -> str:
        """``factor`` times the mean over time."""
        if self.opset >= 18:
            axes = self.constant("time_axis", np.zeros(1, np.int64))
            name = self.emit("ReduceMean", [steps, axes], like, keepdims=0)
        else:
            name = self.emit("ReduceMean", [steps], like, axes=[0], keepdims=0)
        if abs(factor - 1.0) > 1e-6:
            scale = self.constant(f"{like}.scale", np.asarray(factor, np.float32))
            name = self.emit("Mul", [name, scale], like)
        return name

    def _move_time(self, name: str, axis: int, lane: str, like: str) -> str:
        """Time from axis 0 to ``axis``."""
        rank = self.graph.rank(lane)
        if rank is None:
            raise NeurocompileError("NC1009", f"the number of axes of '{lane}' is not known")
        axes = list(range(1, rank + 1))
        axes.insert(axis % (rank + 1), 0)
        return self.emit("Transpose", [name], like, perm=axes)

    # ---- lanes -----------------------------------------------------------------------------------

    def _lif(self, index: int) -> Rule:
        neuron = self.neurons[index]
        x = yield "steps", neuron.currents
        inputs = [x]
        for constant in filter(None, (neuron.tau, neuron.thresholds)):
            inputs.append((yield "one", constant))
        name = self.emit(
            neuron.kind, inputs, neuron.name, name=neuron.name, domain=DOMAIN, **neuron.attributes
        )
        if neuron.below:
            below = self.constant("below", np.float32(neuron.below))
            name = self.emit("Sub", [name, below], name)
        return name

    def _before(self, index: int) -> Rule:
        neuron = self.neurons[index]
        dims = self.graph.shapes.get(neuron.spikes[0])
        if not dims or None in dims[1:]:
            raise NeurocompileError(
                "NC1009",
                f"neuron '{neuron.name}' feeds its spikes back, and its shape is not known",
            )
        yield from ()
        name = f"{neuron.name}.{PREVIOUS.lower()}"
        fields = {"of": neuron.name, "shape": dims[1:], "steps": len(neuron.spikes)}
        made = self.emit(PREVIOUS, [], name, name=name, domain=DOMAIN, **fields)
        if neuron.below:
            made = self.emit("Sub", [made, self.constant("below", np.float32(neuron.below))], made)
        return made

    def _steps(self, lanes: Lanes) -> Rule:
        lanes = tuple(self.graph.alias(v) for v in lanes)
        spike = self.joins.spikes(lanes)
        if spike is not None:
            name = yield ("before" if spike.before else "lif"), spike.neuron
            if spike.inverted:
                name = self.emit("Sub", [self.constant("one", np.float32(1)), name], lanes[0])
            return (
                name
                if spike.to == TensorProto.FLOAT
                else self.emit("Cast", [name], lanes[0], to=spike.to)
            )
        whole = self._whole(lanes, kept=False)
        if whole is not None:
            return (yield "one", whole)
        if len(set(lanes)) == 1 and not isinstance(self.joins.label(lanes[0]), int):
            return self._repeat((yield "one", lanes[0]), lanes)
        found = find_recurrence(lanes, self.graph)
        if found is not None:
            x = yield "steps", found.inputs
            return self.emit(INTEGRATOR, [x], lanes[-1], domain=DOMAIN, decay=found.decay)
        following = self._following(lanes)
        if following is not None:
            x = yield "steps", (*lanes[1:], following)
            return self.emit(DELAY, [x], lanes[-1], domain=DOMAIN)
        mean = self._token_mean(lanes)
        if mean is not None:
            return (yield from self._weighted_mean(mean, lanes[-1]))
        rows = yield "rows", lanes
        return self._reshape(rows, lanes, [len(lanes), -1])

    def _following(self, lanes: Lanes) -> str | None:
        """What comes after the last lane, where the lanes are 0 and then a value of each step
        before.
        """
        if len(lanes) < 2 or not is_zero(lanes[0], self.graph):
            return None
        if self._successors is None:
            self._successors = Successors(self.graph, self.neurons)
        return self._successors.after(lanes[-1])

    def _token_mean(self, lanes: Lanes) -> TokenMean | None:
        if lanes not in self._means:
            self._means[lanes] = find_token_mean(lanes, self.graph)
        return self._means[lanes]

    def _weighted_mean(self, mean: TokenMean, like: str) -> Rule:
        k = yield "steps", mean.k
        v = yield "steps", mean.v
        decay = self.constant(f"{like}.decay", mean.decay)
        first = self.constant(f"{like}.first", mean.first)
        return self.emit(TOKEN_MEAN, [k, v, decay, first], like, domain=DOMAIN)

    def _rows(self, lanes: Lanes) -> Rule:
        lanes = tuple(self.graph.alias(v) for v in lanes)
        whole = self._whole(lanes, kept=True)
        if whole is not None:
            return (yield "one", whole)
        if self._steps_first(lanes):
            steps = yield "steps", lanes
            return self._reshape(steps, lanes, [-1])
        moved = pushed(lanes, self.graph)
        if moved is not None:
            node, place, inner = moved
            names = []
            for k, operand in enumerate(node.input):
                names.append((yield "rows", inner) if k == place else (yield "one", operand))
            return self._copied(node, names)
        first, columns = self._alike(lanes)
        rows = [k for k, c in enumerate(columns) if any(v in self.graph.dynamic for v in c)]
        if len(lanes) > 1 and all(len(set(columns[k])) == 1 for k in rows):
            return (yield "rows", (lanes[0],) * len(lanes))
        changed, names = self._changed(first, rows, len(lanes)), []
        for k, column in enumerate(columns):
            if k in changed:
                if any(self._known(v) != self._known(column[0]) for v in column):
                    raise self._unequal(lanes)
                names.append(self.constant(f"{lanes[0]}.shape", changed[k]))
            elif k in rows:
                names.append((yield "rows", column))
            elif not column[0]:
                names.append("")
            else:
                if not all(same_constant(v, column[0], self.graph) for v in column):
                    raise self._unequal(lanes)
                names.append((yield "one", column[0]))
        return self._copied(first, names, list(first.output).index(lanes[0]))

    def _copied(self, node: onnx.NodeProto, inputs: list[str], output: int = 0) -> str:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = inputs
        self.register(copy)
        return copy.output[output]

    def _steps_first(self, lanes: Lanes) -> bool:
        """Whether the rows are made of a value that has an axis of steps."""
        return (
            (len(set(lanes)) == 1 and not isinstance(self.joins.label(lanes[0]), int))
            or self.joins.spikes(lanes) is not None
            or self._whole(lanes, kept=False) is not None
            or find_recurrence(lanes, self.graph) is not None
            or self._following(lanes) is not None
            or self._token_mean(lanes) is not None
        )

    def _alike(self, lanes: Lanes) -> tuple[onnx.NodeProto, list[Lanes]]:
        """The node that makes the first lane, and the lanes of each operand; NC1003 for lanes that
        other operators make."""
        nodes = [self.graph.producer.get(v) for v in lanes]
        first = nodes[0]
        if first is None or any(
            n is None or not _same_form(n, v, first, lanes[0]) for n, v in zip(nodes, lanes)
        ):
            raise self._unequal(lanes)
        columns = zip(*(n.input for n in nodes if n is not None))
        return first, [tuple(map(self.graph.alias, column)) for column in columns]

    def _changed(self, node: onnx.NodeProto, rows: list[int], steps: int) -> dict[int, np.ndarray]:
        """:func:`constant_inputs`, what does not suit as an error of the user's."""
        try:
            return constant_inputs(node, rows, self.graph, steps)
        except UnsuitableError as error:
            if node.op_type not in UNDERSTOOD or node.domain not in ("", "ai.onnx"):
                raise NotSupportedError([unsupported(node)]) from error
            raise NeurocompileError(
                "NC1009",
                f"{label_of(node)} cannot be run for all steps at once: {error}{error.advice}",
            ) from error

    def _known(self, value: str) -> list[int | None] | None:
        """A shape, as far as it is known."""
        array = self.graph.constants.get(value)
        return self.graph.partial.get(value) if array is None else array.tolist()

    def _unequal(self, lanes: Lanes) -> NeurocompileError:
        node = self.graph.producer.get(lanes[0])
        where = label_of(node) if node is not None else f"'{lanes[0]}'"
        return NeurocompileError(
            "NC1003", f"{where}: steps 0 to {len(lanes) - 1} {list(lanes)[:4]} are not made alike"
        )

    def _whole(self, lanes: Lanes, kept: bool) -> str | None:
        """X, where the lanes are X[0], X[1], ..., the axis kept with size 1 or not."""
        first = self.graph.step(lanes[0])
        if first is None or any(
            self.graph.step(v) != (first[0], t, kept) for t, v in enumerate(lanes)
        ):
            return None
        source = first[0]
        dims = self.graph.shapes.get(source)
        if dims and dims[0] is not None and dims[0] != len(lanes):
            raise NeurocompileError(
                "NC1008", f"a neuron runs for {len(lanes)} of the {dims[0]} steps of '{source}'"
            )
        return source

    def _repeat(self, name: str, lanes: Lanes) -> str:
        """The same value at every step."""
        rank = self.graph.rank(lanes[0])
        if rank is None:
            raise NeurocompileError("NC1009", f"the number of axes of '{lanes[0]}' is not known")
        axes = self.constant("time_axis", np.zeros(1, np.int64))
        target = self.constant("repeats", np.asarray([len(lanes), *[1] * rank], np.int64))
        return self.emit(
            "Expand", [self.emit("Unsqueeze", [name, axes], lanes[0]), target], lanes[0]
        )

    def _reshape(self, name: str, lanes: Lanes, head: list[int]) -> str:
        """To the leading lengths ``head`` and the lengths of a lane but its first."""
        dims = self.graph.shapes.get(lanes[0])
        if dims is not None and dims and None not in dims[1:]:
            target = self.constant(f"{lanes[0]}.shape", np.asarray([*head, *dims[1:]], np.int64))
        else:
            lengths = self.emit("Shape", [name], lanes[0], start=3 - len(head))
            front = self.constant("rows", np.asarray(head, np.int64))
            target = self.emit("Concat", [front, lengths], lanes[0], axis=0)
        return self.emit("Reshape", [name, target], lanes[0])


def _same_form(node: onnx.NodeProto, value: str, other: onnx.NodeProto, twin: str) -> bool:
    """Same operator, attributes and position of the output."""
    if (
        node.op_type != other.op_type
        or node.domain != other.domain
        or len(node.input) != len(other.input)
    ):
        return False
    if list(node.output).index(value) != list(other.output).index(twin):
        return False
    attributes = [
        sorted(a.SerializeToString(deterministic=True) for a in n.attribute) for n in (node, other)
    ]
    return attributes[0] == attributes[1]
