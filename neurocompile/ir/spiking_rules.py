"""What is legal in a SpikingGraph at each of its stages, checked after every pass."""

from __future__ import annotations

import numpy as np

from neurocompile.ir import fields as most
from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import ranges, shapes
from neurocompile.ir.functions import FUNCTIONS
from neurocompile.ir.nodes.base import FLOATING
from neurocompile.ir.rules import Rule, broken, divides, raise_broken, unless
from neurocompile.ir.text import TensorRef

__all__ = [
    "ALIKE_SUMS",
    "FOLDED_BATCH_NORM",
    "IN_FLOATING_POINT",
    "IS_CANONICAL",
    "IS_IMPORTED",
    "IS_QUANTIZED",
    "LARGEST_LEVELS",
    "MEAN_LAST",
    "NORMAL_LIF",
    "NO_BATCH_NORM",
    "NO_BIAS",
    "NO_SCALE",
    "SPIKING_RULES",
    "check_spiking",
]

LARGEST_LEVELS = 255
"""Spikes that one neuron may send in a step: traces have 8 bits."""


def _foldable(graph: s.SpikingGraph, norm: s.BatchNorm) -> bool:
    """Whether a BatchNorm is along the channels of the linear layer that it reads."""
    layer = graph.node[norm.x]
    if isinstance(layer, s.Conv2d):
        return norm.axis == 0
    return isinstance(layer, s.Linear) and norm.axis == len(shapes(graph)[norm.x]) - 1


def _mixed_sum(graph: s.SpikingGraph) -> str:
    """A sum of an integer and a real value of one shape; empty if there is none."""
    sums = [n for n in graph.nodes if isinstance(n, s.Add)]
    if not sums:
        return ""
    integer, size = ranges(graph), shapes(graph)
    mixed = (
        n.name
        for n in sums
        if size[n.a] == size[n.b] and (integer[n.a] is None) != (integer[n.b] is None)
    )
    return next(mixed, "")


def _feeds_back(graph: s.SpikingGraph, n: s.Previous) -> bool:
    layer, place = graph.node.get(n.of), [m.name for m in graph.nodes]
    return (
        layer in graph.spiking_layers
        and place.index(n.of) > place.index(n.name)
        and shapes(graph)[n.of] == n.shape
        and getattr(layer, "levels", 1) == n.levels
    )


def _within(
    graph: s.SpikingGraph, value: float | TensorRef, low: float, high: int, kind: str = "i"
) -> bool:
    """One number, or all of a tensor, by default integers."""
    if isinstance(value, TensorRef):
        array = graph.tensors[value]
        return (
            array.dtype.kind == kind
            and low <= array.min(initial=high)
            and array.max(initial=low) <= high
        )
    return low <= value <= high


def _is_grid(values: np.ndarray, n: s.RateSoftmax) -> bool:
    good = (
        values.dtype == np.int32
        and values.ndim == 1
        and values.size > 0
        and 0 <= n.shift <= most.SHIFT
    )
    return (
        good
        and 1 <= values[0]
        and values[-1] <= n.span >> n.shift <= most.CURRENT
        and bool((np.diff(values) >= 0).all())
    )


def _is_table(g: s.SpikingGraph, n: s.IntegerFunction | s.Falling) -> bool:
    """Segments: int64 of one length; of a falling function bytes as weights, and shifts that exist."""
    tensors = [g.tensors[t] for t in n.tensors]
    size = tensors[0].shape
    if any(t.dtype != np.int64 or t.shape != size or t.ndim != 1 or not t.size for t in tensors):
        return False
    if isinstance(n, s.IntegerFunction):
        return 0 <= n.shift <= 21 and all(np.abs(t).max() <= most.PAYLOAD for t in tensors)
    _, lengths, weights, exponents, drops = tensors
    limits = (
        (lengths, 1, 1 << 22),
        (weights, 0, most.WEIGHT),
        (exponents, -most.WEIGHT_EXPONENT, 42),
        (drops, 0, 21),
    )
    return all(low <= t.min() and t.max() <= high for t, low, high in limits)


_LINEAR = (s.Conv2d, s.Linear)

NO_BATCH_NORM = Rule(
    "BatchNorm is folded",
    (s.BatchNorm,),
    lambda g, n: "a BatchNorm is left",
    ("canonical", "quantized"),
)
NORMAL_LIF = Rule(
    "LIF is in normal form: input not divided by tau, resting at 0",
    (s.LIF,),
    lambda g, n: unless(not n.decay_input and n.v_reset == 0, "not in normal form"),
    ("canonical",),
)
NO_BIAS = Rule(
    "biases live in LIF, Output and Offset",
    _LINEAR,
    lambda g, n: unless(n.bias is None, "has a bias of its own"),
    ("canonical", "quantized"),
)
NO_SCALE = Rule(
    "scale factors are absorbed by weights, LIF gains or the output",
    (s.Scale,),
    lambda g, n: "a Scale is left",
    ("canonical", "quantized"),
)
MEAN_LAST = Rule(
    "the output is a mean over time",
    (s.Output,),
    lambda g, n: unless(isinstance(g.node[n.x], s.TimeMean), "its input is not a TimeMean"),
    ("canonical", "quantized"),
)
FOLDED_BATCH_NORM = Rule(
    "no BatchNorm of channels directly follows a linear layer",
    (s.BatchNorm,),
    lambda g, n: unless(not _foldable(g, n), f"follows %{n.x}"),
)
ALIKE_SUMS = Rule(
    "a sum adds two integers or two real values",
    (s.SpikingGraph,),
    lambda g, _: unless(not (found := _mixed_sum(g)), f"%{found} adds a real value to an integer"),
)
IN_FLOATING_POINT = Rule(
    "the graph is in floating point",
    (s.SpikingGraph,),
    lambda g, _: unless(g.stage in FLOATING, f"is {g.stage}"),
)
IS_IMPORTED = Rule(
    "the graph is not canonical yet",
    (s.SpikingGraph,),
    lambda g, _: unless(g.stage == "imported", f"is {g.stage}"),
)
IS_CANONICAL = Rule(
    "the graph is canonical",
    (s.SpikingGraph,),
    lambda g, _: unless(g.stage == "canonical", f"is {g.stage}"),
)
IS_QUANTIZED = Rule(
    "the graph is quantized",
    (s.SpikingGraph,),
    lambda g, _: unless(g.stage == "quantized", f"is {g.stage}"),
)

SPIKING_RULES: tuple[Rule, ...] = (
    Rule(
        "tensors are finite",
        (s.Node,),
        lambda g, n: unless(
            all(np.isfinite(g.tensors[t]).all() for t in n.tensors), "reads a non-finite tensor"
        ),
    ),
    NO_BATCH_NORM,
    NORMAL_LIF,
    Rule(
        "a tau for each channel is >= 1, and divides no input",
        (s.LIF,),
        lambda g, n: unless(
            not isinstance(n.tau, TensorRef) or not n.decay_input and (g.tensors[n.tau] >= 1).all(),
            f"tau {n.tau}",
        ),
    ),
    NO_BIAS,
    NO_SCALE,
    MEAN_LAST,
    Rule(
        "shifts drop 1 to 7 bits, of integers",
        (s.Shift,),
        lambda g, n: unless(g.stage == "quantized" and 1 <= n.bits <= most.SHIFT, f"bits {n.bits}"),
    ),
    Rule(
        "a softmax reads what is the same in every step of a sample",
        (s.Softmax, s.RateSoftmax),
        lambda g, n: unless(n.x in g.constants, "its input changes over the steps"),
    ),
    Rule(
        "sums over time and spikes of a softmax are integers: at least 2 steps, rising int32 thresholds from 1 to span",
        (s.TimeSum, s.RateSoftmax),
        lambda g, n: unless(
            g.stage == "quantized"
            and (
                n.steps >= 2 and n.largest >= 0
                if isinstance(n, s.TimeSum)
                else _is_grid(g.tensors[n.thresholds], n)
            ),
            "out of range",
        ),
    ),
    Rule(
        "offsets are integers",
        (s.Offset,),
        lambda g, n: unless(
            g.tensors[n.offset].dtype.kind == "i",
            f"offset @{n.offset} is {g.tensors[n.offset].dtype}",
        ),
        ("quantized",),
    ),
    Rule(
        "no floating-point neuron, and no softmax, is left",
        (s.Node,),
        lambda g, n: unless("quantized" in n.stages, f"{type(n).__name__} is not integer"),
        ("quantized",),
    ),
    Rule(
        "weights are integers on the chip's grid, -256..255",
        _LINEAR,
        lambda g, n: unless(
            g.tensors[n.weight].dtype == np.int16
            and g.tensors[n.weight].min(initial=0) >= most.MIXED[0]
            and g.tensors[n.weight].max(initial=0) <= most.WEIGHT,
            f"weight @{n.weight} is {g.tensors[n.weight].dtype}",
        ),
        ("quantized",),
    ),
    Rule(
        "weight exponents are 0..7, and 0 before quantization; down to -7 where that divides every weight",
        _LINEAR,
        lambda g, n: unless(
            0 <= n.exponent <= (7 if g.stage == "quantized" else 0)
            or (g.stage == "quantized" and divides(g.tensors[n.weight], n.exponent)),
            f"exponent {n.exponent}",
        ),
    ),
    Rule(
        "integer LIF parameters fit their fields",
        (s.IntegerLIF,),
        lambda g, n: unless(
            _within(g, n.vth, 0, most.THRESHOLD)
            and _within(g, n.dv, 0, most.ALL)
            and n.gain >= 1
            and 0 <= n.bias_exp <= most.BIAS_EXPONENT
            and 1 <= n.current <= most.ALL,
            f"vth {n.vth}, dv {n.dv}, gain {n.gain}, bias_exp {n.bias_exp}",
        ),
        ("quantized",),
    ),
    Rule(
        "integer soft-reset LIF parameters fit their fields",
        (s.SoftIntegerLIF,),
        lambda g, n: unless(
            _within(g, n.threshold, 1, most.THRESHOLD)
            and _within(g, n.decay, 0, most.ALL)
            and n.gain >= 1
            and _within(g, n.reset, 0, most.CURRENT)
            and n.levels <= LARGEST_LEVELS
            and list(n.more) == sorted(n.more)
            and not (n.more and isinstance(n.threshold, TensorRef))
            and (not n.more or n.threshold <= n.more[0] <= n.more[-1] <= most.THRESHOLD)
            and 0 <= n.shift <= most.SHIFT
            and (n.bias is None or np.abs(g.tensors[n.bias]).max(initial=0) <= 32767),
            f"threshold {n.threshold}, reset {n.reset}, decay {n.decay}, gain {n.gain}",
        ),
        ("quantized",),
    ),
    Rule(
        "several levels, other amounts of reset and synaptic currents: a LIF with one of them resets softly, with the last hard",
        (s.LIF,),
        lambda g, n: unless(
            (n.levels <= LARGEST_LEVELS and 0 <= n.current <= 1)
            and (n.levels == 1 and n.subtract is None or n.soft_reset)
            and list((n.v_threshold, *n.more)) == sorted((n.v_threshold, *n.more))
            and (not n.current or not n.soft_reset and n.bias is None or g.stage == "imported")
            and n.taken >= 0,
            f"levels {n.levels}, subtract {n.subtract}, current {n.current}",
        ),
    ),
    Rule(
        "what was sent a step before is of a spiking layer that comes later, of its shape and levels",
        (s.Previous,),
        lambda g, n: unless(_feeds_back(g, n), f"of %{n.of}"),
    ),
    Rule(
        "a function has a definition and a factor, a normalization an epsilon >= 0",
        (s.Function, s.StepSoftmax, s.Normalization),
        lambda g, n: unless(
            n.epsilon >= 0
            if isinstance(n, s.Normalization)
            else bool(np.isfinite(n.gain))
            and (isinstance(n, s.StepSoftmax) or n.function in FUNCTIONS),
            "out of range",
        ),
    ),
    Rule(
        "segments are int64 of one length that synapses and shifts hold",
        (s.IntegerFunction, s.Falling),
        lambda g, n: unless(_is_table(g, n), "out of range"),
        ("quantized",),
    ),
    Rule(
        "products take 1 to 15 digits and drop at most 30 bits, sums of them as many as digits",
        (s.DigitMul, s.DigitMatMul, s.SquareSum, s.DigitSum),
        lambda g, n: unless(
            1 <= n.bits <= 15
            and 0 <= n.shift <= (n.bits if not isinstance(n, s.DigitMul) else 30)
            and getattr(n, "largest", 0) >= 0,
            f"bits {n.bits}, shift {n.shift}",
        ),
        ("quantized",),
    ),
    Rule(
        "a mean over tokens keeps a share of 0..1 and counts its own step by a factor above 0",
        (s.TokenMean,),
        lambda g, n: unless(
            _within(g, n.decay, 0, 1, "f") and _within(g, n.first, 2.0**-20, 1 << 20, "f"),
            "out of range",
        ),
    ),
    Rule(
        "an integrator keeps a share of 0..1, in 128ths",
        (s.Integrator, s.IntegerIntegrator),
        lambda g, n: unless(
            0 <= n.decay <= 1
            if isinstance(n, s.Integrator)
            else _within(g, n.weight, 0, 128) and 0 <= n.largest <= most.CURRENT,
            "out of range",
        ),
    ),
)


def check_spiking(graph: s.SpikingGraph, after: str) -> None:
    """NC2004 unless ``graph`` keeps the rules of its stage; ``after`` names the pass that made it."""
    complaints, known = [], set()
    for node in graph.nodes:
        complaints += [
            f"%{node.name}: reads %{i} before it is defined" for i in node.inputs if i not in known
        ]
        complaints += [
            f"%{node.name}: tensor @{t} is missing" for t in node.tensors if t not in graph.tensors
        ]
        complaints += [f"%{node.name}: is defined twice"] if node.name in known else []
        known.add(node.name)
    raise_broken(complaints, after)
    try:
        shapes(graph)
    except ValueError as error:
        raise_broken([str(error)], after)
    raise_broken(list(broken(SPIKING_RULES, graph, graph.nodes, graph.stage)), after)
