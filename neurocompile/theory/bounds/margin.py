"""From an accuracy to an error: how far all logits may be off before too many predictions change."""

from __future__ import annotations

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.parameters import number

__all__ = ["check_accuracy", "epsilon_for_accuracy"]


def check_accuracy(accuracy: float) -> None:
    """NC8003 unless it is a share: above 0, up to 1."""
    if not 0 < number("accuracy", accuracy) <= 1:
        raise NeurocompileError(
            "NC8003", f"accuracy is {accuracy}; a number above 0, up to 1, is needed"
        )


def epsilon_for_accuracy(logits: np.ndarray, y: np.ndarray, accuracy: float) -> float:
    """The largest Euclidean error of the logits that certainly leaves a share ``accuracy`` of the
    samples right.

    An error of norm e changes the difference of two logits by sqrt(2) e at most, so a sample whose
    margin exceeds that stays right. The paper gives no such link (Theorem 13's is lost); this one
    is a proof.

    Args:
        logits: float64 (samples, classes) of the reference.
        y: int64 (samples,).

    Raises NC8003 (accuracy not in 0..1), NC8006 (the reference itself does not reach it).
    """
    check_accuracy(accuracy)
    if (
        logits.ndim != 2
        or logits.shape[1] < 2
        or not len(y)
        or len(y) != len(logits)
        or not np.isfinite(logits).all()
    ):
        raise NeurocompileError(
            "NC8006",
            f"logits {list(logits.shape)} and {len(y)} labels; finite logits of at least two classes and a label for each "
            "sample are needed",
        )
    if y.min(initial=0) < 0 or y.max(initial=0) >= logits.shape[1]:
        raise NeurocompileError(
            "NC8006",
            f"labels reach from {y.min()} to {y.max()}; the model has {logits.shape[1]} classes",
        )
    rows = np.arange(len(y))
    others = logits.copy()
    others[rows, y] = -np.inf
    margins = np.sort((logits[rows, y] - others.max(axis=1)) / np.sqrt(2))[::-1]
    needed = int(np.ceil(accuracy * len(y) - 1e-9))
    eps = float(margins[needed - 1])
    if eps <= 0:
        reached = float((margins > 0).mean())
        raise NeurocompileError(
            "NC8006",
            f"the model is right on {reached:.2%} of these samples, less than the accuracy {accuracy:.2%} that was asked "
            "for; lower `accuracy`",
        )
    return eps
