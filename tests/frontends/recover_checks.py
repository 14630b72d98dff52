"""What the tests of recovered files check: the same numbers, no comparison left, and an importer
that reads them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx

from neurocompile.frontends.onnx.importer import import_onnx
from neurocompile.frontends.onnx.lif import DOMAIN
from neurocompile.frontends.onnx.load import load_onnx
from neurocompile.frontends.onnx.recover import recover_lif
from neurocompile.reference.runtime import open_session


def run(proto: onnx.ModelProto, **inputs: np.ndarray) -> list[np.ndarray]:
    return open_session(proto.SerializeToString()).run(None, inputs)


def lifs(proto: onnx.ModelProto) -> list[dict[str, float]]:
    """Attributes of every LIF node, rounded; no comparison is left."""
    assert not any(
        n.op_type in ("Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Loop", "Scan")
        for n in proto.graph.node
    )
    return [
        {a.name: round(float(onnx.helper.get_attribute_value(a)), 5) for a in n.attribute}
        for n in proto.graph.node
        if n.domain == DOMAIN
    ]


def check(proto: onnx.ModelProto, *shape: int, T: int | None = None) -> onnx.ModelProto:
    """Recover, compare with the original on noise, and return the new model."""
    recovered = recover_lif(proto, T)
    onnx.checker.check_model(recovered, full_check=True)
    x = np.random.default_rng(0).normal(0.6, 1.0, shape).astype(np.float32)
    name = recovered.graph.input[0].name
    (new,), old = run(recovered, **{name: x}), run(proto, **{name: x})[0]
    assert np.abs(old).sum() > 0
    np.testing.assert_allclose(new, old, atol=1e-6, rtol=0)
    return recovered


def imported_layers(proto: onnx.ModelProto, tmp_path: Path) -> int:
    """LIF layers that the importer sees in a recovered file."""
    onnx.save(proto, tmp_path / "recovered.onnx")
    return len(import_onnx(load_onnx(tmp_path / "recovered.onnx"), "recovered").layer_values)


PLAIN = {"tau": 2.0, "v_threshold": 1.0, "v_reset": 0.0, "decay_input": 1.0, "soft_reset": 0.0}
