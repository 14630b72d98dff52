"""A float model as every command reads it, whatever it came from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from neurocompile.calibration import Calibration
from neurocompile.host.part import HostPart
from neurocompile.ir.spiking import SpikingGraph
from neurocompile.options import BuildOptions
from neurocompile.progress import Stages
from neurocompile.reference.base import Reference

if TYPE_CHECKING:
    import numpy as np

__all__ = ["FloatModel", "FrontEnd"]


@dataclass(frozen=True)
class FloatModel:
    """What a front end gives. Nothing of the file's format is in it."""

    graph: SpikingGraph
    """Stage imported."""
    statistics: Calibration | None
    """What the model itself brings, as ``export_onnx`` stores it."""
    sha256: str
    """Of what was read: a file's bytes and its external data."""
    reference: Reference
    origin: str
    """What errors call it: a path, a class."""
    modules: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    """Path and class of the user's module by the name of a node, where the model says."""
    own_T: int | None = None
    """Steps that the model itself runs; None if nothing in it says so."""
    options: BuildOptions = BuildOptions()
    """Those that it was read with; the door settles ``T``."""
    host: HostPart | None = None
    """What the host computes of the graph's Output; None if the model returns that itself."""
    samples: np.ndarray | None = None
    """Calibration data, float32 (samples, *input shape), if some were given."""


class FrontEnd(Protocol):
    """Reads one kind of model. Others than ours are found under the entry point group
    ``neurocompile.frontends``, each an object with these two methods. Ours may have a third,
    ``content(model)``, a hash of all that is read, by which the import is kept in the cache; and
    ``by_samples``, true where the shape of samples says whether they bring their steps: one of a
    file is then given too.
    """

    def reads(self, model: Any) -> bool:
        """Whether ``model``, a path or an object, is for this front end; looks, and never raises."""
        ...

    def open(
        self,
        model: Any,
        example_input: Any,
        options: BuildOptions,
        *,
        samples: np.ndarray | None,
        compare: bool,
        stages: Stages,
    ) -> FloatModel:
        """Import ``model``; NeurocompileError for everything that stands in the way.

        Args:
            example_input: to trace a module with.
            options: ``T`` None is the model's own; NC1007 if it has none.
            samples: calibration data, as the user gave them.
            compare: False where only sizes are asked, and the float model need not run.
            stages: in which to time ``export`` and ``import``.
        """
        ...
