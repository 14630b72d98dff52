"""Borders of every mode, choices of positions and blocks of channels, against onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx_cases import ints, normal, op
from test_onnx_forms import net

FORMS = {
    "cut and zeros": ([op("Pad", "r pads", "p")], {"pads": ints(0, 0, -1, 2, 0, 0, 1, -1)}, (4, 6, 7)),
    "a number around": ([op("Pad", "r pads one", "p")], {"pads": ints(0, 0, 1, 0, 0, 0, 0, 1)}, (4, 7, 7)),
    "channels": ([op("Pad", "r pads", "p")], {"pads": ints(0, 1, 0, 0, 0, 2, 1, 1)}, (7, 7, 7)),
    "edge": ([op("Pad", "r pads", "p", mode="edge")], {"pads": ints(0, 0, 1, 2, 0, 0, 0, 1)}, (4, 7, 9)),
    "reflect": ([op("Pad", "r pads", "p", mode="reflect")], {"pads": ints(0, 0, 2, 1, 0, 0, 1, 0)}, (4, 9, 7)),
    "wrap": ([op("Pad", "r pads", "p", mode="wrap")], {"pads": ints(0, 0, 1, 1, 0, 0, 1, 1)}, (4, 8, 8)),
    "blocks to positions": ([op("DepthToSpace", "r", "p", blocksize=2)], {}, (1, 12, 12)),
    "blocks to positions, other order": (
        [op("DepthToSpace", "r", "p", blocksize=2, mode="CRD")],
        {},
        (1, 12, 12),
    ),
    "positions to blocks": ([op("SpaceToDepth", "r", "p", blocksize=3)], {}, (36, 2, 2)),
    "transposed and dilated": (
        [op("ConvTranspose", "r wide", "p", dilations=[2, 1], strides=[1, 2], group=2)],
        {"wide": normal(4, 3, 2, 2, seed=3)},
        (6, 8, 12),
    ),
}  # fmt: skip
NEAREST = {
    "larger by a part": ((1, 1, 1.5, 4 / 3), {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}),
    "smaller": ((1, 1, 0.5, 0.5), {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}),
    "half pixels": ((1, 1, 0.5, 1.5), {}),
    "half pixels up": ((1, 1, 1.5, 0.5), {"nearest_mode": "round_prefer_ceil"}),
    "corners": ((1, 1, 1.5, 1.5), {"coordinate_transformation_mode": "align_corners", "nearest_mode": "ceil"}),
}  # fmt: skip


def of_layer(nodes: list, out: tuple[int, ...], folder: Path, **constants: np.ndarray) -> None:
    """``nodes`` from 'r' to 'p' on (4, 6, 6), then a 1x1 convolution, a neuron and a mean."""
    body = [*nodes, op("Conv", "p k b", "c")]
    net(body, (5, out[0], 1, 1), (4, 6, 6), (5, *out[1:]), folder, **constants)


@pytest.mark.parametrize("form", list(FORMS))
def test_what_moves_or_surrounds(form: str, tmp_path: Path) -> None:
    nodes, constants, out = FORMS[form]
    of_layer(nodes, out, tmp_path, one=np.float32(1.0), **constants)


@pytest.mark.parametrize("form", list(NEAREST))
def test_the_nearest_position(form: str, tmp_path: Path) -> None:
    scales, fields = NEAREST[form]
    out = (4, *(int(np.floor(6 * f + 1e-6)) for f in scales[2:]))
    nodes = [op("Resize", "r roi scales", "p", mode="nearest", **fields)]
    given = {"scales": np.asarray(scales, np.float32), "roi": np.zeros(0, np.float32)}
    of_layer(nodes, out, tmp_path, **given)


def test_what_is_too_much_is_refused(tmp_path: Path) -> None:
    for nodes, constants in (
        ([op("Pad", "r pads", "p", mode="reflect")], {"pads": ints(0, 0, 6, 0, 0, 0, 0, 0)}),
        ([op("Pad", "r pads", "p")], {"pads": ints(0, 0, -6, 0, 0, 0, 0, 0)}),
        ([op("Pad", "r pads", "p")], {"pads": ints(0, 10**9, 0, 0, 0, 0, 0, 0)}),
        ([op("ConvTranspose", "r wide", "p", dilations=[10**6, 1])], {"wide": normal(4, 3, 2, 2)}),
    ):
        with pytest.raises(Exception, match="NC1009|NC1002"):
            of_layer(nodes, (4, 6, 6), tmp_path, **constants)
