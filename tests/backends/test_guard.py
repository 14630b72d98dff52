"""The compiled kernels are still compiled, vectorized and event-driven: a ratio beside numpy, with a
wide margin, in processor time of one thread (benchmarks/guard.py)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_kernels_are_as_much_faster_than_numpy_as_they_were(monkeypatch):
    folder = Path(__file__).parents[2] / "benchmarks"
    if not (folder / "guard.py").exists():
        pytest.skip("benchmarks are not part of the package")
    monkeypatch.setattr(sys, "path", [str(folder), *sys.path])
    import guard

    found = guard.measure(repeats=5)
    assert {name: one for name, one in found.items() if one["ratio"] < one["limit"]} == {}
