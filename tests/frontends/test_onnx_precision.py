"""Files in half and double precision: the same model in float32, and what that rounds is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import recover_files as files
from onnx import TensorProto, numpy_helper
from recover_checks import run

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.onnx.frontend import import_model
from neurocompile.frontends.onnx.load import load_onnx
from neurocompile.frontends.onnx.precision import in_float32
from neurocompile.ir.evaluate import evaluate

T, KINDS = 3, {"float16": TensorProto.FLOAT16, "float64": TensorProto.DOUBLE}


def written(kind: str, path: Path) -> onnx.ModelProto:
    """A neuron over three steps with everything in ``kind``; halves behind a cast to float32."""
    proto = files.unrolled(T)
    generator = np.random.default_rng(0)
    for tensor in proto.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            array = numpy_helper.to_array(tensor).astype(np.float64)
            if array.ndim == 2:  # not on float32's grid
                array = array + generator.normal(size=array.shape) * 1e-3
            tensor.CopyFrom(numpy_helper.from_array(array.astype(kind), tensor.name))
    for value in (*proto.graph.input, *proto.graph.output, *proto.graph.value_info):
        value.type.tensor_type.elem_type = KINDS[kind]
    for node in proto.graph.node:
        for a in node.attribute:
            if node.op_type == "Cast" and a.i == TensorProto.FLOAT:
                a.i = KINDS[kind]
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)
    return proto


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_model_in_float32(kind: str, tmp_path: Path) -> None:
    proto = written(kind, tmp_path / "m.onnx")
    said = (
        "no weight is rounded"
        if kind == "float16"
        else r"48 of \d+ weights are rounded, by at most"
    )
    with pytest.warns(
        UserWarning, match=f"is {kind}: it is compiled, and compared, in float32; {said}"
    ):
        _, found = import_model(tmp_path / "m.onnx")
    (weight,) = (
        t for t in found.graph.tensors.values() if t.shape == (8, 6, 1, 1) or t.shape == (8, 6)
    )
    w1 = next(numpy_helper.to_array(t) for t in proto.graph.initializer if t.name == "w1")
    np.testing.assert_array_equal(weight.reshape(8, 6), w1.T.astype(np.float32))
    x = np.random.default_rng(1).normal(0.6, 1.0, (T, 200, 6)).astype(kind)
    (theirs,) = run(proto, x=x)
    ours = evaluate(found.graph, x.swapaxes(0, 1).astype(np.float32), T)
    (layer,) = found.layer_values
    equal = ours[layer].swapaxes(0, 1).reshape(theirs.shape) == theirs
    assert theirs.sum() > 100 and (equal.all() if kind == "float64" else equal.mean() > 0.995)


def test_float32_is_left_alone_and_what_exceeds_it_is_refused(tmp_path: Path) -> None:
    onnx.save(files.unrolled(T), tmp_path / "m.onnx")
    loaded = load_onnx(tmp_path / "m.onnx")
    assert in_float32(loaded) is loaded
    proto = written("float64", tmp_path / "m.onnx")
    w1 = next(t for t in proto.graph.initializer if t.name == "w1")
    w1.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(w1) * 1e300, "w1"))
    onnx.save(proto, tmp_path / "m.onnx")
    with pytest.raises(NeurocompileError, match="^NC1004 'w1' has values beyond float32"):
        import_model(tmp_path / "m.onnx")
