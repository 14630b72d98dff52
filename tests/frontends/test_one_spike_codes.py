"""What codes of one spike are written as: counts of a value and of its negative, functions of a count,
quotients and differences of a row, and such counts behind the last layer.
"""

from __future__ import annotations

from math import log
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx_cases import ints, lif, model, normal, op, timed

import neurocompile
from neurocompile.frontends.recover.graph import Graph
from neurocompile.frontends.recover.staircases import find_staircases
from neurocompile.ir import spiking as s

BASE, STEPS = 1.5, 6
CODE = {
    "low": np.float32(BASE ** -(STEPS + 1)),
    "ln": np.float32(log(BASE)),
    "many": np.float32(STEPS),
    "none": np.float32(0),
    "axes": ints(0, 2),
    "last": ints(-1),
}


def counts(x: str, name: str) -> list[onnx.NodeProto]:
    """``name = clip(floor(log_BASE(x) + STEPS), 0, STEPS)``."""
    return [
        op("Clip", f"{x} low", f"{name}.c"),
        op("Log", f"{name}.c", f"{name}.log"),
        op("Div", f"{name}.log ln", f"{name}.d"),
        op("Add", f"{name}.d many", f"{name}.s"),
        op("Clip", f"{name}.s none many", f"{name}.b"),
        op("Floor", f"{name}.b", name),
    ]


def valued(count: str, name: str) -> list[onnx.NodeProto]:
    """``name = e^(ln BASE count)``, 0 for 0."""
    return [
        op("Greater", f"{count} none", f"{name}.any"),
        op("Mul", f"{count} ln", f"{name}.m"),
        op("Exp", f"{name}.m", f"{name}.e"),
        op("Where", f"{name}.any {name}.e none", name),
    ]


BOTH = [
    op("MatMul", "x w", "f"),
    op("Neg", "f", "g"),
    *counts("f", "up"),
    *counts("g", "down"),
    *valued("up", "p"),
    *valued("down", "m"),
    op("Sub", "p m", "y"),
]


def test_a_value_and_its_negative_are_counted_each() -> None:
    nodes = [*BOTH, op("MatMul", "y v", "out")]
    constants = {**CODE, "w": normal(5, 8), "v": normal(8, 3)}
    found = find_staircases(Graph(model(nodes, constants, ("batch", 5))))
    assert {(one.value, one.source) for one in found} == {("up", "up.c"), ("down", "g")}
    wanted = BASE ** -np.arange(STEPS - 1, -1, -1.0)
    for one in found:
        np.testing.assert_allclose(one.thresholds, wanted, rtol=1e-5)


@pytest.mark.slow
def test_codes_of_either_sign_in_front_of_a_layer_and_behind_the_last(tmp_path: Path) -> None:
    nodes = [*BOTH, op("MatMul", "y v", "h"), op("Abs", "h", "a"), *counts("a", "end")]
    nodes += [*valued("end", "z"), op("MatMul", "z u", "out")]
    constants = {**CODE, "w": normal(5, 8), "v": 0.1 * normal(8, 6), "u": normal(6, 3)}
    path, x = tmp_path / "m.onnx", normal(64, 5, seed=4)
    onnx.save(model(nodes, constants, ("batch", 5)), path)
    program = neurocompile.compile(path, calibration=x)
    kinds = [type(node) for node in program.quantized.nodes]
    assert kinds.count(s.SoftIntegerLIF) == 3 and program.manifest.import_agreement == 1.0
    assert program.parity(x, against=("emulator",)).exact
    session = onnxruntime.InferenceSession(path)
    (theirs,) = session.run(None, {"x": x})
    found = program.run(x).logits
    assert np.corrcoef(found.ravel(), theirs.ravel())[0, 1] > 0.98


def test_rows_are_divided_by_their_sums_and_lowered_by_their_largest(tmp_path: Path) -> None:
    nodes = [
        op("MatMul", "t w", "f"),
        lif("f", "l"),
        op("MatMul", "l v", "a"),
        op("ReduceMax", "a last", "top"),
        op("Sub", "a top", "d"),
        op("Sigmoid", "d", "e"),
        op("ReduceSum", "e last", "sum"),
        op("Div", "e sum", "p"),
        op("MatMul", "p u", "g"),
        lif("g", "l2", v_threshold=0.2),
        op("ReduceMean", "l2 axes", "out", keepdims=0),
    ]
    nodes, constants = timed((3, 5), nodes)
    constants |= {**CODE, "w": 2 * normal(5, 8), "v": normal(8, 6, seed=1), "u": normal(6, 4)}
    path, x = tmp_path / "m.onnx", np.abs(normal(64, 3, 5, seed=4))
    onnx.save(model(nodes, constants, (None, 3, 5)), path)
    program = neurocompile.compile(path, calibration=x)
    assert program.parity(x, against=("emulator",)).exact and program.manifest.import_agreement == 1
    session = onnxruntime.InferenceSession(path)
    (theirs,) = session.run(None, {"x": x})
    assert np.abs(program.run(x).logits - theirs).mean() < 0.02 < np.ptp(theirs)


def test_a_division_by_more_elements_is_refused(tmp_path: Path) -> None:
    nodes = [op("MatMul", "t w", "f"), lif("f", "l"), op("MatMul", "l v", "a")]
    nodes += [op("Sigmoid", "a", "e"), op("ReduceSum", "e last", "sum"), op("Div", "sum e", "p")]
    nodes += [
        op("MatMul", "p u", "g"),
        lif("g", "l2"),
        op("ReduceMean", "l2 axes", "out", keepdims=0),
    ]
    nodes, constants = timed((3, 5), nodes)
    constants |= {**CODE, "w": normal(5, 8), "v": normal(8, 6), "u": normal(6, 4)}
    onnx.save(model(nodes, constants, (None, 3, 5)), tmp_path / "m.onnx")
    with pytest.raises(neurocompile.NeurocompileError, match="NC1009 .*more elements"):
        neurocompile.open(tmp_path / "m.onnx")
