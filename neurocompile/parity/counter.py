"""Where two backends part first, population by population."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.parity.report import Difference

if TYPE_CHECKING:
    pass

__all__ = ["Counter"]


class Counter:
    """Counts differences and keeps the first."""

    def __init__(self) -> None:
        self.values = self.differences = 0
        self.first: Difference | None = None

    def add(
        self,
        layer: str,
        population: str,
        expected: np.ndarray,
        found: np.ndarray,
        first_sample: int,
    ) -> None:
        """Compare (samples, steps, ...) arrays."""
        if expected.shape != found.shape:
            raise NeurocompileError(
                "NC9001", f"'{population}': shapes {expected.shape} and {found.shape} differ"
            )
        self.values += expected.size
        wrong = expected != found
        count = int(np.count_nonzero(wrong))
        self.differences += count
        if count and self.first is None:
            sample, step, *neuron = (int(i[0]) for i in np.nonzero(wrong))
            place = (sample, step, *neuron)
            self.first = Difference(
                str(layer),
                str(population),
                first_sample + sample,
                step,
                tuple(neuron),
                int(expected[place]),
                int(found[place]),
            )
