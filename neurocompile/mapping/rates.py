"""How often each population sends a message: measured on samples, or modelled from the layers'
spike rates.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

from neurocompile.calibration import Calibration
from neurocompile.ir import circuit as c
from neurocompile.ir.fields import ALL
from neurocompile.ir.folded_ranges import clocks, gates
from neurocompile.ir.tables import KindTable

__all__ = ["measured_rates", "modelled_rates"]


def measured_rates(
    circuit: c.CircuitGraph, messages: Mapping[str, int], samples: int
) -> dict[str, float]:
    """Share of neuron-steps with a message (a spike, or a graded value other than 0), rounded to 9
    digits.

    Args:
        messages: of each population, in all steps of so many ``samples``.
    """
    steps = samples * circuit.sample_steps
    return {
        name: float(f"{count / (steps * circuit.population[name].size):.9g}")
        for name, count in messages.items()
    }


def modelled_rates(circuit: c.CircuitGraph, calibration: Calibration) -> dict[str, float]:
    """The same without samples: layers from ``calibration``, what helps them by probability.

    Inputs of a population count as independent: an AND fires with the product of its inputs' rates,
        an OR, a relay or a
    rectifier sends with the probability that any input does. A sum of weighted inputs is taken to
    be never 0.
    """
    rates: dict[str, float] = {}
    closed, clock = gates(circuit), clocks(circuit)
    for p in circuit.topological():
        incoming = tuple(
            q for q in circuit.incoming[p.name] if not q.recurrent and q.src in rates
        )  # loops aside
        if p.name in closed:  # what closes it outside of its windows is no signal
            incoming = tuple(
                q
                for q in incoming
                if q.src not in clock and not c.is_constant(circuit, circuit.population[q.src])
            )
        if p.name in clock and incoming:
            rates[p.name] = float(f"{_clocked(circuit, p, rates):.9g}")
            continue
        at = _Around(circuit, calibration, rates, incoming)
        rates[p.name] = float(f"{RATES.of(p)(at, p):.9g}")
    return rates


def _clocked(circuit: c.CircuitGraph, p: c.Population, rates: Mapping[str, float]) -> float:
    """Of a pattern: what drives its neurons takes turns; a line wakes itself, neuron by neuron."""
    heard, own = 0.0, 0.0
    for q in circuit.incoming[p.name]:
        share = c.synapse_count(circuit, q) / p.size
        if q.src == p.name:
            own = share
        else:
            heard += rates[q.src] * share
    return min(heard / (1.0 - own), 1.0)


@dataclass(frozen=True)
class _Around:
    """What rules may look at beside the population."""

    circuit: c.CircuitGraph
    calibration: Calibration
    rates: dict[str, float]
    """Of the populations before."""
    incoming: tuple[c.Projection, ...]
    """Those that bring a signal."""


RATES: KindTable[Callable[[_Around, Any], float]] = KindTable(
    "modelled rates", ("population",), "how often it sends a message"
)
"""(around, population) -> share of its neuron-steps with a message."""


@RATES.rule(c.HostInput)
def _brought(at: _Around, p: c.HostInput) -> float:
    if p.pattern is not None:
        return float(at.circuit.tensors[p.pattern].mean())
    return _spoken(at.circuit, p)


@RATES.rule(c.LIF)
def _fired(at: _Around, p: c.LIF) -> float:
    circuit, rates, spoken = at.circuit, at.rates, _spoken(at.circuit, p)
    if not at.incoming:
        return spoken
    if p.name == p.layer and p.reset:
        return at.calibration.rate(p.layer) * spoken
    if p.vth == 0:
        return _passed(at, p)
    if p.dv == ALL and circuit.windows > 1:
        return spoken / 2  # a digit of a sum
    alike = (rates[q.src] / _spoken(circuit, circuit.population[q.src]) for q in at.incoming)
    return min(prod(alike), 1.0) * spoken  # AND


@RATES.rule(c.GradedRelay, c.GradedRelu)
def _passed(at: _Around, p: c.Population) -> float:
    spoken = _spoken(at.circuit, p)
    if not at.incoming or not all(isinstance(q, c.Strided) for q in at.incoming):
        return spoken
    return min(_any(at.circuit, p, at.incoming, at.rates), spoken)


def _spoken(circuit: c.CircuitGraph, p: c.Population) -> float:
    """Share of a sample's windows in which a folded population may emit."""
    return prod(n for n, _ in p.slots) / circuit.windows if p.slots else 1.0


def _any(
    circuit: c.CircuitGraph,
    p: c.Population,
    incoming: tuple[c.Projection, ...],
    rates: dict[str, float],
) -> float:
    """Probability that at least one input of a neuron of ``p`` sends."""
    if any(
        not circuit.incoming[q.src] and not isinstance(circuit.population[q.src], c.HostInput)
        for q in incoming
    ):
        # a gate with a constant: it passes only where both of its signals do
        return prod(rates[q.src] for q in incoming)
    silent = 1.0
    for q in incoming:
        silent *= (1.0 - rates[q.src]) ** (c.synapse_count(circuit, q) / p.size)
    return 1.0 - silent
