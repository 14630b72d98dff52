"""The first build after an installation: a second process compiles half of the kernels, and nothing
is left to compile later.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numba
import pytest

from neurocompile.mapping import precompile

MODEL = Path(__file__).parents[2] / "models" / "zoo" / "qkformer_digits" / "qkformer.onnx"

BUILD = """
import json, sys
from numba.core.dispatcher import Dispatcher
import neurocompile
from neurocompile.mapping import ledger, packing_kernels, placement_kernels, precompile, refine_kernels

def compiled():
    found = {}
    for module in (ledger, packing_kernels, placement_kernels, refine_kernels):
        for name, value in vars(module).items():
            if isinstance(value, Dispatcher) and value.py_func.__module__ == module.__name__ and value.targetoptions.get("nogil"):
                found[f"{module.__name__}.{name}"] = sum(value.stats.cache_misses.values())
    return found

precompile.start()
helped = precompile._running is not None
precompile.wait()
before = compiled()
neurocompile.compile(sys.argv[1], target="loihi2", T=4)
print(json.dumps([helped, before, compiled()]))
"""


def build(cache: Path) -> tuple[bool, dict[str, int], dict[str, int]]:
    found = subprocess.run(
        [sys.executable, "-c", BUILD, str(MODEL)],
        env={**os.environ, "NUMBA_CACHE_DIR": str(cache)},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert found.returncode == 0, found.stderr
    return tuple(json.loads(found.stdout))


@pytest.mark.slow
def test_nothing_is_left_to_compile_when_the_model_is_cut(tmp_path):
    helped, before, after = build(tmp_path)
    assert helped
    assert len(before) == 8 and before == after
    packing = {name for name, misses in before.items() if misses == 0}
    assert {name.rpartition(".")[2] for name in packing} == {
        "_ready_order",
        "_pack",
        "_anneal",
        "_descend",
    }  # the other process did
    helped, before, after = build(tmp_path)
    assert not helped  # the cache has them
    assert set(after.values()) == {0}


def test_without_a_second_process_nothing_is_lost_but_time(monkeypatch):
    monkeypatch.setattr(precompile, "_cached", lambda: False)
    monkeypatch.setattr(precompile.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(precompile.sys, "executable", "/nowhere/python")
    precompile.start()
    assert precompile._running is None
    precompile.wait()


def test_a_second_process_that_fails_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(precompile, "_cached", lambda: False)
    monkeypatch.setattr(precompile.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(precompile, "__name__", "neurocompile.no_such_module")
    precompile.start()
    process = precompile._running
    assert process is not None
    precompile.wait()
    assert process.returncode == 1 and precompile._running is None


def test_nothing_is_compiled_where_numba_is_told_not_to(monkeypatch):
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    monkeypatch.setattr(precompile.os, "cpu_count", lambda: 2)
    precompile.start()
    assert precompile._running is None
