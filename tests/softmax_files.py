"""A small softmax attention as an ONNX file, for the theory's tests."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx_cases import ints, lif, model, normal, op, timed

TOKENS, D, T = 3, 4, 6
WEIGHT = 2.0
"""Of the projections: enough for spikes."""


def attention() -> onnx.ModelProto:
    """x (batch, 3, 4); Q, K and V by LIF, ``softmax(0.7 mean(Q K^T)) mean(V)``, a projection, a LIF
    and means.
    """
    nodes, constants = timed(
        (TOKENS, D),
        [
            op("MatMul", "t wq", "fq"),
            lif("fq", "q"),
            op("MatMul", "t wk", "fk"),
            lif("fk", "k"),
            op("MatMul", "t wv", "fv"),
            lif("fv", "v"),
            op("Transpose", "k", "kt", perm=[0, 1, 3, 2]),
            op("MatMul", "q kt", "s"),
            op("ReduceMean", "s zero", "sm", keepdims=1),
            op("Mul", "sm scale", "sc"),
            op("Softmax", "sc", "p", axis=-1),
            op("ReduceMean", "v zero", "vm", keepdims=1),
            op("MatMul", "p vm", "y"),
            op("MatMul", "y wo", "o"),
            op("Tile", "o again", "r"),
            lif("r", "l"),
            op("ReduceMean", "l tokens", "m", keepdims=0),
            op("ReduceMean", "m zero", "out", keepdims=0),
        ],
        T,
    )
    weights = {f"w{i}": WEIGHT * normal(D, D, seed=k) for k, i in enumerate("qkvo")}
    more = {"scale": np.float32(0.7), "again": ints(T, 1, 1, 1), "tokens": ints(2)}
    return model(nodes, {**constants, **weights, **more}, ("batch", TOKENS, D))


def write(folder: Path) -> tuple[Path, Path, np.ndarray]:
    """The file, its artifact and twelve samples."""
    import neurocompile

    x = np.random.default_rng(1).uniform(-2, 2, (12, TOKENS, D)).astype(np.float32)
    (folder / "attention.onnx").write_bytes(attention().SerializeToString())
    program = neurocompile.compile(folder / "attention.onnx", T=T, calibration=x)
    program.save(folder / "attention.nca")
    np.savez(folder / "x.npz", x=x, y=program.run(x).predictions)
    return folder / "attention.onnx", folder / "attention.nca", x
