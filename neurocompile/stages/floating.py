"""A float model as it was read, and in canonical form."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from neurocompile.build_steps import (
    canonical_graph,
    covariances_of,
    integers_of,
    located,
    statistics_of,
)
from neurocompile.calibration import Calibration
from neurocompile.data import check_inputs, load_samples
from neurocompile.errors import NeurocompileError
from neurocompile.frontends.door import calibration_of
from neurocompile.frontends.model import FloatModel
from neurocompile.gpu.devices import check_device
from neurocompile.guard import guarded
from neurocompile.ir import spiking as s
from neurocompile.options import BuildOptions
from neurocompile.passes.quantize import Quantize
from neurocompile.precision import LayerReport, examine_precision
from neurocompile.stages.kept import quantized_once
from neurocompile.stages.quantized import Quantized
from neurocompile.stages.stage import Stage
from neurocompile.targets.fields import ChipFields

__all__ = ["Canonical", "Imported"]


@dataclass(frozen=True, repr=False)
class Imported(Stage):
    """A float model as it was read."""

    name = "import"
    number = 1

    agreement: float = 1.0
    """Share of its spikes that are equal to the model's own, on a few samples."""

    @property
    def graph(self) -> s.SpikingGraph:
        return self.model.graph

    @guarded
    def canonical(self) -> Canonical:
        """In canonical form: normalizations, factors and biases where the chip has them. What
        changes is float rounding alone.
        """
        with located(self.model), self.timer("canonicalize"):
            graph = canonical_graph(self.model, self.target)
        return Canonical(self.model, self.target, self.timer, self, graph, cache=self.cache)


@dataclass(frozen=True, repr=False)
class Canonical(Stage):
    """A float model in canonical form."""

    name = "canonicalize"
    number = 2

    imported: Imported = field(repr=False)
    made: s.SpikingGraph = field(repr=False)

    @property
    def graph(self) -> s.SpikingGraph:
        return self.made

    @guarded
    def quantize(
        self,
        *,
        T: int | None = None,
        weight_bits: int | None = None,
        calibration: np.ndarray | str | Path | None = None,
        device: str = "cpu",
    ) -> Quantized:
        """Integers, exact from here on.

        Args:
            T: steps of a sample; that of the options by default.
            weight_bits: 2 to 8; that of the options, or of the target, by default.
            calibration: float32 (samples, *input shape), or an .npz file with such an ``x``; that
                of ``open`` by default.
            device: where spike rates are measured on it: cpu, or one of torch's (docs/gpu.md).

        Raises:
            NeurocompileError: NC2001 and NC2002 for what has no integer form.
        """
        options = self.model.options
        given = {"T": T, "weight_bits": weight_bits}
        options = BuildOptions.of(options, {k: v for k, v in given.items() if v is not None})
        self.graph.input.check_steps(options.steps)
        if self.graph.stage == "quantized" and options.steps != self.graph.exported_T:
            raise NeurocompileError(
                "NC1015",
                f"T is {options.steps}, and {self.model.origin} was read with {self.graph.exported_T} steps: open it with "
                "that T",
            )
        if self.model.host is not None:
            self.model.host.check_steps(options.steps)
        model = replace(self.model, options=options)
        if calibration is not None:
            model = replace(model, samples=_samples(calibration, self.graph.input.sample_shape))
        check_device(device)
        with located(model):
            return self._quantized(model, device)

    def _quantized(self, model: FloatModel, device: str) -> Quantized:
        settled = model.options.settled(model.options.steps, self.target)
        graph, statistics, lost = quantized_once(
            self.cache,
            self.graph,
            model,
            settled,
            self.target,
            device,
            self.timer,
            lambda: self._integers(model, settled, device),
        )
        return Quantized(
            model,
            self.target,
            self.timer,
            self.imported,
            graph,
            settled,
            statistics,
            lost,
            cache=self.cache,
        )

    def _integers(
        self, model: FloatModel, settled: BuildOptions, device: str
    ) -> tuple[s.SpikingGraph, Calibration, tuple[LayerReport, ...]]:
        with self.timer("calibrate") as done:
            statistics = statistics_of(model, self.graph, device, done)
            covariances = covariances_of(model, self.graph)
        with self.timer("quantize"):
            fields = ChipFields.of(self.target)
            quantize = Quantize(
                settled.steps,
                statistics,
                settled.bits,
                digits=settled.digits,
                most_grids=settled.grids,
                fields=fields,
                covariances=covariances,
            )
            graph = integers_of(self.graph, quantize)
        with self.timer("compare"):
            lost = examine_precision(
                self.graph, graph, quantize.precision, statistics, model.samples, settled.steps
            )
        return graph, statistics, lost


def _samples(calibration: Any, shape: tuple[int, ...]) -> np.ndarray:
    found = calibration_of(calibration)
    if isinstance(found, Path):
        return load_samples(found, shape).x
    return check_inputs(found, shape, "calibration 'x'")
