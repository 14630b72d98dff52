"""Distinct whole numbers by sorting: numpy 2 finds them in a hash table, which takes 30 to 100 times
as long for millions of them (4.6 s against 0.04 s for five million int64).
"""

from __future__ import annotations

import numpy as np

__all__ = ["distinct"]


def distinct(values: np.ndarray) -> np.ndarray:
    """What ``np.unique(values)`` returns of whole numbers, of the same dtype: each once, sorted,
    flat.
    """
    found = np.sort(values, axis=None)
    new = np.ones(len(found), dtype=bool)
    np.not_equal(found[1:], found[:-1], out=new[1:])
    return found[new]
