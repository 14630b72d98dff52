"""Compiles the mapper's kernels with the help of a second process, while the first one imports and
cuts a model.

numba keeps what it compiled on disk, so this matters once after an installation: compiling takes
about as long as everything else that the build of a small model does, and holds the interpreter's
lock.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from neurocompile.backends.emulator import Emulator
from neurocompile.ir.circuit import LIF, CircuitGraph, Dense, HostInput, Strided
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.mapping.packing import glance, hypergraph, pack, ready_order
from neurocompile.mapping.partition import Style, partition
from neurocompile.mapping.placement import place
from neurocompile.mapping.refine import Hypergraph
from neurocompile.mapping.resources import CostCounter
from neurocompile.mapping.squeeze import squeeze
from neurocompile.mapping.tile_graph import TileGraph, make_tile_graph
from neurocompile.targets import load_target

__all__ = ["compile_packing", "compile_refinement", "start", "wait"]

_LONGEST_WAIT = 120.0
"""Seconds after which the first process compiles for itself."""
_running: subprocess.Popen[bytes] | None = None


def start() -> None:
    """Begin to compile, if numba's cache holds nothing and there is a second core."""
    global _running
    if _running is not None or (os.cpu_count() or 1) < 2 or _cached():
        return
    code = f"import sys; sys.path[:] = {sys.path!r}; import {__name__} as kernels; kernels.compile_packing()"
    quiet = subprocess.DEVNULL
    try:
        _running = subprocess.Popen(
            [sys.executable, "-c", code], stdin=quiet, stdout=quiet, stderr=quiet
        )
    except OSError:  # no second process here: nothing is lost but time
        _running = None


def wait() -> None:
    """Return when the kernels are compiled; what the second process does not compile is compiled
    here meanwhile.
    """
    global _running
    process = _running
    if process is None:
        return
    compile_refinement()
    try:
        process.wait(_LONGEST_WAIT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _running = None


def _cached() -> bool:
    """Whether numba has a kernel of the second process in its cache, stale or not; or does not
    compile at all.
    """
    from numba import config

    from neurocompile.mapping.placement_kernels import _anneal

    if config.DISABLE_JIT:
        return True
    folder = _anneal.stats.cache_path
    if folder is None:  # nothing can be kept, so a second process cannot help
        return True
    stem = _anneal.py_func.__module__.rpartition(".")[2]
    return any(Path(folder).glob(f"{stem}._anneal-*.nbi"))


def compile_packing() -> None:
    """Pack and place a small circuit, which takes every kernel of that: half of the work."""
    graph, instance = _tiles()
    core_of = pack(instance, ready_order(graph))
    cores = int(core_of.max()) + 1
    place(graph.counter.target, graph.flows(core_of, cores), cores, seed=0)


def compile_refinement() -> None:
    """Refine and emulate it: the other half."""
    _, instance = _tiles()
    glance(instance, np.arange(instance.vertices), seed=0)
    squeeze(instance, np.arange(instance.vertices), instance.vertices, 1, seed=0)
    Emulator().open(_circuit()).run(np.ones((1, 1), dtype=np.int32), [])


def _tiles() -> tuple[TileGraph, Hypergraph]:
    counter = CostCounter(_circuit(), load_target("sim_small"))
    tiles = [
        tile for parts in partition(counter, {}, Style(1.1, 1, None)).values() for tile in parts
    ]
    graph = make_tile_graph(counter, [tile for tile, _ in tiles], {})
    return graph, hypergraph(graph, [usage for _, usage in tiles], None)


def _circuit() -> CircuitGraph:
    """Two populations over several cores, which send each other messages."""
    names, size = ("x", "a", "b"), 600
    return CircuitGraph(
        name="kernels",
        steps=1,
        readouts=(),
        tensors={"a.w": np.zeros((size, 1), dtype=np.int16)},
        populations=(
            HostInput(name="x", shape=(1,), layer="x", depth=0, low=0, high=1),
            *(
                LIF(name=name, shape=(size,), layer=name, depth=depth, vth=1)
                for depth, name in enumerate(names[1:], 1)
            ),
        ),
        projections=(
            Dense(name="x>a", src=Ref("x"), dst=Ref("a"), weight=TensorRef("a.w")),
            Strided(
                name="a>b",
                src=Ref("a"),
                dst=Ref("b"),
                sizes=(20, 30),
                src_strides=(30, 1),
                dst_strides=(1, 20),
            ),
        ),
    )
