"""Progress of long work on stderr.

On a terminal the running stage is shown with how much of it is done and about how long it still
takes; elsewhere (a log of CI) a stage that took long gets one line when it is done, and one that
takes very long says so while it runs.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Counter", "Stages", "chunks"]

_OFTEN, _SELDOM = 0.1, 30.0
"""Seconds between two looks at a stage, on a terminal and in a log."""
_LONG = 1.0
"""Seconds of a stage that is worth a line in a log."""
_EARLY = 0.5
"""Seconds after which the pace of a stage says how long it takes."""


class Counter:
    """Shows how much of one stage is done, and about how long the rest takes.

    Args:
        label: what runs.
        show: whether at all.
    """

    def __init__(self, label: str, show: bool) -> None:
        self._label, self._show = label, show
        self._tty = show and sys.stderr.isatty()
        self._begin = self._last = time.perf_counter()
        if self._tty:
            self._write(f"  {label} ...")

    def __call__(self, done: int, of: int) -> None:
        """So many of so many parts are done; cheap enough to be called after each."""
        now = time.perf_counter()
        if not self._show or now - self._last < (_OFTEN if self._tty else _SELDOM):
            return
        self._last, taken = now, now - self._begin
        left = ""
        if taken >= _EARLY and 0 < done < of:
            left = f", about {_span(taken * (of - done) / done)} left"
        self._write(f"  {self._label} {done:,}/{of:,}{left}")

    @property
    def seconds(self) -> float:
        """Since the beginning."""
        return time.perf_counter() - self._begin

    def clear(self) -> None:
        """Take the line off the terminal."""
        if self._tty:
            print("\x1b[2K", end="\r", file=sys.stderr, flush=True)

    def end(self) -> None:
        """The stage's line: what ran, and how long."""
        self.clear()
        if self._tty or (self._show and self.seconds >= _LONG):
            print(f"  {self._label:<14} {self.seconds:7.2f} s", file=sys.stderr, flush=True)

    def _write(self, text: str) -> None:
        start, end = ("\x1b[2K", "\r") if self._tty else ("", "\n")
        print(start + text, end=end, file=sys.stderr, flush=True)


def chunks(samples: int, size: int, label: str, show: bool) -> Iterator[slice]:
    """Slices of at most ``size`` of ``samples``, counted on stderr if ``show``."""
    counter = Counter(label, show)
    try:
        for start in range(0, samples, size):
            yield slice(start, min(start + size, samples))
            counter(min(start + size, samples), samples)
    finally:
        counter.clear()


def _span(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


class Stages:
    """Times named stages and shows the running one."""

    def __init__(self, show: bool = True) -> None:
        self.seconds: dict[str, float] = {}
        self.last = ""
        """The stage that runs, or ran last."""
        self._show = show

    @contextmanager
    def __call__(self, name: str) -> Iterator[Counter]:
        """Run the body as stage ``name``; it may tell the counter how much is done."""
        counter = Counter(name, self._show)
        self.last = name
        try:
            yield counter
        except BaseException:
            counter.clear()
            raise
        else:
            counter.end()
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + counter.seconds
