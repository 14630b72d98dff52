"""Spikes and energy that a precision costs (Theorems 8 and 10, Corollary 9)."""

from __future__ import annotations

from math import sqrt

from neurocompile.parameters import positive, result

__all__ = ["SYNAPTIC_OPERATION", "energy_bound", "epsilon_of", "spike_bound"]

SYNAPTIC_OPERATION = 23.6e-12
"""Joules of one synaptic operation of Loihi (14 nm, 0.75 V): Davies et al. 2018, Table 2. Not of
Loihi 2, for which nobody has published one."""


def spike_bound(lipschitz: float, n: float, d: float, eps: float, constant: float = 1.0) -> float:
    """Theorem 8: N >= c L_f^2 n d / eps^2 spikes for an input of ``n`` tokens of ``d`` values;
    Theorem 10: d_eff for d.

    The paper gives no c: it is 1 here unless the caller has fitted one (``neurocompile budget
        --calibrate``).
    """
    lipschitz, eps = positive("lipschitz", lipschitz), positive("epsilon", eps)
    ratio = lipschitz / eps
    size = positive("constant", constant) * positive("n", n) * positive("d", d)
    return result(f"the bound for epsilon {eps:.4g} and L {lipschitz:.4g}", size * ratio * ratio)


def epsilon_of(spikes: float, lipschitz: float, n: float, d: float, constant: float = 1.0) -> float:
    """The precision that ``spikes`` buy by the same formula: L_f sqrt(c n d / N)."""
    scale = (
        positive("constant", constant)
        * positive("n", n)
        * positive("d", d)
        / positive("spikes", spikes)
    )
    return result("the error", positive("lipschitz", lipschitz) * sqrt(scale))


def energy_bound(spikes: float, joules: float = SYNAPTIC_OPERATION) -> float:
    """Corollary 9: E >= E_s N in joules, one synaptic operation a spike."""
    return result("the energy", positive("E_s", joules) * positive("spikes", spikes))
