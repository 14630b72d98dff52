"""Evaluate a SpikingGraph directly, from the definitions: the quantized model's meaning, in plain
numpy.

Float graphs run in float32, quantized ones in int64. This is the reference that the lowered circuit
is compared with, so it shares no code with the emulator: a maximum is a maximum here, and an
attention product a matrix product.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.ir import digits
from neurocompile.ir import spiking as s
from neurocompile.ir.fields import ALL, PAYLOAD
from neurocompile.ir.functions import function
from neurocompile.ir.nodes.base import STAGES
from neurocompile.ir.sliding import sliding_windows
from neurocompile.ir.tables import KindTable
from neurocompile.ir.text import TensorRef

__all__ = [
    "DEFINITIONS",
    "encode_input",
    "evaluate",
    "evaluate_node",
    "step_outputs",
    "step_source",
]


def encode_input(node: s.Input, x: np.ndarray) -> np.ndarray:
    """Integers for the host to inject, int32: ``clip(rint(x / unit), low, high)`` in float64."""
    return np.clip(np.rint(np.asarray(x, np.float64) / node.unit), node.low, node.high).astype(
        np.int32
    )


def evaluate(
    graph: s.SpikingGraph,
    x: np.ndarray,
    steps: int,
    record: Collection[str] | None = None,
    alter: Callable[[s.Node, list[np.ndarray], np.ndarray], np.ndarray] | None = None,
    definition: Callable[[s.Node], Definition] | None = None,
) -> dict[str, np.ndarray]:
    """Run all samples for ``steps`` steps.

    Args:
        graph: any stage.
        x: (samples, *the input's sample_shape); float for float graphs, encoded int32 for quantized
            ones.
        steps: T >= 1.
        record: names of the values to return; all if None.
        alter: (node, its inputs, its value) -> what takes the value's place, for experiments that
            disturb a layer.
        definition: of a node, in place of that in :data:`DEFINITIONS`
            (:mod:`neurocompile.ir.quick`).

    Returns:
        name -> (samples, steps, *shape); (samples, *shape) for the Output and the TimeMean before
        it. Values that do not change over the steps are broadcast.
    """
    dtype: Any = np.int64 if graph.stage == "quantized" else np.float32
    defined = DEFINITIONS.of if definition is None else definition
    values: dict[str, np.ndarray] = {}
    remaining = {n.name: len(graph.users[n.name]) for n in graph.nodes}
    found: dict[str, np.ndarray] = {}
    back = {n.name: (n.of, n.shape) for n in graph.nodes if isinstance(n, s.Previous)}

    def compute(node: s.Node) -> np.ndarray:
        if node.name in back:
            of, shape = back[node.name]
            inputs = [_delayed(values.get(of), (len(x), steps, *shape), dtype)]
        else:
            inputs = [values[i] for i in node.inputs] or [np.asarray(x).astype(dtype)]
        tensors = [graph.tensors[t] for t in node.tensors]
        value = defined(node)(node, inputs, tensors, steps)
        return value if alter is None else alter(node, inputs, value)

    ends = dict(graph.loops)
    for place, node in enumerate(graph.nodes):
        if place in ends:
            _settle(graph, graph.nodes[place : ends[place] + 1], compute, values, steps)
        else:
            values[node.name] = compute(node) if node.name not in values else values[node.name]
        value = values[node.name]
        if record is None or node.name in record:
            timeless = (
                isinstance(node, s.Output) or isinstance(node, s.TimeMean) and _is_last(graph, node)
            )
            found[node.name] = (
                value[:, 0]
                if timeless
                else np.broadcast_to(value, (len(x), steps, *value.shape[2:]))
            )
        for i in node.inputs:
            remaining[i] -= 1
            if not remaining[i]:
                del values[i]
    return found


def _delayed(spikes: np.ndarray | None, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """(samples, steps, ...): ``spikes`` one step later; zeros where they are not known yet."""
    value = np.zeros(shape, dtype)
    if spikes is not None:
        value[:, 1:] = spikes[:, :-1]
    return value


def _settle(
    graph: s.SpikingGraph,
    nodes: tuple[s.Node, ...],
    compute: Callable[[s.Node], np.ndarray],
    values: dict[str, np.ndarray],
    steps: int,
) -> None:
    """Evaluate the nodes of a loop.

    Step t of its values depends on the spikes of the steps before alone. So with the spikes of one
    round fed back into the next, each round makes at least one step more right, and a round that
    changes nothing is the answer. NC1009 where something in the loop reads later steps.
    """
    for _ in range(steps + 1):
        before = {n.name: values.get(n.name) for n in nodes if n.name in graph.fed_back}
        for node in nodes:
            values[node.name] = compute(node)
        if all(v is not None and np.array_equal(v, values[k]) for k, v in before.items()):
            return
    raise NeurocompileError(
        "NC1009",
        f"the spikes of '{nodes[-1].name}' feed back through what reads later steps, such as a mean over time",
    )


def evaluate_node(node: s.Node, inputs: list[np.ndarray], tensors: list[np.ndarray]) -> np.ndarray:
    """What one node without state makes of values of one step, in their dtype.

    Args:
        inputs: of the node's inputs, without axes of samples and steps.
        tensors: of its tensors, in order.
    """
    return DEFINITIONS.of(node)(node, [x[None, None] for x in inputs], tensors, 1)[0, 0]


def step_source(graph: s.SpikingGraph) -> str:
    """The value whose mean over time the Output is made of."""
    node = graph.node[graph.output.x]
    return node.x if isinstance(node, s.TimeMean) and _is_last(graph, node) else node.name


def step_outputs(graph: s.SpikingGraph, source: np.ndarray) -> np.ndarray:
    """What the Output is at every step, (samples, steps, *its shape), of the recorded values of
    :func:`step_source`, (samples, steps, ...).
    """
    tensors = [graph.tensors[t] for t in graph.output.tensors]
    flat = source.reshape(-1, 1, *source.shape[2:])
    found = _output(graph.output, [flat], tensors, 1)
    return found.reshape(*source.shape[:2], *found.shape[2:])


def _is_last(graph: s.SpikingGraph, mean: s.TimeMean) -> bool:
    return all(isinstance(user, s.Output) for user in graph.users[mean.name])


def _conv(
    node: s.Conv2d, inputs: list[np.ndarray], tensors: list[np.ndarray], steps: int
) -> np.ndarray:
    (x,), weight = inputs, tensors[0]
    out_channels, group_in, kh, kw = weight.shape
    (ph, pw), (sh, sw), (dh, dw) = node.padding, node.stride, node.dilation
    x = np.pad(x, ((0, 0), (0, 0), (0, 0), (ph, ph), (pw, pw)))
    windows = sliding_windows(x, ((kh - 1) * dh + 1, (kw - 1) * dw + 1), (3, 4))
    windows = windows[:, :, :, ::sh, ::sw, ::dh, ::dw]
    per_group = out_channels // node.groups
    weight = weight.astype(np.float64 if weight.dtype.kind == "i" else weight.dtype)
    parts = [
        np.tensordot(
            windows[:, :, g * group_in : (g + 1) * group_in].astype(weight.dtype),
            weight[g * per_group : (g + 1) * per_group],
            axes=([2, 5, 6], [1, 2, 3]),
        )
        for g in range(node.groups)
    ]
    y = _powered(np.moveaxis(np.concatenate(parts, axis=-1), -1, 2).astype(x.dtype), node.exponent)
    return y if node.bias is None else y + tensors[1].astype(x.dtype)[:, None, None]


def _powered(y: np.ndarray, exponent: int) -> np.ndarray:
    """``y * 2^exponent``; where that is a shift to the right, every weight was a multiple of its
    divisor.
    """
    return y >> -exponent if exponent < 0 else y * y.dtype.type(1 << exponent)


def _linear(
    node: s.Linear, inputs: list[np.ndarray], tensors: list[np.ndarray], steps: int
) -> np.ndarray:
    y = _powered(inputs[0] @ tensors[0].T.astype(inputs[0].dtype), node.exponent)
    return y if node.bias is None else y + tensors[1].astype(y.dtype)


def _batch_norm(
    node: s.BatchNorm, inputs: list[np.ndarray], tensors: list[np.ndarray], steps: int
) -> np.ndarray:
    (x,) = inputs
    shape = [1] * x.ndim
    shape[node.axis + 2] = -1
    scale, shift, mean, var = (t.reshape(shape) for t in tensors)
    return (x - mean) / np.sqrt(var + np.float32(node.eps)) * scale + shift


def _lif(
    node: s.LIF, inputs: list[np.ndarray], tensors: list[np.ndarray], steps: int
) -> np.ndarray:
    (x,), named = inputs, dict(zip(node.tensors, tensors))
    tau = (
        named[node.tau].astype(np.float32)
        if isinstance(node.tau, TensorRef)
        else np.float32(node.tau)
    )
    gain = np.float32(node.gain)
    rest = np.float32(0.0 if node.soft_reset else node.v_reset)
    threshold, taken = np.float32(node.v_threshold), np.float32(node.taken)
    out = np.empty((len(x), steps, *x.shape[2:]), np.float32)
    v: Any = np.full((len(x), *x.shape[2:]), rest, np.float32)
    kept = np.float32(node.current)
    last: Any = np.float32(0)
    for t in range(steps):
        current = x[:, min(t, x.shape[1] - 1)]
        current = current if gain == 1 else gain * current
        current = current if node.bias is None else current + named[node.bias].astype(np.float32)
        last = current = kept * last + current if node.current else current
        h = v + (current - (v - rest)) / tau if node.decay_input else v - (v - rest) / tau + current
        spikes: Any = h >= threshold
        for higher in node.more:
            spikes = spikes + (h >= np.float32(higher)).astype(np.float32)
        out[:, t] = spikes
        v = h - taken * spikes if node.soft_reset else np.where(spikes, rest, h)
    return out


def _integrator(
    node: s.Integrator, inputs: list[np.ndarray], tensors: list[np.ndarray], steps: int
) -> np.ndarray:
    (x,) = inputs
    out = np.empty((len(x), steps, *x.shape[2:]), x.dtype)
    y = np.zeros((len(x), *x.shape[2:]), x.dtype)
    for t in range(steps):
        y = out[:, t] = y * np.float32(node.decay) + x[:, min(t, x.shape[1] - 1)]
    return out


def _integer_integrator(
    node: s.IntegerIntegrator, inputs: list[np.ndarray], tensors: list[np.ndarray], steps: int
) -> np.ndarray:
    (x,) = inputs
    w = tensors[0].astype(np.int64) if isinstance(node.weight, TensorRef) else node.weight
    out = np.empty((len(x), steps, *x.shape[2:]), x.dtype)
    p = m = np.zeros((len(x), *x.shape[2:]), x.dtype)
    for t in range(steps):
        now = x[:, min(t, x.shape[1] - 1)]
        plus, minus = (p * w >> 7) + (-m * w >> 7) + now, (m * w >> 7) + (-p * w >> 7) - now
        p, m = np.maximum(plus, 0), np.maximum(minus, 0)
        out[:, t] = p - m
    return out


def _integer_lif(
    node: s.IntegerLIF, inputs: list[np.ndarray], tensors: list[np.ndarray], steps: int
) -> np.ndarray:
    (x,), named = inputs, dict(zip(node.tensors, tensors))
    bias = np.int64(0) if node.bias is None else named[node.bias].astype(np.int64) << node.bias_exp
    dv, vth = (
        named[v].astype(np.int64) if isinstance(v, TensorRef) else v for v in (node.dv, node.vth)
    )
    limit = PAYLOAD
    out = np.empty((len(x), steps, *x.shape[2:]), np.int64)
    v = np.zeros((len(x), *x.shape[2:]), np.int64)
    u = np.zeros_like(v)
    for t in range(steps):
        decayed = np.sign(v) * ((np.abs(v) * (ALL - dv)) >> 12)
        kept = np.sign(u) * ((np.abs(u) * (ALL - node.current)) >> 12)
        u = kept + ((node.gain * x[:, min(t, x.shape[1] - 1)]) << 6)
        h = np.clip(decayed + u + bias, -limit, limit)
        out[:, t] = h > vth << 6
        v = np.where(out[:, t] == 1, 0, h)
    return out


def _soft_integer_lif(
    node: s.SoftIntegerLIF, inputs: list[np.ndarray], tensors: list[np.ndarray], steps: int
) -> np.ndarray:
    (x,), named = inputs, dict(zip(node.tensors, tensors))
    bias = np.int64(0) if node.bias is None else named[node.bias].astype(np.int64)
    threshold, decay, reset = (
        named[v].astype(np.int64) if isinstance(v, TensorRef) else v
        for v in (node.threshold, node.decay, node.reset)
    )
    out = np.empty((len(x), steps, *x.shape[2:]), np.int64)
    h = np.zeros((len(x), *x.shape[2:]), np.int64)
    spikes = np.zeros_like(h)
    for t in range(steps):
        decayed = np.sign(h) * ((np.abs(h) * (ALL - decay)) >> 12)
        current = (node.gain * x[:, min(t, x.shape[1] - 1)] + bias) >> node.shift
        h = decayed + ((current - reset * spikes) << 6)
        spikes = (h >= threshold << 6).astype(np.int64)
        for higher in node.more:
            spikes += h >= higher << 6
        out[:, t] = spikes
    return out


def _border(node: s.MaxPool2d | s.SumPool2d) -> list[tuple[int, int]]:
    return [(0, 0)] * 3 + [(p, p + more) for p, more in zip(node.padding, node.more)]


def _max_pool(
    node: s.MaxPool2d, inputs: list[np.ndarray], tensors: list[np.ndarray], steps: int
) -> np.ndarray:
    (x,) = inputs
    lowest = np.iinfo(x.dtype).min if x.dtype.kind == "i" else -np.inf
    x, (sh, sw) = np.pad(x, _border(node), constant_values=lowest), node.stride
    return sliding_windows(x, node.kernel, (3, 4))[:, :, :, ::sh, ::sw].max(axis=(5, 6))


def _sum_pool(
    node: s.SumPool2d, inputs: list[np.ndarray], tensors: list[np.ndarray], steps: int
) -> np.ndarray:
    (x,) = inputs
    x, (sh, sw) = np.pad(x, _border(node)), node.stride
    return sliding_windows(x, node.kernel, (3, 4))[:, :, :, ::sh, ::sw].sum(axis=(5, 6))


def _softmax(
    node: s.Softmax, inputs: list[np.ndarray], tensors: list[np.ndarray], steps: int
) -> np.ndarray:
    x = np.float32(node.gain) * inputs[0][:, :1]
    weight = np.exp(x - x.max(axis=-1, keepdims=True))
    return weight / weight.sum(axis=-1, keepdims=True)


def _function(
    node: s.Function, inputs: list[np.ndarray], tensors: list[np.ndarray], steps: int
) -> np.ndarray:
    return function(node.function, node.gain * inputs[0].astype(np.float64)).astype(inputs[0].dtype)


def _normalization(
    node: s.Normalization, inputs: list[np.ndarray], tensors: list[np.ndarray], steps: int
) -> np.ndarray:
    x, axes = inputs[0].astype(np.float64), tuple(i + 2 for i in node.axes)
    x = x - x.mean(axis=axes, keepdims=True) if node.centered else x
    square = (x * x).mean(axis=axes, keepdims=True)
    return (x / np.sqrt(square + node.epsilon)).astype(inputs[0].dtype)


def _quotient(
    node: s.Quotient, inputs: list[np.ndarray], tensors: list[np.ndarray], steps: int
) -> np.ndarray:
    a, b = (x.astype(np.float64) for x in inputs)
    return (a / b).astype(inputs[0].dtype)


def _token_mean(
    node: s.TokenMean, inputs: list[np.ndarray], tensors: list[np.ndarray], steps: int
) -> np.ndarray:
    """In exponents below a running maximum, as RWKV's authors write it."""
    shape = (len(inputs[0]), steps, *inputs[0].shape[2:])
    k, v = (np.broadcast_to(x.astype(np.float64), shape) for x in inputs)
    decay, first = (t.astype(np.float64) for t in tensors)
    with np.errstate(divide="ignore"):
        fading = np.log(decay)
    values, weights = np.zeros_like(k[:, 0]), np.zeros_like(k[:, 0])
    top, out = np.full_like(values, -np.inf), np.empty(shape, inputs[0].dtype)
    for t in range(steps):
        x = node.gain * k[:, t]
        most = np.maximum(top, x)
        before, own = np.exp(top - most), first * np.exp(x - most)
        out[:, t] = (before * values + own * v[:, t]) / (before * weights + own)
        most = np.maximum(top + fading, x)
        before, own = np.exp(top + fading - most), np.exp(x - most)
        values, weights, top = before * values + own * v[:, t], before * weights + own, most
    return out


def _step_softmax(
    node: s.StepSoftmax, inputs: list[np.ndarray], tensors: list[np.ndarray], steps: int
) -> np.ndarray:
    x = node.gain * inputs[0].astype(np.float64)
    weight = np.exp(x - x.max(axis=-1, keepdims=True))
    return (weight / weight.sum(axis=-1, keepdims=True)).astype(inputs[0].dtype)


def _delay(
    node: s.Delay, inputs: list[np.ndarray], tensors: list[np.ndarray], steps: int
) -> np.ndarray:
    x = np.broadcast_to(inputs[0], (len(inputs[0]), steps, *inputs[0].shape[2:]))
    return _delayed(x, x.shape, x.dtype)


def _rate_softmax(
    node: s.RateSoftmax, inputs: list[np.ndarray], tensors: list[np.ndarray], steps: int
) -> np.ndarray:
    x = inputs[0][:, 0]
    above = np.maximum(x - x.max(axis=-1, keepdims=True) + node.span, 0) >> node.shift
    count = sum((above >= int(theta)).astype(np.int64) for theta in tensors[0])
    total = count.sum(axis=-1, keepdims=True)
    reversed_bits = [
        j % 2 * 8 + j // 2 % 2 * 4 + j // 4 % 2 * 2 + j // 8 % 2 for j in range(x.shape[-1])
    ]
    start = (2 * np.array(reversed_bits) + 1) * total >> 5
    fired = np.stack([(t * count + start) // total for t in range(steps + 1)], axis=1)
    return np.diff(fired, axis=1)


def _time_sum(
    node: s.TimeSum, inputs: list[np.ndarray], tensors: list[np.ndarray], steps: int
) -> np.ndarray:
    return np.broadcast_to(inputs[0], (len(inputs[0]), steps, *inputs[0].shape[2:])).sum(
        axis=1, keepdims=True
    )


def _output(
    node: s.Output, inputs: list[np.ndarray], tensors: list[np.ndarray], steps: int
) -> np.ndarray:
    x = inputs[0].mean(axis=1, keepdims=True) if node.per_step else inputs[0]
    biased = x + tensors[0] if tensors else x
    biased = biased if node.unit == 1.0 else biased * node.unit
    return biased if node.shape is None else biased.reshape(*biased.shape[:2], *node.shape)


def _aligned(inputs: list[np.ndarray]) -> list[np.ndarray]:
    """Feature axes of size 1 put behind (samples, steps), so that shapes broadcast as those of the
    features alone.
    """
    rank = max(x.ndim for x in inputs)
    return [x.reshape(*x.shape[:2], *[1] * (rank - x.ndim), *x.shape[2:]) for x in inputs]


def _input(
    node: s.Input, inputs: list[np.ndarray], tensors: list[np.ndarray], steps: int
) -> np.ndarray:
    node.check_steps(steps)
    return inputs[0] if node.steps else inputs[0][:, None]


Definition = Callable[[Any, list[np.ndarray], list[np.ndarray], int], np.ndarray]
DEFINITIONS: KindTable[Definition] = KindTable("evaluate", STAGES, "what its value is")
"""(node, values of its inputs, its tensors, steps) -> its value, each (samples, steps or 1,
*shape)."""

_DEFINED: dict[type[s.Node], Callable[..., np.ndarray]] = {
    s.Input: _input,
    s.Previous: lambda n, i, t, T: i[0],  # what it is given: the step before
    s.Conv2d: _conv,
    s.Linear: _linear,
    s.BatchNorm: _batch_norm,
    s.LIF: _lif,
    s.Integrator: _integrator,
    s.IntegerIntegrator: _integer_integrator,
    s.IntegerLIF: _integer_lif,
    s.SoftIntegerLIF: _soft_integer_lif,
    s.MaxPool2d: _max_pool,
    s.SumPool2d: _sum_pool,
    s.Offset: lambda n, i, t, T: i[0] + t[0].astype(i[0].dtype),
    s.Shift: lambda n, i, t, T: i[0] >> n.bits,
    s.Softmax: _softmax,
    s.RateSoftmax: _rate_softmax,
    s.Function: _function,
    s.Normalization: _normalization,
    s.StepSoftmax: _step_softmax,
    s.Quotient: _quotient,
    s.TokenMean: _token_mean,
    s.Delay: _delay,
    s.Clip: lambda n, i, t, T: np.clip(i[0], n.low, n.high),
    s.Combination: lambda n, i, t, T: digits.combination(n, *_aligned(i)),
    s.Maximum: lambda n, i, t, T: i[0].max(axis=-1, keepdims=True),
    s.IntegerFunction: lambda n, i, t, T: digits.piecewise(n, i[0], t),
    s.Falling: lambda n, i, t, T: digits.falling(n, i[0], t),
    s.DigitSum: lambda n, i, t, T: (
        i[0].sum(axis=tuple(a + 2 for a in n.axes), keepdims=True) >> n.shift
    ),
    s.SquareSum: lambda n, i, t, T: (
        np.square(i[0]).sum(axis=tuple(a + 2 for a in n.axes), keepdims=True) >> n.shift
    ),
    s.DigitMul: lambda n, i, t, T: digits.digit_product(n, *_aligned(i)),
    s.DigitMatMul: lambda n, i, t, T: digits.digit_matmul(n, *_aligned(i)),
    s.TimeSum: _time_sum,
    s.Output: _output,
    s.Rearrange: lambda n, i, t, T: n.apply(i[0], leading=2),
    s.Or: lambda n, i, t, T: (i[0] >= 1).astype(i[0].dtype),
    s.Add: lambda n, i, t, T: np.add(*_aligned(i)),
    s.Mul: lambda n, i, t, T: np.multiply(*_aligned(i)),
    s.MatMul: lambda n, i, t, T: np.matmul(*_aligned(i)),
    s.Scale: lambda n, i, t, T: i[0] * np.float32(n.factor),
    s.Sum: lambda n, i, t, T: i[0].sum(axis=tuple(a + 2 for a in n.axes), keepdims=n.keepdims),
    s.TimeMean: lambda n, i, t, T: np.broadcast_to(i[0], (len(i[0]), T, *i[0].shape[2:])).mean(
        axis=1, keepdims=True
    ),
}
for _kind, _definition in _DEFINED.items():
    DEFINITIONS.add(_definition, _kind)
