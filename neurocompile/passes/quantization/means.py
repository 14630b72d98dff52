"""Means that rounding takes from the values of a layer, followed through the layers behind it."""

from __future__ import annotations

import numpy as np

from neurocompile.ir import spiking as s
from neurocompile.passes.quantization.state import Quantization

__all__ = ["note_shift", "per_input_channel", "per_weight", "through"]


def note_shift(
    state: Quantization, node: s.Conv2d | s.Linear, weight: np.ndarray, lost: np.ndarray
) -> None:
    """Remember the mean of what rounding took from the layer's output: ``lost`` weights times the
    input's mean, and ``weight`` times what the input already lacks."""
    found = []
    if (mean := state.mean.get(node.x)) is not None:
        # a plain sum: a matrix product's rounding may depend on the number of threads
        channels = per_weight(state, node, per_input_channel(node, mean))
        shift = (lost.reshape(len(lost), -1) * channels).sum(axis=1)
        found.append(shift[:, None, None] if isinstance(node, s.Conv2d) else shift)
    if (lacking := state.shift.get(node.x)) is not None:
        found.append(through(state, node, weight, np.broadcast_to(lacking, state.size[node.x])))
    if found:
        state.shift[node.name] = sum(found[1:], found[0])


def through(
    state: Quantization, node: s.Conv2d | s.Linear, weight: np.ndarray, x: np.ndarray
) -> np.ndarray:
    """What the layer makes of the mean of each input channel of ``x``: (C, 1, 1), or (C, H, W)
    where the border pads with zeros.
    """
    channels = per_input_channel(node, x)
    if isinstance(node, s.Linear):
        return (weight * channels).sum(axis=1)
    out, group_in, kh, kw = weight.shape
    spread = np.repeat(channels.reshape(node.groups, group_in), out // node.groups, axis=0)
    taps = (weight * spread[:, :, None, None]).sum(axis=1)
    if not any(node.padding):
        return taps.sum(axis=(1, 2))[:, None, None]
    inside = [
        _taps_inside(size, kernel, *geometry)
        for size, kernel, geometry in zip(
            state.size[node.x][1:],
            (kh, kw),
            zip(node.stride, node.padding, node.dilation, strict=True),
            strict=True,
        )
    ]
    return np.einsum("oij,yi,xj->oyx", taps, *inside)


def _taps_inside(size: int, kernel: int, stride: int, padding: int, dilation: int) -> np.ndarray:
    """(outputs, kernel), 1 where a tap of an output along one axis reads the input and 0 where it
    reads padding.
    """
    outputs = (size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    at = np.arange(outputs)[:, None] * stride - padding + np.arange(kernel) * dilation
    return ((at >= 0) & (at < size)).astype(np.float64)


def per_input_channel(node: s.Conv2d | s.Linear, values: np.ndarray) -> np.ndarray:
    """Mean of ``values`` (the input's shape) over everything but the channel axis."""
    axis = 0 if isinstance(node, s.Conv2d) else values.ndim - 1
    return values.mean(axis=tuple(i for i in range(values.ndim) if i != axis))


def per_weight(state: Quantization, node: s.Conv2d | s.Linear, channels: np.ndarray) -> np.ndarray:
    """``channels`` spread over one output's weights, flat; groups see the mean of all groups."""
    if isinstance(node, s.Linear):
        return channels
    _, group_in, kh, kw = state.graph.tensors[node.weight].shape
    return np.repeat(channels.reshape(-1, group_in).mean(axis=0), kh * kw)
