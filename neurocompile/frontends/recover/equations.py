"""Read the parameters of a neuron from its chain of steps: tau, decay_input, v_threshold, v_reset."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from onnx import TensorProto

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.recover.affine import Affine, affine_path, close, shown
from neurocompile.frontends.recover.algebra import Number, arithmetic_below
from neurocompile.frontends.recover.chains import Chain
from neurocompile.frontends.recover.forms import (
    Equation,
    Neuron,
    counting,
    neuron_of,
    of_amount,
    of_channels,
)
from neurocompile.frontends.recover.graph import Graph, label_of
from neurocompile.frontends.recover.steps import Step, threshold_of
from neurocompile.frontends.recover.values import alike, constant, emit, scaled, unscaled

__all__ = ["read_neuron"]


def read_neuron(chain: Chain) -> Neuron:
    """The neuron of a chain; where channels have thresholds of their own, currents are divided by
    them.

    Raises:
        NeurocompileError: NC1003 and NC1009 for what LIF cannot express.
    """
    chain.check_scales()
    chain.check()
    neuron = _of_one_step(chain) if len(chain.steps) == 1 else _of_steps(chain)
    scale = chain.first.scale
    if scale is None or neuron.tau:
        return neuron
    if neuron.attributes["v_reset"] != 0.0 or not close(neuron.attributes["v_threshold"], 1.0):
        raise NeurocompileError(
            "NC1009",
            f"{chain.where}: a threshold per channel (constant {list(scale.shape)}) with "
            f"v_reset {neuron.attributes['v_reset']:.6g}; v_reset 0 or a soft reset is supported",
        )
    return replace(neuron, currents=tuple(scaled(list(neuron.currents), 1.0 / scale, chain.graph)))


def _of_one_step(chain: Chain) -> Neuron:
    """T = 1: nothing says how the membrane leaks, and nothing needs to."""
    first, graph = chain.first, chain.graph
    if first.stairs is not None:
        attributes: dict[str, float | int] = {"tau": 1.0, "decay_input": 0}
        neuron = Neuron(chain.name, attributes, (first.potential,), chain.spikes, False, True)
        return counting(neuron, first.stairs, 0.0, chain)
    if graph.vectors and np.ndim(first.bound):
        found = Equation(0.0, 1.0, threshold_of(first), 0.0, True)
        return of_channels(chain, found, [first.potential])
    x = affine_path(first.potential, graph)[-1]
    if np.ndim(x.scale) or np.ndim(x.offset) or x.scale <= 0:
        x = Affine(first.potential, 1.0, 0.0)
    leak = x.scale if x.scale < 1 and not close(x.scale, 1.0) else 0.0
    found = Equation(1.0 - leak, x.scale, threshold_of(first) - x.offset, 0.0, True)
    neuron = neuron_of(chain, found, [x.value])
    if neuron.attributes["decay_input"] or close(x.scale, 1.0):
        return neuron
    return replace(neuron, currents=tuple(scaled([x.value], x.scale, graph)))


@dataclass(frozen=True)
class _Membrane:
    """What the first step, and what feeds back, say."""

    x: Affine
    """The current of the first step, below its potential."""
    back: Number
    """What a spike adds to the next potential beside the reset."""
    fed: bool
    """Whether spikes of the step before come back."""
    reset: Number
    """Of the potential: where a hard reset leads, or what a soft one takes away."""


def _of_steps(chain: Chain) -> Neuron:
    second = chain.steps[1]
    _check_coefficients(chain)
    membrane = _membrane(chain)
    found = _equation(chain, membrane)
    hard, reset = second.hard, membrane.reset
    general = not hard and not close(reset, found.threshold)
    if general and not np.all(reset >= 0):
        raise NeurocompileError(
            "NC1009", f"{chain.where}: a spike adds {shown(-reset)} to the membrane"
        )
    found, currents = _currents(chain, membrane, found)
    a, b, threshold = found.a, found.b, found.threshold
    if chain.graph.vectors and any(np.ndim(v) for v in (a, b, threshold, found.rest)):
        neuron = of_channels(chain, found, currents)
        # thresholds of channels count as 1
        unit = threshold if np.ndim(threshold) else 1.0
        return of_amount(neuron, reset / unit, chain) if general else neuron
    if not close(b, 1.0) and not close(b, 1.0 - a):
        currents, found = scaled(currents, b, chain.graph), replace(found, b=1.0)
    neuron = neuron_of(chain, found, currents)
    if chain.first.stairs is None:
        return of_amount(neuron, reset, chain) if general else neuron
    if hard:
        raise NeurocompileError(
            "NC1009",
            f"{chain.where}: several spikes a step and a hard reset; a soft reset (each spike subtracts) is supported",
        )
    neuron = replace(neuron, floating=True)
    return counting(neuron, chain.first.stairs, float(np.ravel(reset)[0]), chain)


def _check_coefficients(chain: Chain) -> None:
    """All steps compute alike, with a leak."""
    second = chain.steps[1]
    for t, step in enumerate(chain.steps[1:], 1):
        same = (
            step.hard == second.hard
            and close(step.a, second.a)
            and close(step.b, second.b)
            and (close(step.reset, second.reset) or close(second.a, 0.0))
        )
        if not same:
            raise NeurocompileError(
                "NC1003", f"{chain.where}: step {t} computes with other coefficients than step 1"
            )
    if not np.all((-1e-6 <= second.a) & (second.a <= 1 + 1e-6)):
        raise NeurocompileError(
            "NC1009",
            f"{chain.where}: the membrane is multiplied by {shown(second.a)}; 0 to 1 is a leak",
        )


def _membrane(chain: Chain) -> _Membrane:
    first, second = chain.first, chain.steps[1]
    fed = chain.earlier.feeds_back(chain.number, second.current)
    if fed:  # what is written at t = 0 says nothing of what feeds back
        x = Affine(first.potential, second.b, second.reset if second.hard else 0.0)
    else:
        x = _first_current(first, second.current, second.b, chain.graph)
    back = _own_spikes(chain.steps, x)
    if not np.any(back):
        return _Membrane(x, back, fed, second.reset)
    return _Membrane(x, back, True, x.offset if second.hard else threshold_of(first) - x.offset)


def _equation(chain: Chain, membrane: _Membrane) -> Equation:
    """What all steps say of leak and threshold.

    The compared value may be h plus a constant d. At t = 0, h = v_reset + b x, a soft reset having
    0 for v_reset.
    """
    steps, second, x = chain.steps, chain.steps[1], membrane.x
    a, hard = second.a, second.hard
    d, rest = (0.0, membrane.reset) if hard else (x.offset, 0.0)
    expected = (1.0 - a) * (rest + d)
    bounds = [threshold_of(chain.first) - d]
    for t, step in enumerate(steps[1:], 1):
        if t < len(steps) - 1 and not close(step.c, expected):
            towards = step.c / (1.0 - a) - d if np.all(a < 1) else step.c
            raise NeurocompileError(
                "NC1009",
                f"{chain.where}: the membrane leaks towards {shown(towards)}, not towards v_reset {shown(rest)}",
            )
        bounds.append(threshold_of(step) - step.c + expected - d)
    if not all(close(bound, bounds[0]) for bound in bounds):
        raise NeurocompileError(
            "NC1009",
            f"{chain.where}: thresholds {bounds} differ between steps, or the leak is not towards v_reset",
        )
    if hard and not close(x.offset, rest):
        raise NeurocompileError(
            "NC1009",
            f"{chain.where}: the membrane starts at {shown(x.offset)} and is reset to {shown(rest)}; LIF starts at v_reset",
        )
    return Equation(a, second.b, bounds[0], rest, hard)


def _currents(chain: Chain, membrane: _Membrane, found: Equation) -> tuple[Equation, list[str]]:
    """x by step; a factor that is the leak becomes ``b``, and spikes that come back a part of x."""
    graph, fed, leak = chain.graph, membrane.fed, 1.0 - found.a
    currents = [membrane.x.value, *(step.current for step in chain.steps[1:])]
    if close(found.b, 1.0) and np.all(leak > 1e-6):
        bare = [unscaled(v, leak, graph) for v in currents[fed:]]
        if all(v is not None for v in bare):
            currents = [*currents[:fed], *(str(v) for v in bare)]
            found = replace(found, b=leak)
    if np.any(membrane.back):
        times = membrane.back / found.b
        before = zip(currents[1:], chain.steps)
        currents[1:] = [_with_spikes(v, step, times, graph) for v, step in before]
    if fed:
        currents[0] = chain.earlier.value(currents[1])
    return found, currents


def _own_spikes(chain: Sequence[Step], x: Affine) -> Number:
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
        value = emit("Not", [value], graph, value) if before.inverted else value
        value = emit("Cast", [value], graph, value, to=TensorProto.FLOAT)
    times = emit("Mul", [value, constant("feedback", factor, graph)], graph, current)
    return emit("Add", [current, times], graph, current)


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
