"""A neuron with its parameters, as one of the operators ``ai.neurocompile`` has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.onnx.general import NO_LEAK, SOFT_TYPE
from neurocompile.frontends.onnx.lif import CHANNEL_TYPE, IF_TAU, OP_TYPE
from neurocompile.frontends.recover.affine import close, shown
from neurocompile.frontends.recover.algebra import Number
from neurocompile.frontends.recover.chains import Chain
from neurocompile.frontends.recover.graph import Graph
from neurocompile.frontends.recover.staircases import Staircase
from neurocompile.frontends.recover.values import constant, scaled

__all__ = ["Equation", "Neuron", "counting", "neuron_of", "of_amount", "of_channels"]


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


@dataclass(frozen=True)
class Equation:
    """Of a membrane: ``h = a v + b x + (1 - a) rest``, a spike where ``h >= threshold``, which leads
    to ``rest``, or takes something away. Each number may be one for all channels, or one a channel.
    """

    a: Number
    b: Number
    threshold: Number
    rest: Number
    hard: bool


def neuron_of(chain: Chain, found: Equation, currents: Sequence[str]) -> Neuron:
    """One number each, ``b`` either ``1 - a`` or 1."""
    attributes = _attributes(found.a, found.b, found.threshold, found.rest, found.hard)
    return Neuron(chain.name, attributes, tuple(currents), chain.spikes, chain.inverted)


def of_amount(neuron: Neuron, subtract: Number, chain: Chain) -> Neuron:
    """A neuron with soft reset one spike of which takes ``subtract`` from the membrane, not its
    threshold.
    """
    amount = float(np.ravel(subtract)[0])
    if not close(subtract, amount):
        raise NeurocompileError(
            "NC1009", f"{chain.where}: a spike subtracts {shown(subtract)}; one amount is supported"
        )
    return _general(neuron, [neuron.attributes["v_threshold"]], amount, chain.graph)


def counting(neuron: Neuron, stairs: Staircase, subtract: float, chain: Chain) -> Neuron:
    """``neuron`` with the thresholds of ``stairs``, each spike of which takes ``subtract``."""
    if stairs.below and neuron.attributes["tau"] != 1.0:
        raise NeurocompileError(
            "NC1009",
            f"{chain.where}: negative spikes and a memory; ternary spikes are supported of neurons without memory",
        )
    return replace(_general(neuron, stairs.thresholds, subtract, chain.graph), below=stairs.below)


def _general(neuron: Neuron, thresholds: Sequence[float], subtract: float, graph: Graph) -> Neuron:
    """``neuron`` with these thresholds, one spike of which takes ``subtract`` from the membrane."""
    given = neuron.attributes
    attributes = {"subtract": subtract, "decay_input": given["decay_input"]}
    levels = constant("thresholds", np.asarray(thresholds), graph)
    tau = neuron.tau or constant("tau", min(given["tau"], NO_LEAK), graph)
    return replace(neuron, attributes=attributes, tau=tau, kind=SOFT_TYPE, thresholds=levels)


def of_channels(chain: Chain, found: Equation, currents: list[str]) -> Neuron:
    """A neuron some of whose numbers are those of channels. Thresholds and resets become 1 and 0,
    and ``(v - v_reset) / (v_threshold - v_reset)`` obeys the same equations with a current divided
    by as much."""
    leak, b = 1.0 - np.asarray(found.a), found.b
    factor: Number = 1.0 if close(b, 1.0) or close(b, leak) else b
    b = 1.0 if factor is b else b
    threshold, rest = (
        float(np.ravel(v)[0]) if close(v, np.ravel(v)[0]) else v
        for v in (found.threshold, found.rest)
    )
    if np.ndim(threshold) or np.ndim(rest):
        span = np.asarray(threshold - rest)
        if not (span > 0).all():
            raise NeurocompileError(
                "NC1009",
                f"{chain.where}: thresholds {shown(threshold)} that are not above v_reset {shown(rest)}",
            )
        factor, threshold, rest = factor / span, 1.0, 0.0
    if np.ndim(factor) or factor != 1.0:
        currents = scaled(currents, factor, chain.graph)
    made = neuron_of(chain, Equation(0.0, 1.0, float(threshold), float(rest), found.hard), currents)
    attributes = dict(made.attributes)
    attributes["decay_input"] = int(bool(np.all(leak > 1e-6)) and close(b, leak))
    tau = np.where(leak > 1e-6, 1.0 / np.maximum(leak, 1e-6), IF_TAU)
    if tau.min() == tau.max():
        return replace(made, attributes={**attributes, "tau": float(tau.flat[0])})
    del attributes["tau"]
    taus = constant("tau", tau, chain.graph)
    return replace(made, attributes=attributes, tau=taus, kind=CHANNEL_TYPE)


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
