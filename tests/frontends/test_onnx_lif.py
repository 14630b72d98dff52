"""The LIF operator in plain onnxruntime against its equations, written out in numpy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from neurocompile.frontends.onnx import lif as onnx_lif


def lif_model(opset: int = 18, **attributes: float | int) -> onnx.ModelProto:
    node = helper.make_node("LIF", ["X"], ["S"], domain=onnx_lif.DOMAIN, **attributes)
    value_infos = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["T", "B", "C"]) for name in "XS"
    ]
    return helper.make_model(
        helper.make_graph([node], "one_lif", value_infos[:1], value_infos[1:]),
        functions=[onnx_lif.lif_function(opset)],
        opset_imports=[
            helper.make_opsetid("", opset),
            helper.make_opsetid(onnx_lif.DOMAIN, onnx_lif.VERSION),
        ],
        ir_version=10,
    )


def run(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"X": x})[0]


def formula(
    x: np.ndarray, tau: float, v_threshold: float, v_reset: float, decay_input: int, soft_reset: int
) -> np.ndarray:
    """The equations of the operator's docstring, in float32."""
    tau, v_threshold, v_reset = np.float32(tau), np.float32(v_threshold), np.float32(v_reset)
    rest = np.float32(0) if soft_reset else v_reset
    v, spikes = np.full_like(x[0], rest), []
    for current in x:
        h = v + (current - (v - rest)) / tau if decay_input else v - (v - rest) / tau + current
        s = h >= v_threshold
        v = np.where(s, h - v_threshold if soft_reset else v_reset, h)
        spikes.append(s.astype(np.float32))
    return np.stack(spikes)


@pytest.mark.parametrize("soft_reset", [0, 1])
@pytest.mark.parametrize("decay_input", [0, 1])
@pytest.mark.parametrize(
    ("tau", "v_threshold", "v_reset"), [(2.0, 1.0, 0.0), (1.7, 0.5, -0.3), (20.0, 0.3, 0.1)]
)
def test_operator_equals_its_equations(
    tau: float, v_threshold: float, v_reset: float, decay_input: int, soft_reset: int
) -> None:
    x = np.random.default_rng(0).normal(0.4, 1.0, (12, 5, 7)).astype(np.float32)
    attributes = {
        "tau": tau,
        "v_threshold": v_threshold,
        "v_reset": v_reset,
        "decay_input": decay_input,
        "soft_reset": soft_reset,
    }
    spikes = run(lif_model(**attributes), x)
    assert 0 < spikes.mean() < 1
    np.testing.assert_array_equal(spikes, formula(x, **attributes))


@pytest.mark.parametrize("soft_reset", [0, 1])
def test_without_leak_integrates(soft_reset: int) -> None:
    """IF: three quarters a step reach the threshold of 1 in the second step; a soft reset keeps the
    half above it.
    """
    x = np.full((4, 1, 1), 0.75, np.float32)
    model = lif_model(
        tau=onnx_lif.IF_TAU, v_threshold=1.0, v_reset=0.0, decay_input=0, soft_reset=soft_reset
    )
    expected = [0, 1, 1, 1] if soft_reset else [0, 1, 0, 1]
    assert run(model, x).ravel().tolist() == expected


def test_threshold_is_reached_at_equality() -> None:
    model = lif_model(tau=2.0, v_threshold=0.5, v_reset=0.0, decay_input=1, soft_reset=0)
    below, equal = np.nextafter(np.float32(1), np.float32(0)), np.float32(1)
    assert run(model, np.array([[[below, equal]]])).ravel().tolist() == [0, 1]


def test_checker_accepts_it_where_no_schema_is_known(tmp_path: Path) -> None:
    paths = [tmp_path / f"{opset}.onnx" for opset in (17, 18, 21)]
    for path in paths:
        model = lif_model(
            int(path.stem), tau=2.0, v_threshold=1.0, v_reset=0.0, decay_input=1, soft_reset=0
        )
        onnx.save(model, path)
        onnxruntime.InferenceSession(path)
    script = "import onnx, sys; [onnx.checker.check_model(onnx.load(p), full_check=True) for p in sys.argv[1:]]"
    subprocess.run([sys.executable, "-c", script, *paths], check=True)


def test_schema_registers_once() -> None:
    onnx_lif.register_schema()
    onnx_lif.register_schema()
    schema = onnx.defs.get_schema(onnx_lif.OP_TYPE, onnx_lif.VERSION, onnx_lif.DOMAIN)
    assert set(schema.attributes) == set(onnx_lif.ATTRIBUTES)


def test_module_does_not_import_torch() -> None:
    script = "import sys, neurocompile.frontends.onnx.lif; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", script], check=True)
