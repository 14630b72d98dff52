"""Rows of 128 bits that are equal, by hashing: what sorting would find, in one pass."""

from __future__ import annotations

import numpy as np

from neurocompile.mapping.atom_kernels import equal_rows
from neurocompile.mapping.jit import kernel

__all__ = ["alike"]


def alike(signature: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Which rows are equal.

    Args:
        signature: uint64 (rows, 2), of random words or what they combine to.

    Returns:
        int64 (rows): the first row that is equal to each; int64 (rows): number of its class, in
        the order of their first rows; and the number of classes.
    """
    rows = len(signature)
    table = np.full(1 << (2 * rows).bit_length(), -1, dtype=np.int64)
    first, class_of = np.empty(rows, dtype=np.int64), np.empty(rows, dtype=np.int64)
    return first, class_of, int(_alike(signature, table, first, class_of))


@kernel
def _alike(signature, table, first, class_of):  # type: ignore[no-untyped-def]
    return equal_rows(signature, table, first, class_of)
