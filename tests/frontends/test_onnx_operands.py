"""Attributes and operands that an ONNX operator may have and that have no meaning here are refused:
one line each, on rows of feature maps.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from onnx import NodeProto, helper
from onnx_cases import ints, normal, op, refused
from onnx_maps import map_of, node

from neurocompile.frontends.onnx.lif import DOMAIN

MAX = {"kernel_shape": [2, 2]}


def own(kind: str, inputs: str, **attributes: object) -> list[NodeProto]:
    """One of our own operators."""
    return [helper.make_node(kind, inputs.split(), ["c"], "n_c", domain=DOMAIN, **attributes)]


REFUSED = {
    # pools
    "a dilated pool": (node("MaxPool", "r", **MAX, dilations=[2, 2]), "NC1009", "without dilation"),
    "negative pads": (
        node("MaxPool", "r", **MAX, pads=[-1, 0, 0, 0]),
        "NC1009",
        "4 pads and 2 strides",
    ),
    "a pool's auto_pad": (node("MaxPool", "r", **MAX, auto_pad="SOME"), "NC1009", "auto_pad"),
    "a border as wide as its window": (
        node("MaxPool", "r", **MAX, pads=[2, 0, 0, 0]),
        "NC1009",
        "a window of 2 over 6 elements with borders of 2 and 0",
    ),
    "a window of more axes": (
        node("MaxPool", "r", kernel_shape=[2, 2, 2]),
        "NC1009",
        r"a window \[2, 2, 2\]",
    ),
    # blocks
    "blocks of no size": (node("SpaceToDepth", "r", blocksize=4), "NC1009", r"blocks of 4 of \["),
    "blocks of three channels": (
        node("DepthToSpace", "r", blocksize=3),
        "NC1009",
        "blocks of 3 of .*mode DCR",
    ),
    "another order of blocks": (
        node("DepthToSpace", "r", blocksize=2, mode="XYZ"),
        "NC1009",
        "mode XYZ",
    ),
    # pieces
    "pieces that are not all": (
        node("Split", "r i12", axis=1),
        "NC1009",
        r"splits an axis of 4 in pieces of \[1, 2\]",
    ),
    "an empty slice": (
        node("Slice", "r i2 i1 axes"),
        "NC1009",
        "an empty slice 2:1:1 of an axis of 6",
    ),
    "starts without ends": (
        node("Slice", "r i12 i9"),
        "NC1009",
        "2 starts, 1 ends, 2 axes and 2 steps",
    ),
    "an index behind the last": (
        node("Gather", "r i9", axis=2),
        "NC1009",
        r"indices \[9\] of an axis of 6",
    ),
    "indices of two axes": (node("GatherND", "r square"), "NC1003", "one axis at a time"),
    "an index behind the last of a matrix": (
        node("Gather", "r i9s", axis=2),
        "NC1009",
        r"indices \[0, 9\] of an axis of 6",
    ),
    "steps of time": (node("Gather", "t i1", axis=0), "NC1008", "takes some steps of time"),
    "samples": (node("Gather", "t i0", axis=1), "NC1008", "takes some samples of the batch"),
    # larger maps
    "a weight of other channels": (
        node("ConvTranspose", "r k5"),
        "NC1006",
        r"weight \[5, 4, 3, 3\] does not match 4 channels",
    ),
    "a transposed bias of five": (
        node("ConvTranspose", "r k b5"),
        "NC1006",
        r"a bias of shape \[5\] for 4 outputs",
    ),
    "an output shape": (
        node("ConvTranspose", "r k", output_shape=[9, 9]),
        "NC1009",
        "without output_shape",
    ),
    "a transposed kernel of one axis": (
        node("ConvTranspose", "r k1"),
        "NC1009",
        "a 1-d transposed convolution of 4 axes",
    ),
    "all is cut off": (
        node("ConvTranspose", "r k", pads=[4, 4, 4, 4]),
        "NC1009",
        "that leaves nothing",
    ),
    "a dilation too wide": (
        node("ConvTranspose", "r k", dilations=[200, 1]),
        "NC1009",
        "a dilation of",
    ),
    "linear interpolation": (node("Resize", "r - grow", mode="linear"), "NC1009", "mode linear by"),
    "a hundred times larger": (
        node("Resize", "r - huge", mode="nearest"),
        "NC1009",
        "an interpolation of 6 positions to 600",
    ),
    "nothing is left": (
        node("Resize", "r - tenth", mode="nearest"),
        "NC1009",
        "an interpolation of 6 positions to 0",
    ),
    "another rule of places": (
        node(
            "Resize",
            "r - grow",
            mode="nearest",
            coordinate_transformation_mode="tf_crop_and_resize",
        ),
        "NC1009",
        "coordinate_transformation_mode tf_crop_and_resize",
    ),
    "another rule of rounding": (
        node("Resize", "r - grow", mode="nearest", nearest_mode="none"),
        "NC1009",
        "nearest_mode none",
    ),
    # layers
    "Gemm of columns": (
        [op("Flatten", "r", "f"), *node("Gemm", "f k2", transA=1)],
        "NC1009",
        "transA",
    ),
    "Gemm of a tensor": (
        [op("Flatten", "r", "f"), *node("Gemm", "f k")],
        "NC1009",
        "a matrix is supported",
    ),
    "a product with a tensor": (node("MatMul", "r k"), "NC1009", "a matrix is supported"),
    "a tensor times a signal": (node("MatMul", "k r"), "NC1009", "a matrix is supported"),
    "a bias of five": (
        node("Conv", "r k b5", pads=[1] * 4),
        "NC1006",
        r"a bias of shape \[5\] for 4 outputs",
    ),
    "a mean over everything": (node("ReduceMean", "r"), "NC1009", "would mix samples"),
    "Gemm's bias of five": (
        [op("Flatten", "r", "f"), *node("Gemm", "f k2 b5")],
        "NC1006",
        r"a bias of shape \[5\] for 8 outputs",
    ),
    "three groups of channels": (
        node("Conv", "r k", group=3),
        "NC1006",
        "does not match 4 input channels",
    ),
    "half a step of a border": (
        node("Conv", "r k", pads=[0, 0, 1, 1], dilations=[2, 2]),
        "NC1009",
        ".",
    ),
    "a volume": (node("Conv", "t k3"), "NC1009", "a 3-d convolution of 5 axes"),
    "the largest of two shapes": (
        [op("ReduceMean", "r axes", "m"), *node("Max", "r m")],
        "NC1009",
        "not of one shape",
    ),
    "signals and a number": ([op("Neg", "r", "m"), *node("Max", "r m one")], "NC1009", "."),
    "a product of steps and samples": (
        [
            op("Transpose", "t", "u", perm=[2, 3, 4, 0, 1]),
            op("Transpose", "t", "v", perm=[2, 3, 4, 1, 0]),
            *node("MatMul", "u v"),
        ],
        "NC1008",
        "the last two axes of a product must be features",
    ),
    # neurons of our own
    "no thresholds": (
        own("SoftLIF", "t one none_f", subtract=1.0, decay_input=0),
        "NC1009",
        "1 to .* thresholds, rising",
    ),
    "falling thresholds": (
        own("SoftLIF", "t one down", subtract=1.0, decay_input=0),
        "NC1009",
        "thresholds, rising",
    ),
    "a threshold at 0 with a memory": (
        own("SoftLIF", "t half zeros1", subtract=1.0, decay_input=0),
        "NC1009",
        "out of range .tau >= 1.",
    ),
    "a threshold at 0 of a memory": (
        own("SoftLIF", "t three zeros1", subtract=1.0, decay_input=0),
        "NC1009",
        "memory are above 0",
    ),
    "an integrator that grows": (
        own("Integrator", "t", decay=1.5),
        "NC1009",
        "keeps 1.5 of its value",
    ),
    "taus of positions": (
        own("ChannelLIF", "t k1", v_threshold=1.0, v_reset=0.0, decay_input=1, soft_reset=0),
        "NC1009",
        "one for each channel is supported",
    ),
    "a tau below 1": (
        own("ChannelLIF", "t taus", v_threshold=1.0, v_reset=0.0, decay_input=1, soft_reset=0),
        "NC1009",
        "a tau of 0.5; it is at least 1",
    ),
    "a mean that grows": (own("TokenMean", "t t three one"), "NC1009", "outside of 0 to 1"),
    "a mean that counts nothing": (
        own("TokenMean", "t t half zeros1"),
        "NC1009",
        "outside of 2.-20 to 2.20",
    ),
    "a mean of other values": (
        [op("ReduceMean", "t axes", "m"), *own("TokenMean", "t m half one")],
        "NC1006",
        "values and factors",
    ),
    "two steps of one": (
        own("Previous", "", of="s", shape=[4, 6, 6], steps=1),
        "NC1009",
        "1 steps of shape",
    ),
    # normalizations
    "BatchNorm in training": (
        node("BatchNormalization", "r ones zeros zeros ones", training_mode=1),
        "NC1009",
        "training_mode mixes samples",
    ),
    "BatchNorm of five": (node("BatchNormalization", "r b5 b5 b5 b5"), "NC1006", "5"),
    "no variance": (
        node("BatchNormalization", "r ones zeros zeros zeros", epsilon=0.0),
        "NC1009",
        "a variance that is not positive",
    ),
    "an epsilon below 0": (
        node("LayerNormalization", "r one", epsilon=-1.0),
        "NC1009",
        "epsilon is -1",
    ),
    "a weight that is NaN": (
        node("LayerNormalization", "r nan", axis=1),
        "NC1004",
        "NaN or infinite",
    ),
    "weights of five": (node("InstanceNormalization", "r b5 b5"), "NC1006", "weights"),
    "groups of a vector": (
        [op("Flatten", "r", "f"), *node("InstanceNormalization", "f ones ones")],
        "NC1008",
        "samples, channels and more",
    ),
    "LayerNorm over steps": (
        node("LayerNormalization", "t one", axis=0),
        "NC1008",
        "over time or samples",
    ),
    # functions
    "an ELU of another slope": (
        node("Elu", "r", alpha=2.0),
        "NC1009",
        "alpha is 2; 1 is supported",
    ),
    "a power of a signal": (node("Pow", "r half"), "NC1009", "squares and cubes"),
    "a cut from above alone": (node("Clip", "r - one"), "NC1009", "a cut to"),
    "a choice of two signals": (
        [op("Relu", "r", "p"), *node("Where", "chosen r p")],
        "NC1009",
        "a choice between two signals",
    ),
    "a choice by values": ([op("Greater", "r one", "p"), *node("Where", "p r one")], "NC1003", "."),
    "infinity in a choice": (
        node("Where", "chosen r inf"),
        "NC1004",
        "constant 'inf' has 1 of 1 values",
    ),
    "a softmax over samples": (node("Softmax", "t", axis=1), "NC2012", "a softmax over axis 1"),
    "Dropout that is random": (node("Dropout", "r one yes"), "NC1009", "training_mode is random"),
    "the largest over a number": (node("Max", "r one"), "NC1009", "that it may be below"),
    # borders
    "three axes of a border": (node("Pad", "t pads3"), "NC1009", "a border around maps of 3 axes"),
    "minus infinity in a choice": (node("Where", "chosen r minus_inf"), "NC1004", "infinite"),
    "a border of several values": (node("Pad", "r pads many"), "NC1009", "a border of 2 values"),
    "a border of named axes": (node("Pad", "r pads one axes"), "NC1009", "."),
    "a number divided by a signal": (
        node("Div", "one r"),
        "NC1009",
        "a constant divided by a signal",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_an_operand_without_a_meaning_is_refused(case: str, tmp_path: Path) -> None:
    nodes, code, why = REFUSED[case]
    more = {
        "k5": normal(5, 4, 3, 3),
        "k2": normal(144, 8),
        "half": np.float32(0.5),
        "k3": normal(2, 2, 1, 1, 1),
    }
    more |= {
        "three": np.float32(3),
        "down": np.float32([2, 1]),
        "zeros1": np.zeros(1, np.float32),
        "minus_inf": np.float32(-np.inf),
    }
    more |= {
        "taus": np.float32([2, 0.5, 1, 1]).reshape(4, 1, 1),
        "pads3": ints(0, 0, 1, 1, 1, 0, 0, 1, 1, 1),
    }
    refused(map_of(nodes, **more, yes=np.bool_(True)), tmp_path, code, why)
