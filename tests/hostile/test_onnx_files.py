"""ONNX files from strangers: an import or an error with a code, in bounded time and memory; never
anything else.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_cases import ZOO, imported, ints, normal, op, refused, small

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.onnx.load import load_onnx
from neurocompile.pipeline import import_model


def test_the_small_model_itself_imports(tmp_path: Path) -> None:
    assert len(imported(small(), tmp_path)[1].graph.spiking_layers) == 1


# ---- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\n",
        b"hello, this is no model\n" * 9,
        bytes(range(256)) * 4,
        b"\x00" * 100,
        b"PK\x03\x04",
        b"\x08",
    ],
)
def test_what_is_no_onnx_file_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.onnx").write_bytes(content)
    with pytest.raises(NeurocompileError, match="NC1002"):
        import_model(tmp_path / "bad.onnx")


def test_every_truncation_is_refused(tmp_path: Path) -> None:
    content = small().SerializeToString()
    for cut in [*range(0, len(content), 37), len(content) - 1]:
        (tmp_path / "cut.onnx").write_bytes(content[:cut])
        with pytest.raises(NeurocompileError):
            import_model(tmp_path / "cut.onnx")


def test_what_cannot_be_opened_is_said_so(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (
        tmp_path,
        tmp_path / "missing.onnx",
        tmp_path / "pipe",
        tmp_path / "nul\0.onnx",
        tmp_path / ("n" * 999),
    ):
        with pytest.raises(NeurocompileError, match="NC1001"):
            load_onnx(path)


# ---- weights -------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_named(value: float, tmp_path: Path) -> None:
    weight = normal(4, 4)
    weight[1, 2] = value
    refused(small(constants={"w": weight}), tmp_path, "NC1004", "constant 'w' has 1 of 16")
    node = helper.make_node("Constant", [], ["c"], value=onnx.numpy_helper.from_array(weight))
    refused(small([node, op("MatMul", "t c", "f")]), tmp_path, "NC1004", "'c'")


def test_a_weight_that_becomes_infinite_on_the_way_is_named(tmp_path: Path) -> None:
    refused(
        small(constants={"w": np.full((4, 4), 1e300)}),
        tmp_path,
        "NC1004",
        "'w' is NaN or infinite in float32",
    )
    nodes = [op("Div", "w nil", "v"), op("MatMul", "t v", "f")]
    refused(
        small(nodes, constants={"nil": np.zeros(1, np.float32)}),
        tmp_path,
        "NC1004",
        "'v' is NaN or infinite",
    )


# ---- shapes and types ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind", [TensorProto.DOUBLE, TensorProto.INT8, TensorProto.FLOAT16, TensorProto.STRING, 9999]
)
def test_an_input_that_is_not_float32_is_refused(kind: int, tmp_path: Path) -> None:
    proto = small()
    proto.graph.input[0].type.tensor_type.elem_type = kind
    with pytest.raises(NeurocompileError, match="NC10(06|02|09)"):
        imported(proto, tmp_path)


@pytest.mark.parametrize(
    "shape", [("batch",), (), ("batch", 0), ("batch", "free"), ("batch", -4), ("batch", 4, 0)]
)
def test_an_input_without_fixed_features_is_refused(shape: tuple, tmp_path: Path) -> None:
    refused(small(shape=shape), tmp_path, "NC1006")


def test_one_input_and_one_output_are_needed(tmp_path: Path) -> None:
    refused(small(more_inputs=("x2",)), tmp_path, "NC1009", "2 inputs")
    proto = small()
    proto.graph.output.add().CopyFrom(proto.graph.output[0])
    proto.graph.output[1].name = "l"
    assert len(imported(proto, tmp_path)[1].host.outputs) == 2
    del proto.graph.output[:], proto.graph.input[:]
    with pytest.raises(NeurocompileError, match="NC10"):
        imported(proto, tmp_path)


BIG = 2**40
BOMBS = {
    "ConstantOfShape": [op("ConstantOfShape", "big", "z"), op("MatMul", "t z", "f")],
    "Expand": [op("Expand", "w bigs", "z"), op("MatMul", "t z", "f")],
    "Tile": [op("Tile", "w manys", "z"), op("MatMul", "t z", "f")],
    "Range": [op("Range", "zero0 big0 one0", "z"), op("MatMul", "t z", "f")],
    "outer product": [op("Mul", "column row", "z"), op("MatMul", "t z", "f")],
    "Pad": [op("Pad", "w pads", "z"), op("MatMul", "t z", "f")],
    "Resize": [helper.make_node("Resize", ["w", "", "", "sizes"], ["z"]), op("MatMul", "t z", "f")],
    "random": [op("RandomNormal", "", "z", shape=[BIG]), op("MatMul", "t z", "f")],
    "step by step": [
        op("Tile", "w sixty", "a"),
        op("Tile", "a sixty", "b"),
        op("Tile", "b sixty", "c"),
        op("Tile", "c sixty", "d"),
        op("MatMul", "t d", "f"),
    ],
    "time": [op("Tile", "x1 manyt", "t9"), op("MatMul", "t9 w", "f")],
    "no time": [op("Tile", "x1 never", "t9"), op("MatMul", "t9 w", "f")],
    "negative time": [op("Tile", "x1 less", "t9"), op("MatMul", "t9 w", "f")],
    "time by Expand": [op("Expand", "x1 bigt", "t9"), op("MatMul", "t9 w", "f")],
}
BOMB_SIZES = {
    "big": ints(BIG),
    "bigs": ints(BIG, 4, 4),
    "manys": ints(BIG, 1),
    "zero0": np.int64(0),
    "big0": np.int64(BIG),
    "one0": np.int64(1),
    "column": np.ones((2**16, 1), np.float32),
    "row": np.ones((1, 2**16), np.float32),
    "pads": ints(0, BIG, 0, BIG),
    "sizes": ints(BIG, 4),
    "sixty": ints(60, 60),
    "manyt": ints(BIG, 1, 1),
    "never": ints(0, 1, 1),
    "less": ints(-4, 1, 1),
    "bigt": ints(BIG, 1, 4),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_constants_and_steps_beyond_memory_are_refused_before_they_are_made(
    bomb: str, tmp_path: Path
) -> None:
    proto = small(BOMBS[bomb], constants={k: np.asarray(v) for k, v in BOMB_SIZES.items()})
    started = time.monotonic()
    with pytest.raises(NeurocompileError, match="NC10(07|09|02)"):
        imported(proto, tmp_path)
    assert time.monotonic() - started < 5


def test_an_input_of_absurd_size_is_refused(tmp_path: Path) -> None:
    refused(small(shape=("batch", BIG)), tmp_path, "NC1009", "elements are supported")
    refused(small(shape=("batch", 2**62, 2**62)), tmp_path, "NC1009", "elements are supported")


def test_a_loop_over_constants_is_not_run(tmp_path: Path) -> None:
    body = helper.make_graph(
        [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Identity", ["v"], ["v2"])],
        "forever",
        [helper.make_tensor_value_info(n, k, []) for n, k in (("i", 7), ("c", 9), ("v", 1))],
        [helper.make_tensor_value_info(n, k, []) for n, k in (("c2", 9), ("v2", 1))],
    )
    nodes = [op("Loop", "trips go start", "z", body=body), op("MatMul", "t z", "f")]
    constants = {"trips": np.array(2**60), "go": np.array(True), "start": np.array(0, np.float32)}
    refused(small(nodes, constants=constants), tmp_path, "NC1009", "no plain function")


def test_flipped_bytes_of_a_real_model_import_or_are_errors_of_ours(tmp_path: Path) -> None:
    content, rng = ZOO.read_bytes(), np.random.default_rng(0)
    path, codes = tmp_path / "fuzz.onnx", set()
    for i in range(200):
        damaged = bytearray(content)
        # half of the files: only the last 20 KB and the first 9 KB, where structure is and not
        # weights
        ends = [*range(9000), *range(len(content) - 20000, len(content))]
        for place in rng.choice(ends if i % 2 else len(content), 1 + i % 4):
            damaged[place] = rng.integers(256)
        path.write_bytes(bytes(damaged))
        started = time.monotonic()
        try:
            import_model(path)
            codes.add("imported")
        except NeurocompileError as error:
            codes.add(error.code)
        assert time.monotonic() - started < 5
    assert {"imported", "NC1002"} < codes
