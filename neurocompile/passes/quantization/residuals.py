"""Weights of the layers that feed a residual of real values: one unit for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from math import ceil
from typing import NamedTuple

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.passes.quantization.compensated import rounded
from neurocompile.passes.quantization.exactness import exact_on
from neurocompile.passes.quantization.fitting import fitted, seen
from neurocompile.passes.quantization.means import note_shift, per_input_channel
from neurocompile.passes.quantization.scales import best_scale, row_grids, weight_grid
from neurocompile.passes.quantization.state import Quantization
from neurocompile.passes.quantization.thresholds import LEAST_LEVELS, follows, soft_bias
from neurocompile.passes.trunk import Trunk

__all__ = ["FEW_LEVELS", "lif_unit", "unit_of_pixels", "weighted_in_trunk"]

_ROUNDING = 0.1
"""Of a threshold: what rounding a real input may cost before a residual counts in a finer unit than
its LIFs hold, and each of them reads it through a shift. 0.1 and 0.2 lose none of 360 images on the
zoo's Meta-SpikeFormer in factors, 0.05 and 0.02 two; a membrane-shortcut ResNet agrees alike."""
_GATED = 2.5
"""How much larger a loop takes sums of a product of either sign to be: a gate adds a constant to its value and takes it away
again, and what is known of the two alone is five times what they make together."""
FEW_LEVELS = 1 << 10
"""Levels of a worst case, below which a usual value is a few: it is rounded to the nearest, which
takes a relay more.
"""


def weighted_in_trunk(
    state: Quantization, node: s.Conv2d | s.Linear, unit: float, trunk: Trunk
) -> tuple[s.Node, float]:
    """Quantize in the trunk's unit, with a weight exponent that gives the layer's own scale up to a
    factor of 2.
    """
    if trunk.producers not in state.trunk_units:
        state.trunk_units[trunk.producers] = _settled_unit(state, trunk)
    common, step = state.trunk_units[trunk.producers], 1 << (9 - state.options.weight_bits)
    real = state.integer[node.x] is None and not isinstance(state.graph.node[node.x], s.Input)
    weight = np.asarray(state.graph.tensors[node.weight], np.float64)
    if not weight.any():  # a branch that adds nothing
        zero = state.rewriter.tensor(f"{node.name}.weight", np.zeros(weight.shape, np.int16))
        return replace(node, weight=zero), common
    ideal = _ideal_scale(state, node)
    if trunk.producers in state.seen_only and (around := _clipped(state, node)) is not None:
        node = replace(node, x=fitted(state, node.x, state.fields.payload, around))
        unit = state.unit[node.x]
    scale = common * step / unit
    # a grid may be as coarse as the unit: stored weights are multiples of ``step``
    least = 1 - step.bit_length() if trunk.producers in state.on_grids else 0
    if real and scale > ideal:
        bits = int(np.log2(scale / ideal))  # a real input gives up bits that the weights would lose
        levels = max(state.bound[node.x].magnitude >> bits, LEAST_LEVELS)
        node = replace(node, x=state.coarser(node.x, levels, nearest=levels < FEW_LEVELS))
        unit = state.unit[node.x]
        scale = common * step / unit
    exponent = max(ceil(np.log2(ideal / scale) - 1e-9), least)
    if exponent > state.fields.weight_exponent:
        raise NeurocompileError(
            "NC2002",
            f"layer '{node.name}' needs weight exponent {exponent} > {state.fields.weight_exponent} in its residual",
            layer=node.name,
        )
    scale *= 2.0**exponent
    q = rounded(state, node, weight / scale, np.arange(len(weight)))
    if trunk.producers not in state.on_grids:
        state.precision.note_rounded(node, None, _left_grid(state, weight))
    note_shift(state, node, weight, weight - scale * q)
    stored = state.rewriter.tensor(f"{node.name}.weight", (step * q).astype(np.int16))
    return replace(node, weight=stored, exponent=exponent), common


def _left_grid(state: Quantization, weight: np.ndarray) -> str:
    """Why weights on grids are rounded all the same; "" for others."""
    levels = (1 << (state.options.weight_bits - 1)) - 1
    if row_grids(weight, levels, most=len(weight)) is None:
        return ""
    return "weights leave their grids: layers of a residual have no common one that fits the sums"


def _ideal_scale(state: Quantization, node: s.Conv2d | s.Linear) -> float:
    """Weight scale of least expected error for one layer alone."""
    if node.name in state.ideal_scales:
        return state.ideal_scales[node.name]
    weight, mean = np.asarray(state.graph.tensors[node.weight], np.float64), state.mean.get(node.x)
    moments = None if mean is None else per_input_channel(node, mean + mean * mean)
    found = best_scale(
        weight,
        float(np.abs(weight).max()),
        (1 << (state.options.weight_bits - 1)) - 1,
        moments,
        state.options.most_weights,
    )
    state.ideal_scales[node.name] = found
    return found


def _settled_unit(state: Quantization, trunk: Trunk) -> float:
    """The trunk's unit. Where real values could be so large that their sums would leave the layers
    too few levels, layers read them clipped to what the calibration saw.
    """
    unit, fits = _trunk_unit(state, trunk)
    if not fits and any(_clipped(state, p) is not None for p in trunk.producers):
        state.seen_only.add(trunk.producers)
        unit, _ = _trunk_unit(state, trunk)
    return unit


def _clipped(state: Quantization, layer: s.Conv2d | s.Linear) -> tuple[float, float] | None:
    """What the calibration saw of the real value that ``layer`` reads, widened; None for integers."""
    return None if state.integer[layer.x] is not None else seen(state, layer.x)


def _largest(state: Quantization, layer: s.Conv2d | s.Linear, trunk: Trunk) -> float:
    """Magnitude of what ``layer`` of ``trunk`` reads."""
    known = state.bound.get(layer.x) or state.integer[layer.x]
    found = (
        state.magnitude[layer.x]
        if known is None
        else known.magnitude * state.unit.get(layer.x, 1.0)
    )
    around = _clipped(state, layer) if trunk.producers in state.seen_only else None
    return found if around is None else min(found, max(-around[0], around[1]))


def _trunk_unit(state: Quantization, trunk: Trunk) -> tuple[float, bool]:
    """Fine enough for the finest layer, coarse enough for every field: sums, thresholds, biases,
    exponents; and whether layers of real values lose little in it.
    """
    if trunk.others:
        kinds = sorted({f"'{n.name}' ({type(n).__name__})" for n in trunk.others})
        raise NeurocompileError(
            "NC2001",
            f"a residual of real values also takes {', '.join(kinds)}; only linear layers may feed it",
        )
    ideals, real, total = [], [], 0.0
    step = 1 << (9 - state.options.weight_bits)
    if not trunk.neurons and all(_selects(state, p) for p in trunk.producers):
        return (
            1.0 / step,
            True,
        )  # integers, put side by side: the grid of weights holds them exactly
    for producer in trunk.producers:
        known = state.bound.get(producer.x) or state.integer[producer.x]
        weight = np.abs(np.asarray(state.graph.tensors[producer.weight], np.float64)).reshape(-1)
        if not weight.any():
            continue
        rows = weight.reshape(len(state.graph.tensors[producer.weight]), -1)
        largest = _largest(state, producer, trunk)
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
    if any(lif.name in state.graph.fed_back for lif, _ in trunk.neurons) and any(
        _gated(state, p) for p in trunk.producers
    ):
        total *= _GATED
    if not any(state.graph.tensors[p.weight].any() for p in trunk.producers):
        ideals.append(min((n.v_threshold / n.gain for n, _ in trunk.neurons), default=1.0) / 4096)
    if not ideals:
        names = ", ".join(f"'{p.name}'" for p in trunk.producers)
        raise NeurocompileError(
            "NC2001", f"no layer of a residual of real values reads spikes or the input: {names}"
        )
    # a sum over many values is read through a shift, where its field would coarsen all layers
    direct = [n for n in trunk.neurons if n[1] == 1] or trunk.neurons
    coarsest = max((lif_unit(state, lif, 1.02 * total * k) for lif, k in direct), default=0.0)
    room = 1.02 if trunk.neurons else 2.0  # a real input of few levels may round up by half of one
    fields = max(
        max(ideals) / (1 << state.fields.weight_exponent), room * total / state.fields.payload
    )
    floor = max(coarsest, room * total / state.fields.payload)
    if (found := _on_grid(state, trunk, floor, total)) is not None:
        state.on_grids.add(trunk.producers)
        return found, True
    unit = max(min(ideals), coarsest, fields)
    least = min((lif.v_threshold / lif.gain for lif, _ in trunk.neurons), default=np.inf)
    if all(_real_fits(unit, *sizes, least) for sizes in real):
        return unit, True
    return fields, False  # each LIF reads it in a coarser unit


def _on_grid(state: Quantization, trunk: Trunk, floor: float, total: float) -> float | None:
    """The unit, at least ``floor``, in which all layers' weights stay as they are, where they lie on
    grids that have a common one: the coarsest at which the integer thresholds mean what the float
    ones do at every membrane, else the finest. None without one.
    """
    grids, levels = _grids(state, trunk), (1 << (state.options.weight_bits - 1)) - 1
    if grids is None:
        return None
    kept: tuple[float, list[_Share], int] | None = None
    for value, shares in _common_grids(list(grids.values()), levels):
        for power in _powers(state, value, shares, floor):
            if kept is None or kept[0] == value:
                kept = value, shares, power
            exact = {
                lif.name: exact_on(
                    state, lif, value, power, total * summed + _bias(state, lif) / lif.gain
                )
                for lif, summed in _direct(state, trunk, value / 2**power, total)
            }
            if None not in exact.values():
                state.thresholds.update((k, v) for k, v in exact.items() if v is not None)
                return _keep(state, grids, value, shares, power)
    if kept is None:
        return None
    unit = _keep(state, grids, *kept)
    for lif, _ in _direct(state, trunk, unit, total):  # at least a sum that is the threshold fires
        ideal = lif.v_threshold / (lif.gain * unit)
        if not lif.soft_reset and abs(ideal - round(ideal)) < 1e-6 * ideal:
            met = int(follows(lif.v_threshold, lif.gain * unit))
            state.thresholds[lif.name] = round(ideal) - 1 + met
    return unit


def unit_of_pixels(state: Quantization, node: s.Input, unit: float) -> float:
    """The input's unit, ``unit`` or up to twice as coarse, in which layers that read it add multiples
    of what the other layers of their residual add, if the weights of all of them lie on grids.
    """
    levels = (1 << (state.options.weight_bits - 1)) - 1
    for layer in state.graph.users[node.name]:
        trunk = state.trunks.get(layer.name)
        if trunk is None or not isinstance(layer, (s.Conv2d, s.Linear)):
            continue
        others = [n for n in trunk.producers if n.x != node.name]
        weights = [np.asarray(state.graph.tensors[n.weight], np.float64) for n in (layer, *others)]
        found = [grid for w in weights if (grid := weight_grid(w, levels)) is not None]
        if len(found) < max(len(weights), 2) or any(state.integer[n.x] is None for n in others):
            continue
        grid, other = found[:2]
        wanted = float(other / grid * 2.0 ** ceil(np.log2(unit * grid / other) - 1e-9))
        most = [round(float(np.abs(w).max()) / g) for w, g in zip(weights, found, strict=True)]
        values = [grid * wanted, *found[1:]]
        if next(_common_grids([_Grid(*g) for g in zip(found, values, most)], levels), None):
            return wanted
    return unit


def _grids(state: Quantization, trunk: Trunk) -> dict[str, _Grid] | None:
    """Those of the layers that add something, by name; None where one has none."""
    grids = {}
    for layer in trunk.producers:
        weight = np.asarray(state.graph.tensors[layer.weight], np.float64)
        if not weight.any():
            continue
        grid = weight_grid(weight, (1 << (state.options.weight_bits - 1)) - 1)
        if grid is None or state.integer[layer.x] is None and layer.x not in state.unit:
            return None
        most = round(float(np.abs(weight).max()) / grid)
        grids[layer.name] = _Grid(grid, grid * state.unit.get(layer.x, 1.0), most)
    return grids


def _direct(
    state: Quantization, trunk: Trunk, unit: float, total: float
) -> list[tuple[s.LIF, int]]:
    """Neurons that read the trunk in its unit; others do through a shift."""
    return [k for k in trunk.neurons if unit >= lif_unit(state, k[0], 1.02 * total * k[1])]


def _bias(state: Quantization, lif: s.LIF) -> float:
    """The largest, 0 without."""
    return 0.0 if lif.bias is None else float(np.abs(state.graph.tensors[lif.bias]).max(initial=0))


def _powers(state: Quantization, value: float, shares: list[_Share], floor: float) -> Iterator[int]:
    """Those whose unit of ``value`` is ``floor`` or more, and for which weights as they are have
    their exponents.
    """
    step, apart = 9 - state.options.weight_bits, max(share.exponent for share in shares)
    for power in range(step + 1 + state.fields.weight_exponent - apart):
        if value / 2**power >= floor * (1 - 1e-9):
            yield power


def _keep(
    state: Quantization, grids: dict[str, _Grid], value: float, shares: list[_Share], power: int
) -> float:
    """Note the scales that layers keep; the unit."""
    for (name, grid), share in zip(grids.items(), shares, strict=True):
        state.ideal_scales[name] = grid.weight / share.whole
    return value / 2**power


class _Grid(NamedTuple):
    """What a layer's weights are whole numbers of."""

    weight: float
    value: float
    """The same of its output."""
    most: int
    """The largest number."""


class _Share(NamedTuple):
    """A grid is ``whole * 2^exponent`` of the common one."""

    whole: int
    exponent: int


def _common_grids(grids: list[_Grid], levels: int) -> Iterator[tuple[float, list[_Share]]]:
    """Values that every grid is a multiple of, with at most ``levels`` of it times a power of two,
    the largest first.
    """
    if not grids:
        return
    least = min(grids, key=lambda g: g.value)
    for part in range(1, levels // least.most + 1):
        value, shares = least.value / part, []
        for grid in grids:
            ratio = grid.value / value
            whole, exponent = round(ratio), 0
            if whole < 1 or abs(ratio - whole) > 1e-5 * ratio:
                break
            while grid.most * (whole >> exponent) > levels and not (whole >> exponent) % 2:
                exponent += 1
            if grid.most * (whole >> exponent) > levels:
                break
            shares.append(_Share(whole >> exponent, exponent))
        if len(shares) == len(grids):
            yield value, shares


def _selects(state: Quantization, layer: s.Conv2d | s.Linear) -> bool:
    """Whether a layer brings integers as they are to other places: weights of 0 and 1."""
    weight = state.graph.tensors[layer.weight]
    return state.integer[layer.x] is not None and bool(((weight == 0) | (weight == 1)).all())


def _gated(state: Quantization, layer: s.Conv2d | s.Linear) -> bool:
    """Whether a layer reads a product that may be negative."""
    source = state.graph.node[layer.x]
    while isinstance(source, s.Rearrange):
        source = state.graph.node[source.x]
    known = state.bound.get(layer.x)
    return isinstance(source, (s.Mul, s.MatMul)) and known is not None and known.low < 0


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
    floors = [largest / limit, lif.v_threshold / (lif.gain * min(limit, state.fields.threshold))]
    floors.append(bias / (lif.gain * 0.9 * state.fields.bias))
    if lif.soft_reset:
        floors.append(bias / (lif.gain * 0.9 * soft_bias(state.fields)))
    return max(floors)
