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
from neurocompile.stage_cache import OFF, StageCache
from neurocompile.stages.floating import Imported
from neurocompile.stages.kept import agreement_once
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
    cache: bool = True,
    **given: Unpack[GivenOptions],
) -> Imported:
    """Read a model, and check the import on a few samples: the first stage of a build.

    Args and errors are those of :func:`neurocompile.pipeline.compile_model`.
    """
    asked = BuildOptions.of(options, given)
    chip = load_target(asked.target)
    timer, kept = Stages(progress), StageCache.of(cache)
    return import_stage(model, example_input, asked, chip, calibration, timer, kept)


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
    cache: bool = True,
) -> Iterator[Stage]:
    """The stages of a build of ``model``, each made when it is asked for."""
    chip, timer = load_target(options.target), Stages(progress)
    kept = StageCache.of(cache)
    imported = import_stage(model, example_input, options, chip, calibration, timer, kept)
    return stages_from(imported, device)


def import_stage(
    model: Any,
    example_input: Any,
    asked: BuildOptions,
    chip: Target,
    calibration: Any,
    timer: Stages,
    cache: StageCache = OFF,
) -> Imported:
    """:func:`open_staged` with options and target that are there already."""
    opened = open_model(
        model, example_input, asked, calibration=calibration, stages=timer, cache=cache
    )

    def check() -> float:
        with timer("check import"):
            return check_import(opened)

    agreement = agreement_once(cache, opened, timer, check)
    return Imported(opened, chip, timer, agreement, cache=cache)
