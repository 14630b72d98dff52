"""Assertions for the tests of a model repository; with pytest they come as fixtures
(:mod:`neurocompile.pytest_plugin`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    from neurocompile.parity.report import ParityReport
    from neurocompile.program import Program

__all__ = ["assert_parity"]


def assert_parity(
    program: Program, x: np.ndarray, against: Sequence[str] = ("emulator",)
) -> ParityReport:
    """AssertionError with the first difference, if a backend differs anywhere; the report.

    Args:
        x: float32 (samples, *input shape).
        against: ``emulator`` is compared with the quantized model's definition, every other one
            with the emulator, over all populations, samples and steps.
    """
    __tracebackhide__ = True
    report = program.parity(x, against=tuple(against))
    wrong = [part for part in report.backends if part.differences]
    if wrong:
        lines = [
            f"{part.backend} differs from {part.expected} in {part.differences:,} of "
            f"{part.values:,} values, first at {part.first}"
            for part in wrong
        ]
        raise AssertionError("\n".join([f"'{report.model}' is not exact:", *lines]))
    return report
