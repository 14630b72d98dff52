"""Windows of an array that slide along several axes, as convolutions and pools read them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

__all__ = ["sliding_windows"]


def sliding_windows(x: np.ndarray, size: Sequence[int], axes: Sequence[int]) -> np.ndarray:
    """Every window of ``size`` along ``axes``, as new last axes; a view of ``x``, not to be written."""
    view: Any = sliding_window_view  # whose types know one axis alone
    found: np.ndarray = view(x, tuple(size), axis=tuple(axes))
    return found
