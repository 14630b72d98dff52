"""Clocks that are made on the chip: from one tick of the host a sample, a line of one neuron a
window, each of which wakes the next, and from it every pattern.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from neurocompile.circuits.builder import strided
from neurocompile.ir import circuit as c
from neurocompile.ir.fields import ALL

if TYPE_CHECKING:
    from neurocompile.folding.net import Net

__all__ = ["AHEAD", "drive_patterns"]

AHEAD = 2
"""Steps from the tick to a pattern: the sample starts so much later."""


def drive_patterns(net: Net, spikes: str, patterns: Sequence[np.ndarray]) -> None:
    """Drive neuron i of ``spikes``, at depth 0, in the windows of ``patterns[i]`` (bool, (windows,))."""
    windows = net.windows
    first = np.zeros((windows, 1), bool)
    first[0] = True
    tick = net.host_pattern("clock", first, -AHEAD)
    line = net.population(c.LIF, "clock.line", (windows,), "clock", 1 - AHEAD, vth=0, dv=ALL)
    net.drive(line, [strided(tick, (1,), (1,), (1,))])
    net.drive(line, [strided(line, (windows - 1,), (1,), (1,), dst_offset=1)], 1)
    for i, pattern in enumerate(patterns):
        for begin, sizes, apart in _runs(np.flatnonzero(pattern)):
            still = (0,) * len(sizes)
            q = strided(line, sizes, apart, still, src_offset=begin, dst_offset=i)
            net.drive(spikes, [q])


def _runs(windows: np.ndarray) -> list[tuple[int, tuple[int, int], tuple[int, int]]]:
    """(first, sizes, strides) of runs of equal length that lie evenly apart, of rising int64
    ``windows``."""
    cuts = np.flatnonzero(np.diff(windows) > 1) + 1
    runs = [(int(r[0]), len(r)) for r in np.split(windows, cuts)]
    found: list[tuple[int, tuple[int, int], tuple[int, int]]] = []
    at = 0
    while at < len(runs):
        begin, length = runs[at]
        apart = runs[at + 1][0] - begin if at + 1 < len(runs) else 1
        n = 1
        while at + n < len(runs) and runs[at + n] == (begin + n * apart, length):
            n += 1
        found.append((begin, (n, length), (apart, 1)))
        at += n
    return found
