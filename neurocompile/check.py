"""Does a model compile, and if not, why not: all stages but the mapping to cores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from neurocompile.arrays import ArrayLike
from neurocompile.build_steps import (
    build_circuit,
    canonical_graph,
    covariances_of,
    integers_of,
    located,
    statistics_of,
)
from neurocompile.errors import NeurocompileError, ViolationList
from neurocompile.frontends.diagnosis import NotSupportedError
from neurocompile.frontends.door import calibration_of, open_model
from neurocompile.guard import guarded
from neurocompile.options import BuildOptions, GivenOptions, takes_options
from neurocompile.passes.quantize import Quantize
from neurocompile.progress import Stages
from neurocompile.targets import load_target
from neurocompile.targets.fields import ChipFields

if TYPE_CHECKING:
    import numpy as np
    from torch import nn
    from typing_extensions import Unpack

__all__ = ["CheckResult", "Reason", "check_model"]

_UNREADABLE = ("NC1001", "NC1002", "NC1005", "NC1012", "NC1014", "NC9001")
"""Nothing can be said of a model that cannot be read."""


class Reason(msgspec.Struct, frozen=True):
    """One reason; what the model does not tell is ""."""

    code: str
    why: str
    node: str = ""
    operator: str = ""
    module: str = ""
    kind: str = ""
    supported: str = ""


class CheckResult(msgspec.Struct, frozen=True):
    """``stage`` is where the reasons were found; "" if the model compiles."""

    compiles: bool
    stage: str
    reasons: list[Reason]
    layers: int = 0


@guarded
@takes_options
def check_model(
    model: str | Path | nn.Module,
    example_input: ArrayLike | None = None,
    *,
    calibration: np.ndarray | str | Path | None = None,
    options: BuildOptions | None = None,
    **given: Unpack[GivenOptions],
) -> CheckResult:
    """Import, canonicalize, quantize and lower ``model``; see
    :func:`neurocompile.pipeline.compile_model` for arguments.

    Importing finds every reason at once, each later stage its first. Cores are not counted: a model
    that passes may still be too large for a target.

    Raises:
        NeurocompileError: for options, targets, calibration data and files that cannot be used at
            all; anything that is of the model is a reason.
    """
    asked, stages = BuildOptions.of(options, given), Stages(False)
    chip, calibration = load_target(asked.target), calibration_of(calibration)
    try:
        opened = open_model(model, example_input, asked, calibration=calibration, stages=stages)
        settled = opened.options.settled(opened.options.steps, chip)
        with located(opened):
            with stages("canonicalize"):
                canonical = canonical_graph(opened, chip)
            with stages("quantize"):
                statistics = statistics_of(opened, canonical)
                fields = ChipFields.of(chip)
                quantizer = Quantize(
                    settled.steps,
                    statistics,
                    settled.bits,
                    digits=settled.digits,
                    most_grids=settled.grids,
                    fields=fields,
                    covariances=covariances_of(opened, canonical),
                )
                quantized = integers_of(canonical, quantizer)
            with stages("lower"):
                build_circuit(quantized, settled.steps, settled.bits, chip)
    except NeurocompileError as error:
        if error.code in _UNREADABLE:
            raise
        return _refused(stages.last, error)
    return CheckResult(True, "", [], len(opened.graph.spiking_layers))


def _refused(stage: str, error: NeurocompileError) -> CheckResult:
    if isinstance(error, NotSupportedError):
        reasons = [
            Reason(p.code, p.why, p.node, p.operator, p.module, p.kind, p.supported)
            for p in error.problems
        ]
    elif isinstance(error, ViolationList):
        reasons = [Reason(error.code, message) for message in error.messages]
    else:
        reasons = [Reason(error.code, error.message)]
    return CheckResult(False, stage, reasons)
