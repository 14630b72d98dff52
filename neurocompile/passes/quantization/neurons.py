"""Neurons: leak, threshold and bias of a LIF in integers."""

from __future__ import annotations

from math import ceil

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.ir.fields import ALL, INSTANT
from neurocompile.ir.interval import geometric
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.passes.quantization.exactness import exact_on
from neurocompile.passes.quantization.feedback import on_shift
from neurocompile.passes.quantization.state import Quantization
from neurocompile.passes.quantization.thresholds import (
    exact_threshold,
    follows,
    integrator_limit,
    soft_bias,
    unweighted,
)

__all__ = ["integer_integrator", "integer_lif"]


def integer_lif(
    state: Quantization, node: s.LIF, unit: float | np.ndarray
) -> s.IntegerLIF | s.SoftIntegerLIF:
    """``node`` in integers; ``unit`` is the float value of 1 of its input, or those of its
    channels.
    """
    if node.soft_reset:
        return _soft_lif(state, node, np.asarray(unit))
    taus, bound = state.taus(node), state.bound[node.x]
    dv = _integers(state, f"{node.name}.dv", np.minimum(np.rint(ALL / taus), INSTANT))
    limit, kept = (
        state.input_limit(node),
        int(ALL - np.clip(np.rint(ALL * node.current), 0, INSTANT)),
    )
    if not node.current and node.bias is None and state.integer[node.x] is not None:
        found = {
            exact_threshold(
                node.gain,
                node.v_threshold,
                float(tau),
                state.options.steps,
                bound.magnitude,
                state.fields,
            )
            for tau in np.unique(taus)
        }
        if len(found) == 1 and (exact := found.pop()):
            return s.IntegerLIF(name=node.name, x=node.x, gain=exact[0], vth=exact[1], dv=dv)
    k = 1
    if (
        state.integer[node.x] is not None
    ):  # no weights to scale: take the finest threshold that fits
        fits = min(
            limit // max(bound.magnitude, 1),
            unweighted(state.fields),
            int(state.fields.threshold * node.gain * unit / node.v_threshold),
        )
        k = 1 << max(fits.bit_length() - 1, 0)
    elif node.name not in state.thresholds and _is_product(state, node.x):
        k = _met(state, node, float(unit), limit // max(bound.magnitude, 1))
    current = node.gain * unit / k  # membrane value of one unit of input
    levels = np.rint(node.v_threshold / np.asarray(current) - 1 / 64).astype(np.int64)
    if node.name in state.thresholds:
        levels = np.asarray(state.thresholds[node.name])
    largest = int(levels.max())
    if levels.min() < 0 or largest > state.fields.threshold or k * bound.magnitude > limit:
        raise NeurocompileError(
            "NC2002",
            f"layer '{node.name}': threshold {largest:,} or input {k * bound.magnitude:,} exceeds {state.fields.threshold:,} or {limit:,}",
            layer=node.name,
        )
    vth = _integers(state, f"{node.name}.vth", levels)
    bias, exponent = _lif_bias(state, node, current / 64)
    return s.IntegerLIF(
        name=node.name, x=node.x, gain=k, vth=vth, dv=dv, bias=bias, bias_exp=exponent, current=kept
    )


def _is_product(state: Quantization, name: Ref) -> bool:
    """True for what gates bring, directly or through views: connections that take a gain."""
    source = state.graph.node.get(name)
    while isinstance(source, s.Rearrange):
        source = state.graph.node[source.x]
    return isinstance(source, (s.Mul, s.MatMul))


def _met(state: Quantization, node: s.LIF, unit: float, most: int) -> int:
    """How many integers, ``most`` at most, one unit of what ``node`` reads becomes, so that a
    membrane that is its threshold fires: behind a product of a real value no weights are there to count
    in finer units. Notes the threshold; 1 where membranes are never it, or nothing finer fits.
    """
    ratio = node.v_threshold / (node.gain * unit)
    if abs(ratio - round(ratio)) > 2e-6 * ratio:
        return 1
    for power in range(min(most, unweighted(state.fields)).bit_length()):
        level = exact_on(state, node, unit, power, 0.0)
        if level is not None:
            state.thresholds[node.name] = level
            return 1 << power
    return 1


def _soft_lif(state: Quantization, node: s.LIF, unit: np.ndarray) -> s.SoftIntegerLIF:
    if unit.ndim:
        return _soft_channels(state, node, unit)
    while True:  # a shift rounds recurrent weights, which may move the bound that it follows from
        made = _soft_integers(state, node, float(unit))
        if not on_shift(state, node, made.shift):
            return made


def _soft_integers(state: Quantization, node: s.LIF, unit: float) -> s.SoftIntegerLIF:
    decay = np.minimum(np.rint(ALL / state.taus(node)), ALL)
    limit, bound = state.input_limit(node) >> state.fields.shift, state.bound[node.x].magnitude
    ideal, k = node.v_threshold / (node.gain * unit), 1
    ratios = np.asarray((node.v_threshold, *node.more)) / node.v_threshold
    if state.integer[node.x] is not None:  # no weights to scale: the finest power of two that fits
        fits = int(limit / max(bound, ideal * ratios[-1]))
        k = 1 << max(min(fits, unweighted(state.fields)).bit_length() - 1, 0)
    bias, largest, exact = None, k * bound, state.membrane_bias(node)
    if exact.any():
        units = np.rint(exact * k / (node.gain * unit)).astype(np.int64)
        strongest = int(np.abs(units).max())
        if strongest > (most := soft_bias(state.fields)):
            raise NeurocompileError(
                "NC2002",
                f"layer '{node.name}': bias {strongest:,} exceeds {most:,}",
                layer=node.name,
            )
        bias = state.rewriter.tensor(f"{node.name}.bias.int", units.astype(np.int32))
        largest += strongest
    reachable = 1.001 * _highest(state, node, largest * node.gain * unit / k) / node.v_threshold
    if node.name not in state.graph.fed_back:  # what feeds back counts as many
        ratios = ratios[ratios <= max(reachable, 1.0)]
    loss = node.taken / node.v_threshold * (1 - float(decay.min()) / ALL)
    needed = max(largest, round(k * ideal * max(ratios[-1], loss)))
    shift = state.shifts.get(node.name, 0)
    while needed >> shift > limit:
        shift += 1
    if shift > state.fields.shift or largest > state.fields.payload:
        raise NeurocompileError(
            "NC2002",
            f"layer '{node.name}' resets softly: input or threshold {needed:,} exceeds {limit << state.fields.shift:,} "
            f"at T = {state.options.steps}; use fewer steps or weight bits",
            layer=node.name,
        )
    threshold = max(round(k * ideal / (1 << shift)), 1)
    lost = node.taken / node.v_threshold * threshold  # by one spike, before the leak
    higher = np.maximum(np.rint(threshold * ratios[1:]), threshold)
    one = node.gain * unit / k * (1 << shift)
    threshold += int(follows(node.v_threshold, one))
    higher += [int(follows(v, one)) for v in node.more[: len(higher)]]
    if node.memoryless and not shift:
        # the least integers that reach the float thresholds: halves may round down (torch.round)
        threshold, *higher = (max(ceil(k * ideal * r * (1 - 2e-9)), 1) for r in ratios)
    if node.memoryless and state.integer[node.x] is not None and not shift and bias is None:
        # exactly the integers that reach the float thresholds
        threshold, *higher = _reached(node, k)[: len(ratios)]
    reset, several = np.rint(lost * (ALL - decay) / ALL), decay.min() != decay.max()
    leak = (
        {
            "reset": state.rewriter.tensor(f"{node.name}.reset", reset.astype(np.int32)),
            "decay": state.rewriter.tensor(f"{node.name}.decay", decay.astype(np.int32)),
        }
        if several
        else {"reset": int(reset.flat[0]), "decay": int(decay.flat[0])}
    )
    return s.SoftIntegerLIF(
        name=node.name,
        x=node.x,
        threshold=threshold,
        gain=k,
        bias=bias,
        shift=shift,
        more=tuple(int(v) for v in higher),
        **leak,
    )


def _soft_channels(state: Quantization, node: s.LIF, unit: np.ndarray) -> s.SoftIntegerLIF:
    """Channels that count in units of their own, and drop no bit: a threshold is the next integer,
    what a spike takes the nearest.
    """
    leaks = np.minimum(np.rint(ALL / state.taus(node)), ALL)
    ideal = node.v_threshold / (node.gain * unit)
    near = np.rint(ideal)
    threshold = np.where(np.abs(ideal - near) <= 2e-6 * ideal, near, np.ceil(ideal))
    threshold += follows(node.v_threshold, node.gain * unit)
    taken = node.taken / (node.gain * unit)
    bias, strongest, exact = None, 0, state.membrane_bias(node)
    if exact.any():
        units = np.rint(exact / (node.gain * unit)).astype(np.int32)
        strongest = int(np.abs(units).max())
        bias = state.rewriter.tensor(f"{node.name}.bias.int", units)
    needed = max(state.bound[node.x].magnitude + strongest, int(threshold.max()), int(taken.max()))
    limit = state.input_limit(node) >> state.fields.shift
    if needed > limit or strongest > soft_bias(state.fields):
        raise NeurocompileError(
            "NC2002",
            f"layer '{node.name}' resets softly: input, threshold or bias {needed:,} exceeds {limit:,} or "
            f"{soft_bias(state.fields):,}",
            layer=node.name,
        )
    reset = np.rint(taken * (ALL - leaks) / ALL)
    return s.SoftIntegerLIF(
        name=node.name,
        x=node.x,
        threshold=_integers(state, f"{node.name}.threshold", threshold),
        reset=_integers(state, f"{node.name}.reset", reset),
        decay=_integers(state, f"{node.name}.decay", leaks),
        bias=bias,
    )


def _highest(state: Quantization, node: s.LIF, largest: float) -> float:
    """Bound of the membrane before a spike, for currents of up to ``largest``. What the spikes of
    equally spaced thresholds leave is less than one of them.
    """
    thresholds = np.asarray([node.v_threshold, *node.more])
    kept = float((1 - 1 / state.taus(node)).max())
    spaced = np.allclose(np.diff(thresholds, prepend=0.0), node.v_threshold, rtol=1e-4)
    if spaced and np.isclose(node.taken, node.v_threshold, rtol=1e-4):
        return largest + kept * node.v_threshold
    return largest * geometric(kept, state.options.steps)


def _reached(node: s.LIF, k: int) -> list[int]:
    """For each threshold the least multiple of ``k`` that stands for an integer whose product with
    the gain, in float32, reaches it; at least 1.
    """
    gain, found = np.float32(node.gain), []
    for threshold in (node.v_threshold, *node.more):
        least = int(threshold / node.gain) - 1
        while gain * np.float32(least) < np.float32(threshold):
            least += 1
        found.append(max(k * least, 1))
    return found


def integer_integrator(state: Quantization, node: s.Integrator) -> s.IntegerIntegrator:
    """An integrator of a value that is coarse enough for its sums to fit a loop."""
    return integrator_of(state, node.name, node.x, np.asarray(node.decay))


def integrator_of(state: Quantization, name: str, x: Ref, decay: np.ndarray) -> s.IntegerIntegrator:
    """An integrator called ``name`` that keeps ``decay``, one share or one for each channel."""
    weights = np.rint(128 * decay).astype(np.int32)
    most = int(weights.max())
    x = state.coarser(x, integrator_limit(most / 128, state.options.steps, state.fields))
    largest = integrated(state.bound[x].magnitude, most, state.options.steps)
    weight: int | TensorRef = most
    if (weights != most).any():
        weight = state.rewriter.tensor(f"{name}.weight", weights)
    return s.IntegerIntegrator(name=name, x=x, weight=weight, largest=largest)


def integrated(magnitude: int, weight: int, steps: int) -> int:
    """Largest absolute value within ``steps`` steps, rounded down each."""
    found = 0
    for _ in range(steps):
        found = -(-found * weight >> 7) + magnitude
    return found


def _lif_bias(
    state: Quantization, node: s.LIF, resolution: float | np.ndarray
) -> tuple[TensorRef | None, int]:
    total = state.membrane_bias(node)
    if not total.any():
        return None, 0
    units = total / resolution
    exponent = 0
    while np.abs(np.rint(units / (1 << exponent))).max() > state.fields.mantissa:
        exponent += 1
    most = state.fields.bias_exponent
    if exponent > most:
        raise NeurocompileError(
            "NC2002",
            f"layer '{node.name}': bias {np.abs(total).max():.4g} needs exponent {exponent} > {most}",
            layer=node.name,
        )
    mantissa = np.rint(units / (1 << exponent)).astype(np.int16)
    return state.rewriter.tensor(f"{node.name}.bias.int", mantissa), exponent


def _integers(state: Quantization, name: str, values: np.ndarray) -> int | TensorRef:
    """One integer if they are all equal, or a tensor."""
    if values.min() == values.max():
        return int(values.flat[0])
    return state.rewriter.tensor(name, values.astype(np.int32))
