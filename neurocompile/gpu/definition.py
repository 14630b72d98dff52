"""The definition on a device: numpy's where torch is not asked for."""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from neurocompile.gpu.devices import check_device
from neurocompile.ir.evaluate import evaluate

if TYPE_CHECKING:
    from neurocompile.ir.spiking import SpikingGraph

__all__ = ["Definition", "definition_on"]

Definition = Callable[[np.ndarray, "Collection[str] | None"], "dict[str, np.ndarray]"]
"""Encoded samples and names to values, as :func:`neurocompile.ir.evaluate.evaluate`."""


def definition_on(graph: SpikingGraph, steps: int, device: str) -> Definition:
    """``evaluate`` of a quantized graph: numpy's for ``cpu``, else that of
    :class:`neurocompile.gpu.evaluator.Evaluator`.
    """
    if check_device(device) == "cpu":
        return lambda x, record=None: evaluate(graph, x, steps, record)
    from neurocompile.gpu.evaluator import Evaluator

    return partial(Evaluator.evaluate, Evaluator(graph, steps, device))
