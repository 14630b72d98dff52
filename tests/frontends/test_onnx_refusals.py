"""What the ONNX import does not support is refused with the node's name and the closest form that
works.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import helper
from onnx_cases import MLP, imported, ints, lif, mlp, model, op, refused, small
from recover_files import unrolled

from neurocompile.errors import NeurocompileError, ViolationList
from neurocompile.frontends.onnx.recover import recover_lif

NO_TIME = {
    "feature": [op("Transpose", "t", "u", perm=[2, 1, 0]), lif("u", "l")],
    "B": [op("Transpose", "t", "u", perm=[1, 0, 2]), lif("u", "l")],
    r"T\+B": [op("Reshape", "t flat", "u"), lif("u", "l")],
}


@pytest.mark.parametrize("axis", NO_TIME)
def test_a_lif_whose_leading_axis_is_not_time_is_named(axis: str, tmp_path: Path) -> None:
    """QKFormer's official attention runs a LIF over time and batch at once: samples would leak into
    each other.
    """
    with pytest.raises(
        NeurocompileError,
        match=rf"NC1008 node 'l' \(LIF\): .*here it is {axis}(;.*`per_sample_lif`)?",
    ):
        imported(mlp(NO_TIME[axis], flat=ints(-1, 4)), tmp_path)


def test_a_model_that_never_repeats_its_input_has_no_time(tmp_path: Path) -> None:
    nodes = [op("MatMul", "x w", "f"), lif("f", "l"), op("MatMul", "l h", "out")]
    with pytest.raises(NeurocompileError, match=r"NC1020 input 'x' is \(batch, 4\): .*repeat it"):
        imported(model(nodes, MLP, ("batch", 4)), tmp_path)


def test_all_unknown_operators_are_named_at_once_with_what_to_use(tmp_path: Path) -> None:
    nodes = [
        op("MatMul", "t w", "f"),
        lif("f", "l0"),
        op("Softmax", "l0", "s1", axis=0),
        op("ReduceL2", "s1", "s2"),
        op("Round", "s2", "s3"),
        op("GridSample", "s3 s3", "s4"),
        lif("s4", "l"),
    ]
    with pytest.raises(ViolationList) as caught:
        imported(mlp(nodes), tmp_path)
    assert caught.value.code == "NC2012"
    one, two, three, four = caught.value.messages
    assert one.startswith("node 'n_s1' (Softmax): a softmax over axis 0")
    assert two.startswith("node 'n_s2': operator ReduceL2") and two.endswith("BatchNormalization")
    assert three.startswith("node 'n_s3': operator Round") and three.endswith(
        "spikes carry the signal on"
    )
    assert four.startswith("node 'n_s4': operator GridSample") and "no supported form" in four


@pytest.mark.parametrize("function", ["Selu", "PRelu", "Mish"])
def test_a_function_without_a_circuit_is_named(function: str, tmp_path: Path) -> None:
    inputs = "f b" if function == "PRelu" else "f"
    proto = mlp([op("MatMul", "t w", "f"), op(function, inputs, "r"), lif("r", "l")])
    proto.opset_import[0].version = proto.functions[0].opset_import[0].version = 20
    with pytest.raises(ViolationList, match=f"operator {function} is not supported"):
        imported(proto, tmp_path)


@pytest.mark.parametrize(
    ("nodes", "code", "why"),
    [
        ([op("MatMul", "t w", "f"), op("Identity", "f", "l")], "NC1010", "spiking neuron"),
        ([op("MatMul", "w t", "l")], "NC1006", "does not match"),
        ([op("ReduceMean", "t", "l")], "NC1009", "all axes"),
        ([op("ReduceMean", "t one", "l")], "NC1008", "mix samples"),
        ([op("ReduceMean", "t nine", "l")], "NC1009", "axes"),
        ([op("Div", "t nil", "l")], "NC1004", "division by 0"),
        ([op("Squeeze", "t one", "l")], "NC1009", "removes axes"),
        ([op("Reshape", "t bad", "l")], "NC1009", "reshape"),
        ([op("Tile", "t twice", "l")], "NC1009", "repeats axis 2"),
        ([op("Cast", "t", "l", to=7)], "NC1009", "cast"),
        ([op("MatMul", "t v", "l")], "NC1006", "does not match"),
        ([lif("t", "l", tau=0.5)], "NC1009", "tau"),
        ([lif("t", "l", v_reset=float("nan"))], "NC1009", "v_reset"),
        ([lif("t", "l", v_threshold=float("inf"))], "NC1009", "v_threshold"),
        (
            [helper.make_node("LIF", ["t"], ["l"], name="l", domain="ai.neurocompile", tau=2.0)],
            "NC1002",
            "Required attribute",
        ),
    ],
)
def test_what_has_no_meaning_here_is_refused(
    nodes: list, code: str, why: str, tmp_path: Path
) -> None:
    constants = {
        "one": ints(1),
        "nine": ints(9),
        "nil": np.zeros(1, np.float32),
        "bad": ints(3, -1, 7),
        "twice": ints(1, 1, 2),
    }
    with pytest.raises(NeurocompileError, match=f"{code} .*{why}"):
        imported(mlp(nodes, [op("Identity", "l", "out")], **constants), tmp_path)


@pytest.mark.parametrize(
    ("node", "why"),
    [
        (
            op("Foo", "t", "g"),
            r"operator Foo is none that ONNX defines in opset 18; no supported form is close",
        ),
        (op("Sofmax", "t", "g"), r"operator Sofmax is none .*\(did you mean Softmax\?\)"),
        (
            op("RMSNormalization", "t w", "g"),
            r"operator RMSNormalization is none .*: its parts, or opset 23",
        ),
        (
            op("Foo", "t", "g", domain="com.x"),
            r"operator com\.x::Foo is not supported, and the file does not import its domain",
        ),
    ],
)
def test_an_operator_that_is_not_defined_is_named(node, why: str, tmp_path: Path) -> None:
    refused(
        small([node, op("MatMul", "g w", "f")]), tmp_path, "NC1003", rf"NC1003 node 'n_g': {why}"
    )


def test_an_operator_in_every_step_of_an_unrolled_file_is_named() -> None:
    proto = unrolled(3)
    nodes = list(proto.graph.node)
    for t in range(3):
        place = next(k for k, n in enumerate(nodes) if n.output[0] == f"i{t}")
        nodes[place].output[0] = f"j{t}"
        nodes.insert(place + 1, op("DepthToSpace", f"j{t}", f"i{t}", blocksize=1))
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    with pytest.raises(
        NeurocompileError,
        match=r"NC1003 node 'n_i0': operator DepthToSpace is not supported; .*Reshape and Transpose",
    ):
        recover_lif(proto)


def test_only_the_operator_is_named_where_frames_are_understood(tmp_path: Path) -> None:
    proto = model(
        [op("CumSum", "x one", "f"), lif("f", "l"), op("ReduceMean", "l zero", "out", keepdims=0)],
        {"one": ints(2), "zero": ints(0)},
        (4, "batch", 5),
    )
    with pytest.raises(
        NeurocompileError,
        match="NC1003 node 'n_f': operator CumSum is not supported; no recurrence",
    ) as caught:
        imported(proto, tmp_path)
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("kind", ["Relu", "Abs", "Clip"])
def test_another_domains_operator_of_a_known_name_is_none_of_onnx(kind, tmp_path: Path) -> None:
    """On spikes ONNX's own changes nothing and is left out; nobody knows what another one does."""
    nodes = [op("MatMul", "t w", "f0"), lif("f0", "a"), op(kind, "a", "g", domain="com.x")]
    proto = small([*nodes, op("MatMul", "g w", "f")])
    proto.opset_import.append(helper.make_opsetid("com.x", 1))
    refused(proto, tmp_path, "NC1003", rf"operator com\.x::{kind} is not supported")


def test_another_domains_constant_is_none_of_onnx(tmp_path: Path) -> None:
    made = helper.make_node("Constant", [], ["k"], "n_k", domain="com.x")
    proto = small([made, op("MatMul", "t w", "f0"), op("Add", "f0 k", "f")])
    proto.opset_import.append(helper.make_opsetid("com.x", 1))
    refused(proto, tmp_path, "NC1009", "n_k.*is no plain function of constants")
