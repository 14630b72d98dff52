"""How the mapper's kernels are compiled: quickly, since the first build after an installation waits
for it.
"""

from __future__ import annotations

from numba import njit

from neurocompile.jit import cached_njit

__all__ = ["helper", "kernel"]

kernel = cached_njit(nogil=True, error_model="numpy", no_cfunc_wrapper=True)
"""Decorates what Python calls; kept on disk. Arrays are made by the caller: numba takes long to
compile their making.
"""
helper = njit(error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True)
"""Decorates what only kernels call; kept within them."""
