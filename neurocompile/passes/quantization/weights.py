"""Weights of linear layers: a scale each, or one for each group of channels, in units that all the
fields of what reads them hold.

``W ~ s q`` with ``q`` of ``weight_bits`` bits. In units of the neuron's input a weight is ``2^k
q``, stored as ``2^(9 - bits) q`` with the weight exponent ``k - (9 - bits)``: a finer unit resolves
the threshold, a coarser one (``k`` down to 0) leaves room where sums or biases are large. Since
every weight is a multiple of ``2^(9 - bits)``, no shift rounds.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from neurocompile.errors import NeurocompileError, argument
from neurocompile.ir import spiking as s
from neurocompile.passes.quantization.compensated import rounded
from neurocompile.passes.quantization.exactness import bias_is_whole, exact_on, finer
from neurocompile.passes.quantization.layer import Layer, column, of_channels
from neurocompile.passes.quantization.means import note_shift
from neurocompile.passes.quantization.residuals import FEW_LEVELS, weighted_in_trunk
from neurocompile.passes.quantization.scales import row_grids, weight_grid
from neurocompile.passes.quantization.state import Quantization
from neurocompile.passes.quantization.thresholds import (
    LEAST_LEVELS,
    exact_level,
    exact_soft,
    follows,
    least_multiple,
    soft_bias,
)

__all__ = ["weighted"]

_REACH_OVER_VALUE = 64
"""How much larger the bound of a graded value is taken to be than its usual size: 4, 16 and 64 lose
4, 3 and 1 of 360 images on the zoo's Meta-SpikeFormer in factors."""
_LEAST_WEIGHT = 16
"""What the largest weight of a layer in front of a bias keeps at least."""
_TRIES = 40


def weighted(
    state: Quantization, node: s.Conv2d | s.Linear, unit: float
) -> tuple[s.Node, float | np.ndarray]:
    """The layer in integers, and the float value of 1 of its output: one, or one a channel."""
    weight = np.asarray(state.graph.tensors[node.weight], np.float64)
    if node.name in state.trunks:
        return weighted_in_trunk(state, node, unit, state.trunks[node.name])
    node, unit = _coarser_input(state, node, unit, weight)
    layer = Layer.of(state, node, unit, state.bound[node.x].low, state.bound[node.x].high)
    if weight.any():
        found = _on_grid(layer) or _on_grids(layer) or _on_scales(layer)
    else:
        found = _silent(layer)
    scale = column(found.scale, weight)
    note_shift(state, node, weight, weight - scale * found.q)
    bits = state.options.weight_bits
    stored = state.rewriter.tensor(
        f"{node.name}.weight", (found.q * (1 << (9 - bits))).astype(np.int16)
    )
    if layer.lif is not None:
        state.shifts[layer.lif.name] = found.shift
        if found.vth is not None:
            state.thresholds[layer.lif.name] = of_channels(node, found.vth)
    lost = _lost_bits(found, weight)
    state.precision.note(node, bits, lost, layer.lif, found.groups)
    state.precision.note_rounded(node, layer.lif, _left_grid(layer, found))
    new = replace(node, weight=stored, exponent=found.power - (9 - bits))
    value = unit * found.scale / 2.0**found.power
    if found.groups == 1:
        return new, float(value)
    return new, of_channels(node, value)


def _left_grid(layer: Layer, found: _Choice) -> str:
    """Why weights that lie on a grid, or on those of their channels, or sums of such, are rounded
    all the same; "" where they are not.
    """
    if found.on_grid:
        return f"a soft reset drops {found.shift} bits of its sums" if found.shift else ""
    if weight_grid(layer.weight, layer.levels) is not None:
        return "weights leave their grid, whose unit is too fine for the sums"
    grids = row_grids(layer.weight, layer.levels, most=len(layer.weight))
    if grids is None:
        return ""
    why = "only a neuron that alone reads them, and feeds no spike back, keeps several"
    if layer.alone:
        many, most = len(np.unique(grids[grids > 0])), layer.state.options.most_grids
        why = "their units are too fine for the sums"
        if many == 1:
            return "weights leave their grid, which they lie on less exactly than float32 would"
        if many > most:
            why = f"{many} of them, {most} are kept ({argument('grids', many)} keeps all)"
    return f"weights leave the grids of their channels: {why}"


def _lost_bits(found: _Choice, weight: np.ndarray) -> float:
    """Of the channel that lost most to the fields; channels without weights lose nothing."""
    heard = np.abs(weight).reshape(len(weight), -1).max(axis=1) > 0
    coarser = np.broadcast_to(found.scale / found.ideal, heard.shape)[heard]
    return float(np.log2(coarser.max(initial=1.0)))


def _coarser_input(
    state: Quantization, node: s.Conv2d | s.Linear, unit: float, weight: np.ndarray
) -> tuple[s.Conv2d | s.Linear, float]:
    """A real value that is not the model's input, in a coarser unit: it and the weights share the
    bits of a sum, and what rarely comes near its bound gets the larger part.
    """
    largest = np.abs(weight).max()
    if state.integer[node.x] is not None or isinstance(state.graph.node.get(node.x), s.Input):
        return node, unit
    bits, lif = state.options.weight_bits, state.consumer(node.name)
    limit = (
        state.payload_limit(node.name)
        if lif is None
        else min(state.input_limit(lif), state.fields.payload)
    )
    terms = np.abs(weight).reshape(len(weight), -1).sum(axis=1).max() / max(largest, 1e-300)
    terms = max(terms, 1.0) * (1 << (9 - bits))
    all_bits = limit / (terms * ((1 << (bits - 1)) - 1))
    levels = max(all_bits, np.sqrt(_REACH_OVER_VALUE * limit / terms), LEAST_LEVELS)
    if lif is not None and lif.soft_reset:  # its bias has a field of its own, in the sum's unit
        bias = float(np.abs(state.membrane_bias(lif)).max(initial=0)) / lif.gain
        reach = state.bound[node.x].magnitude * unit * largest / _LEAST_WEIGHT
        levels = min(levels, 0.9 * soft_bias(state.fields) * reach / max(bias, 1e-300))
    node = replace(node, x=state.coarser(node.x, int(levels), nearest=levels < FEW_LEVELS))
    return node, state.unit[node.x]


@dataclass(frozen=True)
class _Choice:
    """``weight ~ scale * q``; one unit of the output is ``scale / 2^power`` of the input's."""

    scale: np.ndarray
    """(), or (channels,)."""
    q: np.ndarray
    power: int
    ideal: np.ndarray
    """The scale without any limit of a field."""
    vth: int | np.ndarray | None = None
    """The threshold, one or one a channel, where it is not the nearest to the float one."""
    shift: int = 0
    groups: int = 1
    on_grid: bool = True
    """Weights are ``scale * q``, not the nearest to it."""


def _silent(layer: Layer) -> _Choice:
    """No weights: the neuron reads its bias alone, in a unit that resolves it; where its biases lie
    on a grid, in one in which they mean what they do in float.
    """
    zero, lif = np.zeros_like(layer.weight), layer.lif
    bias = np.zeros(1) if lif is None else np.abs(layer.state.membrane_bias(lif))
    grid = weight_grid(bias, layer.levels) if bias.any() else None
    if lif is not None and grid is not None:
        value, largest = grid / lif.gain, float(bias.max()) / lif.gain
        for power in range(17 - layer.state.options.weight_bits):
            vth = exact_on(layer.state, lif, value, power, largest)
            if vth is not None:
                one = np.asarray(value / layer.unit)
                return _Choice(one, zero, power, one, None if lif.soft_reset else vth)
    scale = 2.0**-12 / layer.unit
    if lif is not None:
        least = float(layer.least().max())
        scale = max(layer.threshold / layer.unit / (1 << 12), least)
        scale = layer.moved(scale, 0, least)[0]
    one = np.asarray(scale)
    return _Choice(one, zero, 0, one)


def _on_grid(layer: Layer) -> _Choice | None:
    """Weights that lie on a grid of their own (quantization-aware training) stay as they are;
    None if they lie on none, or a field does not hold them.

    The grid, or the coarsest part of it, and the least power at which the neuron's integers mean
    what the float ones do at every membrane (:func:`exact_on`); where there is none the whole grid,
    and the largest power that fits.
    """
    grid = weight_grid(layer.weight, layer.levels)
    if grid is None:
        return None
    bits, lif, least = layer.state.options.weight_bits, layer.lif, float(layer.least().max())
    q = np.rint(layer.weight / grid)
    if lif is not None:
        largest = float((layer.reach(layer.weight).max()) * layer.unit + layer.bias.max())
        for part in finer(
            layer.state, lif, grid * layer.unit, layer.levels // int(np.abs(q).max())
        ):
            for power in range(17 - bits):
                if least * 2**power > grid / part:
                    break
                vth = exact_on(layer.state, lif, grid / part * layer.unit, power, largest)
                if vth is not None:
                    scale = np.asarray(grid / part)
                    return _Choice(scale, part * q, power, scale, None if lif.soft_reset else vth)
    powers = [k for k in range(17 - bits) if least * 2**k <= grid and layer.resolves(grid, k)]
    if not powers:
        return None
    scale = np.asarray(grid)
    if lif is None or lif.soft_reset:
        power = min(powers, key=lambda k: abs(k - (9 - bits)))
        shift = 0 if lif is None else layer.soft_shift(grid, power)
        return _Choice(scale, q, power, scale, shift=shift)
    power = powers[-1]
    return _Choice(scale, q, power, scale, int(_nearest(layer, lif, scale, power)))


def _on_grids(layer: Layer) -> _Choice | None:
    """The same where channels have grids of their own; None also if something else than one neuron
    reads them, or more differ than :attr:`Quantize.most_grids`.
    """
    lif = layer.lif
    if not layer.alone or lif is None or lif.current or lif.more:
        return None
    scale = row_grids(layer.weight, layer.levels, layer.state.options.most_grids)
    if scale is None or scale.min() == scale.max():  # one: it is no exact grid of the whole
        return None
    if lif.soft_reset:
        return _on_soft_grids(layer, lif, scale)
    least, bits = layer.least(), layer.state.options.weight_bits
    units, q = np.unique(scale), np.rint(layer.weight / column(scale, layer.weight))
    fits = [
        power
        for power in range(17 - bits)
        if (least * 2**power <= scale).all() and all(layer.resolves(u, power) for u in units)
    ]
    for power in fits:
        levels = {
            unit: exact_level(
                lif.gain * layer.unit * unit,
                lif.v_threshold,
                layer.state.taus(lif),
                layer.state.options.steps,
                power,
            )
            for unit in units.tolist()
        }
        vth = np.asarray([-1 if levels[u] is None else levels[u] for u in scale.tolist()])
        if (
            vth.min() >= 0
            and vth.max() <= layer.state.fields.threshold
            and bias_is_whole(layer.state, lif, layer.unit * of_channels(layer.node, scale), power)
        ):
            return _Choice(scale, q, power, scale, vth, groups=len(units))
    if not fits:
        return None
    vth = _nearest(layer, lif, scale, fits[-1])
    return _Choice(scale, q, fits[-1], scale, vth, groups=len(units))


def _nearest(layer: Layer, lif: s.LIF, scale: np.ndarray, power: int) -> np.ndarray:
    """Thresholds nearest to the float neuron's, whose currents are whole numbers of ``scale``, which
    is ``2^power`` integers; one that is an integer is met by it, and not by what a file writes as
    ``v > n``. Without a memory halfway between two currents, for the chip keeps 1/4096.
    """
    grid = lif.gain * layer.unit * scale
    if (layer.state.taus(lif) == 1).all():
        least = [least_multiple(lif.v_threshold, g) for g in grid.ravel().tolist()]
        halfway = (np.reshape(least, grid.shape) << power) - max((1 << power) // 2, 1)
        return np.maximum(halfway, 0)
    unit = grid / 2.0**power
    ideal = lif.v_threshold / unit
    near = np.rint(ideal)
    met = np.abs(ideal - near) < 1e-6 * ideal
    reached = near - 1 + follows(lif.v_threshold, unit)
    return np.maximum(np.where(met, reached, np.rint(ideal - 1 / 64)), 0).astype(np.int64)


def _on_soft_grids(layer: Layer, lif: s.LIF, scale: np.ndarray) -> _Choice | None:
    """In the coarsest unit in which all channels mean what they do in float; where there is none, the
    finest in which no sum drops a bit: it rounds what a spike takes, and no weight.
    """
    state, units = layer.state, np.unique(scale)
    q = np.rint(layer.weight / column(scale, layer.weight))
    fits = _whole(layer, q, scale)
    if not fits:
        return None

    def exact(power: int) -> bool:
        parts = (lif.v_threshold,), lif.taken, state.taus(lif), state.options.steps, power
        return bias_is_whole(
            state, lif, layer.unit * of_channels(layer.node, scale), power
        ) and all(exact_soft(lif.gain * layer.unit * u, *parts) is not None for u in units)

    power = next((k for k in fits if exact(k)), fits[-1])
    return _Choice(scale, q, power, scale, groups=len(units))


def _whole(layer: Layer, q: np.ndarray, scale: np.ndarray) -> list[int]:
    """Powers, rising, at which a soft reset resolves its threshold and drops no bit of ``scale * q``;
    none where not even the finest resolves it.
    """
    least, bits = layer.least(), layer.state.options.weight_bits
    fits = [
        power
        for power in range(17 - bits)
        if (least * 2**power <= scale).all() and layer.whole(q, scale, power)
    ]
    resolved = fits and all(layer.resolves(unit, fits[-1]) for unit in np.unique(scale))
    return fits if resolved else []


def _on_scales(layer: Layer) -> _Choice:
    """Weights to the nearest of a scale; the scale is the best one, or the least that all
    fields allow.
    """
    least, bits = layer.least(), layer.state.options.weight_bits
    groups = layer.groups(least)
    if layer.lif is not None and layer.lif.soft_reset and len(groups) > 1:
        if (several := _soft_scales(layer, groups)) is not None:
            return several
        groups = [np.arange(len(layer.weight))]
    power, found = 9 - bits, []
    for rows in groups:
        ideal = layer.ideal(rows)
        while power > 0 and least[rows].max() * 2**power > ideal:
            power -= 1
        found.append((rows, ideal))
    if layer.lif is not None:  # a threshold of a few units would move the scale far
        while (
            power < 16 - bits
            and not all(layer.resolves(ideal, power) for _, ideal in found)
            and all(least[rows].max() * 2 ** (power + 1) <= ideal for rows, ideal in found)
        ):
            power += 1
    scale, ideals = np.zeros(len(layer.weight)), np.zeros(len(layer.weight))
    q, shift = np.zeros_like(layer.weight), 0
    for rows, ideal in found:
        scale[rows], q[rows], shift = _fitted(layer, rows, ideal, least, power)
        ideals[rows] = ideal
    if len(groups) == 1:
        return _Choice(
            scale[:1].reshape(()), q, power, ideals[:1].reshape(()), shift=shift, on_grid=False
        )
    return _Choice(scale, q, power, ideals, groups=len(groups), on_grid=False)


def _soft_scales(layer: Layer, groups: list[np.ndarray]) -> _Choice | None:
    """A scale for each group in front of a soft reset, which drops no bit; None where it would."""
    scale, q = np.zeros(len(layer.weight)), np.zeros_like(layer.weight)
    for rows in groups:
        scale[rows] = layer.ideal(rows)
        weight = layer.weight[rows] / scale[rows[0]]
        q[rows] = rounded(layer.state, layer.node, weight, rows)
    if not (fits := _whole(layer, q, scale)):
        return None
    return _Choice(scale, q, fits[-1], scale, groups=len(groups), on_grid=False)


def _fitted(
    layer: Layer, rows: np.ndarray, ideal: float, least: np.ndarray, power: int
) -> tuple[float, np.ndarray, int]:
    """Scale, q and shift of ``rows``."""
    floor = float(least[rows].max()) * 2**power
    weight, wanted = layer.weight[rows], max(ideal, floor)
    if wanted > np.abs(weight).max() > 0:
        raise NeurocompileError(
            "NC2002",
            f"layer {layer.called}: sums, threshold or bias leave their fields at every scale: "
            f"its largest weight, {np.abs(weight).max():.3g}, would be less than the unit, {wanted:.3g}",
            layer=layer.node.name,
        )
    for _ in range(_TRIES):
        scale, shift = layer.moved(wanted, power, floor)
        q = rounded(layer.state, layer.node, weight / scale, rows)
        reach = float(layer.reach(q).max()) * 2**power
        if reach <= layer.limit:
            return scale, q, shift
        wanted *= max(reach / layer.limit, 1.0) * 1.0005
        floor = wanted
    raise NeurocompileError(
        "NC2002",
        f"layer {layer.called}: sums, threshold or bias leave their fields at every scale",
        layer=layer.node.name,
    )
