"""Convolutions of a file, over one or two axes, and matrices on tokens: all are Conv2d of the
SpikingGraph.

A 1x1 convolution and a matrix over tokens act on each position alone, so they read a feature map
(C, H, W) as it lies, whatever order the file views it in, and no view appears between layers.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil, prod
from typing import Any

import numpy as np
import onnx

from neurocompile.frontends.onnx.context import Border, Importer, Joined, Rule, Traced
from neurocompile.ir import spiking as s
from neurocompile.ir.layout import Atom, Layout, shown
from neurocompile.ir.text import Ref

__all__ = ["CONVOLUTION_RULES", "check_bias", "linear", "linear_along", "padded"]

_PAD = "pad."
"""Prefix of the weight of a convolution that only pads."""


def _conv(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    x = im.settled(im.traced[node.input[0]])
    weight, groups = im.constant(node, 1), int(attributes.get("group", 1))
    axes = weight.ndim - 2
    if axes not in (1, 2) or len(x.dims) != weight.ndim:
        raise im.error(
            "NC1009",
            f"a {axes}-d convolution of {len(x.dims)} axes; Conv over (N, C, L) or (N, C, H, W) is supported",
        )
    unit = (1,) * (2 - axes)
    stride = (*attributes.get("strides", (1,) * axes), *unit)
    dilation = (*attributes.get("dilations", (1,) * axes), *unit)
    weight = weight.reshape(*weight.shape, *unit)
    im.window(stride, dilation, weight.shape[2:])
    if any(a.axis for a in x.dims[1]):
        raise im.error(
            "NC1008", f"batch and time must be the first axis of {shown(x.layout.shape)}"
        )
    channels = x.layout.shape[1]
    if groups < 1 or weight.shape[1] * groups != channels or weight.shape[0] % groups:
        raise im.error(
            "NC1006", f"weight {list(weight.shape)} does not match {channels} input channels"
        )
    x, attributes = _with_border(im, x, attributes, axes)
    size = (*x.layout.shape[2:], *unit)
    padding, weight = _pads(im, attributes, size, stride, dilation, weight)
    key = im.store(node.input[1], weight)
    check_bias(im, im.constant(node, 2), len(weight))
    bias = im.tensor(node.input[2]) if im.constant(node, 2) is not None else None
    wanted = node.name or node.output[0]
    if (
        weight.shape[2:] == stride == (1, 1)
        and padding == (0, 0)
        and (y := _pointwise(im, x, 1, wanted, key, bias, groups))
    ):
        im.keep(node, y)
        return
    ref, windows = im.as_map(x, axes)
    if windows > 1:  # each window is a group of its own
        key = im.store(f"{key}.windows", np.tile(weight, (windows, 1, 1, 1)))
        bias = bias and im.store(f"{bias}.windows", np.tile(im.tensors[bias], windows))
    ref, padding = _unpadded(im, ref, padding)
    found = _emit(
        im,
        wanted,
        ref,
        weight=key,
        bias=bias,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups * windows,
    )
    im.keep(node, im.from_map(x, found, axes))


def check_bias(im: Importer, bias: np.ndarray | None, outputs: int) -> None:
    """NC1006 unless there is one number for each of ``outputs`` channels."""
    if bias is not None and bias.shape != (outputs,):
        raise im.error("NC1006", f"a bias of shape {list(bias.shape)} for {outputs} outputs")


def _emit(im: Importer, wanted: str, ref: Ref, **fields: Any) -> Ref:
    """A Conv2d of the feature map ``ref``, or the sum of those of the parts that it is joined of."""
    if ref in im.joined and fields.get("groups", 1) == 1:
        return _of_parts(im, wanted, im.joined[ref], **fields)
    weight = im.tensors[fields["weight"]]
    stride, padding, dilation = (
        fields.get(k, d) for k, d in (("stride", (1, 1)), ("padding", (0, 0)), ("dilation", (1, 1)))
    )
    out = [
        (n + 2 * p - d * (k - 1) - 1) // st + 1
        for n, p, d, k, st in zip(im.shapes[ref][1:], padding, dilation, weight.shape[2:], stride)
    ]
    return im.emit(s.Conv2d, wanted, (weight.shape[0], *out), x=ref, **fields)


def _of_parts(im: Importer, wanted: str, joined: Joined, **fields: Any) -> Ref:
    weight, whole = im.tensors[fields["weight"]], None
    for k, (ref, start, channels) in enumerate(joined.parts):
        share = im.store(f"{fields['weight']}.part{k}", weight[:, start : start + channels])
        y = _emit(
            im,
            f"{wanted}.part{k}",
            ref,
            **{**fields, "weight": share, "bias": fields.get("bias") if k == 0 else None},
        )
        whole = y if whole is None else im.emit(s.Add, wanted, im.shapes[y], a=whole, b=y)
    assert whole is not None
    return whole


def _pads(
    im: Importer,
    attributes: dict[str, Any],
    size: tuple[int, ...],
    stride: tuple[int, ...],
    dilation: tuple[int, ...],
    weight: np.ndarray,
) -> tuple[tuple[int, int], np.ndarray]:
    """Equal padding at both ends, and the kernel for it: a larger border at one end is met by zeros
    of the kernel.
    """
    auto = attributes.get("auto_pad", b"NOTSET")
    given = list(attributes.get("pads", (0,) * (2 * (weight.ndim - 2))))
    if len(given) == 2:
        given = [given[0], 0, given[1], 0]
    if auto in (b"SAME_UPPER", b"SAME_LOWER"):
        total = [
            max((ceil(n / st) - 1) * st + d * (k - 1) + 1 - n, 0)
            for n, st, d, k in zip(size, stride, dilation, weight.shape[2:])
        ]
        less, more = [t // 2 for t in total], [t - t // 2 for t in total]
        given = [*less, *more] if auto == b"SAME_UPPER" else [*more, *less]
    elif auto not in (b"NOTSET", b"VALID"):
        raise im.error("NC1009", f"auto_pad {auto!r} is not defined by ONNX")
    reach = max(
        *size, *(d * (k - 1) for d, k in zip(dilation, weight.shape[2:]))
    )  # more would only add zeros to the output
    if len(given) != 4 or min(given) < 0 or max(given) > reach:
        raise im.error("NC1009", f"pads {given} are not two or four numbers from 0 to {reach:,}")
    for axis in (0, 1):
        begin, end = given[axis], given[2 + axis]
        if begin == end:
            continue
        if abs(begin - end) % dilation[axis]:
            raise im.error(
                "NC1009", f"pads {given} differ between begin and end, at dilation {list(dilation)}"
            )
        more = abs(begin - end) // dilation[axis]
        wide = [(0, 0)] * weight.ndim
        wide[2 + axis] = (more, 0) if end > begin else (0, more)
        weight = np.pad(weight, wide)
    return (max(given[0], given[2]), max(given[1], given[3])), weight


def _pointwise(
    im: Importer, x: Traced, dim: int, wanted: str, weight: Any, bias: Any, groups: int = 1
) -> Traced | None:
    """A 1x1 convolution over axis ``dim`` of ``x``, on the feature map as it lies; None if it is no
    such map.
    """
    shape = im.shapes[x.ref]
    if len(shape) != 3 or im.axis_of(x, dim) != 0 or x.ref in im.borders:
        return None
    y = _emit(im, wanted, x.ref, weight=weight, bias=bias, groups=groups)
    channels, dims = im.shapes[y][0], list(x.dims)
    dims[dim] = (Atom(channels, prod(shape[1:])),) if channels > 1 else ()
    return Traced(y, Layout(tuple(dims)))


def linear(
    im: Importer,
    node: onnx.NodeProto,
    weight: np.ndarray,
    source: str,
    bias: np.ndarray | None,
    x: Traced | None = None,
    wanted: str = "",
) -> Traced:
    """``weight`` (out, in), made from the initializer ``source``, on the last axis of ``x``, by
    default the first operand.
    """
    x, wanted = im.traced[node.input[0]] if x is None else x, wanted or node.name or node.output[0]
    x = im.settled(x, len(x.dims) - 1)
    if x.layout.shape[-1] != weight.shape[1] or any(a.axis for a in x.dims[-1]):
        raise im.error(
            "NC1006",
            f"weight (out, in) {list(weight.shape)} does not match {shown(x.layout.shape)}",
        )
    if bias is not None and (
        bias.size not in (1, len(weight)) or bias.shape[-1:] not in ((), (1,), (len(weight),))
    ):
        raise im.error("NC1006", f"a bias of shape {list(bias.shape)} for {len(weight)} outputs")
    pattern = im.pattern(x)
    tokens = [run for d in x.dims[:-1] for run in im.runs(d)]
    kernel = weight if not tokens else weight[:, :, None, None]
    key = im.store(source, kernel)
    bias_ref = None
    if bias is not None:
        bias_ref = im.store(f"{key}.bias", np.broadcast_to(bias.reshape(-1), (len(weight),)))
    if not tokens:
        ref = im.features(x)
        flat_ref = im.emit(s.Linear, wanted, (len(weight),), x=ref, weight=key, bias=bias_ref)
        return im.fresh(flat_ref, pattern)
    y = _pointwise(im, x, len(x.dims) - 1, wanted, key, bias_ref)
    if y is None:
        flat = tuple(a for d in tokens for a in d)
        lead = tuple(
            tuple(a for a in d if a.axis) for d, p in zip(x.dims, pattern) if p is not None
        )
        ref = im.features(Traced(x.ref, Layout((*lead, x.dims[-1], flat, ()))))
        sizes = tuple(prod(a.size for a in d) for d in tokens)
        out = _emit(im, wanted, ref, weight=key, bias=bias_ref)
        channel, *places = Layout.contiguous((len(weight), *sizes)).dims
        y = Traced(out, im.filled(pattern, (*places, channel)))
    return y


def linear_along(
    im: Importer, node: onnx.NodeProto, weight: np.ndarray, source: str, x: Traced, axis: int
) -> Traced:
    """``weight`` (out, in) on axis ``axis`` of ``x``."""
    order = [*(i for i in range(len(x.dims)) if i != axis), axis]
    moved = Traced(x.ref, x.layout.transpose(tuple(order)))
    y = linear(im, node, weight, source, None, moved)
    return Traced(y.ref, y.layout.transpose(tuple(np.argsort(order).tolist())))


# ---- borders -------------------------------------------------------------------------------------


def padded(im: Importer, node: onnx.NodeProto, x: Traced, grown: list[tuple[int, int]]) -> Traced:
    """Zeros around the positions of a feature map, so many before and behind each axis: a
    convolution that copies, which the next convolution takes over.
    """
    axes = len(grown)
    if not any(map(any, grown)):
        return x
    if axes > 2:
        raise im.error("NC1009", f"a border around maps of {axes} axes; one or two are supported")
    x = im.settled(x)
    ref, _ = im.as_map(x, axes)
    both = [*grown, *[(0, 0)] * (2 - axes)]
    channels = im.shapes[ref][0]
    ends = [(max(e - b, 0), max(b - e, 0)) for b, e in both]
    even = not any(map(any, ends))
    copy = np.pad(np.ones((channels, 1, 1, 1)), ((0, 0), (0, 0), *ends))
    y = _emit(
        im,
        node.name or node.output[0],
        ref,
        weight=im.store(f"{_PAD if even else 'border.'}{channels}", copy),
        padding=tuple(map(max, both)),
        groups=channels,
    )
    found = im.from_map(x, y, axes)
    im.padded[y] = (found, x, (*(b for b, _ in grown), *(e for _, e in grown)))
    return found


def _with_border(
    im: Importer, x: Traced, attributes: dict[str, Any], axes: int
) -> tuple[Traced, dict[str, Any]]:
    """What a Pad in front of a convolution surrounds, and the convolution's attributes with its
    border, where only the two ends of that differ.
    """
    found, first, border = im.padded.get(x.ref, (None, x, ()))
    pads = tuple(attributes.get("pads", (0,) * 2 * axes))
    same = border[:axes] == border[axes:]
    if found != x or same or len(pads) != 2 * axes or "auto_pad" in attributes:
        return x, attributes
    return first, {**attributes, "pads": tuple(p + q for p, q in zip(pads, border))}


def _unpadded(im: Importer, ref: Ref, padding: tuple[int, int]) -> tuple[Ref, tuple[int, int]]:
    """What a convolution that only pads reads, and the padding of both."""
    made = im.made(ref)
    if isinstance(made, s.Conv2d) and made.weight.startswith(_PAD) and made.bias is None:
        return made.x, (padding[0] + made.padding[0], padding[1] + made.padding[1])
    return ref, padding


def _scatter(im: Importer, node: onnx.NodeProto, attributes: dict[str, Any]) -> None:
    """One number a channel written over one side of the border of a padded feature map.

    Meta-SpikeFormer's RepConv fills the border with what its normalization makes of zero: that is a
    border of zeros before its 1x1 convolution. Once all four sides are written, this is what the
    graph says.
    """
    x, indices, updates = im.traced[node.input[0]], im.constant(node, 1), im.constant(node, 2)
    made = im.made(x.ref)
    known = im.borders.get(x.ref)
    if (
        not isinstance(made, s.Conv2d)
        or not (made.weight.startswith(_PAD) or known)
        or known
        and known.done
    ):
        raise im.error(
            "NC1009", "writes into a signal; only the border of a padded feature map may be written"
        )
    place, rows = _rows_written(x, indices)
    axis = None if place is None else im.axis_of(x, place)
    channel = next((k for k in range(len(x.dims)) if im.axis_of(x, k) == 0), None)
    if axis not in (1, 2) or channel is None:
        raise im.error("NC1009", "writes rows or columns of a feature map; this is none")
    border = im.borders.setdefault(x.ref, Border(made.padding, {}))
    width, size = border.padding[axis - 1], im.shapes[x.ref][axis]
    sides = {tuple(range(width)): False, tuple(range(size - width, size)): True}
    if tuple(rows) not in sides or attributes.get("reduction", b"none") != b"none":
        raise im.error(
            "NC1009",
            f"writes rows {rows[:4]} of {size}; only whole borders of {width} may be written",
        )
    # Axes that a constant is only repeated along have stride 0, and need no look at each element.
    few = updates[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in updates.strides)]
    vector = np.moveaxis(few, channel, -1).reshape(-1, few.shape[channel])
    if (vector != vector[0]).any():
        raise im.error("NC1009", "writes a border that is not one number a channel")
    border.sides[axis, sides[tuple(rows)]] = np.broadcast_to(vector[0], (im.shapes[x.ref][0],))
    im.keep(node, x)
    if len(border.sides) == 4:
        im.keep(node, im.over(x, _bordered(im, made, border)))


def _rows_written(x: Traced, indices: np.ndarray) -> tuple[int | None, list[int]]:
    """The axis of ``x`` that whole rows are written along, and which ones: the first one, or, as
    TorchScript's exporter writes it, that in which a box of single elements does not span ``x``;
    None where it is neither.
    """
    rank, sizes = indices.shape[-1], [prod(a.size for a in dim) for dim in x.dims]
    if rank == 1:
        return 0, [int(i) for i in indices.reshape(-1)]
    single = indices.reshape(-1, rank)
    if (
        not indices.size
        or rank != len(sizes)
        or indices.shape[:-1] != tuple(np.ptp(single, axis=0) + 1)
    ):
        return None, []
    first = single.min(axis=0)
    box = np.moveaxis(np.indices(indices.shape[:-1]), 0, -1).reshape(-1, rank) + first
    short = [k for k, size in enumerate(sizes) if indices.shape[k] != size]
    if len(short) != 1 or (single != box).any():
        return None, []
    (place,) = short
    return place, [int(first[place]) + k for k in range(indices.shape[place])]


def _bordered(im: Importer, pad: s.Conv2d, border: Border) -> Ref:
    """The padded map, by padding the 1x1 convolution in front; NC1009 if that makes another border."""
    chain: list[s.Node] = [im.made(pad.x)]
    while isinstance(chain[-1], s.BatchNorm):
        chain.append(im.made(chain[-1].x))
    conv = chain.pop()
    value = next(iter(border.sides.values()))
    if any(not np.array_equal(v, value) for v in border.sides.values()):
        raise im.error("NC1009", "the four sides of a border differ")
    plain = (
        isinstance(conv, s.Conv2d)
        and im.tensors[conv.weight].shape[2:] == (1, 1) == conv.stride
        and conv.padding == (0, 0)
    )
    if not plain:
        raise im.error(
            "NC1009",
            "a border of constants is supported after a 1x1 convolution, with the value it has for zeros",
        )
    assert isinstance(conv, s.Conv2d)
    made = (
        np.zeros(len(value)) if conv.bias is None else np.asarray(im.tensors[conv.bias], np.float64)
    )
    for norm in reversed(chain):
        scale, shift, mean, var = (np.asarray(im.tensors[t], np.float64) for t in norm.tensors)
        made = (made - mean) / np.sqrt(var + norm.eps) * scale + shift  # type: ignore[attr-defined]
    if not np.allclose(made, value, rtol=1e-4, atol=1e-5):
        raise im.error(
            "NC1009",
            "a border of constants that are not what the 1x1 convolution in front makes of zeros",
        )
    border.done = True
    fields = {k: v for k, v in vars(conv).items() if k not in ("name", "x")}
    ref = _emit(im, f"{conv.name}.padded", conv.x, **{**fields, "padding": pad.padding})
    for norm in reversed(chain):
        shape, name = im.shapes[ref], im.name(f"{norm.name}.padded")
        im.nodes.append(replace(norm, name=name, x=ref))  # type: ignore[call-arg]
        im.shapes[name] = shape
        ref = Ref(name)
    return ref


CONVOLUTION_RULES: dict[str, Rule] = {"Conv": _conv, "ScatterND": _scatter}
