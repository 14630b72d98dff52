"""The definition's values in a fraction of its time: what measures a model asks here, what proves one
asks :func:`neurocompile.ir.evaluate.evaluate` itself.

Convolutions and matrices are event-driven, LIFs are compiled, a few samples at a time are evaluated on
each thread, so that memory does not grow with their number; all else is the definition. Integers are the
definition's. Float sums are made in one order, that of taps and channels, on every machine: a
membrane within rounding of its threshold may decide otherwise than with another order.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import reduce
from typing import Any, TypeVar

import numpy as np

from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import DEFINITIONS, Definition, evaluate
from neurocompile.ir.fields import ALL, PAYLOAD
from neurocompile.ir.text import TensorRef

__all__ = ["evaluate_quickly", "for_samples"]

_Found = TypeVar("_Found")
_DENSE = 0.4
"""Share of values other than 0 above which a matrix product is faster."""
_TOGETHER = 4
"""Samples of one call: what Python does is shared by them, and their values still fit a cache."""
_LIMIT = PAYLOAD


def evaluate_quickly(
    graph: s.SpikingGraph,
    x: np.ndarray,
    steps: int,
    record: Collection[str] | None = None,
    alter: Callable[[s.Node, list[np.ndarray], np.ndarray], np.ndarray] | None = None,
) -> dict[str, np.ndarray]:
    """As :func:`neurocompile.ir.evaluate.evaluate`; all samples at once where some values are
    altered.
    """
    if not len(x) or alter is not None:
        return evaluate(graph, x, steps, record, alter, _quick)
    parts = [found for _, found in for_samples(graph, x, steps, record, lambda found: found)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def for_samples(
    graph: s.SpikingGraph,
    x: np.ndarray,
    steps: int,
    record: Collection[str] | None,
    take: Callable[[dict[str, np.ndarray]], _Found],
    threads: int | None = None,
) -> Iterator[tuple[slice, _Found]]:
    """What ``take`` makes of the recorded values of some samples after the other, and which ones.

    Args:
        graph, x, steps, record: as :func:`neurocompile.ir.evaluate.evaluate` takes them.
        take: called on the threads.
        threads: by default the processors; results do not depend on it.
    """

    def one(part: slice) -> tuple[slice, _Found]:
        return part, take(evaluate(graph, x[part], steps, record, definition=_quick))

    parts = [slice(at, min(at + _TOGETHER, len(x))) for at in range(0, len(x), _TOGETHER)]
    workers = min(threads or _processors(), len(parts))
    if workers < 2:
        yield from map(one, parts)
        return
    pool = ThreadPoolExecutor(workers, "neurocompile-quick")
    try:
        yield from pool.map(one, parts)
    finally:  # an interrupt waits for the samples that run, not for all
        pool.shutdown(cancel_futures=True)


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quick(node: s.Node) -> Definition:
    return _QUICK.get(type(node)) or DEFINITIONS.of(node)


def _conv(
    node: s.Conv2d, inputs: list[np.ndarray], tensors: list[np.ndarray], steps: int
) -> np.ndarray:
    (x,), weight = inputs, tensors[0]
    if node.groups > 1 or not _sparse(x, weight):
        return DEFINITIONS.of(node)(node, inputs, tensors, steps)
    rows = _convolved(x, weight, node.stride, node.padding, node.dilation)
    y = rows if node.exponent == 0 else _powered(rows, node.exponent)
    y = y if node.bias is None else y + tensors[1].astype(x.dtype)
    return np.moveaxis(y, -1, 2)


def _convolved(
    x: np.ndarray,
    weight: np.ndarray,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
) -> np.ndarray:
    """(samples, steps, rows, columns, C_out) of x (samples, steps, C, H, W)."""
    from neurocompile.ir.quick_kernels import LANES, convolve

    count, given, channels, height, width = x.shape
    outputs, _, kh, kw = weight.shape
    sizes = [
        (n + 2 * p - (k - 1) * d - 1) // by + 1
        for n, p, k, d, by in zip((height, width), padding, (kh, kw), dilation, stride)
    ]
    lines = np.ascontiguousarray(np.moveaxis(x, 2, -1), np.float32).reshape(-1)
    columns = -(-outputs // LANES) * LANES
    taps = np.zeros((kh, kw, channels, columns), np.float32)
    taps[..., :outputs] = weight.transpose(2, 3, 1, 0)
    out = np.zeros(count * given * sizes[0] * sizes[1] * columns, np.float32)
    shape = (count * given, height, width, channels, *sizes, columns, kh, kw)
    events, values = np.empty(lines.size, np.int32), np.empty(lines.size, np.float32)
    starts = np.empty(height * width + 1, np.int32)
    places = (*shape, *stride, *padding, *dilation)
    convolve(lines, taps.reshape(-1), out, places, starts, events, values)
    return out.reshape(count, given, *sizes, columns)[..., :outputs].astype(x.dtype, copy=False)


def _linear(
    node: s.Linear, inputs: list[np.ndarray], tensors: list[np.ndarray], steps: int
) -> np.ndarray:
    (x,), weight = inputs, tensors[0]
    if x.ndim < 3 or not _sparse(x, weight):
        return DEFINITIONS.of(node)(node, inputs, tensors, steps)
    lines = np.ascontiguousarray(x).reshape(1, 1, -1, x.shape[-1])
    one = (1, 1)
    y = _convolved(
        lines.transpose(0, 1, 3, 2)[..., None], weight[:, :, None, None], one, (0, 0), one
    )
    y = y.reshape(*x.shape[:-1], len(weight))
    y = y if node.exponent == 0 else _powered(y, node.exponent)
    return y if node.bias is None else y + tensors[1].astype(y.dtype)


def _powered(y: np.ndarray, exponent: int) -> np.ndarray:
    return y >> -exponent if exponent < 0 else y * y.dtype.type(1 << exponent)


def _sparse(x: np.ndarray, weight: np.ndarray) -> bool:
    """Whether events pay; and of integers, whether every sum is exact in float32."""
    first = x[:1, :1]  # a look is enough
    if np.count_nonzero(first) > _DENSE * first.size:
        return False
    if x.dtype.kind != "i":
        return True
    most = np.abs(weight).sum(axis=tuple(range(1, weight.ndim)), dtype=np.int64).max(initial=0)
    return int(most) * max(int(x.max(initial=0)), -int(x.min(initial=0))) < 1 << 24


def _lif(
    node: s.LIF, inputs: list[np.ndarray], tensors: list[np.ndarray], steps: int
) -> np.ndarray:
    from neurocompile.ir.quick_kernels import lif

    (x,), named = inputs, dict(zip(node.tensors, tensors))
    if node.soft_reset or node.more or node.current or x.dtype != np.float32:
        return DEFINITIONS.of(node)(node, inputs, tensors, steps)
    flat, order = _in_order(x)
    shape = x.shape[2:]
    tau = named[node.tau] if isinstance(node.tau, TensorRef) else np.float32(node.tau)
    bias = np.float32(0) if node.bias is None else named[node.bias]
    out = np.empty(len(x) * steps * flat.shape[2], np.float32)
    lif(
        flat.reshape(-1),
        out,
        np.empty(flat.shape[2], np.float32),
        (len(x), x.shape[1], steps, flat.shape[2]),
        node.decay_input,
        np.array([node.v_reset, node.v_threshold, node.gain], np.float32),
        _spread(tau, shape, order, np.float32),
        _spread(bias, shape, order, np.float32),
    )
    return _back(out, len(x), steps, shape, order)


def _integer_lif(
    node: s.IntegerLIF, inputs: list[np.ndarray], tensors: list[np.ndarray], steps: int
) -> np.ndarray:
    from neurocompile.ir.quick_kernels import integer_lif

    (x,), named = inputs, dict(zip(node.tensors, tensors))
    if node.current != ALL or x.dtype != np.int64:  # one that stays
        return DEFINITIONS.of(node)(node, inputs, tensors, steps)
    flat, order = _in_order(x)
    shape = x.shape[2:]
    bias = np.int64(0) if node.bias is None else named[node.bias].astype(np.int64) << node.bias_exp
    dv, vth = (
        named[v].astype(np.int64) if isinstance(v, TensorRef) else np.int64(v)
        for v in (node.dv, node.vth)
    )
    out = np.empty(len(x) * steps * flat.shape[2], np.int64)
    integer_lif(
        flat.reshape(-1),
        out,
        np.empty(flat.shape[2], np.int64),
        (len(x), x.shape[1], steps, flat.shape[2]),
        (node.gain, _LIMIT),
        *(_spread(v, shape, order, np.int64) for v in (ALL - dv, vth << 6, bias)),
    )
    return _back(out, len(x), steps, shape, order)


def _in_order(x: np.ndarray) -> tuple[np.ndarray, tuple[int, ...]]:
    """``x`` as (samples, steps, neurons), neurons as they lie in memory where they lie close; and
    the order of its axes for that."""
    strides = np.array(x.strides[2:])
    order = tuple(int(a) for a in np.argsort(-strides, kind="stable"))
    moved = x.transpose(0, 1, *(a + 2 for a in order))
    return np.ascontiguousarray(moved).reshape(*x.shape[:2], -1), order


def _spread(value: Any, shape: tuple[int, ...], order: tuple[int, ...], dtype: Any) -> np.ndarray:
    """A parameter for each neuron, in the order of :func:`_in_order`."""
    full = np.broadcast_to(np.asarray(value, dtype), shape)
    return np.ascontiguousarray(full.transpose(order)).reshape(-1)


def _back(
    out: np.ndarray, count: int, steps: int, shape: tuple[int, ...], order: tuple[int, ...]
) -> np.ndarray:
    inverse = np.argsort(order)
    moved = out.reshape(count, steps, *(shape[a] for a in order))
    return moved.transpose(0, 1, *(int(a) + 2 for a in inverse))


def _max_pool(
    node: s.MaxPool2d, inputs: list[np.ndarray], tensors: list[np.ndarray], steps: int
) -> np.ndarray:
    (x,), (kh, kw), (sh, sw) = inputs, node.kernel, node.stride
    lines = np.ascontiguousarray(np.moveaxis(x, 2, -1))  # channels last: whole lines of maxima
    lowest = np.iinfo(x.dtype).min if x.dtype.kind == "i" else -np.inf
    border = [(p, p + more) for p, more in zip(node.padding, node.more)]
    lines = np.pad(lines, [(0, 0), (0, 0), *border, (0, 0)], constant_values=lowest)
    rows, columns = (lines.shape[2] - kh) // sh + 1, (lines.shape[3] - kw) // sw + 1
    cuts = (
        lines[:, :, i : i + (rows - 1) * sh + 1 : sh, j : j + (columns - 1) * sw + 1 : sw]
        for i in range(kh)
        for j in range(kw)
    )
    return np.moveaxis(reduce(np.maximum, cuts), -1, 2)


_QUICK: dict[type[s.Node], Definition] = {
    s.Conv2d: _conv,
    s.Linear: _linear,
    s.LIF: _lif,
    s.IntegerLIF: _integer_lif,
    s.MaxPool2d: _max_pool,
}
