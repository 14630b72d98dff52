"""From a model to a program: import, canonicalize, quantize, lower (and schedule), map."""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from neurocompile.calibration import Calibration
from neurocompile.errors import NeurocompileError
from neurocompile.frontends.agreement import check_import
from neurocompile.frontends.door import open_model
from neurocompile.frontends.onnx.frontend import import_model
from neurocompile.gpu.devices import check_device
from neurocompile.guard import guarded
from neurocompile.manifest import SCHEMA_VERSION, Manifest
from neurocompile.mapping import precompile
from neurocompile.mapping.budget import apply_budget, parse_budget
from neurocompile.mapping.estimate import Estimate
from neurocompile.options import BuildOptions, takes_options
from neurocompile.passes.quantize import Quantize
from neurocompile.placing import estimate_folds, front_of, place_model
from neurocompile.precision import examine_precision
from neurocompile.program import Program, make_proof
from neurocompile.progress import Stages
from neurocompile.stages import build_circuit, canonical_graph, located, statistics_of
from neurocompile.targets import load_target
from neurocompile.theory.measure.budget import plan_budget

if TYPE_CHECKING:
    from torch import nn

    from neurocompile.ir.spiking import SpikingGraph
    from neurocompile.mapping.fold_choice import FoldChoice
    from neurocompile.targets.schema import Target

__all__ = ["build_circuit", "compile_model", "estimate_model", "folds", "import_model"]

_PROOF_SAMPLES = 2


@guarded
@takes_options
def compile_model(
    model: str | Path | nn.Module,
    example_input: Any = None,
    *,
    calibration: np.ndarray | str | Path | None = None,
    options: BuildOptions | None = None,
    device: str = "cpu",
    progress: bool = False,
    **given: Any,
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

    Raises:
        NeurocompileError: with the code of what is wrong.
    """
    asked, stages = _unfolded_budget(BuildOptions.of(options, given)), Stages(progress)
    check_device(device)
    chip = load_target(asked.target)
    precompile.start()
    opened = open_model(model, example_input, asked, calibration=calibration, stages=stages)
    settled = opened.options.settled(opened.options.steps, chip)
    if opened.host is not None:
        opened.host.check_steps(settled.steps)
    T, bits, samples = settled.steps, settled.bits, opened.samples
    with stages("check import"):
        agreement = check_import(opened)
    with located(opened):
        with stages("canonicalize"):
            canonical = canonical_graph(opened, chip)
        with stages("calibrate"):
            statistics = statistics_of(opened, canonical, device)
        with stages("quantize"):
            quantize = Quantize(T, statistics, bits)
            quantized = quantize(canonical)
        with stages("compare"):
            lost = examine_precision(
                canonical, quantized, quantize.precision, statistics, samples, T
            )
        built = place_model(quantized, settled, chip, statistics, samples, stages)
    circuit, mapping, rates, source = built.circuit, built.mapping, built.rates, built.rates_source
    settled = msgspec.structs.replace(settled, fold=built.fold)
    place = built.place
    planned = None
    if settled.budget is not None:
        with stages("budget"):
            request = parse_budget(settled.budget)
            planned = plan_budget(request, quantized, circuit, rates, samples, mapping.cores_used)
            planned, mapping = apply_budget(planned, circuit, rates, mapping, place)
    with stages("prove"):
        proof = make_proof(circuit, _PROOF_SAMPLES, settled.seed)
    manifest = Manifest(
        schema=SCHEMA_VERSION,
        tool=version("neurocompile"),
        model=opened.graph.name,
        source_sha256=opened.sha256,
        exported_T=opened.graph.exported_T,
        options=settled,
        import_agreement=agreement,
        rates=rates,
        rates_source=source,
        proof=proof,
        budget=planned,
    )
    return Program(
        quantized,
        circuit,
        mapping,
        chip,
        statistics,
        manifest,
        dict(stages.seconds),
        tuple(built.front),
        precision=lost,
        host=opened.host,
    )


def _unfolded_budget(options: BuildOptions) -> BuildOptions:
    """A budget's theory counts the steps of an unrolled model; NC8008 with a fold."""
    if options.budget is None or options.fold == "none":
        return options
    if options.fold != "auto":
        raise NeurocompileError(
            "NC8008",
            f"a budget of spikes is for a model that is not folded, and fold is {options.fold}: "
            "leave one of them out",
        )
    return msgspec.structs.replace(options, fold="none")


@guarded
@takes_options
def estimate_model(
    model: str | Path | nn.Module,
    example_input: Any = None,
    *,
    calibration: np.ndarray | str | Path | None = None,
    options: BuildOptions | None = None,
    progress: bool = False,
    **given: Any,
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
    example_input: Any = None,
    *,
    calibration: np.ndarray | str | Path | None = None,
    options: BuildOptions | None = None,
    progress: bool = False,
    **given: Any,
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
            quantizer = Quantize(settled.steps, statistics, settled.bits, most_weights=1 << 14)
            return quantizer(canonical), settled, chip, statistics, stages
