"""Universal approximation: eps shared out over layers (Theorem 7)."""

from __future__ import annotations

from math import log

from neurocompile.parameters import count, positive, result, whole_steps

__all__ = ["layer_error", "universal_steps"]


def layer_error(eps: float, layers: int) -> float:
    """What each of ``layers`` layers may add to an output error of ``eps``: eps / L."""
    return result("the error of a layer", positive("epsilon", eps) / count("layers", layers))


def universal_steps(layers: int, n: int, eps: float, constant: float = 1.0) -> int:
    """Theorem 7 (reconstructed): T = C L^2 ln(n) / eps^2, Theorem 4 at :func:`layer_error`; C is
    not given, 1 by default.
    """
    share = layer_error(eps, layers)
    return whole_steps(positive("constant", constant) * log(count("n", n)) / share / share)
