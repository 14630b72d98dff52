"""What each kind makes of a factor in front of it: the output keeps its value."""

from __future__ import annotations

import numpy as np
import pytest

from neurocompile.ir.evaluate import evaluate
from neurocompile.ir.spiking import SpikingGraph
from neurocompile.passes.fold_scale import FACTORS, FoldScale

RNG = np.random.default_rng(5)
TENSORS = {
    "w": (RNG.integers(-8, 8, (4, 4)) / 4).astype(np.float32),
    "b": np.array([0.5, 0.25, -1, 2], np.float32),
    "k": (RNG.integers(-8, 8, (3, 2, 2, 2)) / 4).astype(np.float32),
    "d": np.array([0.5, 0.25, 1, 0.75], np.float32),
    "f": np.array([1, 2, 0.5, 3], np.float32),
}
LIF = "tau = 2.0, v_threshold = 1.0, decay_input = false"
IMAGE = ("[2, 4, 4]", "%p = Scale {x = %x, factor = 0.5}")
PAIR = ("[4]", "%p = Scale {x = %x, factor = 0.5}", "%q = Scale {x = %x, factor = 0.25}")

CASES: dict[str, tuple[str, ...]] = {
    "Rearrange": (
        "[4]",
        PAIR[1],
        "%r = Rearrange {x = %p, shape = [4], sizes = [4], strides = [1]}",
    ),
    "Sum": ("[2, 4]", PAIR[1], "%r = Sum {x = %p, axes = [0], keepdims = false}"),
    "SumPool2d": (*IMAGE, "%r = SumPool2d {x = %p, kernel = [2, 2], stride = [2, 2]}"),
    "MaxPool2d": (*IMAGE, "%r = MaxPool2d {x = %p, kernel = [2, 2], stride = [2, 2]}"),
    "TimeMean": ("[4]", PAIR[1], "%r = TimeMean {x = %p}"),
    "Integrator": ("[4]", PAIR[1], "%r = Integrator {x = %p, decay = 0.5}"),
    "Delay": ("[4]", PAIR[1], "%r = Delay {x = %p}"),
    "Add": (*PAIR, "%r = Add {a = %p, b = %q}"),
    "Mul": (*PAIR, "%r = Mul {a = %p, b = %q}"),
    "MatMul": ("[4, 4]", *PAIR[1:], "%r = MatMul {a = %p, b = %q}"),
    "Quotient": (*PAIR, "%o = Offset {x = %q, offset = @large}", "%r = Quotient {a = %p, b = %o}"),
    "Conv2d": (*IMAGE, "%r = Conv2d {x = %p, weight = @k}"),
    "Linear": ("[4]", PAIR[1], "%r = Linear {x = %p, weight = @w, bias = @b}"),
    "Offset": ("[4]", PAIR[1], "%r = Offset {x = %p, offset = @b}"),
    "LIF": ("[4]", PAIR[1], "%r = LIF {x = %p, " + LIF + "}"),
    "Or": ("[4]", "%p = Scale {x = %x, factor = 1.0}", "%r = Or {x = %p}"),
    "Softmax": ("[4]", PAIR[1], "%t = TimeMean {x = %p}", "%r = Softmax {x = %t}"),
    "StepSoftmax": ("[4]", PAIR[1], "%r = StepSoftmax {x = %p}"),
    "Function": ("[4]", PAIR[1], '%r = Function {x = %p, function = "sigmoid"}'),
    "Normalization": ("[4]", PAIR[1], "%r = Normalization {x = %p, axes = [0], epsilon = 0.25}"),
    "TokenMean": (*PAIR, "%r = TokenMean {k = %p, v = %q, decay = @d, first = @f}"),
}


def test_every_kind_is_here() -> None:
    others = {"Input", "Previous", "Output"}  # no case of their own: every case has ends
    assert {kind.__name__ for kind in FACTORS.entries} == {*CASES, *others}


@pytest.mark.parametrize("kind", CASES)
def test_factors_before_a_kind_leave_the_output_as_it_is(kind: str) -> None:
    """So does one behind it, which no rule may lose."""
    shape, *lines = CASES[kind]
    lines += [
        "%z = Scale {x = %r, factor = 0.5}",
        "%m = TimeMean {x = %z}",
        "%out = Output {x = %m}",
    ]
    text = f'spiking "g" {{stage = "imported"}}\n%x = Input {{shape = {shape}}}\n'
    tensors = TENSORS | {"large": np.full(4, 9, np.float32)}
    before = SpikingGraph.parse(text + "\n".join(lines) + "\n", tensors)
    after = FoldScale()(before)
    low, high = (0, 2) if kind == "Or" else (-4, 12)
    x = RNG.integers(low, high, (20, *before.input.shape)).astype(np.float32)
    x = x if kind == "Or" else x / 4
    found, wanted = (evaluate(g, x, 3)["out"] for g in (after, before))
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-6)
    assert np.ptp(wanted) > 0
