"""Whole circuits on the in-process backend, and what it shares with Lava's own compiler."""

from __future__ import annotations

import subprocess
import sys

import lava_reference
import numpy as np
import pytest
from lava_cases import check, circuit, lif, mixed_net, one_to_one, relay, source

from neurocompile.backends.emulator import emulate_cycles
from neurocompile.backends.lava import (
    LavaInProcess,
    LavaRuntime,
    LoihiHardware,
    in_process,
    network,
)
from neurocompile.errors import NeurocompileError
from neurocompile.ir.circuit import LIF, CircuitGraph, Dense, HostInput
from neurocompile.ir.text import Ref, TensorRef


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("period", [3, 4, 9])
def test_every_population_and_step_equals_the_reference(seed, period):
    check(*mixed_net(seed, period))


def test_relay_chain():
    n, depth = 5, 60
    populations = [source(n), *(relay(f"r{i}", (n,), i) for i in range(1, depth + 1))]
    names = ["x", *(p.name for p in populations[1:])]
    graph = circuit(populations, [one_to_one(a, b, n) for a, b in zip(names, names[1:])], steps=2)
    x = np.array([[-(2**23), 2**23 - 1, 0, 1, -1], [5, 4, 3, 2, 1]], np.int32)
    with LavaInProcess().open(graph) as executor:
        trace = executor.run(x, record=[names[-1]])
    assert list(trace) == [names[-1]]
    np.testing.assert_array_equal(trace[names[-1]], np.repeat(x[:, None], 2, 1))


def test_a_net_deeper_than_lavas_own_compiler_can_search():
    names = ["x", *(f"r{i}" for i in range(1, 501))]
    populations = [source(2), *(relay(name, (2,), i) for i, name in enumerate(names) if i)]
    graph = circuit(populations, [one_to_one(a, b, 2) for a, b in zip(names, names[1:])])
    models, _ = in_process._instantiate(LavaInProcess().open(graph).network)
    assert len(models) == 1001


def test_each_run_starts_from_reset_state_and_records_what_is_asked():
    graph, x = mixed_net()
    # a LIF that nothing resets keeps its state from sample to sample, not from run to run
    graph = graph.replace(
        populations=tuple(
            p if p.name != "d" else lif("d", (7,), 5, vth=3000, dv=1) for p in graph.populations
        )
    )
    expected = lava_reference.run(graph, x)
    with LavaInProcess().open(graph) as executor:
        for record in (None, ["d"], ["o", "x"], []):
            trace = executor.run(x, record=record)
            assert set(trace) == (set(expected) if record is None else set(record))
            for name, values in trace.items():
                np.testing.assert_array_equal(values, expected[name])
        assert executor.run(x[:0])["o"].shape == (0, 3, 7)


def test_progress_counts_steps():
    graph, x = mixed_net()
    seen = []
    LavaInProcess().open(graph).run(x[:2], record=[], progress=lambda i, n: seen.append((i, n)))
    assert seen == [(i + 1, 6 + 4 + 3) for i in range(13)]


def test_models_are_those_that_lavas_compiler_selects():
    graph, _ = mixed_net()
    from lava.magma.core.run_configs import Loihi2SimCfg

    net = network.build(graph)
    executable = net.processes[0].compile(Loihi2SimCfg(select_tag="fixed_pt"))
    ours = in_process.fixed_point_models()
    assert set(executable.proc_builders) == set(net.processes)
    for process, builder in executable.proc_builders.items():
        assert builder.proc_model is ours[type(process)]
    assert {c.__name__ for c in map(type, net.processes)} >= {
        "LIFReset",
        "Conv",
        "Dense",
        "DelayDense",
        "DelaySparse",
    }


def test_fast_and_plain_sparse_agree():
    """The in-process backend gives spikes to Sparse as 1-bit payloads; hardware and runtime as
    spikes.
    """
    graph, x = mixed_net()
    executor = LavaInProcess().open(graph)
    fast = executor.run(x)
    executor.network = network.build(graph, fast=False)
    for name, values in executor.run(x).items():
        np.testing.assert_array_equal(values, fast[name])


def test_wrong_input_and_unscheduled_circuits_are_refused():
    graph, x = mixed_net()
    executor = LavaInProcess().open(graph)
    for wrong in (x[0], x.astype(np.float32), x[:, :5]):
        with pytest.raises(NeurocompileError, match="NC1006 input 'x'"):
            executor.run(wrong)
    with pytest.raises(KeyError, match="nothing"):
        executor.run(x, record=["nothing"])
    with pytest.raises(NeurocompileError, match="not scheduled"):
        LavaInProcess().open(graph.replace(period=0))


def test_import_costs_nothing_and_start_method_is_left_alone():
    code = (
        "import sys, multiprocessing as m, neurocompile.backends.lava as b;"
        "assert not [k for k in sys.modules if k.split('.')[0] in ('lava', 'scipy', 'networkx')];"
        "m.set_start_method('spawn') if len(sys.argv) > 1 else None;"
        "from neurocompile.backends.lava.compat import require_lava; require_lava(); require_lava();"
        "assert m.get_start_method(allow_none=True) == ('spawn' if len(sys.argv) > 1 else None);"
        "from lava.proc.lif.process import LIF; LIF(shape=(2,))"
    )
    for extra in ([], ["spawn"]):
        subprocess.run(
            [sys.executable, "-W", "error::RuntimeWarning", "-c", code, *extra],
            check=True,
            timeout=60,
        )


def test_missing_packages_are_named(monkeypatch):
    graph, _ = mixed_net()
    with pytest.raises(
        NeurocompileError, match="NC4002 .*lava-loihi .*lava.utils.loihi2_profiler"
    ) as caught:
        LoihiHardware().open(graph)
    assert "\n" not in str(caught.value)
    for name in [m for m in sys.modules if m == "lava" or m.startswith("lava.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if "site-packages" not in p])
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for backend in (LavaInProcess(), LavaRuntime(), LoihiHardware()):
        with pytest.raises(NeurocompileError, match=r"NC4001 .*--extra lava"):
            backend.open(graph)


def test_hardware_build_places_adapters_and_moves_resets():
    """Without Intel's extension only the shape of the network can be checked."""
    graph, _ = mixed_net(period=4)
    calls = []

    def adapt(out, to_conv):
        calls.append((out.shape, to_conv))
        return out

    net = network.build(graph, reset_latency=3, adapt=adapt)
    assert calls == [((6, 5, 2), True)]
    assert net.population["a"].proc_params["reset_offset"] == (1 + 1 + 3) % 4
    assert net.population["d"].proc_params["reset_interval"] == 4


@pytest.mark.parametrize("delay", [1, 2, 7])
@pytest.mark.parametrize("diagonal", [False, True])
def test_the_closing_edge_of_a_loop_may_have_any_delay(delay: int, diagonal: bool) -> None:
    rng = np.random.default_rng(delay)
    n, m, steps = 4, 6, 12
    back = np.diag(np.full(m, 30)) if diagonal else 2 * rng.integers(-40, 40, (m, m))
    tensors = {"x>a": 2 * rng.integers(-40, 40, (m, n)), "a>b": 2 * rng.integers(-40, 40, (m, m))}
    tensors["b>a"] = back
    edges = [("x>a", 1, False), ("a>b", 1, True), ("b>a", delay, True)]
    graph = CircuitGraph(
        name="ring",
        steps=steps,
        period=steps,
        populations=(
            HostInput(name="x", shape=(n,), layer="x", depth=0, low=0, high=1),
            LIF(name="a", shape=(m,), layer="a", depth=1, vth=20),
            LIF(name="b", shape=(m,), layer="b", depth=1, vth=20),
        ),
        projections=tuple(
            Dense(
                name=name,
                src=Ref(name[0]),
                dst=Ref(name[2]),
                weight=TensorRef(name),
                delay=steps_,
                recurrent=recurrent,
            )
            for name, steps_, recurrent in edges
        ),
        readouts=(),
        tensors={name: tensor.astype(np.int16) for name, tensor in tensors.items()},
    )
    x = rng.integers(0, 2, (3, n)).astype(np.int32)
    expected = emulate_cycles(graph, x)
    with LavaInProcess().open(graph) as executor:
        trace = executor.run(x, record=["a", "b"])
    for name in ("a", "b"):
        assert expected[name].any()
        np.testing.assert_array_equal(trace[name], expected[name])
