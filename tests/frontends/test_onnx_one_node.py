"""One operator on rows of feature maps, in forms that few files have: the layer behind it spikes as
in onnxruntime.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper
from onnx_cases import imported, ints, lif, normal, op
from onnx_maps import map_of, node

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.onnx.reference import run_onnx
from neurocompile.ir.evaluate import evaluate

MORE = {
    "k2": 0.5 * normal(6, 4, 1, 1, seed=4),
    "k8": normal(4, 8, 3, 3, seed=3),
    "both": 0.5 * normal(4, 4, 1, 1, seed=4),
    "low": np.float32(0.5),
    "high": np.float32(1.5),
    "power1": np.float32(1),
    "power3": np.float32(3),
    "each": np.linspace(0.5, 2, 36, dtype=np.float32).reshape(6, 6),
    "channel": np.linspace(-1, 1, 4, dtype=np.float32).reshape(4, 1, 1),
    "extra_rows": np.broadcast_to(np.float32(0.7), (1, 4, 1, 6)),
    "scale": 1 + np.abs(normal(4)),
    "var": 1 + np.abs(normal(4, seed=2)),
    "all": ints(0, 1, 2, 3),
    "turned": ints(3, 1, 2, 0),
    "rest": ints(3, 3),
    "begin": ints(0),
    "end": ints(6),
    "half_w": np.array([1, 1, 1, 0.5], np.float32),
    "sixth": np.array([1, 1, 1 / 6, 1], np.float32),
    "same": np.array([1, 1, 1, 1], np.float32),
    "twice_h": np.array([1, 1, 2, 1], np.float32),
}
MAP, TALL, FLAT = (4, 6, 6), (4, 12, 6), (4, 1, 6)
NEAREST = {"mode": "nearest"}
SPLIT = [helper.make_node("Split", ["r", "rest"], ["c0", "c"], axis=2)]
GROW = op("ConvTranspose", "r up", "g", strides=[2, 2])
FORMS = {
    "one piece": (node("Split", "r", axis=1, num_outputs=1), MAP),
    "pieces of given sizes": (SPLIT, (4, 3, 6)),
    "a slice of all": (node("Slice", "r begin end axes"), MAP),
    "every index": (node("Gather", "r all", axis=1), MAP),
    "indices in another order": (node("Gather", "r turned", axis=1), MAP),
    "a matrix of indices": (node("Gather", "r matrix", axis=3), (4, 6, 2, 3)),
    "indices of the first axis": (
        [
            op("Transpose", "r", "last", perm=[3, 0, 1, 2]),
            op("GatherND", "last column", "some"),
            op("Transpose", "some", "c", perm=[1, 2, 3, 0]),
        ],
        (4, 6, 4),
    ),
    "an index from behind": (node("Gather", "r minus", axis=2), (4, 6)),
    "pixels of half a step": (
        node(
            "Resize", "r - half_w", **NEAREST, coordinate_transformation_mode="half_pixel_symmetric"
        ),
        (4, 6, 3),
    ),
    "one row of six": (
        node("Resize", "r - sixth", **NEAREST, coordinate_transformation_mode="pytorch_half_pixel"),
        FLAT,
    ),
    "as large as it was": (node("Resize", "r - same", **NEAREST), MAP),
    "twice as high": (
        node(
            "Resize",
            "r - twice_h",
            **NEAREST,
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        ),
        TALL,
    ),
    "a pool of single values": (
        node("AveragePool", "r", kernel_shape=[1, 1], strides=[2, 1]),
        (4, 3, 6),
    ),
    "a normalization of a larger map": (
        [GROW, *node("BatchNormalization", "g scale b zeros var")],
        (4, 12, 12),
    ),
    "a weight a position of a larger map": (
        [
            GROW,
            op("MaxPool", "g", "p", kernel_shape=[2, 2], strides=[2, 2]),
            *node("Mul", "p each"),
        ],
        MAP,
    ),
    "a cut at both ends": ([op("Conv", "r both", "f"), *node("Clip", "f low high")], MAP),
    "a cut below": ([op("Conv", "r both", "f"), *node("Clip", "f low")], MAP),
    "the first power": (node("Pow", "r power1"), MAP),
    "a cube": (node("Pow", "r power3"), MAP),
    "less than nothing": ([op("Conv", "r both", "f"), *node("Neg", "f")], MAP),
    "a leak": ([op("Conv", "r both", "f"), *node("LeakyRelu", "f", alpha=0.3)], MAP),
    "a leak of what is above 0": (
        [
            op("Reshape", "r cut0", "r5"),
            lif("r5", "s5"),
            op("Reshape", "s5 rows", "s6"),
            op("LeakyRelu", "s6", "f"),
            *node("Conv", "f both"),
        ],
        MAP,
    ),
    "a choice by position": ([op("Conv", "r both", "f"), *node("Where", "chosen f low")], MAP),
    "the other of a choice": ([op("Conv", "r both", "f"), *node("Where", "chosen low f")], MAP),
    "a map beside itself": (
        [
            op("Neg", "r", "f"),
            op("Concat", "r f", "j", axis=1),
            *node("Conv", "j k8", pads=[1] * 4),
        ],
        MAP,
    ),
    "an offset that repeats": (node("Add", "r extra_rows"), MAP),
    "no border": (node("Pad", "r no_pads"), MAP),
    "a mean of one channel": (
        [op("Conv", "r one_k", "f"), *node("ReduceMean", "f one_axis")],
        (1, 6, 6),
    ),
    "its own mean taken away": ([op("ReduceMean", "r two_axes", "m"), *node("Sub", "r m")], MAP),
    "the largest of turned maps": (
        [
            op("Transpose", "r", "f", perm=[0, 1, 3, 2]),
            op("Conv", "r both", "g"),
            *node("Max", "f g"),
        ],
        MAP,
    ),
}


NEWER = {
    "GELU": ([op("Conv", "r both", "f"), *node("Gelu", "f")], 20),
    "GELU by tanh": ([op("Conv", "r both", "f"), *node("Gelu", "f", approximate="tanh")], 20),
    "groups": (node("GroupNormalization", "r scale b", num_groups=2), 21),
}
REFUSED = {
    "three groups of four": (
        node("GroupNormalization", "r scale b", num_groups=3),
        21,
        "NC1009",
        "3 groups of 4",
    ),
    "a Swish of nothing": (node("Swish", "r", alpha=0.0), 24, "NC1009|NC1002", "alpha is 0|."),
    "the mean as well": (
        [helper.make_node("LayerNormalization", ["r", "one6"], ["c", "mean_of_r"])],
        18,
        "NC1009",
        "one output is supported",
    ),
}


def in_opset(proto: onnx.ModelProto, version: int) -> onnx.ModelProto:
    proto.opset_import[0].version = proto.functions[0].opset_import[0].version = version
    return proto


@pytest.mark.parametrize("form", NEWER)
def test_one_node_of_a_newer_opset(form: str, tmp_path: Path) -> None:
    nodes, opset = NEWER[form]
    spikes_alike(in_opset(map_of(nodes, **MORE), opset), tmp_path)


@pytest.mark.parametrize("form", REFUSED)
def test_one_node_that_is_refused(form: str, tmp_path: Path) -> None:
    nodes, opset, code, why = REFUSED[form]
    more = {**MORE, "one6": np.ones(6, np.float32)}
    with pytest.raises(NeurocompileError, match=why) as caught:
        imported(in_opset(map_of(nodes, **more), opset), tmp_path)
    assert caught.value.code in code


@pytest.mark.parametrize("form", FORMS)
def test_one_node(form: str, tmp_path: Path) -> None:
    nodes, out = FORMS[form]
    more = {
        **MORE,
        "up": normal(4, 4, 2, 2, seed=6),
        "cut0": ints(2, -1, *MAP),
        "minus": ints(-2).reshape(()),
    }
    more |= {"no_pads": ints(*[0] * 8)}
    more |= {"one_k": normal(1, 4, 1, 1), "one_axis": ints(1), "two_axes": ints(2, 3)}
    spikes_alike(map_of(nodes, out, **more), tmp_path)


def spikes_alike(proto: onnx.ModelProto, folder: Path) -> None:
    loaded, got = imported(proto, folder)
    x = np.random.default_rng(0).uniform(0, 2, (2, *MAP)).astype(np.float32)
    reference = run_onnx(loaded, got, x)
    ours = evaluate(got.graph, x, 2, list(reference.layers))
    for name, spikes in reference.layers.items():
        assert 0.02 < spikes.mean() < 0.98
        np.testing.assert_array_equal(ours[name], spikes)
