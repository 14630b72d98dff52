"""Limits that a program must keep, for the continuous integration of a model repository."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from neurocompile.errors import NeurocompileError

if TYPE_CHECKING:
    from neurocompile.program import Program

__all__ = ["GateCheck", "GateReport", "gate"]


class GateCheck(msgspec.Struct, frozen=True):
    """One limit: ``found`` beside it, and whether it is kept. ``kind`` says what the number is."""

    name: str
    found: float
    limit: float
    kept: bool
    kind: str
    """measured, modelled or counted."""
    note: str = ""

    def __str__(self) -> str:
        word = "kept" if self.kept else "BROKEN"
        return (
            f"{self.name}: {self.found:,.6g} of {self.limit:,.6g}, {word} ({self.kind}){self.note}"
        )


class GateReport(msgspec.Struct, frozen=True):
    """Every limit that was asked for."""

    model: str
    target: str
    program: str
    """Fingerprint."""
    checks: tuple[GateCheck, ...]

    @property
    def passed(self) -> bool:
        """No limit is broken."""
        return all(check.kept for check in self.checks)


def gate(
    program: Program,
    x: np.ndarray | None = None,
    y: np.ndarray | None = None,
    *,
    max_cores: int | None = None,
    max_spikes: float | None = None,
    min_accuracy: float | None = None,
    against: Sequence[str] = (),
) -> GateReport:
    """Hold ``program`` to limits.

    Args:
        x: float32 (samples, *input shape): spikes are then measured, otherwise modelled from the
            calibration's rates.
        y: labels (samples,), for the accuracy.
        max_cores: cores that it may take.
        max_spikes: mean spikes of all layers an inference.
        min_accuracy: share of samples that the emulator must get right; needs ``x`` and ``y``.
        against: backends that must not differ from the emulator on ``x`` (``emulator``: from the
            quantized model).

    Raises:
        NeurocompileError: NC1015 for a limit that needs data which is not given, or no limit.
    """
    if (max_cores, max_spikes, min_accuracy) == (None, None, None) and not against:
        raise NeurocompileError(
            "NC1015", "no limit is given: max_cores, max_spikes, min_accuracy or against"
        )
    if min_accuracy is not None and (x is None or y is None):
        raise NeurocompileError("NC1015", "min_accuracy needs samples with labels: 'x' and 'y'")
    if against and x is None:
        raise NeurocompileError("NC1015", "parity needs samples: 'x'")
    checks: list[GateCheck] = []
    if max_cores is not None:
        cores = program.mapping.cores_used
        checks.append(GateCheck("cores", cores, max_cores, cores <= max_cores, "modelled"))
    result = None
    if x is not None and (max_spikes is not None or min_accuracy is not None):
        result = program.run(x)
    if max_spikes is not None:
        if result is None or x is None:
            spikes, kind = program.summary().spikes_per_inference, "modelled"
        else:
            spikes, kind = sum(result.spikes.values()) / len(x), "measured"
        checks.append(
            GateCheck("spikes per inference", spikes, max_spikes, spikes <= max_spikes, kind)
        )
    if min_accuracy is not None and result is not None and y is not None:
        right = result.accuracy(y)
        checks.append(GateCheck("accuracy", right, min_accuracy, right >= min_accuracy, "measured"))
    if against and x is not None:
        for part in program.parity(x, against=against).backends:
            note = "" if part.first is None else f"; first: {part.first}"
            checks.append(
                GateCheck(
                    f"differences of {part.backend}",
                    part.differences,
                    0,
                    part.differences == 0,
                    "counted",
                    note,
                )
            )
    return GateReport(
        program.manifest.model, program.target.name, program.fingerprint, tuple(checks)
    )
