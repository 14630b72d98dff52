"""Weights of linear layers: a scale each, or one unit for all the layers that feed a residual of
real values.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.passes.quantization.state import Quantization
from neurocompile.passes.quantization.thresholds import (
    LARGEST_MANTISSA,
    LARGEST_PAYLOAD,
    LARGEST_SHIFT,
    LARGEST_SOFT_BIAS,
    LARGEST_THRESHOLD,
    LEAST_LEVELS,
    soft_threshold,
)
from neurocompile.passes.trunk import Trunk

__all__ = ["lif_unit", "weighted"]

_REACH_OVER_VALUE = 64
"""How much larger the bound of a graded value is taken to be than its usual size: 4, 16 and 64 lose
4, 3 and 1 of 360 images on the zoo's Meta-SpikeFormer in factors."""
_ROUNDING = 0.1
"""Of a threshold: what rounding a real input may cost before a residual counts in a finer unit than
its LIFs hold, and each of them reads it through a shift. 0.1 and 0.2 lose none of 360 images on the
zoo's Meta-SpikeFormer in factors, 0.05 and 0.02 two; a membrane-shortcut ResNet agrees alike."""
_FEW_LEVELS = 1 << 10
"""Levels of a worst case, below which a usual value is a few: it is rounded to the nearest, which
takes a relay more.
"""
_CLIPS = np.linspace(1.0, 0.55, 46)
_BLOCK = 1 << 14
"""Weights that are looked at together."""


def weighted(state: Quantization, node: s.Conv2d | s.Linear, unit: float) -> tuple[s.Node, float]:
    weight = np.asarray(state.graph.tensors[node.weight], np.float64)
    mean = state.mean.get(node.x)
    moments = None if mean is None else _per_input_channel(node, mean + mean * mean)
    bits, largest = state.options.weight_bits, float(np.abs(weight).max())
    if largest == 0:
        raise NeurocompileError("NC2001", f"layer '{node.name}' has only zero weights")
    if node.name in state.trunks:
        return _weighted_in_trunk(state, node, unit, state.trunks[node.name])
    lif = state.consumer(node.name)
    if state.integer[node.x] is None and not isinstance(state.graph.node.get(node.x), s.Input):
        # both share the bits of a sum: a graded value, which rarely comes near its bound, gets the
        # larger part
        limit = (
            state.payload_limit(node.name)
            if lif is None
            else min(state.input_limit(lif), LARGEST_PAYLOAD)
        )
        terms = (
            np.abs(weight).reshape(len(weight), -1).sum(axis=1).max() / largest * (1 << (9 - bits))
        )
        all_bits = limit / (terms * ((1 << (bits - 1)) - 1))
        levels = max(all_bits, np.sqrt(_REACH_OVER_VALUE * limit / terms), LEAST_LEVELS)
        node = replace(node, x=state.coarser(node.x, int(levels), nearest=levels < _FEW_LEVELS))
        unit = state.unit[node.x]
    for narrower in range(
        bits - 1
    ):  # a very wide layer or a large bias gives up low bits so that all fits
        step, levels = 1 << (9 - bits), (1 << (bits - 1 - narrower)) - 1
        scale = _best_scale(weight, largest, levels, moments, state.options.most_weights)
        q = np.clip(np.rint(weight / scale), -levels, levels)
        vth = None
        if lif is not None:
            state.shifts[lif.name] = _soft_shift(
                state, lif, _reach(state, node, step * q), unit * scale / step
            )
            vth, exact = _threshold(state, lif, lif.v_threshold / (lif.gain * unit * scale / step))
            if 1 <= vth <= LARGEST_THRESHOLD:
                scale = lif.v_threshold / (lif.gain * unit * exact) * step
        limit = (
            state.payload_limit(node.name)
            if lif is None
            else min(state.input_limit(lif), LARGEST_PAYLOAD)
        )
        current = unit * scale / step
        fits = vth is None or (
            1 <= vth <= LARGEST_THRESHOLD and _bias_fits(state, lif, lif.gain * current)
        )
        if fits and _reach(state, node, step * q) <= limit:
            break
    else:
        raise NeurocompileError(
            "NC2002",
            f"layer '{node.name}': sums, threshold or bias leave their fields at every scale (vth {vth})",
        )
    _note_shift(state, node, weight, weight - scale * q)
    stored = state.rewriter.tensor(f"{node.name}.weight", (step * q).astype(np.int16))
    return replace(node, weight=stored), unit * scale / step


def _threshold(state: Quantization, lif: s.LIF, ideal: float) -> tuple[int, float]:
    """The threshold field nearest to ``ideal`` units, and the units at which the float threshold
    then lies.
    """
    if lif.soft_reset:
        shift = state.shifts[lif.name]
        parts = (1 - 1 / state.taus(lif)) * lif.taken / lif.v_threshold
        parts = np.append(parts, np.asarray(lif.more) / lif.v_threshold)
        vth = soft_threshold(ideal / (1 << shift), parts)
        limit = state.input_limit(lif) >> LARGEST_SHIFT
        return vth if vth <= limit else LARGEST_THRESHOLD + 1, vth << shift
    vth = round(ideal - 1 / 64)
    return vth, vth + 1 / 64


def _soft_shift(state: Quantization, lif: s.LIF, reach: int, current: float) -> int:
    """Bits to drop from input sums of up to ``reach`` so that a soft-reset membrane holds them; 0
    for a hard reset.
    """
    if not lif.soft_reset:
        return 0
    bias = (
        0.0
        if lif.bias is None
        else float(np.abs(state.graph.tensors[lif.bias]).max(initial=0)) / (lif.gain * current)
    )
    total = max(reach + 1.1 * bias, lif.v_threshold / (lif.gain * current))
    limit = state.input_limit(lif) >> LARGEST_SHIFT
    return next((k for k in range(LARGEST_SHIFT) if total / (1 << k) <= limit), LARGEST_SHIFT)


def _note_shift(
    state: Quantization, node: s.Conv2d | s.Linear, weight: np.ndarray, lost: np.ndarray
) -> None:
    """Remember the mean of what rounding took from the layer's output: ``lost`` weights times the
    input's mean, and ``weight`` times what the input already lacks."""
    found = []
    if (mean := state.mean.get(node.x)) is not None:
        # a plain sum: a matrix product's rounding may depend on the number of threads
        channels = _per_weight(state, node, _per_input_channel(node, mean))
        shift = (lost.reshape(len(lost), -1) * channels).sum(axis=1)
        found.append(shift[:, None, None] if isinstance(node, s.Conv2d) else shift)
    if (lacking := state.shift.get(node.x)) is not None:
        found.append(_through(state, node, weight, np.broadcast_to(lacking, state.size[node.x])))
    if found:
        state.shift[node.name] = sum(found[1:], found[0])


def _through(
    state: Quantization, node: s.Conv2d | s.Linear, weight: np.ndarray, x: np.ndarray
) -> np.ndarray:
    """What the layer makes of the mean of each input channel of ``x``: (C, 1, 1), or (C, H, W)
    where the border pads with zeros.
    """
    channels = _per_input_channel(node, x)
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


def _weighted_in_trunk(
    state: Quantization, node: s.Conv2d | s.Linear, unit: float, trunk: Trunk
) -> tuple[s.Node, float]:
    """Quantize in the trunk's unit, with a weight exponent that gives the layer's own scale up to a
    factor of 2.
    """
    if trunk.producers not in state.trunk_units:
        state.trunk_units[trunk.producers] = _trunk_unit(state, trunk)
    common, step = state.trunk_units[trunk.producers], 1 << (9 - state.options.weight_bits)
    weight = np.asarray(state.graph.tensors[node.weight], np.float64)
    scale, ideal = common * step / unit, _ideal_scale(state, node)
    if (
        state.integer[node.x] is None
        and scale > ideal
        and not isinstance(state.graph.node[node.x], s.Input)
    ):
        bits = int(np.log2(scale / ideal))  # a real input gives up bits that the weights would lose
        levels = max(state.bound[node.x].magnitude >> bits, LEAST_LEVELS)
        node = replace(node, x=state.coarser(node.x, levels, nearest=levels < _FEW_LEVELS))
        unit = state.unit[node.x]
        scale = common * step / unit
    exponent = max(ceil(np.log2(ideal / scale) - 1e-9), 0)
    if exponent > 7:
        raise NeurocompileError(
            "NC2002", f"layer '{node.name}' needs weight exponent {exponent} > 7 in its residual"
        )
    scale *= 1 << exponent
    levels = (1 << (state.options.weight_bits - 1)) - 1
    q = np.clip(np.rint(weight / scale), -levels, levels)
    _note_shift(state, node, weight, weight - scale * q)
    stored = state.rewriter.tensor(f"{node.name}.weight", (step * q).astype(np.int16))
    return replace(node, weight=stored, exponent=exponent), common


def _ideal_scale(state: Quantization, node: s.Conv2d | s.Linear) -> float:
    """Weight scale of least expected error for one layer alone."""
    if node.name in state.ideal_scales:
        return state.ideal_scales[node.name]
    weight, mean = np.asarray(state.graph.tensors[node.weight], np.float64), state.mean.get(node.x)
    moments = None if mean is None else _per_input_channel(node, mean + mean * mean)
    found = _best_scale(
        weight,
        float(np.abs(weight).max()),
        (1 << (state.options.weight_bits - 1)) - 1,
        moments,
        state.options.most_weights,
    )
    state.ideal_scales[node.name] = found
    return found


def _trunk_unit(state: Quantization, trunk: Trunk) -> float:
    """Fine enough for the finest layer, coarse enough for every field: sums, thresholds, biases,
    exponents.
    """
    if trunk.others:
        kinds = sorted({f"'{n.name}' ({type(n).__name__})" for n in trunk.others})
        raise NeurocompileError(
            "NC2001",
            f"a residual of real values also takes {', '.join(kinds)}; only linear layers may feed it",
        )
    ideals, real, total = [], [], 0.0
    step = 1 << (9 - state.options.weight_bits)
    for producer in trunk.producers:
        known = state.bound.get(producer.x) or state.integer[producer.x]
        weight = np.abs(np.asarray(state.graph.tensors[producer.weight], np.float64)).reshape(-1)
        if not weight.any():
            continue  # refused by name when its turn comes
        rows = weight.reshape(len(state.graph.tensors[producer.weight]), -1)
        largest = (
            state.magnitude[producer.x]
            if known is None
            else known.magnitude * state.unit.get(producer.x, 1.0)
        )
        total += float(rows.sum(axis=1).max()) * largest
        if state.integer[producer.x] is None and not isinstance(
            state.graph.node[producer.x], s.Input
        ):
            real.append(
                (
                    _ideal_scale(state, producer) / step,
                    float(np.sqrt((rows * rows).sum(axis=1).max())),
                    largest,
                )
            )
        if (
            known is not None
        ):  # a real value that is not quantized yet will take a unit that suits the trunk's
            ideals.append(state.unit.get(producer.x, 1.0) * _ideal_scale(state, producer) / step)
    if not ideals:
        names = ", ".join(f"'{p.name}'" for p in trunk.producers)
        raise NeurocompileError(
            "NC2001", f"no layer of a residual of real values reads spikes or the input: {names}"
        )
    coarsest = (
        max(lif_unit(state, lif, 1.02 * total * summed) for lif, summed in trunk.neurons)
        if trunk.neurons
        else 0.0
    )
    fields = max(max(ideals) / (1 << 7), 1.02 * total / LARGEST_PAYLOAD)
    unit = max(min(ideals), coarsest, fields)
    least = min((lif.v_threshold / lif.gain for lif, _ in trunk.neurons), default=np.inf)
    if all(_real_fits(unit, *sizes, least) for sizes in real):
        return unit
    return fields  # each LIF reads it in a coarser unit


def _real_fits(unit: float, ideal: float, norm: float, largest: float, threshold: float) -> bool:
    """True if a layer of a real input loses little where its output counts in ``unit``: the
    rounding of the input makes at most a tenth of a threshold, and the weights, of ``norm`` a row,
    keep all their bits but one."""
    rounding = unit / ideal  # of the input, if the weights keep their bits
    return (
        rounding * norm / np.sqrt(12) <= _ROUNDING * threshold
        and rounding <= 2 * largest / LEAST_LEVELS
    )


def lif_unit(state: Quantization, lif: s.LIF, largest: float) -> float:
    """The least unit of a LIF's input, of up to ``largest``, for which sums, threshold and bias
    have their fields.
    """
    limit = state.input_limit(lif)
    bias = 0.0 if lif.bias is None else float(np.abs(state.graph.tensors[lif.bias]).max(initial=0))
    floors = [largest / limit, lif.v_threshold / (lif.gain * min(limit, LARGEST_THRESHOLD))]
    floors.append(bias * 64 / (lif.gain * 0.9 * (LARGEST_MANTISSA << 7)))
    if lif.soft_reset:
        floors.append(bias / (lif.gain * 0.9 * LARGEST_SOFT_BIAS))
    return max(floors)


def _bias_fits(state: Quantization, lif: s.LIF, current: float) -> bool:
    """True if the bias of ``lif`` has a mantissa where one unit of input is ``current``, with room
    for means.
    """
    largest = (
        0.0 if lif.bias is None else float(np.abs(state.graph.tensors[lif.bias]).max(initial=0))
    )
    if lif.soft_reset:
        return largest / current <= 0.9 * LARGEST_SOFT_BIAS
    return largest * 64 / current <= 0.9 * (LARGEST_MANTISSA << 7)


def _reach(state: Quantization, node: s.Conv2d | s.Linear, weight: np.ndarray) -> int:
    """Largest absolute sum that ``weight`` can make."""
    x = state.bound[node.x]
    flat = weight.reshape(len(weight), -1)
    positive, negative = np.maximum(flat, 0).sum(axis=1), -np.minimum(flat, 0).sum(axis=1)
    high, low = max(x.high, 0), -min(x.low, 0)
    return int(
        max((positive * high + negative * low).max(), (positive * low + negative * high).max())
    )


def _per_input_channel(node: s.Conv2d | s.Linear, values: np.ndarray) -> np.ndarray:
    """Mean of ``values`` (the input's shape) over everything but the channel axis."""
    axis = 0 if isinstance(node, s.Conv2d) else values.ndim - 1
    return values.mean(axis=tuple(i for i in range(values.ndim) if i != axis))


def _per_weight(state: Quantization, node: s.Conv2d | s.Linear, channels: np.ndarray) -> np.ndarray:
    """``channels`` spread over one output's weights, flat; groups see the mean of all groups."""
    if isinstance(node, s.Linear):
        return channels
    _, group_in, kh, kw = state.graph.tensors[node.weight].shape
    return np.repeat(channels.reshape(-1, group_in).mean(axis=0), kh * kw)


def _best_scale(
    weight: np.ndarray,
    largest: float,
    levels: int,
    moments: np.ndarray | None,
    most: int | None = None,
) -> float:
    """The scale of least expected squared error; ``moments`` is E[x^2] of each input channel. Of
    more than ``most`` weights every so many are looked at."""
    importance = np.ones(1)
    if moments is not None and weight.ndim == 4 and moments.size == weight.shape[1]:
        importance = np.maximum(moments, 1e-6).reshape(1, -1, 1, 1)
    elif moments is not None and weight.ndim == 2:
        importance = np.maximum(moments, 1e-6).reshape(1, -1)
    scales, flat = _CLIPS * largest / levels, weight.reshape(-1)
    each = np.broadcast_to(importance, weight.shape).reshape(-1) if importance.size > 1 else None
    if most is not None and flat.size > most:
        flat, each = (
            flat[:: flat.size // most],
            None if each is None else each[:: flat.size // most],
        )
    errors, buffer = np.zeros(len(scales)), np.empty(min(_BLOCK, flat.size))
    for start in range(0, flat.size, _BLOCK):  # what fits the cache, for all scales
        part = flat[start : start + _BLOCK]
        shares = None if each is None else each[start : start + _BLOCK]
        rest = buffer[: part.size]
        for i, scale in enumerate(scales):
            np.rint(np.divide(part, scale, out=rest), out=rest)
            np.minimum(np.maximum(rest, -levels, out=rest), levels, out=rest)
            np.subtract(part, np.multiply(rest, scale, out=rest), out=rest)
            np.multiply(rest, rest, out=rest)
            errors[i] += rest.sum() if shares is None else np.multiply(rest, shares, out=rest).sum()
    return min(zip(errors.tolist(), scales.tolist(), strict=True))[1]
