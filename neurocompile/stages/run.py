"""All stages of a build, each made when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurocompile.arrays import ArrayLike
from neurocompile.frontends.agreement import check_import
from neurocompile.frontends.door import open_model
from neurocompile.guard import guarded
from neurocompile.options import BuildOptions, GivenOptions, takes_options
from neurocompile.progress import Stages
from neurocompile.stages.floating import Imported
from neurocompile.stages.stage import Stage
from neurocompile.targets import load_target
from neurocompile.targets.schema import Target

if TYPE_CHECKING:
    from torch import nn
    from typing_extensions import Unpack

__all__ = ["STAGES", "import_stage", "open_staged", "run_stages", "stages_from"]


STAGES = ("import", "canonicalize", "quantize", "lower")
"""Those before the mapping, in order, as ``build --stop-after`` and ``build --dump`` name them."""


@guarded
@takes_options
def open_staged(
    model: str | Path | nn.Module,
    example_input: ArrayLike | None = None,
    *,
    calibration: np.ndarray | str | Path | None = None,
    options: BuildOptions | None = None,
    progress: bool = False,
    **given: Unpack[GivenOptions],
) -> Imported:
    """Read a model, and check the import on a few samples: the first stage of a build.

    Args and errors are those of :func:`neurocompile.pipeline.compile_model`.
    """
    asked = BuildOptions.of(options, given)
    chip = load_target(asked.target)
    return import_stage(model, example_input, asked, chip, calibration, Stages(progress))


def stages_from(imported: Imported, device: str = "cpu") -> Iterator[Stage]:
    """``imported`` and the stages behind it up to the circuit, each made when it is asked for."""
    yield imported
    canonical = imported.canonical()
    yield canonical
    quantized = canonical.quantize(device=device)
    yield quantized
    yield quantized.lower()


def run_stages(
    model: Any,
    example_input: Any,
    calibration: Any,
    options: BuildOptions,
    *,
    device: str = "cpu",
    progress: bool = False,
) -> Iterator[Stage]:
    """The stages of a build of ``model``, each made when it is asked for."""
    chip, timer = load_target(options.target), Stages(progress)
    imported = import_stage(model, example_input, options, chip, calibration, timer)
    return stages_from(imported, device)


def import_stage(
    model: Any,
    example_input: Any,
    asked: BuildOptions,
    chip: Target,
    calibration: Any,
    timer: Stages,
) -> Imported:
    """:func:`open_staged` with options and target that are there already."""
    opened = open_model(model, example_input, asked, calibration=calibration, stages=timer)
    with timer("check import"):
        agreement = check_import(opened)
    return Imported(opened, chip, timer, agreement)
