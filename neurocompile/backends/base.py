"""What every backend offers: open a scheduled circuit, run samples, give back every population's
output.

A backend is exact. Its trace equals the emulator's element for element; the aligned step t of
sample k of a population with depth D is global step ``D + k*period + t``.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Protocol, runtime_checkable

import numpy as np

from neurocompile.ir.circuit import CircuitGraph

__all__ = ["Backend", "Executor", "PlacedBackend", "Trace"]

Trace = dict[str, np.ndarray]
"""Population name -> integers (samples, steps, *shape), of any dtype that holds them: spikes as 0
and 1, graded payloads as they are."""


class Executor(Protocol):
    """A circuit made ready to run. Use as a context manager: leaving it frees processes and memory."""

    def run(self, x: np.ndarray, record: Collection[str] | None = None) -> Trace:
        """Run the samples one after another through the pipeline.

        Args:
            x: int32 (samples, *input shape), already encoded
                (:func:`neurocompile.backends.encoding.encode`).
            record: populations to give back; all if None.

        May be called again: each call starts from reset state.
        """
        ...

    def __enter__(self) -> Executor: ...

    def __exit__(self, *exception: object) -> None: ...


class Backend(Protocol):
    """A way to execute circuits."""

    name: str
    banner: str
    """One line that says what runs, and whether it is hardware."""

    def open(self, circuit: CircuitGraph) -> Executor:
        """Prepare ``circuit``; NC4001, NC4002 or NC4004 if this machine cannot run it."""
        ...


@runtime_checkable
class PlacedBackend(Protocol):
    """A backend that runs a mapping: where neurons lie is part of what it executes."""

    def open_placed(
        self, circuit: CircuitGraph, mapping: Any, target: Any, images: Any = None
    ) -> Executor:
        """Prepare ``circuit`` as ``mapping`` (:class:`neurocompile.mapping.Mapping`) places it on
        ``target`` (:class:`neurocompile.targets.Target`), or as ``images``
        (:class:`neurocompile.images.CoreImages`) say, where the artifact has them.
        """
        ...
