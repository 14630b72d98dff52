"""Loops and scans of files: what they may be, and what makes them none that is written out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import recover_files as files
from onnx import helper, numpy_helper
from recover_checks import PLAIN, check, lifs

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.onnx.recover import recover_lif


def first_body(proto: onnx.ModelProto) -> onnx.GraphProto:
    node = next(n for n in proto.graph.node if n.op_type in ("Loop", "Scan"))
    return next(a.g for a in node.attribute if a.name == "body")


def counted(count: object) -> Callable[[], onnx.ModelProto]:
    """The loop with another number of steps."""

    def make() -> onnx.ModelProto:
        proto = files.loop()
        tensor = next(t for t in proto.graph.initializer if t.name == "count")
        tensor.CopyFrom(numpy_helper.from_array(np.asarray(count), "count"))
        return proto

    return make


def going_on(*nodes: onnx.NodeProto) -> Callable[[], onnx.ModelProto]:
    """The loop whose condition ``nodes`` make, as go2."""

    def make() -> onnx.ModelProto:
        proto = files.loop()
        body = first_body(proto)
        rest = [n for n in body.node if "go2" not in n.output]
        del body.node[:]
        body.node.extend([*nodes, *rest])
        return proto

    return make


def truth(value: bool) -> onnx.NodeProto:
    tensor = numpy_helper.from_array(np.asarray(value), "")
    return helper.make_node("Constant", [], ["go2"], value=tensor)


def of_data() -> onnx.ModelProto:
    """As many steps as the input says."""
    proto = files.loop()
    del next(n for n in proto.graph.node if n.op_type == "Loop").input[0]
    node = next(n for n in proto.graph.node if n.op_type == "Loop")
    node.input.insert(0, "steps_of_x")
    made = [
        helper.make_node("ReduceMax", ["x"], ["largest"], keepdims=0),
        helper.make_node("Cast", ["largest"], ["steps_of_x"], to=onnx.TensorProto.INT64),
    ]
    rest = list(proto.graph.node)
    del proto.graph.node[:]
    proto.graph.node.extend([*made, *rest])
    return proto


def scanned(**attributes: list[int]) -> Callable[[], onnx.ModelProto]:
    def make() -> onnx.ModelProto:
        proto = files.scan()
        node = next(n for n in proto.graph.node if n.op_type == "Scan")
        node.attribute.extend(helper.make_attribute(k, v) for k, v in attributes.items())
        return proto

    return make


def with_own_tau() -> onnx.ModelProto:
    """The body holds a constant of its own, under a name that the graph has too."""
    proto = files.loop()
    first_body(proto).initializer.append(numpy_helper.from_array(np.float32(2), "tau"))
    return proto


def nested() -> onnx.ModelProto:
    """A loop in each step that adds the step's current to itself: twice the current."""
    proto = files.loop()
    body = first_body(proto)
    text = "g (int64 k, bool on, float[B, 8] acc) => (bool on2, float[B, 8] acc2) { on2 = Identity (on) acc2 = Add (acc, x_t) }"
    inner = onnx.parser.parse_graph(text)
    rest = list(body.node)
    place = next(k for k, n in enumerate(rest) if "x_t" in n.output) + 1
    for node in rest[place:]:
        node.input[:] = ["x_two" if i == "x_t" else i for i in node.input]
    one = helper.make_node("Constant", [], ["once"], value=numpy_helper.from_array(np.asarray(1)))
    loop = helper.make_node("Loop", ["once", "", "x_t"], ["x_two"], name="inner", body=inner)
    del body.node[:]
    body.node.extend([*rest[:place], one, loop, *rest[place:]])
    return proto


TAKEN = {
    "a condition that is true": going_on(truth(True)),
    "a constant of its own": with_own_tau,
    "a loop in each step": nested,
}
REFUSED: dict[str, tuple[Callable[[], onnx.ModelProto], str, str]] = {
    "no step": (counted(np.int64(0)), "NC1007", "runs for 0 steps"),
    "a million steps": (counted(np.int64(1 << 20)), "NC1007", "runs for 1,048,576 steps"),
    "steps of the data": (of_data, "NC1009", "must follow from the shape of the input"),
    "a condition that is false": (going_on(truth(False)), "NC1009", "may end early"),
    "a condition that turns": (
        going_on(helper.make_node("Not", ["go"], ["go2"])),
        "NC1009",
        "may end early",
    ),
    "a scan over samples": (scanned(scan_input_axes=[1]), "NC1009", "a Scan over axis 0, forwards"),
    "a scan from the end": (scanned(scan_input_directions=[1]), "NC1009", "over axis 0, forwards"),
    "a result from the end": (
        scanned(scan_output_directions=[1]),
        "NC1009",
        "over axis 0, forwards",
    ),
}


@pytest.mark.parametrize("form", TAKEN)
def test_a_loop_that_its_counter_ends_is_written_out(form: str) -> None:
    assert lifs(check(TAKEN[form](), 4, 2, 6))[1] == PLAIN


@pytest.mark.parametrize("form", REFUSED)
def test_other_loops_are_named(form: str) -> None:
    make, code, why = REFUSED[form]
    with pytest.raises(NeurocompileError, match=why) as caught:
        recover_lif(make())
    assert caught.value.code == code
