"""Constants of up to 23 bits on the chip: graded relays of a neuron that fires in every step.

A synapse of Loihi 2 holds 8 bits and an exponent of 7. A constant ``high 2^14 + low`` takes two relays,
of which one is read with a weight of 2^14; both are the same in every step, so that no path has to wait.
"""

from __future__ import annotations

from math import prod

import numpy as np

from neurocompile.circuits.builder import Builder, planes, strided
from neurocompile.ir import circuit as c
from neurocompile.ir.text import Ref

__all__ = ["Constants"]


class Constants:
    """The constants of one circuit, which share one neuron, and each number its relays."""

    def __init__(self, builder: Builder, name: str, layer: str) -> None:
        self.builder, self.name, self.layer = builder, name, layer
        self._one = ""
        fields = builder.fields
        self._split = fields.weight_exponent + fields.weight_bits - 1
        self._relays: dict[bytes, list[tuple[str, int]]] = {}

    def add(self, dst: str, value: int | np.ndarray) -> None:
        """Add ``value`` to the input of every neuron of ``dst``: one integer, or int64 (K,) along
        the last axis.
        """
        values = np.atleast_1d(np.asarray(value, np.int64))
        if not values.any():
            return
        size = len(values)
        repeat = prod(self.builder.shape(dst)) // size
        for relay, weight in self._of(values):
            self.builder.drive(
                dst, [strided(relay, (repeat, size), (0, 1), (size, 1), weight=weight)]
            )

    def _of(self, values: np.ndarray) -> list[tuple[str, int]]:
        key = values.tobytes()
        if key not in self._relays:
            split = self._split
            high = values + (1 << split - 1) >> split
            parts = ((values - (high << split), 1), (high, 1 << split))
            self._relays[key] = [(self._relay(v), weight) for v, weight in parts if v.any()]
        return self._relays[key]

    def _relay(self, values: np.ndarray) -> str:
        self._one = self._one or self.builder.always_on(f"{self.name}.constant")
        name, sizes = f"{self.name}.constant", np.abs(values)
        relay = self.builder.population(c.GradedRelay, name, (len(values),), self.layer)
        digits = planes(sizes, self.builder.fields)
        for sign, mode in ((1, "excitatory"), (-1, "inhibitory")):
            for digit, exponent in digits:
                chosen = np.where(np.sign(values) == sign, digit, 0)
                if chosen.any():
                    weight = self.builder.tensor(
                        f"{name}.weight", (sign * chosen).astype(np.int16)[:, None]
                    )
                    self.builder.drive(
                        relay,
                        [
                            c.Dense(
                                name="",
                                src=Ref(self._one),
                                dst=Ref(""),
                                weight=weight,
                                sign=mode,
                                weight_exp=exponent,
                            )
                        ],
                    )
        return relay
