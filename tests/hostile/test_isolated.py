"""Graphs of strangers run in a process of their own, which may be late, die or want memory."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import neurocompile
from neurocompile.errors import NeurocompileError
from neurocompile.frontends.onnx.reference import _live
from neurocompile.reference import isolated
from neurocompile.reference.isolated import IN_PROCESS, IsolatedSession, Refused, isolated_session
from neurocompile.reference.runtime import open_session

if not hasattr(os, "readv"):
    pytest.skip("no pipes to wait for: graphs run in this process", allow_module_level=True)


@pytest.fixture(autouse=True)
def apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(IN_PROCESS, raising=False)


def model(*nodes: onnx.NodeProto, **constants: np.ndarray) -> onnx.ModelProto:
    """From x (samples, 2) to y."""
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, k) for k, v in constants.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def endless(value: str, output: str) -> onnx.NodeProto:
    """A loop of 2^62 steps."""
    names = (
        ("i", TensorProto.INT64, []),
        ("go", TensorProto.BOOL, []),
        ("a", TensorProto.FLOAT, None),
    )
    body = helper.make_graph(
        [helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Sin", ["a"], ["b"])],
        "body",
        [helper.make_tensor_value_info(*name) for name in names],
        [
            helper.make_tensor_value_info("on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("b", TensorProto.FLOAT, None),
        ],
    )
    return helper.make_node("Loop", ["trips", "", value], [output], body=body)


TRIPS = np.array(1 << 62, np.int64)
X = np.ones((3, 2), np.float32)
DOUBLE = model(helper.make_node("Add", ["x", "x"], ["y"])).SerializeToString()


def test_answers_are_those_of_this_process() -> None:
    rng = np.random.default_rng(0)
    w = rng.standard_normal((2, 5)).astype(np.float32)
    nodes = (
        helper.make_node("MatMul", ["x", "w"], ["h"]),
        helper.make_node("Greater", ["h", "t"], ["y"]),
    )
    made = model(*nodes, w=w, t=np.float32(0.1))
    made.graph.output[0].type.tensor_type.elem_type = TensorProto.BOOL
    made.graph.output.append(helper.make_tensor_value_info("h", TensorProto.FLOAT, None))
    apart, here = IsolatedSession(made.SerializeToString()), open_session(made.SerializeToString())
    assert (
        [v.name for v in apart.get_outputs()] == ["y", "h"] == [v.name for v in here.get_outputs()]
    )
    assert apart.get_inputs()[0].shape == ["n", 2]
    for n in (0, 1, 300_000):
        x = rng.standard_normal((n, 2)).astype(np.float32)
        for a, b in zip(apart.run(None, {"x": x}), here.run(None, {"x": x}), strict=True):
            assert a.dtype == b.dtype and np.array_equal(a, b)
    assert len(apart.run(["h"], {"x": X})) == 1


def test_the_child_answers_each_request_and_ends_with_its_input() -> None:
    opening = {"do": "open", "weights": []}
    rubbish = b"no graph"
    about = ["<f4", [3, 2]]
    requests = [
        json.dumps({**opening, "bytes": len(rubbish)}).encode(),
        rubbish + json.dumps({**opening, "bytes": len(DOUBLE)}).encode(),
        DOUBLE + json.dumps({"do": "run", "name": "x", "arrays": [about]}).encode(),
        X.tobytes() + json.dumps({"do": "run", "name": "z", "arrays": [about]}).encode(),
        X.tobytes() + json.dumps({"do": "run", "name": "x", "arrays": [about]}).encode(),
        X.tobytes()[:-1],  # cut off
    ]
    command = [sys.executable, "-c", isolated._START, str(isolated._memory())]
    asked = subprocess.run(command, input=b"\n".join(requests), capture_output=True, timeout=60)
    assert asked.returncode == 0, asked.stderr
    refused, told, ran, no_input = asked.stdout.split(b"\n", 3)
    assert json.loads(refused)["error"] and json.loads(told)["inputs"] == [["x", ["n", 2]]]
    assert json.loads(ran)["arrays"] == [about]
    doubled, said = no_input[: X.nbytes], no_input[X.nbytes :]
    assert doubled == (2 * X).tobytes() and "z" in json.loads(said)["error"]


def test_a_loop_without_end_is_ended_and_the_next_model_runs(monkeypatch) -> None:
    session = IsolatedSession(model(endless("x", "y"), trips=TRIPS).SerializeToString())
    monkeypatch.setattr(isolated, "OPENING", 0.5)
    monkeypatch.setattr(isolated, "A_SAMPLE", 0.1)
    with pytest.raises(NeurocompileError, match="NC1024 it takes more than"):
        session.run(None, {"x": X})
    monkeypatch.undo()
    assert np.array_equal(IsolatedSession(DOUBLE).run(None, {"x": X})[0], 2 * X)


def test_what_nobody_reads_does_not_run() -> None:
    made = model(endless("x", "dead"), helper.make_node("Add", ["x", "x"], ["y"]), trips=TRIPS)
    live = _live(made)
    assert [n.op_type for n in live.graph.node] == ["Add"] and not live.graph.initializer
    assert np.array_equal(IsolatedSession(live.SerializeToString()).run(None, {"x": X})[0], 2 * X)


def test_a_killed_child_is_named_and_replaced() -> None:
    session = IsolatedSession(model(endless("x", "y"), trips=TRIPS).SerializeToString())
    assert isolated._child is not None
    pid = isolated._child.process.pid
    timer = threading.Timer(0.3, os.kill, (pid, signal.SIGKILL))
    timer.start()
    with pytest.raises(NeurocompileError, match=r"NC1024 onnxruntime ended \(SIGKILL\)"):
        session.run(None, {"x": X})
    first, second = IsolatedSession(DOUBLE), IsolatedSession(DOUBLE)
    assert np.array_equal(first.run(None, {"x": X})[0], second.run(None, {"x": X})[0])
    os.kill(isolated._child.process.pid, signal.SIGKILL)
    isolated._child.process.wait()
    assert np.array_equal(first.run(None, {"x": X})[0], 2 * X)  # opened again


def test_more_memory_than_there_is_is_refused() -> None:
    shape = np.array([1 << 40, 2], np.int64)
    made = model(
        helper.make_node("Expand", ["one", "shape"], ["big"]),
        helper.make_node("ReduceSum", ["big"], ["sum"], keepdims=0),
        helper.make_node("Add", ["x", "sum"], ["y"]),
        one=np.ones((1, 1), np.float32),
        shape=shape,
    )
    with pytest.raises((Refused, NeurocompileError)):
        IsolatedSession(made.SerializeToString()).run(None, {"x": X})
    assert np.array_equal(IsolatedSession(DOUBLE).run(None, {"x": X})[0], 2 * X)


def test_it_ends_with_its_parent(tmp_path: Path) -> None:
    """Also in the middle of a call, when the parent is killed."""
    import subprocess
    import sys

    (tmp_path / "m.onnx").write_bytes(model(endless("x", "y"), trips=TRIPS).SerializeToString())
    (tmp_path / "numpy.py").write_text("raise SystemExit('the folder we are in was imported')")
    code = (
        "import sys; sys.path = [p for p in sys.path if p]\n"
        "from neurocompile.reference import isolated; import numpy as np\n"
        "s = isolated.IsolatedSession(open('m.onnx', 'rb').read())\n"
        "print(isolated._child.process.pid, flush=True)\n"
        "s.run(None, {'x': np.ones((3, 2), np.float32)})\n"
    )
    root = str(Path(neurocompile.__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert process.stdout is not None
    child = int(process.stdout.readline())
    time.sleep(0.3)
    process.kill()
    process.wait()
    end = time.monotonic() + 30
    while time.monotonic() < end and _runs(child):
        time.sleep(0.1)
    assert not _runs(child)


def _runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False


def test_in_this_process_by_choice(monkeypatch) -> None:
    monkeypatch.setenv(IN_PROCESS, "1")
    assert not isinstance(isolated_session(DOUBLE), IsolatedSession)


def test_a_file_with_a_loop_that_nobody_reads_is_compared(
    digits_model: Path, tmp_path: Path
) -> None:
    proto = onnx.load(digits_model)
    proto.graph.initializer.append(numpy_helper.from_array(TRIPS, "trips"))
    proto.graph.node.insert(0, endless(proto.graph.input[0].name, "never"))
    onnx.save(proto, tmp_path / "dead.onnx")
    assert neurocompile.open(tmp_path / "dead.onnx").agreement == 1.0
