"""Progress of long work on stderr, silent unless stderr is a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Stages", "chunks"]


def chunks(samples: int, size: int, label: str, show: bool) -> Iterator[slice]:
    """Slices of at most ``size`` of ``samples``, with a line that counts them if ``show`` and
    stderr is a terminal.
    """
    show = show and sys.stderr.isatty()
    for start in range(0, samples, size):
        if show:
            print(f"  {label} {start}/{samples}", end="\r", file=sys.stderr, flush=True)
        yield slice(start, min(start + size, samples))
    if show:
        print("\x1b[2K", end="\r", file=sys.stderr, flush=True)


class Stages:
    """Times named stages and shows the running one."""

    def __init__(self, show: bool = True) -> None:
        self.seconds: dict[str, float] = {}
        self.last = ""
        """The stage that runs, or ran last."""
        self._show = show and sys.stderr.isatty()

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Run the body as stage ``name``."""
        if self._show:
            print(f"  {name} ...", end="\r", file=sys.stderr, flush=True)
        start = time.perf_counter()
        self.last = name
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - start
            if self._show:
                print(f"  {name:<14} {self.seconds[name]:7.2f} s", file=sys.stderr, flush=True)
