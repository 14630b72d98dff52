"""Attributes, operands and metadata of the wrong kind in a stranger's ONNX file are errors with a
code.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_cases import imported, ints, normal, small

from neurocompile.calibration import CALIBRATION_KEY, calibration_from_metadata
from neurocompile.errors import NeurocompileError


def bare(kind: str, inputs: str, **attributes: object) -> list[onnx.NodeProto]:
    return [helper.make_node(kind, inputs.split(), ["f"], name="it", **attributes)]


@pytest.mark.parametrize(
    "nodes",
    [
        bare("LIF", "t", domain="ai.neurocompile"),
        bare("LIF", "t", domain="ai.neurocompile", tau="two", v_threshold=1.0, v_reset=0.0),
        bare("LIF", "t", domain="ai.neurocompile", tau=[2.0], v_threshold=1.0, v_reset=0.0),
        bare(
            "LIF",
            "t",
            domain="ai.neurocompile",
            tau=normal(1).tolist(),
            v_threshold="x",
            v_reset=0.0,
        ),
        bare("LIF", "", domain="ai.neurocompile", tau=2.0, v_threshold=1.0, v_reset=0.0),
        bare("LIF", "w", domain="ai.neurocompile", tau=2.0, v_threshold=1.0, v_reset=0.0),
        bare("MaxPool", "t"),
        bare("MaxPool", "t", kernel_shape=[0, 0]),
        bare("MaxPool", "t", kernel_shape="ab"),
        bare("MaxPool", "t", kernel_shape=[2, 2], strides=[0, 0]),
        bare("MaxPool", "t", kernel_shape=[2, 2], auto_pad="SAME_UPPER"),
        bare("Conv", "t w"),
        bare("Conv", "t k"),
        bare("Conv", "t k", group=0),
        bare("Conv", "t k", strides=[0, 0]),
        bare("Conv", "t k", pads=[-9, -9, -9, -9]),
        bare("Conv", "t k", dilations=[1]),
        bare("Conv", "t k", group=2.5),
        bare("Conv", "t gone"),
        bare("Conv", "t"),
        bare("Transpose", "t", perm=[0, 0, 1]),
        bare("Transpose", "t", perm=[9, 8, 7]),
        bare("Transpose", "t", perm=2.0),
        bare("Reshape", "t w"),
        bare("Reshape", "t minus"),
        bare("Reshape", "t two_minus"),
        bare("Reshape", "t empty"),
        bare("Flatten", "t", axis=77),
        bare("Flatten", "t", axis=-77),
        bare("Unsqueeze", "t far"),
        bare("Squeeze", "t far"),
        bare("Tile", "t w"),
        bare("Tile", "t one"),
        bare("Expand", "t w"),
        bare("Expand", "t t"),
        bare("ReduceMean", "t far"),
        bare("ReduceMean", "t empty"),
        bare("Gemm", "t k"),
        bare("Gemm", "t w", alpha=float("nan")),
        bare("Gemm", "t w", transB="yes"),
        bare("MatMul", "t k"),
        bare("MatMul", "t"),
        bare("Add", "t"),
        bare("Add", "t t t"),
        bare("Add", "t k"),
        bare("Cast", "t"),
        bare("Cast", "t", to=999),
        bare("Shape", "t"),
        bare("BatchNormalization", "t w w w w"),
        bare("BatchNormalization", "t v"),
        bare("Dropout", "t one one"),
        bare("BatchNormalization", "t v v v v", epsilon=float("nan")),
        bare("BatchNormalization", "t v v v v", training_mode=1),
        bare("Identity", ""),
        bare("Nothing", "t"),
        bare("LIF", "t"),
        bare("Conv", "t k", domain="evil"),
        bare("Concat", "w w"),
        bare("Gather", "w far"),
        bare("Gather", "t far"),
        bare("Gather", "t minus", axis=7),
        bare("Gather", "w t"),
        bare("Einsum", "t t", equation="abc,abc->abc"),
        bare("Einsum", "t t", equation="abc,abd"),
        bare("Einsum", "t w", equation="abc,->a"),
        bare("Einsum", "t w", equation="...c,c...->..."),
        bare("Einsum", "t w", equation="aaa,ab->b"),
        bare("Einsum", "t", equation="abc->cba"),
        bare("Einsum", "t w", equation=3),
        bare("Einsum", "t w"),
        bare("Constant", ""),
    ],
    ids=lambda nodes: nodes[0].op_type,
)
def test_attributes_and_operands_of_the_wrong_kind_are_errors_of_ours(
    nodes: list, tmp_path: Path
) -> None:
    constants = {
        "k": normal(3, 4, 1, 1),
        "minus": ints(-2, -2),
        "two_minus": ints(-1, -1),
        "far": ints(99),
        "one": ints(1),
        "empty": ints(),
        "v": np.full(4, -1.0, np.float32),
    }
    with pytest.raises(NeurocompileError):
        imported(small(nodes, constants=constants), tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "null",
        "[]",
        "3",
        "{",
        '{"T": 4}',
        "[" * 9999,
        "\x00",
        *(
            json.dumps(
                {"samples": 1, "T": 4, "input": {"min": 0.0, "max": 1.0, "grid": 0.5}, "layers": {}}
                | change
            )
            for change in (
                {"T": "four"},
                {"T": 4.5},
                {"samples": None},
                {"input": []},
                {"input": {"min": 0.0}},
                {"more": 1},
                {"layers": []},
                {"layers": {"l": {"rate": "high"}}},
                {"layers": {"l": {"rate": float("nan")}}},
                {"layers": {"l": {"rate": 1e9}}},
                {"layers": {"l": {"rate": 0.5, "channel_rate": [-1.0]}}},
                {"input": {"min": 1.0, "max": 0.0}},
                {"input": {"min": float("-inf"), "max": 0.0}},
                {"input": {"min": 0.0, "max": 1.0, "grid": 0.0}},
                {"input": {"min": 0.0, "max": 1.0, "grid": -1.0}},
                {"input": {"min": 0.0, "max": 1.0, "grid": 1e-300}},
                {"input": {"min": 0.0, "max": 1e300}},
                {"input": {"min": -1e40, "max": 1.0, "grid": 1e39}},
                {"T": 10**30},
            )
        ),
    ],
)
def test_malformed_statistics_are_refused(text: str, tmp_path: Path) -> None:
    loaded, _ = imported(small(metadata={CALIBRATION_KEY: text}), tmp_path)
    with pytest.raises(NeurocompileError, match="NC1002"):
        calibration_from_metadata(loaded.metadata)
