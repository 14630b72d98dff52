"""What an analysis is about: a model at any T, from an ONNX file or from an artifact."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from math import prod
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurocompile.arrays import ArrayLike
from neurocompile.calibration import Calibration
from neurocompile.errors import NeurocompileError
from neurocompile.files import as_path
from neurocompile.guard import guarded
from neurocompile.host.part import HostPart
from neurocompile.ir import spiking as s
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.ir.spiking import SpikingGraph
from neurocompile.options import BuildOptions, GivenOptions, takes_options
from neurocompile.parameters import count
from neurocompile.passes.lower import lower
from neurocompile.passes.quantize import Quantize
from neurocompile.targets.fields import LOIHI2, ChipFields

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Subject", "open_subject"]


@dataclass(frozen=True)
class Subject:
    """A model that can be had in integers at every T. ``canonical`` is None for an artifact, which
    holds integers alone.
    """

    name: str
    canonical: SpikingGraph | None
    calibration: Calibration
    T: int
    """That of the options, else the model's own."""
    weight_bits: int = 8
    digits: int = 10
    """Binary digits of real values."""
    fields: ChipFields = LOIHI2
    """Of the target, which integers must fit."""
    compiled: SpikingGraph | None = None
    basis: str = ""
    """How another T comes about."""
    host: HostPart | None = None
    """What the host computes behind the values that the chip gives; then these are no scores of
    classes, and errors are theirs.
    """
    device: str = "cpu"
    """Where its layers' spikes and its logits are computed: the emulator, or torch's cuda, cuda:N or
    torch-cpu."""
    covariances: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)
    """Of layers' inputs at the model's own T, where its weights are to be rounded together."""
    _cache: dict[int, tuple[SpikingGraph, CircuitGraph]] = field(
        default_factory=dict, compare=False
    )

    @property
    def behind(self) -> str:
        """The host's part in words; empty without one."""
        return "" if self.host is None else str(self.host)

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
                from neurocompile.build_steps import integers_of

                quantizer = Quantize(
                    T,
                    self.calibration,
                    self.weight_bits,
                    digits=self.digits,
                    fields=self.fields,
                    covariances=self.covariances,
                )
                quantized = integers_of(self.canonical, quantizer)
                self._cache[T] = quantized, lower(quantized, T, self.weight_bits, self.fields)
            else:
                assert self.compiled is not None
                self._cache[T] = (
                    self.compiled,
                    lower(self.compiled, T, self.weight_bits, self.fields),
                )
        return self._cache[T]


@guarded
@takes_options
def open_subject(
    model: Any,
    x: np.ndarray | None = None,
    *,
    example_input: ArrayLike | None = None,
    calibration: np.ndarray | str | Path | None = None,
    options: BuildOptions | None = None,
    **given: Unpack[GivenOptions],
) -> Subject:
    """Read an artifact (``.nca``), with the errors of :func:`load_program`, or a model as
    :func:`neurocompile.pipeline.compile_model` does.

    NC8011 where samples bring their own steps: a subject is run at any T. NC1015 for options of an
    artifact, which was built with its own.

    Args:
        x: samples (or rows of as many numbers) to calibrate a model on that carries no statistics,
            where no ``calibration`` is given.
    """
    asked = BuildOptions.of(options, given)
    if isinstance(model, (str, PathLike)):
        model = as_path(model, "NC1001")
        if model.suffix == ".nca":
            return _of_artifact(model, asked, calibration)
    from neurocompile.build_steps import canonical_graph, covariances_of, statistics_of
    from neurocompile.frontends.door import open_model
    from neurocompile.targets import load_target

    chip = load_target(asked.target)
    opened = open_model(model, example_input, asked, calibration=calibration)
    _any_steps(opened.origin, opened.graph)
    settled = opened.options.settled(opened.options.steps, chip)
    canonical = canonical_graph(opened, chip)
    shape = canonical.input.sample_shape
    if opened.samples is None and opened.statistics is None and x is not None:
        if x[0].size == prod(shape):
            opened = replace(opened, samples=x.reshape(-1, *shape))
    return Subject(
        canonical.name,
        canonical,
        statistics_of(opened, canonical),
        settled.steps,
        settled.bits,
        settled.digits,
        ChipFields.of(chip),
        basis="quantized anew for each T",
        host=opened.host,
        covariances=covariances_of(opened, canonical),
    )


def _of_artifact(path: Path, asked: BuildOptions, calibration: object) -> Subject:
    from neurocompile.artifact.store import load_program

    program = load_program(path)
    _any_steps(f"'{path}'", program.quantized)
    built, plain = program.manifest.options, BuildOptions()
    differs = [
        f.name
        for f in BuildOptions.fields()
        if getattr(asked, f.name) not in (getattr(plain, f.name), getattr(built, f.name))
        and f.name != "T"
    ]
    if differs or calibration is not None:
        raise NeurocompileError(
            "NC1015",
            f"{', '.join(differs) or 'calibration'}: '{path}' is an artifact, built with options of its own; give its "
            "model to analyse others",
        )
    return Subject(
        program.manifest.model,
        None,
        program.calibration,
        program.circuit.steps,
        built.bits,
        built.digits,
        ChipFields.of(program.target),
        program.quantized,
        "the artifact's integers at each T",
        host=program.host,
    )


def _any_steps(origin: str, graph: SpikingGraph) -> None:
    if graph.input.steps:
        raise NeurocompileError(
            "NC8011",
            f"samples of {origin} bring {graph.input.steps} steps of their own, and a sweep over T needs "
            "inputs that are the same in every step; see `budget` of a build, and 'energy'",
        )
