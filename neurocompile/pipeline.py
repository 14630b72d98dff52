"""From a model to a program: import, canonicalize, quantize, lower (and schedule), map."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurocompile.arrays import ArrayLike
from neurocompile.build_steps import (
    build_circuit,
    canonical_graph,
    integers_of,
    located,
    statistics_of,
)
from neurocompile.calibration import Calibration
from neurocompile.errors import NeurocompileError
from neurocompile.frontends.door import open_model
from neurocompile.frontends.onnx.frontend import import_model
from neurocompile.gpu.devices import check_device
from neurocompile.guard import guarded
from neurocompile.mapping import precompile
from neurocompile.mapping.estimate import Estimate
from neurocompile.options import BuildOptions, GivenOptions, takes_options
from neurocompile.passes.quantize import Quantize
from neurocompile.placing import estimate_folds, front_of
from neurocompile.program import Program
from neurocompile.progress import Stages
from neurocompile.stage_cache import StageCache
from neurocompile.stages import Lowered, Stage, import_stage, stages_from
from neurocompile.targets import load_target
from neurocompile.targets.fields import ChipFields

if TYPE_CHECKING:
    from torch import nn
    from typing_extensions import Unpack

    from neurocompile.ir.spiking import SpikingGraph
    from neurocompile.mapping.fold_choice import FoldChoice
    from neurocompile.targets.schema import Target

__all__ = ["build_circuit", "compile_model", "estimate_model", "folds", "import_model"]


@guarded
@takes_options
def compile_model(
    model: str | Path | nn.Module,
    example_input: ArrayLike | None = None,
    *,
    calibration: np.ndarray | str | Path | None = None,
    options: BuildOptions | None = None,
    device: str = "cpu",
    progress: bool = False,
    cache: bool = True,
    after: Callable[[Stage], object] | None = None,
    **given: Unpack[GivenOptions],
) -> Program:
    """Compile a model for a target.

    Args:
        model: path of an ONNX file (``neurocompile.export_onnx`` writes one), or a torch module.
        example_input: for a module: float32 (samples, ...), to trace it with.
        calibration: float32 (samples, *input shape), or the path of an .npz file with such an
            ``x``. Without it the statistics that ``export_onnx`` stored are used; without these the
            weights alone, with a warning.
        options: what decides the build; or its fields by name, which come before it: ``target`` (a
            shipped one's name, or the path of a YAML file), ``T`` (steps a sample; by default the
            model's own), ``weight_bits``, ``seed`` (of placement and proof inputs), ``max_cores``,
            ``budget`` (of spikes, :mod:`neurocompile.mapping.budget`), ``per_sample_lif`` (a LIF
            whose leading axis is time and batch runs for each sample alone; otherwise it is
            refused), ``head`` (which output, if there are several: the name in a file, the number
            of the tensor a module returns), ``convolutions`` (``merge``, ``factor``, or ``auto``,
            what takes fewer cores), ``fold`` (in time, docs/folding.md: ``none``, rows x columns
            of the input in a window such as ``1x32``, or ``auto``: none if that fits, else the
            fewest steps a sample that do) and ``max_steps`` (of a folded sample).
        device: where spike rates are measured on ``calibration``: cpu, or torch's cuda, cuda:N or
            torch-cpu, whose float32 sums may decide single spikes otherwise (docs/gpu.md).
        progress: show stages on stderr, if it is a terminal.
        cache: take finished stages from, and keep them in, this user's cache (docs/trust.md);
            what is built is the same, byte for byte.
        after: called with each stage before the mapping (:mod:`neurocompile.stages`), as it is
            done.

    Raises:
        NeurocompileError: with the code of what is wrong.
    """
    asked = BuildOptions.of(options, given)
    check_device(device)
    chip = load_target(asked.target)
    precompile.start()
    timer, kept = Stages(progress), StageCache.of(cache)
    imported = import_stage(model, example_input, asked, chip, calibration, timer, kept)
    for stage in stages_from(imported, device):
        if after is not None:
            after(stage)
    assert isinstance(stage, Lowered)
    return stage.map()


@guarded
@takes_options
def estimate_model(
    model: str | Path | nn.Module,
    example_input: ArrayLike | None = None,
    *,
    calibration: np.ndarray | str | Path | None = None,
    options: BuildOptions | None = None,
    progress: bool = False,
    **given: Unpack[GivenOptions],
) -> Estimate:
    """Least cores that a model needs of a target, and everything that rules it out; nothing is
    mapped, checked or written.

    Args and errors are those of :func:`compile_model`; NC3112 with a budget.
    """
    quantized, settled, chip, statistics, stages = _cheaply(
        model, example_input, calibration, BuildOptions.of(options, given), progress
    )
    with stages("estimate"):
        return estimate_folds(quantized, settled, chip, statistics)


@guarded
@takes_options
def folds(
    model: str | Path | nn.Module,
    example_input: ArrayLike | None = None,
    *,
    calibration: np.ndarray | str | Path | None = None,
    options: BuildOptions | None = None,
    progress: bool = False,
    **given: Unpack[GivenOptions],
) -> tuple[FoldChoice, ...]:
    """How a model can be folded in time on a target: the Pareto front of least cores and steps a
    sample, the unrolled model (``none``) first; nothing is mapped.

    Args and errors are those of :func:`estimate_model`; ``fold`` is not read.
    """
    quantized, settled, chip, statistics, stages = _cheaply(
        model, example_input, calibration, BuildOptions.of(options, given), progress
    )
    with stages("search folds"):
        return front_of(quantized, settled, chip, statistics)


def _cheaply(
    model: str | Path | nn.Module,
    example_input: Any,
    calibration: np.ndarray | str | Path | None,
    asked: BuildOptions,
    progress: bool,
) -> tuple[SpikingGraph, BuildOptions, Target, Calibration, Stages]:
    """The quantized graph for counting alone: from a part of the weights, not checked."""
    stages = Stages(progress)
    if asked.budget is not None:
        raise NeurocompileError(
            "NC3112", "an estimate knows no budget, which needs a mapping; leave one of them out"
        )
    chip = load_target(asked.target)
    opened = open_model(
        model, example_input, asked, calibration=calibration, compare=False, stages=stages
    )
    settled = opened.options.settled(opened.options.steps, chip)
    with located(opened):
        with stages("canonicalize"):
            canonical = canonical_graph(opened, chip)
        with stages("quantize"):
            statistics = statistics_of(opened, canonical)
            quantizer = Quantize(
                settled.steps,
                statistics,
                settled.bits,
                most_weights=1 << 14,
                digits=settled.digits,
                most_grids=settled.grids,
                fields=ChipFields.of(chip),
            )
            return integers_of(canonical, quantizer), settled, chip, statistics, stages
