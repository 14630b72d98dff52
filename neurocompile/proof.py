"""What an artifact proves of its circuit: the emulator's outputs for inputs that a seed makes."""

from __future__ import annotations

import hashlib

import numpy as np

from neurocompile.backends import get_backend
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.manifest import Proof

__all__ = ["make_proof"]

_PROOF_BYTES = 1 << 30
"""Of outputs that a proof holds at once."""


def make_proof(circuit: CircuitGraph, samples: int, seed: int) -> Proof:
    """Run pseudo-random inputs on the emulator and hash every population's output, in the order of
    their names; runs again for as many of them as :data:`_PROOF_BYTES` hold.
    """
    host = circuit.inputs[0]
    x = np.random.default_rng(seed).integers(
        host.low, host.high + 1, (samples, *circuit.input_shape), dtype=np.int32
    )
    digest = hashlib.sha256()
    with get_backend("emulator").open(circuit) as executor:
        for names in _hashed_together(circuit, samples):
            trace = executor.run(x, names)
            for name in names:
                digest.update(name.encode())
                digest.update(np.ascontiguousarray(trace.pop(name), "<i4").data.cast("B"))
    return Proof(samples, seed, digest.hexdigest())


def _hashed_together(circuit: CircuitGraph, samples: int) -> list[list[str]]:
    """Names of all populations, sorted, in groups whose outputs take at most ``_PROOF_BYTES``, or of
    one.
    """
    groups, held = list[list[str]](), 0
    for name in sorted(circuit.population):
        p = circuit.population[name]
        size = samples * circuit.sample_steps * p.size * (1 if p.spiking else 4)
        if not groups or held + size > _PROOF_BYTES:
            groups.append([])
            held = 0
        groups[-1].append(name)
        held += size
    return groups
