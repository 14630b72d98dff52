"""How a total of spikes is shared out over the layers.

Theorem 7 lets each of K layers add eps/K to the output's error, so a layer whose rates move the
logits by D per unit needs its rates to eps/(K D), and Theorem 8 for what lies behind the layer asks
for ``c K^2 D^2 n d / eps^2`` spikes of it. Shares are proportional to ``D^2 n d``; the sum of these
demands grows as K^3: "deeper networks need more".
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.ir import circuit as c
from neurocompile.mapping.budget import LayerShare
from neurocompile.parameters import LARGEST, between
from neurocompile.theory.bounds.spike_bound import spike_bound
from neurocompile.theory.bounds.universal import layer_error

__all__ = ["layer_demand", "layer_size", "shares"]


def layer_size(shape: tuple[int, ...]) -> tuple[int, int]:
    """(tokens, channels) of a layer's logical shape: (channels, H, W), (tokens, channels) or
    (channels,).

    Only their product counts in any formula here, so a layer that keeps its heads apart needs no
    case of its own.
    """
    if len(shape) >= 3:
        return prod(shape[1:]), shape[0]
    return (prod(shape[:-1]), shape[-1]) if shape else (1, 1)


def layer_demand(
    n: int, d: int, sensitivity: float, layers: int, eps: float, constant: float = 1.0
) -> float:
    """Spikes that a layer needs by Theorem 8 for its part of eps: ``c K^2 D^2 n d / eps^2``; 0 if
    nothing depends on it.
    """
    found = between("sensitivity", sensitivity, 0, LARGEST)
    return spike_bound(found, n, d, layer_error(eps, layers), constant) if found > 0 else 0.0


def shares(
    circuit: c.CircuitGraph,
    total: float,
    sensitivity: Mapping[str, float],
    expected: Mapping[str, float],
) -> tuple[LayerShare, ...]:
    """Share out ``total`` spikes over the layers of ``circuit`` by ``D^2 n d``.

    Args:
        sensitivity: layer -> D >= 0; layers that it lacks count as 1.
        expected: layer -> spikes an inference.
    """
    sizes = {v.layer: layer_size(v.shape) for v in circuit.views}
    weights = {layer: sensitivity.get(layer, 1.0) ** 2 * n * d for layer, (n, d) in sizes.items()}
    whole = sum(weights.values())
    if not np.isfinite(whole) or whole <= 0:
        raise NeurocompileError(
            "NC8003", "no layer moves the logits on these samples: nothing to share a budget out by"
        )
    return tuple(
        LayerShare(
            layer,
            *size,
            sensitivity.get(layer, 1.0),
            weights[layer] / whole,
            total * weights[layer] / whole,
            expected.get(layer, 0.0),
        )
        for layer, size in sizes.items()
    )
