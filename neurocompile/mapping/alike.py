"""Rows of 128 bits that are equal, by hashing: what sorting would find, in one pass."""

from __future__ import annotations

import numpy as np

from neurocompile.mapping.jit import kernel

__all__ = ["alike", "members"]


def alike(signature: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """Which rows are equal.

    Args:
        signature: uint64 (rows, 2), of random words or sums of them.

    Returns:
        int64 (rows): the first row that is equal to each; int64 (rows): number of its class, in
        the order of their first rows; and the number of classes.
    """
    rows = len(signature)
    table = np.full(1 << (2 * rows).bit_length(), -1, dtype=np.int64)
    first, class_of = np.empty(rows, dtype=np.int64), np.empty(rows, dtype=np.int64)
    return first, class_of, int(_alike(signature, table, first, class_of))


def members(class_of: np.ndarray, index: np.ndarray, count: int) -> np.ndarray:
    """Classes of the rows ``index`` (int64), each once, sorted, int64."""
    held = np.zeros(count, dtype=np.bool_)
    held[class_of[index]] = True
    return held.nonzero()[0]


@kernel
def _alike(signature, table, first, class_of):  # type: ignore[no-untyped-def]
    """``table``: int64, -1, a power of two of places, more than rows."""
    mask, count = np.uint64(len(table) - 1), 0
    for row in range(len(signature)):
        low, high = signature[row, 0], signature[row, 1]
        place = np.int64(low & mask)
        while True:
            other = table[place]
            if other < 0:
                table[place] = first[row] = row
                class_of[row] = count
                count += 1
                break
            if signature[other, 0] == low and signature[other, 1] == high:
                first[row] = other
                class_of[row] = class_of[other]
                break
            place = (place + 1) & (len(table) - 1)
    return count
