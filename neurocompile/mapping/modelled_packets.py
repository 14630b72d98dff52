"""Packets of a sample before anything is mapped.

A message becomes one packet for each core where its neuron has a consumer
(:mod:`neurocompile.mapping.traffic`; those to the neuron's own core are counted here too). How many
cores that is depends on how consumers are packed: at least as many as all of them fill together,
at most as many as they fill one by one. The model is the middle of both, with the cores that a
population fills taken from its fullest resource. ``benchmarks/bench_folds.py --map`` prints it
beside the packets of the mapping.
"""

from __future__ import annotations

from collections.abc import Mapping

from neurocompile.ir.circuit import Population, synapse_count
from neurocompile.mapping.resources import CostCounter
from neurocompile.mapping.tile import whole

__all__ = ["modelled_packets"]


def modelled_packets(counter: CostCounter, rates: Mapping[str, float]) -> float:
    """Packets of one sample, if each neuron of a population sends with the probability ``rates``
    in a step (absent: never).
    """
    filled = {name: counter.fill(usage) for name, usage in counter.uncut.items()}
    sent = sum(
        rates[p.name] * _reached(counter, p, filled)
        for p in counter.circuit.populations
        if rates.get(p.name)
    )
    return sent * counter.circuit.sample_steps


def _reached(counter: CostCounter, source: Population, filled: Mapping[str, float]) -> float:
    """Sum over the neurons of ``source`` of the cores that each sends to."""
    circuit = counter.circuit
    senders: dict[str, int] = {}
    synapses: dict[str, int] = {}
    for q in counter.outgoing[source.name]:
        own = counter.senders(q, whole(circuit.population[q.dst]))
        senders[q.dst] = max(senders.get(q.dst, 0), own)
        synapses[q.dst] = synapses.get(q.dst, 0) + synapse_count(circuit, q)
    apart = together = 0.0
    for name, n in senders.items():
        share = min(synapses[name] / max(n, 1) / circuit.population[name].size, 1.0)
        apart += n * max(share * filled[name], 1.0)
        together += n * share * filled[name]
    return (apart + max(together, max(senders.values(), default=0))) / 2
