"""One step of one population, whoever keeps its state."""

from __future__ import annotations

import numpy as np

from neurocompile.backends.kernels import lif
from neurocompile.backends.plan import EMITS, Emit
from neurocompile.ir.circuit import LIF, Population

__all__ = ["step"]


def step(
    p: Population,
    a: np.ndarray,
    state: dict[str, np.ndarray],
    bias: dict[str, np.ndarray],
    first: bool,
) -> np.ndarray:
    """What it sends, int32 (rows, neurons), of its summed input ``a``; before the ``first`` step of a
    sample the state is reset.

    Args:
        state: of each LIF, int32 (2, rows, neurons): current and voltage, updated.
        bias: of each LIF, int32 (neurons,), shifted by its exponent.
    """
    emits = EMITS.of(p)
    if emits == Emit.RELAY:
        return a
    if emits == Emit.RELU:
        return np.maximum(a, 0)
    assert emits == Emit.LIF and isinstance(p, LIF)
    u, v = state[p.name]
    if p.reset and first:
        u[:], v[:] = 0, 0
    out = np.empty((len(a), 1, p.size), np.uint8)
    lif(a[:, None], bias[p.name], p.vth << 6, p.dv, p.du, u, v, out)
    return out[:, 0].astype(np.int32)
