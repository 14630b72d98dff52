"""Statistics that quantization and mapping use: the input's range and how often each layer spikes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import wraps
from math import inf, prod
from typing import Any

import msgspec
import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.gpu.devices import check_device
from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import ranges, shapes
from neurocompile.ir.evaluate import encode_input
from neurocompile.ir.quick import for_samples
from neurocompile.ir.sliding import sliding_windows
from neurocompile.ir.spiking_rules import LARGEST_LEVELS
from neurocompile.ir.tables import KindTable
from neurocompile.targets.fields import LOIHI2

__all__ = [
    "CALIBRATION_KEY",
    "MEANS",
    "Calibration",
    "calibrate_on",
    "calibration_from_metadata",
    "calibration_from_weights",
    "mean_values",
    "problem_of",
    "real_values",
    "value_grid",
]

CALIBRATION_KEY = "neurocompile.calibration"
"""Key of the statistics in ``metadata_props``."""
_ASSUMED_RATE = 0.15
"""Spikes a neuron a step where nothing was measured: the order that published spiking transformers
report.
"""
_GRID_LEVELS = 255
_GRID_TOLERANCE = 1e-6
_LARGEST_INPUT = 1e30
_LEVELS = LOIHI2.payload
"""Largest integer that an input may become: what a payload holds."""


class InputStatistics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Range of the calibration inputs; ``grid`` divides all of them, or is null."""

    min: float
    max: float
    grid: float | None = None


class LayerStatistics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Spikes a neuron a step: the mean, and for each index of the channel axis (empty if there is
    none).
    """

    rate: float
    channel_rate: tuple[float, ...] = ()


class Calibration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Statistics over ``samples`` inputs at ``T`` steps. ``source`` is data, file, example (the
    input that a model was traced with) or weights.
    """

    samples: int
    T: int
    input: InputStatistics
    layers: dict[str, LayerStatistics]
    source: str = "file"
    values: dict[str, tuple[float, float]] = {}
    """Smallest and largest of each real value that a real operator reads or makes, of a canonical
    graph."""
    spreads: dict[str, tuple[float, float]] = {}
    """Of each normalization: the smallest root of the mean square, and the largest distance from the
    mean."""

    @property
    def degenerate(self) -> bool:
        """True if the inputs were all one number, such as those of ``torch.zeros``: they tell
        nothing of data.
        """
        return self.source != "weights" and self.input.min == self.input.max

    def rate(self, layer: str) -> float:
        """Spikes a neuron of ``layer`` a step (a named assumption where nothing was measured)."""
        return self.layers[layer].rate if layer in self.layers else _ASSUMED_RATE


def calibration_from_metadata(metadata: Mapping[str, str]) -> Calibration | None:
    """What ``export_onnx`` stored in the file, or None; NC1002 if it is there and malformed."""
    if CALIBRATION_KEY not in metadata:
        return None
    try:
        found = msgspec.json.decode(metadata[CALIBRATION_KEY], type=Calibration)
    except msgspec.DecodeError as error:
        raise NeurocompileError(
            "NC1002", f"metadata '{CALIBRATION_KEY}' is malformed: {error}"
        ) from error
    problem = problem_of(found)
    if problem is not None:
        raise NeurocompileError(
            "NC1002",
            f"metadata '{CALIBRATION_KEY}': {problem}; rewrite it with neurocompile.export_onnx",
        )
    return found


def problem_of(found: Calibration) -> str | None:
    """What no statistics can be, or None."""
    rates = [r for layer in found.layers.values() for r in (layer.rate, *layer.channel_rate)]
    grid = 1.0 if found.input.grid is None else found.input.grid
    pairs = [*found.values.values(), *found.spreads.values()]
    numbers = np.asarray([found.input.min, found.input.max, grid, *rates, *np.ravel(pairs)])
    if (
        not np.isfinite(numbers).all()
        or found.input.min > found.input.max
        or any(low > high for low, high in found.values.values())
        or grid <= 0
        or not 1 <= found.T <= 1 << 16
    ):
        return "it holds numbers that are not finite or not ordered"
    largest = max(abs(found.input.min), abs(found.input.max))
    fine = found.input.grid is not None and largest / grid > _LEVELS
    if any(not 0 <= r <= LARGEST_LEVELS for r in rates) or largest > _LARGEST_INPUT or fine:
        return (
            f"rates lie in 0..{LARGEST_LEVELS}, inputs within {_LARGEST_INPUT:.0e} and on at most "
            f"{_LEVELS:,} levels"
        )
    return None


def calibration_from_weights(T: int) -> Calibration:
    """No data: inputs are taken to lie within -4..4 at 1/255, rates to be typical. The caller
    warns.
    """
    return Calibration(0, T, InputStatistics(-4.0, 4.0, 1.0 / 255.0), {}, "weights")


def calibrate_on(
    graph: s.SpikingGraph,
    x: np.ndarray,
    T: int,
    device: str = "cpu",
    done: Callable[[int, int], object] = lambda now, of: None,
) -> Calibration:
    """Measure ``graph``, in floating point or in integers, on ``x`` (samples, *input shape) at ``T`` steps.

    On the CPU by :mod:`neurocompile.ir.quick`.

    Args:
        device: cpu, or cuda, cuda:N or torch-cpu: torch's float32, whose rates differ from numpy's
            where a membrane is within rounding of its threshold. A model whose spikes feed back into
            their layer is measured on the CPU all the same.
        done: called with how many samples are measured, and of how many.
    """
    real = real_values(graph) if graph.stage == "canonical" else ()
    integers = graph.stage == "quantized"
    alone = check_device(device) == "cpu" or graph.fed_back or real or integers
    values: dict[str, tuple[float, float]] = {}
    spreads: dict[str, tuple[float, float]] = {}
    given = encode_input(graph.input, x) if integers else x
    totals = (
        _on_cpu(graph, given, T, real, values, spreads, done) if alone else _on(graph, x, T, device)
    )
    rates = {name: np.atleast_1d(total) / len(x) for name, total in totals.items()}
    statistics = {
        name: LayerStatistics(float(f"{r.mean():.9g}"), tuple(float(f"{v:.9g}") for v in r))
        for name, r in rates.items()
    }
    grid = value_grid(np.asarray(x, np.float32))
    bounds = InputStatistics(
        float(f"{x.min():.9g}"), float(f"{x.max():.9g}"), grid and float(f"{grid:.9g}")
    )
    return Calibration(len(x), T, bounds, statistics, "data", values, spreads)


_REAL = (s.Function, s.Normalization, s.StepSoftmax, s.Quotient, s.TokenMean)


def real_values(graph: s.SpikingGraph) -> tuple[str, ...]:
    """Names of the real values that operators without weights read or make."""
    whole = ranges(graph)
    found: set[str] = set()
    for node in graph.nodes:
        product = isinstance(node, (s.Mul, s.MatMul)) and whole[node.a] is whole[node.b] is None
        if product or isinstance(node, _REAL):
            found.update((node.name, *node.inputs))
    return tuple(sorted(found))


def value_grid(values: np.ndarray) -> float | None:
    """The largest g, at least (max - min) / 255, of which every value is a multiple within 1e-6;
    None without one.

    Images scaled from n-bit pixels lie on such a grid, and then the input's integers are exact.
    """
    points = np.unique(values.astype(np.float64))
    distinct = points[np.diff(points, prepend=-np.inf) > 2 * _GRID_TOLERANCE]
    if len(distinct) > _GRID_LEVELS + 1:
        return None
    # g divides every value and every difference of two, so it is a whole fraction of the smallest
    # of these.
    candidates = np.concatenate([np.abs(distinct), np.diff(distinct)])
    candidates = candidates[candidates > 2 * _GRID_TOLERANCE]
    if not len(candidates):
        return None
    smallest, lowest = candidates.min(), (points[-1] - points[0]) / _GRID_LEVELS
    for divisor in range(1, _GRID_LEVELS + 1):
        grid = smallest / divisor
        if grid < lowest - _GRID_TOLERANCE:
            return None
        if np.abs(points - np.round(points / grid) * grid).max() <= _GRID_TOLERANCE:
            return float(grid)
    return None


_Counted = tuple[
    dict[str, np.ndarray], dict[str, tuple[float, float]], dict[str, tuple[float, float]]
]
"""Spikes of each layer, range of each real value, and what normalizations divide by, of some samples."""


def _on_cpu(
    graph: s.SpikingGraph,
    x: np.ndarray,
    T: int,
    real: tuple[str, ...],
    values: dict[str, tuple[float, float]],
    spreads: dict[str, tuple[float, float]],
    done: Callable[[int, int], object],
) -> dict[str, np.ndarray]:
    """Layer -> spikes a neuron and step of each channel, the sum over samples; and into ``values``
    and ``spreads`` what is known of the values ``real``.
    """
    layers = [n.name for n in graph.spiking_layers]
    normalized = [n for n in graph.nodes if isinstance(n, s.Normalization)] if real else []
    size, totals = shapes(graph), dict[str, np.ndarray]()

    def count(trace: dict[str, np.ndarray]) -> _Counted:
        return (
            {
                name: trace[name].sum(
                    axis=tuple(i for i in range(trace[name].ndim) if i != 2), dtype=np.float64
                )
                for name in layers
            },
            {name: (float(trace[name].min()), float(trace[name].max())) for name in real},
            {node.name: _spread(node, trace[node.x]) for node in normalized},
        )

    for part, (sums, between, spread) in for_samples(graph, x, T, [*layers, *real], count):
        for name in layers:  # whole numbers: their order does not matter
            totals[name] = totals.get(name, 0.0) + sums[name]
        for name, (least, most) in between.items():
            low, high = values.get(name, (inf, -inf))
            values[name] = min(low, least), max(high, most)
        for name, (root, far) in spread.items():
            least, most = spreads.get(name, (inf, 0.0))
            spreads[name] = min(least, root), max(most, far)
        done(part.stop, len(x))
    return {k: v / (prod(size[k]) * T / max(np.size(v), 1)) for k, v in totals.items()}


def _spread(node: s.Normalization, x: np.ndarray) -> tuple[float, float]:
    x, axes = x.astype(np.float64), tuple(i + 2 for i in node.axes)
    x = x - x.mean(axis=axes, keepdims=True) if node.centered else x
    return float(np.sqrt((x * x).mean(axis=axes)).min()), float(np.abs(x).max())


def _on(graph: s.SpikingGraph, x: np.ndarray, T: int, device: str) -> dict[str, np.ndarray]:
    """The same by torch."""
    from neurocompile.gpu.floats import FloatEvaluator

    size = shapes(graph)
    sums = FloatEvaluator(graph, T, device).spikes(x)
    return {k: v / (prod(size[k]) * T / max(np.size(v), 1)) for k, v in sums.items()}


def mean_values(
    graph: s.SpikingGraph, calibration: Calibration, size: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
    """Expected value of every value of a float graph (full shape), from the layers' channel rates.

    Signals are treated as independent where they are multiplied, a softmax as uniform. Values that
    depend on weights or on the input are missing.
    """
    found: dict[str, np.ndarray] = {}
    for node in graph.nodes:
        inputs = [found.get(i) for i in node.inputs]
        mean = MEANS.of(node)(calibration, node, size[node.name], inputs)
        if mean is not None:
            found[node.name] = mean
    return found


Mean = Callable[[Calibration, Any, tuple[int, ...], list[Any]], "np.ndarray | None"]
MEANS: KindTable[Mean] = KindTable("means", ("canonical",), "what its value is on average")
"""(calibration, node, its shape, means of its inputs) -> its mean, None if unknown."""
MEANS.add(lambda calibration, node, shape, inputs: None, s.Input, s.Output, s.Integrator)
MEANS.add(lambda calibration, node, shape, inputs: None, s.Conv2d, s.Linear, s.Offset)
MEANS.add(lambda calibration, node, shape, inputs: None, s.MaxPool2d, s.Quotient, s.TokenMean)
MEANS.add(lambda calibration, node, shape, inputs: None, s.Function, s.Normalization, s.Delay)


def _known(rule: Callable[..., np.ndarray]) -> Mean:
    """A rule that needs the means of all inputs."""

    @wraps(rule)
    def checked(
        calibration: Calibration, node: Any, shape: tuple[int, ...], inputs: list[Any]
    ) -> np.ndarray | None:
        return None if any(i is None for i in inputs) else rule(node, shape, *inputs)

    return checked


@MEANS.rule(s.LIF, s.Or, s.Previous)
def _mean_spikes(
    calibration: Calibration,
    node: s.LIF | s.Or | s.Previous,
    shape: tuple[int, ...],
    inputs: list[Any],
) -> np.ndarray | None:
    measured = calibration.layers.get(node.of if isinstance(node, s.Previous) else node.name)
    if measured is None:
        return None
    rates = np.asarray(measured.channel_rate, np.float64)
    if rates.size and shape and rates.size == shape[0]:
        return np.broadcast_to(rates.reshape(-1, *[1] * (len(shape) - 1)), shape)
    return np.full(shape, measured.rate)


@MEANS.rule(s.SumPool2d)
@_known
def _mean_pool(node: s.SumPool2d, shape: tuple[int, ...], x: np.ndarray) -> np.ndarray:
    ends = [(p, p + more) for p, more in zip(node.padding, node.more)]
    padded = np.pad(x, ((0, 0), *ends))
    windows = sliding_windows(padded, node.kernel, (1, 2))
    return windows[:, :: node.stride[0], :: node.stride[1]].sum(axis=(3, 4))


MEANS.add(_known(lambda node, shape, x: np.full(shape, 1 / shape[-1])), s.Softmax)
MEANS.add(_known(lambda node, shape, x: np.full(shape, 1 / shape[-1])), s.StepSoftmax)
MEANS.add(_known(lambda node, shape, x: x), s.TimeMean)
MEANS.add(_known(lambda node, shape, a, b: a + b), s.Add)
MEANS.add(_known(lambda node, shape, a, b: a * b), s.Mul)
MEANS.add(_known(lambda node, shape, a, b: a @ b), s.MatMul)
MEANS.add(_known(lambda node, shape, x: node.apply(x)), s.Rearrange)
MEANS.add(
    _known(lambda node, shape, x: np.asarray(x.sum(axis=node.axes, keepdims=node.keepdims))), s.Sum
)
