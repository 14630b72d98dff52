"""A max-affine model of the time per step, fitted to a user's own measurements.

``t = c0 + max(c1 operations, c2 updates, c3 packets)``, with the counts of the busiest core and
link of a step (:class:`neurocompile.energy.latency.Latency`) and all constants >= 0. Nobody
published such constants for Loihi 2.

A count that is 0 in every measurement has no constant, and one that is never the slowest part has
only a bound: both stand as 0 among the ``undetermined``. What remains must be determined by the
measurements, or NC7007 says what is missing.
"""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Annotated

import msgspec
import numpy as np
from msgspec import Meta, Struct

from neurocompile.errors import NeurocompileError
from neurocompile.files import read_input

__all__ = ["MaxAffine", "Timing", "fit_max_affine", "load_timings"]

COUNTS = ("core_operations", "core_updates", "link_packets")
_ADVICE = "Measure networks whose busiest cores and links differ: many synapses, many neurons, many packets, each in two sizes."

Amount = Annotated[float, Meta(ge=0, le=1e15)]


class Timing(Struct, frozen=True, forbid_unknown_fields=True):
    """One measured network: its ``core_operations``, ``core_updates``, ``link_packets`` a step, and
    ns a step.
    """

    core_operations: Amount
    core_updates: Amount
    link_packets: Amount
    step_ns: Annotated[float, Meta(gt=0, le=1e15)]


class MaxAffine(Struct, frozen=True):
    """Fitted constants in ns, and how well they fit the ``measurements``."""

    constant: float
    per_operation: float
    per_update: float
    per_packet: float
    measurements: int
    relative_rms: float
    undetermined: tuple[str, ...] = ()
    """Counts whose constant no measurement shows; it is taken as 0, so times of networks that they
    slow are too short.
    """

    def step_ns(self, core_operations: float, core_updates: float, link_packets: float) -> float:
        """Time of a step in ns."""
        parts = (
            self.per_operation * core_operations,
            self.per_update * core_updates,
            self.per_packet * link_packets,
        )
        return self.constant + max(parts)


def load_timings(path: Path) -> list[Timing]:
    """A JSON list of measurements; NC7004 if it is anything else."""
    try:
        found = msgspec.json.decode(read_input(path, 1 << 22, "NC7004"), type=list[Timing])
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise NeurocompileError(
            "NC7004",
            f"'{path}': {error}; a JSON list of objects with core_operations, core_updates, link_packets (a "
            "step, of the busiest core and link) and step_ns is needed",
        ) from error
    return found


def fit_max_affine(timings: list[Timing]) -> MaxAffine:
    """Least squares of the relative error by alternation: which part is the largest, then the
    constants; deterministic.

    NC7007 if there are too few measurements, or they do not tell the constants apart.
    """
    x = np.array(
        [[t.core_operations, t.core_updates, t.link_packets] for t in timings], float
    ).reshape(-1, 3)
    _check_spread(x)
    y = np.array([t.step_ns for t in timings])
    scale = np.where(x.max(axis=0) > 0, x.max(axis=0), 1.0)
    z, best, least = x / scale, np.zeros(4), np.inf
    for start in product((0.0, 0.3, 1.0), repeat=3):
        constants = np.concatenate([[0.5], start]) * y.mean()
        for _ in range(60):
            error = _error(constants, z, y)
            if error < least - 1e-15:
                best, least = constants, error
            part = (z * constants[1:]).argmax(axis=1)
            design = np.zeros((len(y), 4))
            design[:, 0], design[np.arange(len(y)), part + 1] = 1.0, z[np.arange(len(y)), part]
            following = _non_negative(design / y[:, None], np.ones(len(y)), constants)
            if np.allclose(following, constants, rtol=1e-12, atol=0):
                break
            constants = following
    slowest = (z * best[1:]).argmax(axis=1)
    shown = [i for i in range(3) if (slowest == i).any() and best[i + 1] > 0]
    design = np.stack(
        [np.ones(len(y)), *(np.where(slowest == i, z[:, i], 0.0) for i in shown)], axis=1
    )
    if np.linalg.matrix_rank(design) < len(shown) + 1 or len(y) <= len(shown) + 1:
        named = ", ".join(COUNTS[i] for i in shown) or "no count"
        raise NeurocompileError(
            "NC7007",
            f"the {len(y)} measurements do not determine the fitted constants: each of {named} has to be the slowest part "
            f"in several that differ, and one of them more often than that. {_ADVICE}",
        )
    constants = [float(best[i + 1] / scale[i]) if i in shown else 0.0 for i in range(3)]
    return MaxAffine(
        constant=float(best[0]),
        per_operation=constants[0],
        per_update=constants[1],
        per_packet=constants[2],
        measurements=len(timings),
        relative_rms=float(np.sqrt(least)),
        undetermined=tuple(name for i, name in enumerate(COUNTS) if i not in shown),
    )


def _check_spread(x: np.ndarray) -> None:
    """NC7007 unless the measured counts tell a constant time and each of their own apart, with one
    measurement to spare.
    """
    used = [i for i in range(3) if x[:, i].any()]
    distinct, needed = len(np.unique(x, axis=0)), len(used) + 2
    if not used or distinct < needed:
        names = ", ".join(COUNTS[i] for i in used) or "no count"
        raise NeurocompileError(
            "NC7007",
            f"{len(x)} measurements, {distinct} of them different in their counts, are too few: {len(used) + 1} constants "
            f"(a step's own and one each for {names}) need at least {max(needed, 3)}. {_ADVICE}",
        )
    z = x[:, used] / x[:, used].max(axis=0)
    if np.linalg.matrix_rank(
        np.column_stack([np.ones(len(x)), z]), tol=1e-6 * np.sqrt(len(x))
    ) <= len(used):
        names = ", ".join(COUNTS[i] for i in used)
        raise NeurocompileError(
            "NC7007",
            f"the measurements cannot tell the constants of {names} and of a step itself apart: one of these counts never "
            f"varies, or follows from the others. {_ADVICE}",
        )


def _error(constants: np.ndarray, z: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean(((constants[0] + (z * constants[1:]).max(axis=1)) / y - 1.0) ** 2))


def _non_negative(a: np.ndarray, b: np.ndarray, before: np.ndarray) -> np.ndarray:
    """Least squares with constants >= 0; a constant that no measurement shows stays as it was, if
    that hides it.
    """
    shown = np.flatnonzero(np.abs(a).sum(axis=0) > 0)
    best, least = np.zeros(len(shown)), np.inf
    for keep in product((False, True), repeat=len(shown)):
        kept = np.flatnonzero(keep)
        found = np.zeros(len(shown))
        if kept.size:
            found[kept] = np.linalg.lstsq(a[:, shown[kept]], b, rcond=None)[0]
        error = float(((a[:, shown] @ found - b) ** 2).sum())
        if (found >= 0).all() and error < least:
            best, least = found, error
    full = np.where(np.isin(np.arange(a.shape[1]), shown), 0.0, before * 0.5)
    full[shown] = best
    return full
