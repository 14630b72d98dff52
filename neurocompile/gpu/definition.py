"""The definition on a device: numpy's where torch is not asked for."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from functools import partial
from typing import TYPE_CHECKING, Protocol

import numpy as np

from neurocompile.gpu.devices import check_device
from neurocompile.ir.evaluate import evaluate

if TYPE_CHECKING:
    from neurocompile.ir.spiking import Node, SpikingGraph

__all__ = ["Definition", "definition_on"]


class Definition(Protocol):
    """What a quantized graph means."""

    def __call__(
        self,
        x: np.ndarray,
        record: Collection[str] | None = None,
        given: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, np.ndarray]:
        """Encoded samples and names to values, as :func:`neurocompile.ir.evaluate.evaluate`; values
        that are ``given``, (samples, steps, *shape), take the place of computed ones.
        """
        ...


def definition_on(graph: SpikingGraph, steps: int, device: str) -> Definition:
    """``evaluate`` of a quantized graph: numpy's for ``cpu``, else that of
    :class:`neurocompile.gpu.evaluator.Evaluator`.
    """
    if check_device(device) == "cpu":
        return partial(_by_numpy, graph, steps)
    from neurocompile.gpu.evaluator import Evaluator

    return Evaluator(graph, steps, device).evaluate


def _by_numpy(
    graph: SpikingGraph,
    steps: int,
    x: np.ndarray,
    record: Collection[str] | None = None,
    given: Mapping[str, np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    if not given:
        return evaluate(graph, x, steps, record)

    def replaced(node: Node, _: list[np.ndarray], value: np.ndarray) -> np.ndarray:
        return given[node.name].astype(value.dtype) if node.name in given else value

    return evaluate(graph, x, steps, record, replaced)
