"""The one door that models come in by: :func:`open_model` for compile, check, estimate, budget,
theory and parity alike.
"""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import entry_points
from os import PathLike
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from neurocompile.advice import warn
from neurocompile.arrays import as_array
from neurocompile.data import check_inputs, first_sample, load_samples
from neurocompile.errors import NeurocompileError
from neurocompile.files import as_path
from neurocompile.frontends.kept import imported_once
from neurocompile.frontends.model import FloatModel, FrontEnd
from neurocompile.options import BuildOptions
from neurocompile.progress import Stages
from neurocompile.stage_cache import OFF, StageCache

__all__ = ["DEFAULT_T", "GROUP", "calibration_of", "open_model"]

DEFAULT_T = 4
"""Steps of a model that does not say how many: what published spiking transformers are trained
with.
"""
GROUP = "neurocompile.frontends"
"""Entry point group of front ends."""


def open_model(
    model: Any,
    example_input: Any = None,
    options: BuildOptions | None = None,
    *,
    calibration: np.ndarray | str | Path | None = None,
    compare: bool = True,
    stages: Stages | None = None,
    cache: StageCache = OFF,
) -> FloatModel:
    """Read ``model`` with ``options``, and settle T: that of the options, else the model's own,
    else :data:`DEFAULT_T` with a warning.

    Args:
        model: path of an ONNX file, a torch module, or what another front end reads.
        example_input: for a module: float32 (samples, ...), to trace it with.
        calibration: float32 (samples, *input shape), or the path of an .npz file with such an
            ``x``.
        compare: False where only sizes are asked: an exported module is not run beside its file.
        cache: where an import may be kept.

    Raises:
        NeurocompileError: NC1014 for what no front end reads; NC1021 where samples bring another
            number of steps; whatever the front end, and the calibration data, raise.
    """
    options, stages = options or BuildOptions(), stages or Stages(False)
    model = as_path(model, "NC1001") if isinstance(model, (str, PathLike)) else model
    front_end = _front_end(model)
    calibration = calibration_of(calibration)
    given = calibration if isinstance(calibration, np.ndarray) else None
    if isinstance(calibration, Path) and getattr(front_end, "by_samples", False):
        given = first_sample(calibration)

    def read(asked: BuildOptions) -> FloatModel:
        return imported_once(cache, content, asked, f"'{model}'", stages, lambda: _open(asked))

    def _open(asked: BuildOptions) -> FloatModel:
        return front_end.open(
            model, example_input, asked, samples=given, compare=compare, stages=stages
        )

    content, hashed = None, getattr(front_end, "content", None)
    if cache.folder is not None and hashed is not None:
        with stages("look up"):
            content = hashed(model)

    try:
        found = read(options)
    except NeurocompileError as error:
        if error.code != "NC1007" or options.T is not None:
            raise
        found = read(msgspec.structs.replace(options, T=DEFAULT_T))
        warn(
            f"{found.origin} takes one step, and does not say how many a sample has: taken are {DEFAULT_T}; give T"
        )
        options = msgspec.structs.replace(options, T=DEFAULT_T)
    settled = msgspec.structs.replace(options, T=_steps(found, options.T))
    if found.host is not None:
        found.host.check_steps(settled.steps)
    shape = found.graph.input.sample_shape
    return replace(found, options=settled, samples=_samples(calibration, shape))


def calibration_of(value: Any) -> np.ndarray | Path | None:
    """What a user gives for calibration data: a path, an array of numbers, or nothing; NC1006 and
    NC1001 otherwise.
    """
    if value is None:
        return None
    if isinstance(value, (str, PathLike)):
        return as_path(value, "NC1001")
    return as_array(value, "calibration 'x'")


def _steps(model: FloatModel, asked: int | None) -> int:
    """T, with a warning where it is not the model's own."""
    own = model.own_T
    T = asked or model.graph.input.steps or own or DEFAULT_T
    model.graph.input.check_steps(T)
    if own is not None and own != T:
        warn(
            f"T is {T}, and {model.origin} itself runs {own} steps: rates and accuracy are those of {T} steps; leave "
            f"T out for {own}"
        )
    return T


def _samples(calibration: np.ndarray | Path | None, shape: tuple[int, ...]) -> np.ndarray | None:
    if isinstance(calibration, Path):
        return load_samples(calibration, shape).x
    return None if calibration is None else check_inputs(calibration, shape, "calibration 'x'")


def _front_end(model: Any) -> FrontEnd:
    """The first that reads ``model``: others' before ours, of which a path's is the last."""
    for entry in sorted(entry_points(group=GROUP), key=lambda e: e.name):
        try:
            found = entry.load()
            if found.reads(model):
                return found
        except Exception as error:  # code of another package
            raise NeurocompileError(
                "NC1014",
                f"front end '{entry.name}' ({entry.value}) fails: {type(error).__name__}: {error}; fix or uninstall it",
            ) from error
    if isinstance(model, Path):
        from neurocompile.frontends.netx.frontend import NetxFrontEnd
        from neurocompile.frontends.nir.frontend import NirFrontEnd
        from neurocompile.frontends.onnx.frontend import OnnxFrontEnd

        for known in (NirFrontEnd(), NetxFrontEnd()):
            if known.reads(model):
                return known

        return OnnxFrontEnd()
    from neurocompile.frontends.torch.module import TorchFrontEnd
    from neurocompile.frontends.torch.recognize import refused

    torch = TorchFrontEnd()
    if not torch.reads(model):
        raise NeurocompileError("NC1014", refused(model))
    return torch
