"""Lava's real runtime in a child: the same results, no orphans, no hangs."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from lava_cases import circuit, mixed_net, one_to_one, relay, source

from neurocompile.backends.lava import LavaInProcess, LavaRuntime, runtime, shared_memory
from neurocompile.errors import NeurocompileError

pytestmark = pytest.mark.timeout(240)


def session(pid: int) -> list[int]:
    """Living processes of session ``pid``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == pid and fields[0] not in "ZX":
            found.append(int(path.parent.name))
    return found


def wait_until(condition, seconds=90.0):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.02)


@pytest.fixture
def endless():
    """A run that takes far longer than any test."""
    graph = circuit([source(3), relay("y", (3,), 1)], [one_to_one("x", "y", 3)], steps=1000)
    return graph, np.ones((1000, 3), np.int32)


@pytest.fixture
def started(monkeypatch):
    """Collects the children that a test starts."""
    children, popen = [], subprocess.Popen

    def start(*args, **kwargs):
        children.append(popen(*args, **kwargs))
        return children[-1]

    monkeypatch.setattr(runtime.subprocess, "Popen", start)
    yield children
    for child in children:
        assert not session(child.pid) and not shared_memory.leftovers(child.pid)


def test_runtime_equals_in_process(started):
    graph, x = mixed_net(seed=7)
    with LavaInProcess().open(graph) as executor:
        expected = executor.run(x)
    with LavaRuntime().open(graph) as executor:
        found = executor.run(x)
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name].dtype == np.int32
        np.testing.assert_array_equal(found[name], values, err_msg=name)


def test_nothing_to_record_starts_no_child(started):
    graph, x = mixed_net()
    executor = LavaRuntime().open(graph)
    assert executor.run(x, record=[]) == {} and executor.run(x[:0])["o"].shape == (0, 3, 7)
    assert not started


def test_deadline(started, endless):
    graph, x = endless
    begin = time.monotonic()
    with pytest.raises(
        NeurocompileError, match=r"NC4003 .*did not finish within 1 s \(4 processes"
    ) as caught:
        LavaRuntime(deadline=1).open(graph).run(x)
    assert time.monotonic() - begin < 10 and "\n" not in str(caught.value)


@pytest.mark.parametrize("victim", ["leader", "worker"])
def test_killed_child(started, endless, victim):
    graph, x = endless

    def kill():
        wait_until(lambda: started and len(session(started[0].pid)) >= 6)
        time.sleep(1)
        pids = sorted(session(started[0].pid))
        os.kill(pids[0] if victim == "leader" else pids[-1], signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    what = (
        "ended with exit status -9"
        if victim == "leader"
        else "status 70 .*worker .* of Lava ended .* status -9"
    )
    with pytest.raises(NeurocompileError, match=f"NC4003 .*{what}"):
        LavaRuntime(deadline=100).open(graph).run(x)
    thread.join()


@pytest.mark.parametrize("tracker", ["alive", "killed"])
def test_interrupt_in_the_parent_ends_the_child(started, endless, monkeypatch, tracker):
    graph, x = endless

    def interrupted(child, done, limit):
        wait_until(lambda: len(session(child.pid)) >= 6 and shared_memory.leftovers(child.pid))
        if tracker == "killed":  # and with it Python's own removal of shared memory
            os.killpg(child.pid, signal.SIGKILL)
        raise KeyboardInterrupt

    monkeypatch.setattr(runtime, "_wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        LavaRuntime().open(graph).run(x)


def test_child_follows_a_parent_that_is_killed(endless, tmp_path):
    script = tmp_path / "parent.py"
    script.write_text(
        "import sys, numpy as np\n"
        f"sys.path[:0] = {sys.path!r}\n"
        "from lava_cases import *\nfrom neurocompile.backends.lava import LavaRuntime, runtime\n"
        "g = circuit([source(3), relay('y', (3,), 1)], [one_to_one('x', 'y', 3)], steps=1000)\n"
        "executor = LavaRuntime().open(g)\n"
        "popen = runtime.subprocess.Popen\n"
        "def start(*a, **k):\n    c = popen(*a, **k); print(c.pid, flush=True); return c\n"
        "runtime.subprocess.Popen = start\n"
        "executor.run(np.ones((1000, 3), np.int32))\n"
    )
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    parent = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, env=env)
    try:
        pid = int(parent.stdout.readline())
        wait_until(lambda: len(session(pid)) >= 6)
    finally:
        parent.kill()
        parent.communicate()
    wait_until(lambda: not session(pid), 30)


def test_failure_in_the_child_is_told(started, monkeypatch):
    graph, x = mixed_net()
    monkeypatch.setattr(type(graph), "text", lambda self: "circuit nonsense\n")
    with pytest.raises(NeurocompileError, match=r"NC4003 .*exit status 1 .*NC2005 line 1"):
        LavaRuntime().open(graph).run(x)


def test_too_few_file_descriptors(monkeypatch):
    limits = [(64, 64)]
    monkeypatch.setattr(resource, "getrlimit", lambda what: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda what, new: limits.append(new))
    with pytest.raises(
        NeurocompileError,
        match="NC4004 13 Lava processes need about 207 open files, the limit is 64",
    ):
        LavaRuntime().open(mixed_net()[0])
    limits.append((64, 5000))
    LavaRuntime().open(mixed_net()[0])
    assert limits[-1] == (64, 5000)
    runtime.check_file_descriptors(13, apply=True)
    assert limits[-1] == (207, 5000)


def test_default_deadline_grows_with_the_net():
    graph, _ = mixed_net()
    assert 60 < runtime.deadline_seconds(graph, 1) < runtime.deadline_seconds(graph, 100) < 200
