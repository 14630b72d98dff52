"""Chain the steps of every neuron over time and read its parameters: tau, decay_input, v_threshold,
v_reset.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from neurocompile.errors import NeurocompileError, ViolationList
from neurocompile.frontends.onnx.general import NO_LEAK, SOFT_TYPE
from neurocompile.frontends.onnx.lif import CHANNEL_TYPE, IF_TAU, OP_TYPE
from neurocompile.frontends.recover.algebra import Number, arithmetic_below
from neurocompile.frontends.recover.feedback import Earlier
from neurocompile.frontends.recover.graph import Graph, attributes_of, label_of
from neurocompile.frontends.recover.names import neuron_names
from neurocompile.frontends.recover.staircases import Staircase, find_staircases
from neurocompile.frontends.recover.steps import (
    COMPARISONS,
    Affine,
    Step,
    StepReader,
    affine_path,
    close,
    shown,
    threshold_of,
)

__all__ = [
    "Neuron",
    "alike",
    "arithmetic_below",
    "counting",
    "find_neurons",
    "same_constant",
    "scaled",
]


@dataclass(frozen=True)
class Neuron:
    """One LIF over all its steps."""

    name: str
    attributes: dict[str, float | int]
    """Of the node ``ai.neurocompile::LIF``."""
    currents: tuple[str, ...]
    """x_t, by t."""
    spikes: tuple[str, ...]
    """The outputs of the comparisons, by t."""
    inverted: bool
    """The comparisons are true where there is no spike."""
    floating: bool = False
    """``spikes`` are 0 and 1 in float32, not the truth of comparisons."""
    tau: str = ""
    """A constant, the tau of each channel; none if ``attributes`` has one for all."""
    kind: str = OP_TYPE
    """Operator type."""
    thresholds: str = ""
    """A constant, the thresholds of a SoftLIF."""
    below: int = 0
    """What is to be taken from the number of thresholds reached."""


def find_neurons(graph: Graph, unreset: bool = False) -> list[Neuron]:
    """Every neuron of ``graph``, in the order of their first steps; with ``unreset`` also those
    that no spike resets.

    Raises:
        NeurocompileError: NC1003 for comparisons of signals that belong to no neuron, all of them
            at once; NC1009 for neurons that LIF cannot express.
    """
    reader, problems = StepReader(graph, unreset), []
    stairs = {found.value: found for found in find_staircases(graph)}
    inner = {value for found in stairs.values() for value in found.within}
    for node in list(graph.live()):
        compares = (
            node.op_type in COMPARISONS
            and not node.domain
            and node.output[0] in graph.dynamic
            and node.output[0] not in inner
        )
        if compares or node.output[0] in stairs:
            try:
                if compares:
                    reader.read(node)
                else:
                    reader.read_stairs(node, stairs[node.output[0]])
            except NeurocompileError as error:
                problems.append(error)
    _raise_all(problems)
    chains = _chains(reader.steps)
    names = neuron_names([[s.node for s in chain] for chain in chains], graph)
    earlier = Earlier(graph, [[s.node.output[0] for s in chain] for chain in chains])
    neurons: list[Neuron] = []
    for k, (chain, name) in enumerate(zip(chains, names)):
        try:
            neurons.append(_neuron(chain, name, graph, k, earlier))
        except NeurocompileError as error:
            problems.append(error)
    _raise_all(problems)
    if reader.suspects and not unreset:
        graph.suspects = True
    longest = max((len(n.spikes) for n in neurons), default=0)
    _raise_all(_over_samples(chains, longest, graph))
    _raise_all(
        [
            NeurocompileError(
                "NC1003",
                f"{label_of(chain[0].node)} starts a chain of {len(chain)} steps; other neurons have {longest}",
            )
            for chain in chains
            if len(chain) != longest
        ]
    )
    return neurons


def _over_samples(chains: list[list[Step]], longest: int, graph: Graph) -> list[NeurocompileError]:
    """NC1008 for each neuron that runs over steps times samples, where others run over the steps."""
    dims = graph.shapes.get(graph.inputs[0]) if graph.inputs else None
    batch, shortest = dims[0] if dims else None, min(map(len, chains), default=0)
    if not batch or batch < 2 or longest != batch * shortest:
        return []
    return [
        NeurocompileError(
            "NC1008",
            f"{label_of(chain[0].node)}: a neuron runs over {longest} steps, the {shortest} of the others times the "
            f"{batch} samples of the file: samples of a batch leak into each other. Let it run over time alone, x of "
            "(T, B, ...); or export the file with a batch of 1, which says what it does to one sample",
        )
        for chain in chains
        if len(chain) == longest
    ]


def _raise_all(problems: list[NeurocompileError]) -> None:
    """All problems of the first one's kind."""
    if problems:
        code = problems[0].code
        raise ViolationList(code, [p.message for p in problems if p.code == code])


def _chains(steps: list[Step]) -> list[list[Step]]:
    following: dict[int, Step] = {}
    for step in steps:
        if step.previous is not None:
            if id(step.previous) in following:
                other = following[id(step.previous)].node
                raise NeurocompileError(
                    "NC1003",
                    f"{label_of(step.node)} and {label_of(other)} follow the same step of a neuron",
                )
            following[id(step.previous)] = step
    chains = []
    for step in steps:
        if step.previous is None:
            chains.append([step])
            while id(chains[-1][-1]) in following:
                chains[-1].append(following[id(chains[-1][-1])])
    return chains


def _neuron(chain: list[Step], name: str, graph: Graph, number: int, earlier: Earlier) -> Neuron:
    """The neuron of a chain; where channels have thresholds of their own, currents are divided by
    them.
    """
    scale = chain[0].scale
    scales = [step.scale for step in chain]
    if not all(
        s is None if scale is None else s is not None and np.array_equal(s, scale) for s in scales
    ):
        raise NeurocompileError(
            "NC1009",
            f"neuron '{name}' at {label_of(chain[0].node)}: thresholds per channel that change",
        )
    neuron = _one_threshold(chain, name, graph, number, earlier)
    if scale is None or neuron.tau:
        return neuron
    if neuron.attributes["v_reset"] != 0.0 or not close(neuron.attributes["v_threshold"], 1.0):
        raise NeurocompileError(
            "NC1009",
            f"neuron '{name}' at {label_of(chain[0].node)}: a threshold per channel (constant {list(scale.shape)}) with "
            f"v_reset {neuron.attributes['v_reset']:.6g}; v_reset 0 or a soft reset is supported",
        )
    return replace(neuron, currents=tuple(scaled(list(neuron.currents), 1.0 / scale, graph)))


def _one_threshold(
    chain: list[Step], name: str, graph: Graph, number: int, earlier: Earlier
) -> Neuron:
    first, where = chain[0], f"neuron '{name}' at {label_of(chain[0].node)}"
    spikes = tuple(step.node.output[0] for step in chain)
    if any(step.inverted != first.inverted or step.strict != first.strict for step in chain):
        raise NeurocompileError("NC1003", f"{where}: its steps compare in different ways")
    counts = first.stairs
    if not all(_same_stairs(step.stairs, counts) for step in chain):
        raise NeurocompileError("NC1003", f"{where}: its steps compare in different ways")
    if len(chain) == 1 and counts is not None:
        attributes: dict[str, float | int] = {"tau": 1.0, "decay_input": 0}
        neuron = Neuron(name, attributes, (first.potential,), spikes, False, True)
        return counting(neuron, counts, 0.0, where, graph)
    if len(chain) == 1 and graph.vectors and np.ndim(first.bound):
        return _of_channels(
            name,
            0.0,
            1.0,
            threshold_of(first),
            0.0,
            True,
            [first.potential],
            spikes,
            first.inverted,
            where,
            graph,
        )
    if len(chain) == 1:
        x = affine_path(first.potential, graph)[-1]
        x = (
            x
            if np.ndim(x.scale) == np.ndim(x.offset) == 0 and x.scale > 0
            else Affine(first.potential, 1.0, 0.0)
        )
        leak = x.scale if x.scale < 1 and not close(x.scale, 1.0) else 0.0
        attributes = _attributes(1.0 - leak, x.scale, threshold_of(first) - x.offset, 0.0, True)
        currents = (
            [x.value]
            if attributes["decay_input"] or close(x.scale, 1.0)
            else scaled([x.value], x.scale, graph)
        )
        return Neuron(name, attributes, tuple(currents), spikes, first.inverted)

    second = chain[1]
    a, b, hard, reset = second.a, second.b, second.hard, second.reset
    for t, step in enumerate(chain[1:], 1):
        same = (
            step.hard == hard
            and close(step.a, a)
            and close(step.b, b)
            and (close(step.reset, reset) or close(a, 0.0))
        )
        if not same:
            raise NeurocompileError(
                "NC1003", f"{where}: step {t} computes with other coefficients than step 1"
            )
    if not np.all((-1e-6 <= a) & (a <= 1 + 1e-6)):
        raise NeurocompileError(
            "NC1009", f"{where}: the membrane is multiplied by {shown(a)}; 0 to 1 is a leak"
        )
    fed = earlier.feeds_back(number, second.current)
    if fed:  # what is written at t = 0 says nothing of what feeds back
        x = Affine(first.potential, b, reset if hard else 0.0)
    else:
        x = _first_current(first, second.current, b, graph)
    back = _own_spikes(chain, x, graph)
    if np.any(back):
        fed, reset = True, x.offset if hard else threshold_of(first) - x.offset
    # The compared value may be h plus a constant d. At t = 0, h = v_reset + b x, a soft reset
    # having 0 for v_reset.
    d = 0.0 if hard else x.offset
    rest = reset if hard else 0.0
    expected = (1.0 - a) * (rest + d)
    bounds = [threshold_of(first) - d]
    for t, step in enumerate(chain[1:], 1):
        if t < len(chain) - 1 and not close(step.c, expected):
            towards = step.c / (1.0 - a) - d if np.all(a < 1) else step.c
            raise NeurocompileError(
                "NC1009",
                f"{where}: the membrane leaks towards {shown(towards)}, not towards v_reset {shown(rest)}",
            )
        bounds.append(threshold_of(step) - step.c + expected - d)
    if not all(close(bound, bounds[0]) for bound in bounds):
        raise NeurocompileError(
            "NC1009",
            f"{where}: thresholds {bounds} differ between steps, or the leak is not towards v_reset",
        )
    if hard and not close(x.offset, rest):
        raise NeurocompileError(
            "NC1009",
            f"{where}: the membrane starts at {shown(x.offset)} and is reset to {shown(rest)}; LIF starts at v_reset",
        )
    general = not hard and not close(reset, bounds[0])
    if general and not np.all(reset >= 0):
        raise NeurocompileError("NC1009", f"{where}: a spike adds {shown(-reset)} to the membrane")
    currents = [x.value, *(step.current for step in chain[1:])]
    leak = 1.0 - a
    if close(b, 1.0) and np.all(leak > 1e-6):
        bare = [_unscaled(v, leak, graph) for v in currents[fed:]]
        if all(v is not None for v in bare):
            currents, b = [*currents[:fed], *(str(v) for v in bare)], leak
    if np.any(back):
        spikes_before = zip(currents[1:], chain)
        currents[1:] = [_with_spikes(v, step, back / b, graph) for v, step in spikes_before]
    if fed:
        currents[0] = earlier.value(currents[1])
    if graph.vectors and any(np.ndim(v) for v in (a, b, bounds[0], rest)):
        found = _of_channels(
            name, a, b, bounds[0], rest, hard, currents, spikes, first.inverted, where, graph
        )
        # thresholds of channels count as 1
        unit = bounds[0] if np.ndim(bounds[0]) else 1.0
        return _of_amount(found, reset / unit, where, graph) if general else found
    if not close(b, 1.0) and not close(b, leak):
        currents = scaled(currents, b, graph)
        b = 1.0
    found = Neuron(
        name, _attributes(a, b, bounds[0], rest, hard), tuple(currents), spikes, first.inverted
    )
    if counts is not None:
        if hard:
            raise NeurocompileError(
                "NC1009",
                f"{where}: several spikes a step and a hard reset; a soft reset (each spike subtracts) is supported",
            )
        return counting(
            replace(found, floating=True), counts, float(np.ravel(reset)[0]), where, graph
        )
    return _of_amount(found, reset, where, graph) if general else found


def _own_spikes(chain: list[Step], x: Affine, graph: Graph) -> Number:
    """What a spike adds to the potential of the next step beside its reset; 0 for none.

    A hard reset leads to where the membrane starts, and a soft one takes something away, of all
    channels the same: what is more than that came back from the neuron's own output.
    """
    step = chain[1]
    if np.any(step.back):
        return step.back
    if step.hard:
        start = x.offset
        rests = close(step.c, (1.0 - step.a) * start) or len(chain) == 2
        return 0.0 if close(step.reset, start) or not rests else step.a * (step.reset - start)
    takes = np.all(step.reset >= 0) and close(step.reset, float(np.ravel(step.reset)[0]))
    threshold = threshold_of(chain[0]) - x.offset
    return 0.0 if takes or close(step.a, 0.0) else step.a * (threshold - step.reset)


def _with_spikes(current: str, before: Step, factor: Number, graph: Graph) -> str:
    """``current`` and ``factor`` times the spikes of the step ``before``, as new nodes."""
    value = before.node.output[0]
    if before.stairs is None:
        value = _emit("Not", [value], graph, value) if before.inverted else value
        value = _emit("Cast", [value], graph, value, to=TensorProto.FLOAT)
    times = _emit("Mul", [value, _constant("feedback", factor, graph)], graph, current)
    return _emit("Add", [current, times], graph, current)


def _emit(kind: str, inputs: list[str], graph: Graph, like: str, **fields: Any) -> str:
    name = graph.fresh(f"{like}.{kind.lower()}")
    graph.add(helper.make_node(kind, inputs, [name], name=name, **fields), like=like)
    return name


def _of_amount(neuron: Neuron, subtract: Number, where: str, graph: Graph) -> Neuron:
    """A neuron with soft reset one spike of which takes ``subtract`` from the membrane, not its
    threshold.
    """
    amount = float(np.ravel(subtract)[0])
    if not close(subtract, amount):
        raise NeurocompileError(
            "NC1009", f"{where}: a spike subtracts {shown(subtract)}; one amount is supported"
        )
    return _general(neuron, [neuron.attributes["v_threshold"]], amount, graph)


def _same_stairs(a: Staircase | None, b: Staircase | None) -> bool:
    if a is None or b is None:
        return a is b
    equal = len(a.thresholds) == len(b.thresholds) and a.below == b.below
    return equal and close(np.asarray(a.thresholds), np.asarray(b.thresholds))


def counting(
    neuron: Neuron, stairs: Staircase, subtract: float, where: str, graph: Graph
) -> Neuron:
    """``neuron`` with the thresholds of ``stairs``, each spike of which takes ``subtract``."""
    if stairs.below and neuron.attributes["tau"] != 1.0:
        raise NeurocompileError(
            "NC1009",
            f"{where}: negative spikes and a memory; ternary spikes are supported of neurons without memory",
        )
    return replace(_general(neuron, stairs.thresholds, subtract, graph), below=stairs.below)


def _general(neuron: Neuron, thresholds: Sequence[float], subtract: float, graph: Graph) -> Neuron:
    """``neuron`` with these thresholds, one spike of which takes ``subtract`` from the membrane."""
    given = neuron.attributes
    attributes = {"subtract": subtract, "decay_input": given["decay_input"]}
    levels = _constant("thresholds", np.asarray(thresholds), graph)
    tau = neuron.tau or _constant("tau", min(given["tau"], NO_LEAK), graph)
    return replace(neuron, attributes=attributes, tau=tau, kind=SOFT_TYPE, thresholds=levels)


def _of_channels(
    name: str,
    a: Number,
    b: Number,
    threshold: Number,
    rest: Number,
    hard: bool,
    currents: list[str],
    spikes: tuple[str, ...],
    inverted: bool,
    where: str,
    graph: Graph,
) -> Neuron:
    """A neuron some of whose numbers are those of channels. Thresholds and resets become 1 and 0,
    and ``(v - v_reset) / (v_threshold - v_reset)`` obeys the same equations with a current divided
    by as much."""
    leak = 1.0 - np.asarray(a)
    factor: Number = 1.0 if close(b, 1.0) or close(b, leak) else b
    b = 1.0 if factor is b else b
    threshold, rest = (
        float(np.ravel(v)[0]) if close(v, np.ravel(v)[0]) else v for v in (threshold, rest)
    )
    if np.ndim(threshold) or np.ndim(rest):
        span = np.asarray(threshold - rest)
        if not (span > 0).all():
            raise NeurocompileError(
                "NC1009",
                f"{where}: thresholds {shown(threshold)} that are not above v_reset {shown(rest)}",
            )
        factor, threshold, rest = factor / span, 1.0, 0.0
    if np.ndim(factor) or factor != 1.0:
        currents = scaled(currents, factor, graph)
    attributes = _attributes(0.0, 1.0, float(threshold), float(rest), hard)
    attributes["decay_input"] = int(bool(np.all(leak > 1e-6)) and close(b, leak))
    tau = np.where(leak > 1e-6, 1.0 / np.maximum(leak, 1e-6), IF_TAU)
    if tau.min() == tau.max():
        return Neuron(
            name, {**attributes, "tau": float(tau.flat[0])}, tuple(currents), spikes, inverted
        )
    del attributes["tau"]
    constant = _constant("tau", tau, graph)
    return Neuron(
        name, attributes, tuple(currents), spikes, inverted, tau=constant, kind=CHANNEL_TYPE
    )


def _attributes(
    a: Number, b: Number, v_threshold: Number, v_reset: Number, hard: bool
) -> dict[str, float | int]:
    """``h = a v + b x + ...`` with b either 1 - a or 1; all of them of no axis."""
    leak = 1.0 - a
    return {
        "tau": float(1.0 / leak) if leak > 1e-6 else IF_TAU,
        "v_threshold": float(v_threshold),
        "v_reset": float(v_reset) + 0.0,
        "decay_input": int(leak > 1e-6 and close(b, leak)),
        "soft_reset": int(not hard),
    }


def _constant(wanted: str, value: Number, graph: Graph) -> str:
    """A float32 initializer."""
    constant = graph.fresh(wanted)
    graph.constants[constant] = np.asarray(value, np.float32)
    graph.initializers[constant] = numpy_helper.from_array(graph.constants[constant], constant)
    return constant


def _first_current(first: Step, following: str, b: Number, graph: Graph) -> Affine:
    """x at t = 0: the value below the first potential that has weight b, and is made like the x of
    the next step.
    """
    path = [p for p in affine_path(first.potential, graph) if close(p.scale, b)]
    if not path:
        raise NeurocompileError(
            "NC1003",
            f"{label_of(first.node)}: no current of weight {shown(b)}, as later steps have",
        )
    found = next((p for p in path if alike(p.value, following, graph)), None)
    if found is None:  # a synaptic current, of which the next step keeps a share
        below = arithmetic_below(following, graph)
        found = next((p for p in path if p.value in below), path[-1])
    return found


def alike(value: str, other: str, graph: Graph) -> bool:
    """True if two values of different steps may be the same value of the model."""
    value, other = graph.alias(value), graph.alias(other)
    here, there = graph.step(value), graph.step(other)
    if value == other or here is not None and there is not None and here[0] == there[0]:
        return True
    node, twin = graph.producer.get(value), graph.producer.get(other)
    if (
        node is None
        or twin is None
        or node.op_type != twin.op_type
        or len(node.input) != len(twin.input)
    ):
        return False
    fixed = [
        (i, j)
        for i, j in zip(node.input, twin.input)
        if i not in graph.dynamic or j not in graph.dynamic
    ]
    return attributes_of(node).keys() == attributes_of(twin).keys() and all(
        same_constant(i, j, graph) for i, j in fixed
    )


def same_constant(value: str, other: str, graph: Graph) -> bool:
    """The same constant, or equal ones."""
    left, right = graph.constants.get(value), graph.constants.get(other)
    if value == other or left is None or right is None:
        return value == other
    return left.dtype == right.dtype and np.array_equal(left, right)


def _unscaled(value: str, factor: Number, graph: Graph) -> str | None:
    """x, where ``value`` is ``factor * x``."""
    path = affine_path(value, graph)
    return next(
        (p.value for p in path[1:] if close(p.scale, factor) and not np.any(p.offset)), None
    )


def scaled(values: list[str], factor: Number, graph: Graph) -> list[str]:
    """``factor * x`` for every value, as new nodes."""
    constant, scaled = _constant("current_scale", factor, graph), []
    for value in values:
        scaled.append(graph.fresh(f"{value}.scaled"))
        graph.add(
            helper.make_node("Mul", [value, constant], [scaled[-1]], name=scaled[-1]), like=value
        )
    return scaled
