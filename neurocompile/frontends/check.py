"""Does a model compile, and if not, why not: all stages but the mapping to cores."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from neurocompile.errors import NeurocompileError, ViolationList
from neurocompile.frontends.diagnosis import NotSupportedError

if TYPE_CHECKING:
    from torch import nn

__all__ = ["CheckResult", "Reason", "check_model"]


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


def check_model(
    model: str | Path | nn.Module,
    example_input: Any = None,
    *,
    T: int = 4,
    weight_bits: int = 8,
    per_sample_lif: bool = False,
    head: int | str | None = None,
) -> CheckResult:
    """Import, canonicalize, quantize and lower ``model``; see
    :func:`neurocompile.pipeline.compile_model` for arguments.

    Importing finds every reason at once, each later stage its first. Weights are quantized from
    stored statistics, or from the weights alone. Cores are not counted: a model that passes may
    still be too large for a target.

    Raises:
        NeurocompileError: for a file that cannot be read, or is no ONNX; anything else is a reason.
    """
    if not isinstance(model, (str, Path)):
        from neurocompile.frontends.torch.module import exported

        try:
            with exported(
                model, example_input, None, T=T, per_sample_lif=per_sample_lif, head=head
            ) as path:
                return check_model(path, T=T, weight_bits=weight_bits)
        except NeurocompileError as error:
            if error.code == "NC1014":
                raise
            return _refused("export", error)
    from neurocompile.calibration import calibration_from_metadata, calibration_from_weights
    from neurocompile.passes.canonicalize import canonicalize
    from neurocompile.passes.lower import lower
    from neurocompile.passes.quantize import Quantize
    from neurocompile.pipeline import import_model

    stage = "import"
    try:
        loaded, imported = import_model(model, T, per_sample_lif=per_sample_lif, head=head)
        T = imported.graph.input.steps or T
        stage = "canonicalize"
        canonical = canonicalize(imported.graph)
        stage = "quantize"
        statistics = calibration_from_metadata(loaded.metadata) or calibration_from_weights(T)
        quantized = Quantize(T, statistics, weight_bits)(canonical)
        stage = "lower"
        lower(quantized, T, weight_bits)
    except NeurocompileError as error:
        if error.code in ("NC1001", "NC1002", "NC1005"):
            raise
        return _refused(stage, error)
    return CheckResult(True, "", [], len(imported.graph.spiking_layers))


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
