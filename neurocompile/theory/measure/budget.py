"""A spike budget on the hardware: from an error to spikes per core and step, which the partitioner
then keeps.

``build --budget epsilon=0.05`` takes Theorem 10's number of spikes (Theorem 8's without data),
``spikes=N`` takes N. The layers share it (:mod:`neurocompile.theory.bounds.shares`); what helps a layer to
compute (gates, relays) gets as many messages on top as it takes today for each of the layer's
spikes. That, spread over the steps and over the cores that the layer fills without a budget, is the
most that a core may send of it in a step. A folded circuit has the steps of all its windows, and
its relays and clocks are help like any other.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from neurocompile.ir import circuit as c
from neurocompile.ir.spiking import SpikingGraph
from neurocompile.mapping.budget import BudgetRequest, SpikeBudget
from neurocompile.theory.bounds.shares import shares
from neurocompile.theory.bounds.spike_bound import spike_bound
from neurocompile.theory.measure.sensitivity import affordable, layer_sensitivity, local_lipschitz

__all__ = ["plan_budget", "random_inputs"]

_SEED = 0


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
    most = affordable(sum(p.size for p in circuit.populations) * circuit.windows)
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
    layers = []
    for share in found:
        helped = everything.pop(share.layer, 0.0)
        if share.expected > 0:
            mine = share.spikes * helped / share.expected
            granted += mine
            layers.append(msgspec.structs.replace(share, granted=mine))
        else:  # nothing to scale by: helpers keep what they send
            fixed += helped
            layers.append(share)
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
        tuple(layers),
        messages,
        cores,
        float(f"{messages / (circuit.sample_steps * max(cores, 1)):.9g}"),
        messages_fixed=fixed,
    )


def random_inputs(circuit: c.CircuitGraph, quantized: SpikingGraph, samples: int) -> np.ndarray:
    """Inputs uniform over what the host may inject, float32 (samples, *input shape)."""
    host, rng = circuit.inputs[0], np.random.default_rng(_SEED)
    integers = rng.integers(host.low, host.high + 1, (samples, *quantized.input.sample_shape))
    return (integers * host.scale).astype(np.float32)


def _messages(circuit: c.CircuitGraph, rates: Mapping[str, float], name: str) -> float:
    return rates.get(name, 1.0) * circuit.population[name].size * circuit.sample_steps


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
        from neurocompile.theory.measure.data_rows import rows_of
        from neurocompile.theory.measure.effective_dimension import effective_dimension

        dimension, where = (
            effective_dimension(rows_of(samples)).mean,
            f"measured on {len(samples)} samples",
        )
    if dimension is None:
        dimension, statement, where = (
            float(np.prod(circuit.inputs[0].sample_shape or circuit.inputs[0].shape)),
            "Theorem 8",
            "all numbers of an input",
        )
    total = spike_bound(lipschitz, 1, dimension, request.epsilon, request.constant)
    basis = f"{statement}, c = {request.constant:g}, L = {lipschitz:.4g} ({how}), dimension {dimension:.4g} ({where})"
    return total, basis, lipschitz, dimension
