"""What an analysis is about: a model at any T, from an ONNX file or from an artifact."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

import numpy as np

from neurocompile.calibration import (
    Calibration,
    calibrate_on,
    calibration_from_metadata,
    calibration_from_weights,
)
from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.ir.spiking import SpikingGraph
from neurocompile.passes.canonicalize import canonicalize
from neurocompile.passes.lower import lower
from neurocompile.passes.quantize import Quantize
from neurocompile.theory.check import count

__all__ = ["Subject", "from_graph", "open_subject"]


@dataclass(frozen=True)
class Subject:
    """A model that can be had in integers at every T. ``canonical`` is None for an artifact, which
    holds integers alone.
    """

    name: str
    canonical: SpikingGraph | None
    calibration: Calibration
    T: int
    """The artifact's, or the one that the file was exported with."""
    weight_bits: int = 8
    compiled: SpikingGraph | None = None
    basis: str = ""
    """How another T comes about."""
    _cache: dict[int, tuple[SpikingGraph, CircuitGraph]] = field(
        default_factory=dict, compare=False
    )

    @property
    def only_T(self) -> bool:
        """The integers hold for ``T`` steps alone: an artifact that sums over its steps, as a
        softmax does.
        """
        return self.compiled is not None and any(
            isinstance(n, (s.TimeSum, s.RateSoftmax)) for n in self.compiled.nodes
        )

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Of one sample."""
        graph = self.canonical or self.compiled
        assert graph is not None
        return graph.input.sample_shape

    def at(self, T: int) -> tuple[SpikingGraph, CircuitGraph]:
        """Quantized graph and (unscheduled) circuit for ``T`` steps.

        NC8003 for another than a whole number from 1, NC1021 if samples bring another number of
        them, NC8011 if the integers hold for another T alone.
        """
        count("T", T)
        if self.only_T and T != self.T:
            raise NeurocompileError(
                "NC8011",
                f"'{self.name}' sums over the steps of a sample (a softmax does), and the artifact's integers do so for "
                f"T = {self.T} alone, not {T}; take its ONNX file, which is quantized anew for each T, or leave out --T",
            )
        if T not in self._cache:
            if self.canonical is not None:
                quantized = Quantize(T, self.calibration, self.weight_bits)(self.canonical)
                self._cache[T] = quantized, lower(quantized, T, self.weight_bits)
            else:
                assert self.compiled is not None
                self._cache[T] = self.compiled, lower(self.compiled, T, self.weight_bits)
        return self._cache[T]


def from_graph(canonical: SpikingGraph, calibration: Calibration, weight_bits: int = 8) -> Subject:
    """A canonical float graph, quantized anew for each T."""
    T = max(canonical.exported_T, 1)
    return Subject(
        canonical.name, canonical, calibration, T, weight_bits, basis="quantized anew for each T"
    )


def open_subject(path: str | Path, x: np.ndarray | None = None) -> Subject:
    """Read a model or an artifact (``.nca``), with the errors of :func:`import_model` or
    :func:`load_program`.

    NC8011 where samples bring their own steps: a subject is run at any T.

    Args:
        x: samples (or rows of as many numbers) to calibrate a model on that carries no statistics.
    """
    path = Path(path)
    if path.suffix == ".nca":
        from neurocompile.artifact.store import load_program

        program = load_program(path)
        _any_steps(path, program.quantized)
        return Subject(
            program.manifest.model,
            None,
            program.calibration,
            program.circuit.steps,
            program.manifest.options.weight_bits,
            program.quantized,
            "the artifact's integers at each T",
        )
    from neurocompile.pipeline import import_model

    loaded, imported = import_model(path, None)
    _any_steps(path, imported.graph)
    canonical = canonicalize(imported.graph)
    statistics = calibration_from_metadata(loaded.metadata)
    T = max(imported.graph.exported_T, 1)
    if statistics is None and x is not None and x[0].size == prod(canonical.input.sample_shape):
        statistics = calibrate_on(canonical, x.reshape(-1, *canonical.input.sample_shape), T)
    if statistics is None:
        warnings.warn(
            "no calibration data and no statistics in the file: quantizing from the weights alone",
            stacklevel=2,
        )
        statistics = calibration_from_weights(T)
    return from_graph(canonical, statistics)


def _any_steps(path: Path, graph: SpikingGraph) -> None:
    if graph.input.steps:
        raise NeurocompileError(
            "NC8011",
            f"samples of '{path}' bring {graph.input.steps} steps of their own, and a sweep over T needs "
            "inputs that are the same in every step; see 'build --budget' and 'energy'",
        )
