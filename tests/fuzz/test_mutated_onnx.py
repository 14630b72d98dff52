"""Files of others with random nodes dropped, renamed or changed: an error with a code, or a graph
that computes what the file does.

What a mutated file computes is what onnxruntime says; a file that onnxruntime itself refuses must
not crash the importer. ``NEUROCOMPILE_FUZZ`` sets the number of mutants of each file (60 together
by default; 1,500 with ``--slow``).
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

sys.path.insert(0, str(Path(__file__).parents[1] / "frontends"))
import recover_files as files  # noqa: E402
from onnx_cases import ZOO  # noqa: E402

from neurocompile.error_codes import CATALOGUE  # noqa: E402
from neurocompile.errors import NeurocompileError  # noqa: E402
from neurocompile.frontends.agreement import check_import  # noqa: E402
from neurocompile.frontends.door import open_model  # noqa: E402
from neurocompile.ir.evaluate import evaluate  # noqa: E402

EXAMPLES = int(os.environ.get("NEUROCOMPILE_FUZZ", "60"))
OPERATORS = [
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "MatMul",
    "Identity",
    "Neg",
    "Relu",
    "Max",
    "Where",
    "Transpose",
    "Squeeze",
    "Unsqueeze",
    "Concat",
    "Gather",
    "ReduceMean",
    "ReduceSum",
    "Cast",
    "Flatten",
    "Floor",
]


def repeated() -> onnx.ModelProto:
    """One neuron unrolled over the same current, and its spikes' sum: the form whose input has no
    time of its own.
    """
    return files.shared_current(3, True)


FILES = {"shared": repeated, "loop": files.network_loop, "ours": lambda: onnx.load(ZOO)}


def graphs(graph: onnx.GraphProto) -> list[onnx.GraphProto]:
    """``graph`` and the bodies in it."""
    inner = [a.g for n in graph.node for a in n.attribute if a.type == onnx.AttributeProto.GRAPH]
    return [graph, *(g for body in inner for g in graphs(body))]


def mutate(proto: onnx.ModelProto, draw) -> None:
    """Change one thing of one node, or one constant."""
    graph = draw(st.sampled_from(range(len(graphs(proto.graph)))))
    graph = graphs(proto.graph)[graph]
    index = draw(st.integers(0, len(graph.node) - 1))
    node = graph.node[index]
    values = sorted(
        {o for n in graph.node for o in n.output if o}
        | {i.name for i in (*graph.input, *graph.initializer)}
    )
    kind = draw(
        st.sampled_from(
            ["drop", "operator", "input", "swap", "attribute", "constant", "cut", "shortcut"]
        )
    )
    if kind == "drop":
        del graph.node[index]
    elif kind == "operator":
        node.op_type = draw(st.sampled_from(OPERATORS))
    elif kind == "input" and node.input:
        node.input[draw(st.integers(0, len(node.input) - 1))] = draw(st.sampled_from(values))
    elif kind == "swap" and len(node.input) > 1:
        node.input[0], node.input[1] = node.input[1], node.input[0]
    elif kind == "attribute" and node.attribute:
        attribute = node.attribute[draw(st.integers(0, len(node.attribute) - 1))]
        if attribute.type == onnx.AttributeProto.INT:
            attribute.i = draw(st.integers(-3, 9))
        elif attribute.type == onnx.AttributeProto.FLOAT:
            attribute.f = draw(st.sampled_from([0.0, -1.0, 0.5, 1.0, 3.0, float("nan")]))
        elif attribute.type == onnx.AttributeProto.INTS and attribute.ints:
            attribute.ints[draw(st.integers(0, len(attribute.ints) - 1))] = draw(st.integers(-3, 9))
        else:
            node.ClearField("attribute")
    elif kind == "constant" and graph.initializer:
        tensor = graph.initializer[draw(st.integers(0, len(graph.initializer) - 1))]
        array = np.array(numpy_helper.to_array(tensor))
        if tensor.data_type == TensorProto.FLOAT:
            array.reshape(-1)[draw(st.integers(0, array.size - 1))] = draw(
                st.sampled_from([0.0, -1.0, 0.25, 2.0, np.inf])
            )
        elif array.size and tensor.data_type == TensorProto.INT64:
            array.reshape(-1)[draw(st.integers(0, array.size - 1))] = draw(st.integers(-2, 5))
        tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    elif kind == "cut" and len(node.input) > 1:
        del node.input[-1]
    elif kind == "shortcut" and node.input and node.output:
        node.CopyFrom(
            helper.make_node("Identity", [node.input[0]], [node.output[0]], name=node.name)
        )


def original(proto: onnx.ModelProto, x: np.ndarray) -> np.ndarray | None:
    """What onnxruntime makes of the file; None if it refuses."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    try:
        session = onnxruntime.InferenceSession(
            proto.SerializeToString(), options, ["CPUExecutionProvider"]
        )
        return session.run(None, {session.get_inputs()[0].name: x})[0]
    except Exception:  # onnxruntime has many
        return None


def check(proto: onnx.ModelProto, path: Path) -> str:
    """The outcome: a code, or 'agrees'."""
    path.write_bytes(proto.SerializeToString())
    try:
        opened = open_model(path)
        check_import(opened)
    except NeurocompileError as error:
        assert error.code in CATALOGUE and error.code != "NC9001", error
        if "please report it" in error.message:  # true only of what is no valid ONNX
            shape = [d.dim_value or 3 for d in proto.graph.input[0].type.tensor_type.shape.dim]
            assert original(proto, np.zeros(shape, np.float32)) is None, error
        return error.code
    graph = opened.graph
    batch = (
        opened.reference.loaded.proto.graph.input[0].type.tensor_type.shape.dim[0].dim_value or 3
    )
    x = np.random.default_rng(1).normal(0.4, 0.8, (batch, *graph.input.shape)).astype(np.float32)
    expected = original(proto, x)
    assert expected is not None, "imported, and onnxruntime refuses it"
    found = evaluate(graph, x, max(graph.exported_T, 1), [graph.output.name])[graph.output.name]
    if expected.ndim == 3:
        expected = expected.mean(0)
    close = np.isclose(found.reshape(expected.shape), expected, rtol=1e-3, atol=1e-3)
    assert close.mean() > 0.9, f"silently wrong: {found.ravel()[:4]} for {expected.ravel()[:4]}"
    return "agrees"


@pytest.mark.parametrize("name", FILES)
def test_a_mutated_file_is_refused_by_code_or_computes_the_same(
    name: str, tmp_path_factory, request
) -> None:
    template, path = FILES[name](), tmp_path_factory.mktemp("mutants") / "m.onnx"
    slow = request.config.getoption("--slow") or os.environ.get("NEUROCOMPILE_SLOW") == "1"
    seen: set[str] = set()

    @settings(
        max_examples=500 if slow else EXAMPLES // len(FILES),
        deadline=None,
        database=None,
        derandomize=not slow,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def mutants(data) -> None:
        proto = onnx.ModelProto()
        proto.CopyFrom(template)
        for _ in range(data.draw(st.integers(1, 2))):
            mutate(proto, data.draw)
        seen.add(check(proto, path))

    assert check(template, path) == "agrees"
    mutants()
    assert len(seen) > 1


def test_a_loop_whose_condition_is_no_truth_value_is_refused(tmp_path: Path) -> None:
    """Found by the mutants: crashed on the truth of an array."""
    proto = files.network_loop()
    node = next(n for n in proto.graph.node if n.op_type == "Loop")
    node.input[1] = "b1"
    assert check(proto, tmp_path / "m.onnx") == "NC1009"
