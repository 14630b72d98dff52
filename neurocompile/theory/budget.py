"""A spike budget on the hardware: from an error to spikes per core and step, which the partitioner
then keeps.

``build --budget epsilon=0.05`` takes Theorem 10's number of spikes (Theorem 8's without data),
``spikes=N`` takes N. The layers share it (:mod:`neurocompile.theory.shares`); what helps a layer to
compute (gates, relays) gets as many messages on top as it takes today for each of the layer's
spikes. The whole, spread over the steps and over the cores that the mapping takes without a budget,
is the most that a core may send in a step.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from neurocompile.errors import NeurocompileError, ViolationList
from neurocompile.ir import circuit as c
from neurocompile.ir.spiking import SpikingGraph
from neurocompile.theory.check import LARGEST
from neurocompile.theory.sensitivity import affordable, layer_sensitivity, local_lipschitz
from neurocompile.theory.shares import LayerShare, shares
from neurocompile.theory.spike_bound import spike_bound

if TYPE_CHECKING:
    from neurocompile.mapping import Mapping as Placement

__all__ = [
    "BudgetRequest",
    "CoreLoad",
    "SpikeBudget",
    "apply_budget",
    "parse_budget",
    "plan_budget",
    "random_inputs",
]

_SEED = 0


@dataclass(frozen=True)
class BudgetRequest:
    """What the user asked for: ``epsilon`` or ``spikes`` (an inference), and what is known better
    than measured.
    """

    epsilon: float | None = None
    spikes: float | None = None
    constant: float = 1.0
    lipschitz: float | None = None
    dimension: float | None = None

    @property
    def text(self) -> str:
        """As written on the command line, in one order."""
        found = {
            k: getattr(self, k) for k in ("epsilon", "spikes", "constant", "lipschitz", "dimension")
        }
        return ",".join(
            f"{k}={v:.9g}"
            for k, v in found.items()
            if v is not None and (k, v) != ("constant", 1.0)
        )


class CoreLoad(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A core that holds other tiles than any core of the mapping without a budget."""

    core: int
    layers: tuple[str, ...]
    messages: float
    """Expected in a step."""


class SpikeBudget(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A budget and what it did. Spikes and messages are per inference unless a name says otherwise."""

    text: str
    total: float
    basis: str
    epsilon: float | None
    constant: float
    lipschitz: float | None
    dimension: float | None
    layers: tuple[LayerShare, ...]
    messages: float
    """The budget with what helps the layers."""
    cores_without: int
    per_core_step: float
    """Most messages that a core may send in a step."""
    moved: tuple[CoreLoad, ...] = ()
    binds: bool = True
    """Whether any core of the mapping without the budget sends more than it grants."""
    messages_fixed: float = 0.0
    """Of ``messages``, those that do not grow with the budget: of the readout, and of what helps
    layers that are not expected to spike.
    """

    @property
    def exceeding(self) -> tuple[LayerShare, ...]:
        """Layers that are expected to spike more than their share, worst first."""
        return tuple(sorted((s for s in self.layers if s.excess > 0), key=lambda s: -s.excess))


def parse_budget(text: str) -> BudgetRequest:
    """``epsilon=E`` or ``spikes=N``, then ``constant=``, ``lipschitz=``, ``dimension=``, separated
    by commas; NC8008.
    """
    known = ("epsilon", "spikes", "constant", "lipschitz", "dimension")
    found: dict[str, float] = {}
    for part in text.split(","):
        name, _, value = part.partition("=")
        name = name.strip()
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if name not in known or name in found or not 1 / LARGEST <= number <= LARGEST:
            raise NeurocompileError(
                "NC8008",
                f"'{part.strip()}' in --budget '{text}'; give epsilon=E or spikes=N, and if known constant=C, "
                f"lipschitz=L, dimension=D, each once, from {1 / LARGEST:g} to {LARGEST:g}",
            )
        found[name] = number
    if ("epsilon" in found) == ("spikes" in found):
        raise NeurocompileError(
            "NC8008", f"--budget '{text}' gives both or none of epsilon=E and spikes=N; give one"
        )
    return BudgetRequest(**found)


def plan_budget(
    request: BudgetRequest,
    quantized: SpikingGraph,
    circuit: c.CircuitGraph,
    rates: Mapping[str, float],
    samples: np.ndarray | None,
    cores: int,
) -> SpikeBudget:
    """The budget of a circuit that takes ``cores`` cores without one.

    Args:
        rates: messages a neuron and step of each population (expected).
        samples: float32 (samples, *input shape) to measure L, D and d_eff on; without,
            pseudo-random inputs serve for L and D, and Theorem 8 stands for Theorem 10.
    """
    most = affordable(sum(p.size for p in circuit.populations))
    x = random_inputs(circuit, quantized, most) if samples is None else samples[:most]
    origin = f"{len(x)} {'pseudo-random inputs' if samples is None else 'samples'}"
    sensitivity = layer_sensitivity(
        quantized, x, circuit.steps, [v.layer for v in circuit.views], seed=_SEED
    )
    total, basis, lipschitz, dimension = _total(request, circuit, x, origin, samples)
    own = {v.layer: str(v.src) for v in circuit.views}
    expected = {layer: _messages(circuit, rates, name) for layer, name in own.items()}
    found = shares(circuit, total, sensitivity, expected)
    everything: dict[str, float] = {}
    for p in circuit.populations:
        if not isinstance(p, c.HostInput):
            everything[p.layer] = everything.get(p.layer, 0.0) + _messages(circuit, rates, p.name)
    granted = fixed = 0.0
    for share in found:
        helped = everything.pop(share.layer, 0.0)
        if share.expected > 0:
            granted += share.spikes * helped / share.expected
        else:  # nothing to scale by: helpers keep what they send
            fixed += helped
    fixed += sum(everything.values())  # populations of no layer: the readout
    messages = granted + fixed
    return SpikeBudget(
        request.text,
        total,
        basis,
        request.epsilon,
        request.constant,
        lipschitz,
        dimension,
        found,
        messages,
        cores,
        float(f"{messages / (circuit.steps * max(cores, 1)):.9g}"),
        messages_fixed=fixed,
    )


def apply_budget(
    budget: SpikeBudget,
    circuit: c.CircuitGraph,
    rates: Mapping[str, float],
    before: Placement,
    map_again: Callable[..., Placement],
) -> tuple[SpikeBudget, Placement]:
    """Map again with the budget as a capacity: the budget with the cores that it moved, and the
    mapping. Where no core exceeds it, the mapping without it stays, and the budget says so.

    Args:
        before: the mapping without it.
        map_again: ``map_circuit`` with all other arguments bound; takes ``spikes_per_core_step``.

    Raises NC8009 if this mapper knows no such capacity, and whatever ``map_circuit`` raises where
    it cannot be kept.
    """
    if not _takes_budget(map_again):
        raise NeurocompileError(
            "NC8009",
            "this build's mapper has no capacity for spikes per core and step; leave out --budget",
        )
    loads = [
        sum(rates.get(t.population, 1.0) * t.size for t in core.tiles) for core in before.cores
    ]
    if max(loads, default=0.0) <= budget.per_core_step:  # then it asks for nothing
        kept = msgspec.structs.replace(before, spikes_per_core_step=budget.per_core_step)
        return msgspec.structs.replace(budget, binds=False), kept
    try:
        after = map_again(spikes_per_core_step=budget.per_core_step)
    except NeurocompileError as error:
        raise _with_a_budget_that_fits(error, budget) from error
    known = {frozenset(core.tiles) for core in before.cores}
    moved = []
    for i, core in enumerate(after.cores):
        if frozenset(core.tiles) not in known:
            layers = tuple(
                dict.fromkeys(circuit.population[tile.population].layer for tile in core.tiles)
            )
            moved.append(
                CoreLoad(i, layers, sum(rates.get(t.population, 1.0) * t.size for t in core.tiles))
            )
    return msgspec.structs.replace(budget, moved=tuple(moved)), after


def _with_a_budget_that_fits(error: NeurocompileError, budget: SpikeBudget) -> NeurocompileError:
    """NC3114 names a multiple of the messages that fits; messages are affine in the spikes, so here
    follows the ``--budget`` that grants them.
    """
    times = (error.details or [{}])[0].get("messages_times") if error.code == "NC3114" else None
    granted = budget.messages - budget.messages_fixed
    if not isinstance(times, float) or granted <= 0:
        return error
    factor = (times * budget.messages - budget.messages_fixed) / granted * (1 + 1e-6)
    if budget.epsilon is None:
        wish = f"spikes={_upwards(budget.total * factor):.12g}"
    else:
        wish = f"epsilon={_downwards(budget.epsilon / math.sqrt(factor)):.12g}"
    found = ViolationList(error.code, [f"{error.message} --budget {wish} grants that."])
    found.details = error.details
    return found


def _upwards(value: float) -> float:
    """The next number with three digits."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    return math.ceil(value / unit) * unit


def _downwards(value: float) -> float:
    """The last number with three digits."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 2)
    return math.floor(value / unit) * unit


def random_inputs(circuit: c.CircuitGraph, quantized: SpikingGraph, samples: int) -> np.ndarray:
    """Inputs uniform over what the host may inject, float32 (samples, *input shape)."""
    host, rng = circuit.inputs[0], np.random.default_rng(_SEED)
    integers = rng.integers(host.low, host.high + 1, (samples, *quantized.input.sample_shape))
    return (integers * host.scale).astype(np.float32)


def _takes_budget(function: Any) -> bool:
    return "spikes_per_core_step" in inspect.signature(function).parameters


def _messages(circuit: c.CircuitGraph, rates: Mapping[str, float], name: str) -> float:
    return rates.get(name, 1.0) * circuit.population[name].size * circuit.steps


def _total(
    request: BudgetRequest,
    circuit: c.CircuitGraph,
    x: np.ndarray,
    origin: str,
    samples: np.ndarray | None,
) -> tuple[float, str, float | None, float | None]:
    """Total spikes, in words where they come from, L and d."""
    if request.spikes is not None:
        return request.spikes, "given", request.lipschitz, request.dimension
    assert request.epsilon is not None
    lipschitz, how = request.lipschitz, "given"
    if lipschitz is None:
        lipschitz, how = local_lipschitz(circuit, x).largest, f"largest local value on {origin}"
    dimension, statement, where = request.dimension, "Theorem 10", "given"
    if dimension is None and samples is not None and len(samples) > 1:
        from neurocompile.theory.data_rows import rows_of
        from neurocompile.theory.effective_dimension import effective_dimension

        dimension, where = (
            effective_dimension(rows_of(samples)).mean,
            f"measured on {len(samples)} samples",
        )
    if dimension is None:
        dimension, statement, where = (
            float(circuit.inputs[0].size),
            "Theorem 8",
            "all numbers of an input",
        )
    total = spike_bound(lipschitz, 1, dimension, request.epsilon, request.constant)
    basis = f"{statement}, c = {request.constant:g}, L = {lipschitz:.4g} ({how}), dimension {dimension:.4g} ({where})"
    return total, basis, lipschitz, dimension
