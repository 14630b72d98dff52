"""Energy and time of a run on Loihi 2, by Lava's own probes. UNTESTED ON SILICON: Intel's extension
has the probes.

``lava.utils.profiler.Profiler.init`` gives the profiler of a run configuration; its
``energy_probe`` and ``execution_time_probe`` are set before the one run that they can observe.
After it, ``energy`` and ``static_energy`` are joules of that run, ``execution_time`` seconds of
each step (Lava's profiling tutorial). Boards without power sensors give nothing; that is told,
never taken as zero.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurocompile.errors import NeurocompileError

__all__ = ["Readings", "attach_probes", "check_readings", "read_probes"]

NAMES = ("energy", "static_energy", "execution_time")


@dataclass(frozen=True)
class Readings:
    """Of one run, warm-up of the pipeline included."""

    energy_j: float
    """Static and dynamic."""
    static_j: float
    seconds: float

    def __add__(self, other: Readings) -> Readings:
        return Readings(
            self.energy_j + other.energy_j,
            self.static_j + other.static_j,
            self.seconds + other.seconds,
        )


def attach_probes(config: Any, steps: int) -> Any:
    """Lava's profiler of a run configuration, told to observe so many steps; NC4002 if Lava has
    none for it.
    """
    with (
        warnings.catch_warnings()
    ):  # it warns that the extension is missing; the error below says so
        warnings.simplefilter("ignore")
        from lava.utils.profiler import Profiler

    try:
        profiler = Profiler.init(config)
    except NotImplementedError as error:
        raise NeurocompileError(
            "NC4002",
            f"Lava has no power probes for {type(config).__name__} here: they come with Intel's "
            "INRC-only package lava-loihi",
        ) from error
    profiler.execution_time_probe(num_steps=steps)
    profiler.energy_probe(num_steps=steps)
    return profiler


def read_probes(profiler: Any) -> dict[str, float | None]:
    """What the probes gave, by name: sums over the run; None where they gave no number."""
    found: dict[str, float | None] = {}
    for name in NAMES:
        try:
            values = np.asarray(getattr(profiler, name), dtype=np.float64)
        except (AttributeError, TypeError, ValueError):
            values = np.array([])
        total = float(values.sum()) if values.size else math.nan
        found[name] = total if math.isfinite(total) else None
    return found


def check_readings(found: dict[str, float | None]) -> Readings:
    """NC7006 where a reading is missing, or no energy of a run can be so."""
    missing = [name for name in NAMES if found.get(name) is None]
    if missing:
        raise NeurocompileError(
            "NC7006",
            f"the board gave no {', no '.join(missing)}: some have no power sensors; measure with others "
            "and give a file to `measured` (docs/energy.md)",
        )
    energy, static, seconds = (float(found[name] or 0.0) for name in NAMES)
    if not (0 <= static <= energy and seconds > 0):
        raise NeurocompileError(
            "NC7006",
            f"the board's readings contradict each other: {static:.4g} J static of {energy:.4g} J in all, in "
            f"{seconds:.4g} s; run more samples, power is sampled slowly",
        )
    return Readings(energy, static, seconds)
