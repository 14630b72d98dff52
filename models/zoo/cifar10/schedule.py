"""How far a training is: by steps, or by the clock, so that the schedule ends when the time does."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

__all__ = ["Progress", "learning_rate", "parse_phases", "steps_of"]

WARM_UP = 0.02
"""Share of the training in which the learning rate rises."""


@dataclass
class Progress:
    """A share of the training, 0 to 1, of a number of steps or of a number of seconds."""

    steps: int | None
    """Optimizer steps in all, or None if ``seconds`` decides."""
    seconds: float | None
    """Seconds in all, of this run and of those that it resumes."""
    step: int = 0
    """Steps made."""
    before: float = 0.0
    """Seconds of the runs that this one resumes."""
    _start: float = field(default_factory=time.monotonic)

    @property
    def elapsed(self) -> float:
        """Seconds so far."""
        return self.before + time.monotonic() - self._start

    @property
    def share(self) -> float:
        """How far the training is, 0 to 1."""
        if self.steps is not None:
            return min(self.step / self.steps, 1.0)
        assert self.seconds is not None
        return min(self.elapsed / self.seconds, 1.0)


def learning_rate(peak: float, share: float) -> float:
    """Linear to ``peak``, then half a cosine to 0."""
    if share < WARM_UP:
        return peak * max(share / WARM_UP, 0.02)
    return peak * 0.5 * (1.0 + math.cos(math.pi * (share - WARM_UP) / (1.0 - WARM_UP)))


def parse_phases(text: str) -> tuple[tuple[int, float], ...]:
    """``"1:0.3,4:0.7"`` to ((1, 0.3), (4, 1.0)): simulation steps T, and the share at which their
    phase ends.

    ValueError for anything else than T:share with T from 1 and shares that sum to 1.
    """
    phases, end = [], 0.0
    for part in text.split(","):
        steps, _, share = part.partition(":")
        if not steps.isdigit() or int(steps) < 1:
            raise ValueError(f"phase '{part}' of '{text}' is not T:share, such as 4:0.7")
        end += float(share)
        phases.append((int(steps), end))
    if not math.isclose(end, 1.0, abs_tol=1e-6):
        raise ValueError(f"the shares of '{text}' sum to {end:g}, not to 1")
    return tuple(phases)


def steps_of(phases: tuple[tuple[int, float], ...], share: float) -> int:
    """T of the phase at ``share``."""
    return next((T for T, end in phases if share < end), phases[-1][0])
