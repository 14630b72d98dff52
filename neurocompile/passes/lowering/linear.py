"""Layers with weights: convolutions and matrices."""

from __future__ import annotations

import numpy as np

from neurocompile.circuits.builder import Drive, Signal, channels_last
from neurocompile.errors import NeurocompileError
from neurocompile.ir import circuit as c
from neurocompile.ir import spiking as s
from neurocompile.ir.layout import Layout
from neurocompile.ir.text import Ref
from neurocompile.passes.lowering.state import LOWERINGS, Lowering


@LOWERINGS.rule(s.Conv2d)
def lower_conv(at: Lowering, node: s.Conv2d) -> Signal:
    source = at.feature_map(node, node.x)
    kernel = np.ascontiguousarray(at.graph.tensors[node.weight].transpose(0, 2, 3, 1))
    out, kh, kw, _ = kernel.shape
    height, width, _ = at.builder.shape(source)
    rows = (height + 2 * node.padding[0] - node.dilation[0] * (kh - 1) - 1) // node.stride[0] + 1
    columns = (width + 2 * node.padding[1] - node.dilation[1] * (kw - 1) - 1) // node.stride[1] + 1
    projection = c.Conv2d(
        name="",
        src=Ref(source),
        dst=Ref(""),
        weight=at.builder.tensor(node.weight, kernel),
        stride=node.stride,
        padding=node.padding,
        dilation=node.dilation,
        groups=node.groups,
        weight_bits=at.weight_bits,
        weight_exp=node.exponent,
    )
    return Signal(Drive((rows, columns, out), (projection,)), channels_last((out, rows, columns)))


@LOWERINGS.rule(s.Linear)
def lower_linear(at: Lowering, node: s.Linear) -> Signal:
    signal = at.population(node, node.x)
    weight = at.graph.tensors[node.weight]
    if len(signal.shape) != 1:
        raise NeurocompileError(
            "NC2001",
            f"layer '{node.name}' is a Linear over {list(signal.shape)}; use a 1x1 Conv for tokens",
            layer=node.name,
        )
    assert isinstance(signal.base, str)
    columns = np.zeros((len(weight), int(np.prod(at.builder.shape(signal.base)))), np.int16)
    columns[:, signal.layout.indices()] = weight
    projection = c.Dense(
        name="",
        src=Ref(signal.base),
        dst=Ref(""),
        weight=at.builder.tensor(node.weight, columns),
        weight_bits=at.weight_bits,
        weight_exp=node.exponent,
    )
    return Signal(Drive((len(weight),), (projection,)), Layout.contiguous((len(weight),)))
