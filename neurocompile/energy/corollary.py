"""Whose spikes N are in Corollary 9, ``E >= E_s N``: `energy` and `budget` count them here, under the
same names.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from neurocompile.ir.circuit import CircuitGraph, Population

__all__ = ["ALL_LIFS", "LAYERS", "computed_again", "corollary_spikes"]

ALL_LIFS = "all LIFs"
"""Every population of LIFs on the chip: the layers and what helps to compute them."""
LAYERS = "layers only"
"""The layers of the user's model."""


def corollary_spikes(circuit: CircuitGraph, messages: Mapping[str, float]) -> dict[str, float]:
    """N by its name; without :data:`LAYERS` where a fold computes a layer several times, and its
    messages are more than its spikes.

    Args:
        messages: of an inference, by population.
    """
    found = {ALL_LIFS: sum(messages[p.name] for p in circuit.populations if p.spiking)}
    own = [(circuit.population[v.src], prod(v.shape) * circuit.steps) for v in circuit.views]
    if not any(computed_again(circuit, p, places) for p, places in own):
        found[LAYERS] = sum(messages[p.name] for p, _ in own)
    return found


def computed_again(circuit: CircuitGraph, population: Population, places: int) -> bool:
    """Whether a fold computes a layer of ``places`` neuron-steps again in several windows, so that
    its messages are more than its spikes.
    """
    windows = prod(n for n, _ in population.slots) if population.slots else circuit.windows
    return population.size * circuit.steps * windows >= 2 * places
