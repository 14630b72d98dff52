"""Fine-tuned weights are stored as integers, and read as the same values."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from neurocompile.qat.packing import pack_integers


def file_with(values: dict[str, np.ndarray], opset: int = 17) -> onnx.ModelProto:
    """The sum of all ``values``."""
    shape = next(iter(values.values())).shape
    graph = helper.make_graph(
        [helper.make_node("Sum", list(values), ["out"])],
        "g",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(v, k) for k, v in values.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def test_values_on_a_grid_become_int8_and_stay_what_they_are() -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    rng, steps = np.random.default_rng(0), (0.03125, np.float32(63 / 4096 / 7))
    whole = rng.integers(-7, 8, (3, 8, 16))
    values = {
        "coarse": (whole[0] * np.float32(steps[0])).astype(np.float32),
        "fine": (whole[1] * np.float32(steps[1])).astype(np.float32),
        "free": rng.normal(size=(8, 16)).astype(np.float32),
        "wide": (np.arange(128).reshape(8, 16) * 2 * np.float32(steps[0])).astype(np.float32),
    }
    model = file_with(values)
    before = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {})[0]
    assert pack_integers(model, steps) == 2
    onnx.checker.check_model(model)
    kinds = {i.name: i.data_type for i in model.graph.initializer}
    assert kinds["coarse.int8"] == kinds["fine.int8"] == TensorProto.INT8
    assert kinds["free"] == kinds["wide"] == TensorProto.FLOAT
    after = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {})[0]
    np.testing.assert_array_equal(after, before)


def test_an_old_file_stays() -> None:
    model = file_with({"a": np.zeros((8, 16), np.float32)}, opset=9)
    assert pack_integers(model, [1.0]) == 0 and len(model.graph.node) == 1


@pytest.mark.slow
def test_a_packed_model_compiles_to_the_trained_spikes(digits_model, digits_data, tmp_path) -> None:
    pytest.importorskip("torch", reason="the extra 'torch' is not installed")
    from neurocompile.qat import prepare
    from neurocompile.qat.outcome import write

    model = prepare(digits_model, bits=4, calibration=digits_data.x[:32])
    path: Path = tmp_path / "four.onnx"
    assert write(model, path, digits_data.x[:32]) is None
    types = {i.data_type for i in onnx.load(path).graph.initializer if np.prod(i.dims) >= 512}
    assert types == {TensorProto.INT8}


@pytest.mark.parametrize("version", [10, 13, 18, 19, 21])
def test_integers_are_read_at_every_opset(version: int) -> None:
    from neurocompile.frontends.onnx.fold import fold

    node = helper.make_node("DequantizeLinear", ["q", "s"], ["o"])
    feeds = {"q": np.array([-3, 7], np.int8), "s": np.float32(0.25)}
    (found,) = fold(node, feeds, [helper.make_opsetid("", version)], "here")
    np.testing.assert_array_equal(found, np.float32([-0.75, 1.75]))
