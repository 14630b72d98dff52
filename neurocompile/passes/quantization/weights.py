"""Weights of linear layers: a scale each, or one unit for all the layers that feed a residual of real values."""

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

__all__ = ["weighted"]

_REACH_OVER_VALUE = 64
"""How much larger the bound of a graded value is taken to be than its usual size: 4, 16 and 64 lose 4, 3 and 1 of 360 images on
the zoo's Meta-SpikeFormer in factors."""
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
        # both share the bits of a sum: a graded value, which rarely comes near its bound, gets the larger part
        limit = LARGEST_PAYLOAD if lif is None else min(state.input_limit(lif), LARGEST_PAYLOAD)
        terms = np.abs(weight).reshape(len(weight), -1).sum(axis=1).max() / largest * (1 << (9 - bits))
        all_bits = limit / (terms * ((1 << (bits - 1)) - 1))
        levels = max(all_bits, np.sqrt(_REACH_OVER_VALUE * limit / terms), LEAST_LEVELS)
        node = replace(node, x=state.coarser(node.x, int(levels)))
        unit = state.unit[node.x]
    for narrower in range(bits - 1):  # a very wide layer or a large bias gives up low bits so that all fits
        step, levels = 1 << (9 - bits), (1 << (bits - 1 - narrower)) - 1
        scale = _best_scale(weight, largest, levels, moments)
        q = np.clip(np.rint(weight / scale), -levels, levels)
        vth = None
        if lif is not None:
            state.shifts[lif.name] = _soft_shift(state, lif, _reach(state, node, step * q), unit * scale / step)
            vth, exact = _threshold(state, lif, lif.v_threshold / (lif.gain * unit * scale / step))
            if 1 <= vth <= LARGEST_THRESHOLD:
                scale = lif.v_threshold / (lif.gain * unit * exact) * step
        limit = LARGEST_PAYLOAD if lif is None else min(state.input_limit(lif), LARGEST_PAYLOAD)
        current = unit * scale / step
        fits = vth is None or (1 <= vth <= LARGEST_THRESHOLD and _bias_fits(state, lif, lif.gain * current))
        if fits and _reach(state, node, step * q) <= limit:
            break
    else:
        raise NeurocompileError(
            "NC2002", f"layer '{node.name}': sums, threshold or bias leave their fields at every scale (vth {vth})"
        )
    _note_shift(state, node, weight - scale * q)
    stored = state.rewriter.tensor(f"{node.name}.weight", (step * q).astype(np.int16))
    return replace(node, weight=stored), unit * scale / step


def _threshold(state: Quantization, lif: s.LIF, ideal: float) -> tuple[int, float]:
    """The threshold field nearest to ``ideal`` units, and the units at which the float threshold then lies."""
    if lif.soft_reset:
        shift = state.shifts[lif.name]
        vth = soft_threshold(ideal / (1 << shift), 1 - 1 / state.taus(lif))
        limit = state.input_limit(lif) >> LARGEST_SHIFT
        return vth if vth <= limit else LARGEST_THRESHOLD + 1, vth << shift
    vth = round(ideal - 1 / 64)
    return vth, vth + 1 / 64


def _soft_shift(state: Quantization, lif: s.LIF, reach: int, current: float) -> int:
    """Bits to drop from input sums of up to ``reach`` so that a soft-reset membrane holds them; 0 for a hard reset."""
    if not lif.soft_reset:
        return 0
    bias = 0.0 if lif.bias is None else float(np.abs(state.graph.tensors[lif.bias]).max(initial=0)) / (lif.gain * current)
    total = max(reach + 1.1 * bias, lif.v_threshold / (lif.gain * current))
    limit = state.input_limit(lif) >> LARGEST_SHIFT
    return next((k for k in range(LARGEST_SHIFT) if total / (1 << k) <= limit), LARGEST_SHIFT)


def _note_shift(state: Quantization, node: s.Conv2d | s.Linear, lost: np.ndarray) -> None:
    """Remember the mean of what rounding took from the layer's output: ``lost`` weights times the input's mean."""
    mean = state.mean.get(node.x)
    if mean is None:
        return
    # a plain sum: a matrix product's rounding may depend on the number of threads
    channels = _per_weight(state, node, _per_input_channel(node, mean))
    shift = (lost.reshape(len(lost), -1) * channels).sum(axis=1)
    state.shift[node.name] = shift[:, None, None] if isinstance(node, s.Conv2d) else shift


def _weighted_in_trunk(state: Quantization, node: s.Conv2d | s.Linear, unit: float, trunk: Trunk) -> tuple[s.Node, float]:
    """Quantize in the trunk's unit, with a weight exponent that gives the layer's own scale up to a factor of 2."""
    if trunk.producers not in state.trunk_units:
        state.trunk_units[trunk.producers] = _trunk_unit(state, trunk)
    common, step = state.trunk_units[trunk.producers], 1 << (9 - state.options.weight_bits)
    weight = np.asarray(state.graph.tensors[node.weight], np.float64)
    levels = (1 << (state.options.weight_bits - 1)) - 1
    scale, ideal = common * step / unit, _ideal_scale(state, node)
    if state.integer[node.x] is None and scale > ideal and not isinstance(state.graph.node[node.x], s.Input):
        bits = int(np.log2(scale / ideal))  # a real input gives up bits that the weights would lose
        node = replace(node, x=state.coarser(node.x, max(state.bound[node.x].magnitude >> bits, LEAST_LEVELS)))
        unit = state.unit[node.x]
        scale = common * step / unit
    exponent = max(ceil(np.log2(ideal / scale) - 1e-9), 0)
    if exponent > 7:
        raise NeurocompileError("NC2002", f"layer '{node.name}' needs weight exponent {exponent} > 7 in its residual")
    scale *= 1 << exponent
    q = np.clip(np.rint(weight / scale), -levels, levels)
    _note_shift(state, node, weight - scale * q)
    stored = state.rewriter.tensor(f"{node.name}.weight", (step * q).astype(np.int16))
    return replace(node, weight=stored, exponent=exponent), common


def _ideal_scale(state: Quantization, node: s.Conv2d | s.Linear) -> float:
    """Weight scale of least expected error for one layer alone."""
    if node.name in state.ideal_scales:
        return state.ideal_scales[node.name]
    weight, mean = np.asarray(state.graph.tensors[node.weight], np.float64), state.mean.get(node.x)
    moments = None if mean is None else _per_input_channel(node, mean + mean * mean)
    found = _best_scale(weight, float(np.abs(weight).max()), (1 << (state.options.weight_bits - 1)) - 1, moments)
    state.ideal_scales[node.name] = found
    return found


def _trunk_unit(state: Quantization, trunk: Trunk) -> float:
    """Fine enough for the finest layer, coarse enough for every field: sums, thresholds, biases, exponents."""
    if trunk.others:
        kinds = sorted({f"'{n.name}' ({type(n).__name__})" for n in trunk.others})
        raise NeurocompileError(
            "NC2001", f"a residual of real values also takes {', '.join(kinds)}; only linear layers may feed it"
        )
    ideals, total = [], 0.0
    step = 1 << (9 - state.options.weight_bits)
    for producer in trunk.producers:
        known = state.bound.get(producer.x) or state.integer[producer.x]
        weight = np.abs(np.asarray(state.graph.tensors[producer.weight], np.float64)).reshape(-1)
        if not weight.any():
            continue  # refused by name when its turn comes
        rows = weight.reshape(len(state.graph.tensors[producer.weight]), -1).sum(axis=1)
        if known is None:  # a real value that is not quantized yet: it will take a unit that suits the trunk's
            total += float(rows.max()) * state.magnitude[producer.x]
            continue
        unit = state.unit.get(producer.x, 1.0)
        ideals.append(unit * _ideal_scale(state, producer) / step)
        total += float(rows.max()) * known.magnitude * unit
    if not ideals:
        names = ", ".join(f"'{p.name}'" for p in trunk.producers)
        raise NeurocompileError("NC2001", f"no layer of a residual of real values reads spikes or the input: {names}")
    floors = [min(ideals), max(ideals) / (1 << 7), 1.02 * total / LARGEST_PAYLOAD]
    for lif, summed in trunk.neurons:
        limit = state.input_limit(lif)
        floors.append(1.02 * total * summed / limit)
        largest = 0.0 if lif.bias is None else float(np.abs(state.graph.tensors[lif.bias]).max(initial=0))
        floors.append(lif.v_threshold / (lif.gain * min(limit, LARGEST_THRESHOLD)))
        floors.append(largest * 64 / (lif.gain * 0.9 * (LARGEST_MANTISSA << 7)))
        if lif.soft_reset:
            floors.append(largest / (lif.gain * 0.9 * LARGEST_SOFT_BIAS))
    return max(floors)


def _bias_fits(state: Quantization, lif: s.LIF, current: float) -> bool:
    """True if the bias of ``lif`` has a mantissa where one unit of input is ``current``, with room for means."""
    largest = 0.0 if lif.bias is None else float(np.abs(state.graph.tensors[lif.bias]).max(initial=0))
    if lif.soft_reset:
        return largest / current <= 0.9 * LARGEST_SOFT_BIAS
    return largest * 64 / current <= 0.9 * (LARGEST_MANTISSA << 7)


def _reach(state: Quantization, node: s.Conv2d | s.Linear, weight: np.ndarray) -> int:
    """Largest absolute sum that ``weight`` can make."""
    x = state.bound[node.x]
    flat = weight.reshape(len(weight), -1)
    positive, negative = np.maximum(flat, 0).sum(axis=1), -np.minimum(flat, 0).sum(axis=1)
    high, low = max(x.high, 0), -min(x.low, 0)
    return int(max((positive * high + negative * low).max(), (positive * low + negative * high).max()))


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


def _best_scale(weight: np.ndarray, largest: float, levels: int, moments: np.ndarray | None) -> float:
    """The scale of least expected squared error; ``moments`` is E[x^2] of each input channel."""
    importance = np.ones(1)
    if moments is not None and weight.ndim == 4 and moments.size == weight.shape[1]:
        importance = np.maximum(moments, 1e-6).reshape(1, -1, 1, 1)
    elif moments is not None and weight.ndim == 2:
        importance = np.maximum(moments, 1e-6).reshape(1, -1)
    scales, flat = _CLIPS * largest / levels, weight.reshape(-1)
    each = np.broadcast_to(importance, weight.shape).reshape(-1) if importance.size > 1 else None
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
