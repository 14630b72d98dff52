"""Biases as the kernels take them."""

from __future__ import annotations

import numpy as np

from neurocompile.ir.circuit import LIF, CircuitGraph

__all__ = ["lif_bias"]


def lif_bias(circuit: CircuitGraph, population: LIF) -> np.ndarray:
    """The shifted bias of every neuron, int32 (neurons,)."""
    if population.bias is None:
        return np.zeros(population.size, np.int32)
    mantissa = circuit.tensors[population.bias].astype(np.int32) << population.bias_exp
    return np.array(np.broadcast_to(mantissa, population.shape), order="C").reshape(
        -1
    )  # writable: one type for the kernel
