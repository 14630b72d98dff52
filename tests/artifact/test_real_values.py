"""Programs whose layers make real values in each step come back from their artifacts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_cases import ints, lif, model, normal, op, timed

import neurocompile


@pytest.mark.slow
def test_a_function_of_real_values_comes_back(tmp_path: Path) -> None:
    nodes, constants = timed(
        (3, 4),
        [
            op("MatMul", "t w", "f"),
            op("Tanh", "f", "g"),
            lif("g", "l"),
            op("ReduceMean", "l axes", "out", keepdims=0),
        ],
    )
    constants |= {"w": normal(4, 5), "axes": ints(0, 2)}
    onnx.save(model(nodes, constants, (None, 3, 4)), tmp_path / "m.onnx")
    x = np.random.default_rng(0).normal(size=(8, 3, 4)).astype(np.float32)
    program = neurocompile.compile(tmp_path / "m.onnx", calibration=x)
    assert min(low for low, _ in program.calibration.values.values()) < 0
    program.save(tmp_path / "m.nca")
    loaded = neurocompile.load(tmp_path / "m.nca")
    np.testing.assert_array_equal(loaded.run(x).logits, program.run(x).logits)
