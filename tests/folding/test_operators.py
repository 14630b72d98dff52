"""Operators of neurons and circuits at a fold: exact, or refused by name."""

from __future__ import annotations

import numpy as np
import pytest
from folded import MapMaker, assert_law
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spiking_cases import assert_equal_to_definition, samples

from neurocompile.errors import NeurocompileError
from neurocompile.folding.gathering import Facts
from neurocompile.folding.lower import Lowering
from neurocompile.folding.net import Net, Reach
from neurocompile.folding.policy import fold_graph
from neurocompile.folding.schedules import Fold, Schedules
from neurocompile.ir import spiking as s
from neurocompile.passes.lower import Lower
from neurocompile.passes.schedule import Schedule
from neurocompile.targets.fields import LOIHI2

FEW = {"deadline": None, "suppress_health_check": list(HealthCheck)}


def headed(m: MapMaker, x: str) -> s.SpikingGraph:
    total = m.add(s.Sum, x=x, axes=(1, 2))
    m.add(s.Output, x=m.add(s.TimeMean, x=m.linear(total)), unit=0.5)
    return m.graph()


def total(m: MapMaker, x: str) -> str:
    return m.add(s.Sum, x=x, axes=(1, 2))


def side_by_side(m: MapMaker, x: str) -> str:
    """Two heads on one sum, each placed in its part of the outputs, as files with several have."""
    x = total(m, x)
    places = []
    for rows in (slice(0, 2), slice(2, 5)):
        head = m.add(s.Linear, x=x, weight=m.weight(rows.stop - rows.start, m.shape(x)[0]))
        place = np.zeros((5, rows.stop - rows.start), np.int16)
        place[rows] = 2 * np.eye(rows.stop - rows.start)
        places.append(m.add(s.Linear, x=head, weight=m.tensor(place), exponent=-1))
    return m.add(s.Add, a=places[0], b=places[1])


HEADS = {
    "a sum": total,
    "a sum of a convolution": lambda m, x: total(m, m.pointwise(x)),
    "two layers": lambda m, x: m.linear(m.linear(total(m, x))),
    "two heads": side_by_side,
    "a sum of sums": lambda m, x: m.linear(
        m.add(s.Add, a=total(m, x), b=total(m, m.lif(m.pointwise(x))))
    ),
}


@pytest.mark.parametrize("head", HEADS)
def test_heads_fold_exactly(head):
    """What is linear behind the sum over positions is added up by the host, window by window."""

    @settings(max_examples=2, derandomize=True, **FEW)
    @given(st.data())
    def law(data):
        m = MapMaker(data.draw, (1, 4, 4))
        made = HEADS[head](m, m.lif(m.spatial_same(m.x)))
        m.add(s.Output, x=m.add(s.TimeMean, x=made), unit=0.5)
        graph = m.graph()
        for fold in ("1x4", "2x4"):
            assert_law(graph, fold_graph(graph, 3, Fold.parse(fold)))

    law()


@settings(max_examples=2, **FEW)
@given(st.data(), st.sampled_from((1, 1024, 3000)), st.integers(1, 4))
def test_synaptic_currents_fold_exactly(data, current, steps):
    """The current lives within a window, as the membrane does; biases are closed beside it."""
    m = MapMaker(data.draw, (1, 4, 4))
    x = m.lif(m.spatial(m.x))
    bias = m.tensor(np.full((m.shape(x)[0], 1, 1), 200))
    y = m.add(s.IntegerLIF, x=m.pointwise(x), vth=9, dv=512, bias=bias, current=current)
    graph = headed(m, m.lif(m.pointwise(y)))
    assert_law(graph, fold_graph(graph, steps, Fold.parse("1x4")))


@settings(max_examples=2, **FEW)
@given(st.data(), st.sampled_from((2, 4)))
def test_several_heads_fold_exactly(data, heads):
    m = MapMaker(data.draw, (1, 4, 4))
    m.choose = lambda *options: heads if options[:1] == (1,) and heads in options else options[0]
    x = m.lif(m.add(s.Conv2d, x=m.x, weight=m.tensor(m.rng.integers(-9, 40, (4, 1, 1, 1)) * 2)))
    q, k, v = (m.lif(m.pointwise(x)) for _ in range(3))
    graph = headed(m, m.lif(m.attention(q, k, v)))
    for fold in ("1x4", "1x2s"):
        assert_law(graph, fold_graph(graph, 2, Fold.parse(fold)))


def real_map(m: MapMaker) -> str:
    """A residual of real values."""
    x = m.lif(m.spatial_same(m.x))
    return m.add(s.Add, a=m.spatial_same(x), b=m.pointwise(x))


def squeezed(m: MapMaker, x: str, edge: int) -> str:
    weight = m.weight(2, m.shape(x)[0], edge, edge)
    return m.add(s.Conv2d, x=x, weight=weight, stride=(2, 2), padding=(edge // 2,) * 2)


READERS = {
    "convolution": lambda m, x: m.spatial_same(x),
    "strided": lambda m, x: squeezed(m, x, 3),
    "largest": lambda m, x: m.pooled(x),
    "largest of a convolution": lambda m, x: m.pooled(m.spatial_same(x)),
    "largest of largest": lambda m, x: m.pooled(m.pooled(x)),
    "of size 1": lambda m, x: m.add(s.MaxPool2d, x=x, kernel=(1, 1), stride=(1, 1)),
    "average": lambda m, x: m.averaged(x),
    "neurons": lambda m, x: x,
    "shift": lambda m, x: m.shift(x),
    "sum over channels": lambda m, x: m.add(s.Sum, x=x, axes=(0,), keepdims=True),
    "added": lambda m, x: m.add(s.Add, a=x, b=m.spatial_same(x)),
    "shortcut of membranes": lambda m, x: m.add(
        s.Add, a=squeezed(m, x, 1), b=squeezed(m, m.lif(x), 3)
    ),
}


SOURCES = {"input": lambda m: m.x, "residual": real_map}
OFTEN = {
    "residual": ("strided", "largest of a convolution", "average", "shortcut of membranes"),
    "input": ("neurons", "largest", "average"),
}
CASES = [
    pytest.param(of, reader, marks=() if reader in OFTEN[of] else pytest.mark.slow)
    for of in SOURCES
    for reader in READERS
]


@pytest.mark.parametrize("of, reader", CASES)
def test_real_values_are_read_by_every_operator(of, reader):
    """The host's and a residual's: kernels, strides and pools of values, not of spikes."""

    @settings(max_examples=1, derandomize=True, **FEW)
    @given(st.data())
    def law(data):
        m = MapMaker(data.draw, (2, 4, 4))
        graph = headed(m, m.lif(READERS[reader](m, SOURCES[of](m))))
        assert_law(graph, fold_graph(graph, 3, Fold.parse("1x2c")))

    law()


def test_a_patch_of_the_first_layer_is_closed_in_time():
    """Rows that all lie in earlier windows: the patch could come before the clock that opens it."""
    m, _ = fixed_map()
    x = m.add(s.IntegerLIF, x=m.x, vth=0, dv=0)
    moved = m.add(s.Conv2d, x=x, weight=m.tensor(np.full((2, 1, 1, 1), 2)), padding=(1, 0))
    pooled = m.add(s.MaxPool2d, x=moved, kernel=(1, 1), stride=(2, 1))
    graph = headed(m, m.lif(pooled))
    for fold in ("1x4", "2x4", "1x2c"):
        assert_law(graph, fold_graph(graph, 1, Fold.parse(fold)))


def fixed_map() -> tuple[MapMaker, str]:
    """Spikes of a map of 2 x 4 x 4; no choice is left to hypothesis."""

    class Fixed:
        def __call__(self, strategy):
            if isinstance(strategy, type(st.integers(0, 9))):
                return 7
            return getattr(strategy, "elements", (False,))[0]

    m = MapMaker(Fixed(), (1, 4, 4))
    weight = m.tensor(m.rng.integers(-20, 20, (2, 1, 1, 1)) * 2)
    return m, m.add(s.IntegerLIF, x=m.add(s.Conv2d, x=m.x, weight=weight), vth=5, dv=0)


def soft_reset(m: MapMaker, x: str) -> str:
    return m.add(s.SoftIntegerLIF, "refused", x=x, threshold=5, reset=5, decay=2048)


def integrator(m: MapMaker, x: str) -> str:
    return m.lif(m.add(s.IntegerIntegrator, "refused", x=x, weight=64, largest=4000))


def a_slice(m: MapMaker, x: str) -> str:
    channels, height, width = m.shape(x)
    sizes, strides = (channels, height // 2, width), (height * width, width, 1)
    return m.lif(m.add(s.Rearrange, "refused", x=x, shape=sizes, sizes=sizes, strides=strides))


def sum_over_time(m: MapMaker, x: str) -> str:
    """What a softmax of mean scores reads."""
    return m.lif(m.add(s.TimeSum, "refused", x=x, steps=2))


def bias_by_position(m: MapMaker, x: str) -> str:
    bias = m.tensor(np.arange(np.prod(m.shape(x))).reshape(m.shape(x)))
    return m.add(s.IntegerLIF, "refused", x=x, vth=3, dv=0, bias=bias)


def feedback(m: MapMaker, x: str) -> str:
    """Spikes that come back into their own layer."""
    before = m.add(s.Previous, "refused", of="loop", shape=m.shape(x))
    return m.add(s.IntegerLIF, "loop", x=m.add(s.Add, a=x, b=before), vth=5, dv=0)


def rate_softmax(m: MapMaker, x: str) -> str:
    mean = m.add(s.TimeSum, "refused", x=x, steps=2)
    grid = m.tensor(np.arange(1, 9), np.int32)
    return m.lif(m.add(s.RateSoftmax, x=mean, thresholds=grid, span=64))


def of_real_values(kind: type[s.Node], **fields: object):  # type: ignore[no-untyped-def]
    """An operator of real values by digits; segments as tensors, two operands alike."""

    def operator(m: MapMaker, x: str) -> str:
        names = ("x", "a", "b", "digits", "value")
        given = {k: x for k in kind.__annotations__ if k in names}
        tables = {k: m.tensor(np.array([v]), np.int64) for k, v in fields.items() if k in SEGMENTS}
        return m.lif(m.add(kind, "refused", **given, **{**fields, **tables}))

    operator.kind = kind  # type: ignore[attr-defined]
    return operator


SEGMENTS = {"knots": 0, "weights": 1, "ends": 9, "lengths": 9, "exponents": 0, "drops": 0}
REFUSED = [
    soft_reset,
    integrator,
    a_slice,
    sum_over_time,
    bias_by_position,
    feedback,
    rate_softmax,
    of_real_values(s.Clip, low=0, high=9),
    of_real_values(s.Combination, times_b=-1),
    of_real_values(s.Delay),
    of_real_values(s.Maximum),
    of_real_values(s.IntegerFunction, **{k: SEGMENTS[k] for k in ("knots", "weights")}),
    of_real_values(s.Falling, **{k: v for k, v in SEGMENTS.items() if k != "knots"}),
    of_real_values(s.DigitMul, bits=4),
    of_real_values(s.DigitMatMul, bits=4),
    of_real_values(s.DigitSum, axes=(2,), bits=4),
    of_real_values(s.SquareSum, axes=(2,), bits=4),
]


def test_every_kind_of_a_quantized_graph_folds_or_is_tried_below():
    m, x = fixed_map()
    facts, fold = Facts(headed(m, x)), Fold.parse("1x4")
    schedules = Schedules(fold, facts.graph, frozenset())
    lowering = Lowering(facts, Net(schedules.windows, 4, 2, Reach(62), LOIHI2), schedules, 8)
    refused = {operator.kind for operator in REFUSED if hasattr(operator, "kind")}
    refused |= {s.SoftIntegerLIF, s.IntegerIntegrator, s.TimeSum, s.Previous, s.RateSoftmax}
    quantized = {kind for kind in s.KINDS.values() if "quantized" in kind.stages}
    gone = {s.BatchNorm, s.Scale}  # no rule lets them into a quantized graph
    assert quantized - gone == refused | set(lowering.rules)


@pytest.mark.parametrize("operator", REFUSED)
def test_what_does_not_fold_is_refused_by_name(operator):
    m, x = fixed_map()
    y = operator(m, m.add(s.Conv2d, x=x, weight=m.tensor(np.full((2, 2, 1, 1), 2))))
    total = m.add(s.Sum, x=y, axes=(1, 2))
    linear = m.add(s.Linear, x=total, weight=m.tensor(np.full((2, 2), 2)))
    m.add(s.Output, x=m.add(s.TimeMean, x=linear), unit=0.5)
    with pytest.raises(NeurocompileError, match="NC3104.*'refused'"):
        fold_graph(m.graph(), 2, Fold.parse("1x4"))


def conv(m: MapMaker, x: str) -> str:
    return m.add(s.Conv2d, x=x, weight=m.tensor(np.full((2, 2, 1, 1), 2)))


def fired(m: MapMaker, x: str) -> str:
    return m.add(s.IntegerLIF, x=x, vth=5, dv=0)


def tokens(m: MapMaker, x: str, order: tuple[int, ...] = (1, 0)) -> str:
    """(positions, channels) of a map, or turned."""
    channels, height, width = m.shape(x)
    size = (channels, height * width)
    shape = tuple(size[k] for k in order)
    strides = tuple((height * width, 1)[k] for k in order)
    return m.add(s.Rearrange, x=x, shape=shape, sizes=shape, strides=strides)


def mask(m: MapMaker, x: str) -> str:
    """Of spikes, one a channel."""
    return m.add(s.Or, x=m.add(s.Sum, x=x, axes=(1, 2), keepdims=True))


def product(m: MapMaker, a: str, b: str) -> str:
    """Tokens of ``a`` times those of ``b``, turned: (positions, positions)."""
    return m.add(s.MatMul, "refused", a=tokens(m, a), b=tokens(m, b, (0, 1)))


def ends(m: MapMaker, x: str) -> s.SpikingGraph:
    m.add(s.Output, x=m.add(s.TimeMean, x=x), unit=0.5)
    return m.graph()


def headed_by(m: MapMaker, x: str) -> s.SpikingGraph:
    return ends(m, m.add(s.Linear, x=total(m, x), weight=m.tensor(np.full((2, 2), 2))))


def turned(m: MapMaker, x: str) -> str:
    """The sum of each channel, the last channel first."""
    y = total(m, x)
    return m.add(s.Rearrange, "refused", x=y, shape=(2,), sizes=(2,), strides=(-1,), offset=1)


UNFOLDED = {
    "adds constants to spikes": lambda m, x: headed_by(
        m,
        fired(
            m, m.add(s.Offset, "refused", x=x, offset=m.tensor(np.array([[[7]], [[3]]]), np.int64))
        ),
    ),
    "shifts spikes": lambda m, x: headed_by(m, fired(m, m.add(s.Shift, "refused", x=x, bits=1))),
    "sums over a part of the positions": lambda m, x: headed_by(
        m, fired(m, m.add(s.Sum, "refused", x=x, axes=(1,), keepdims=True))
    ),
    "asks for real values over all positions": lambda m, x: headed_by(
        m,
        m.add(
            s.Mul,
            a=x,
            b=m.add(s.Or, "refused", x=m.add(s.Sum, x=conv(m, x), axes=(1, 2), keepdims=True)),
        ),
    ),
    "multiplies two real values": lambda m, x: ends(m, m.flat(product(m, conv(m, x), conv(m, x)))),
    "multiplies real values by a mask": lambda m, x: headed_by(
        m, fired(m, m.add(s.Mul, "refused", a=conv(m, x), b=mask(m, x)))
    ),
    "weights of its own for each position": lambda m, x: ends(
        m, m.add(s.Linear, "refused", x=m.flat(x), weight=m.tensor(np.full((2, 32), 2)))
    ),
    "an output for each position": lambda m, x: ends(m, m.flat(x)),
}


@pytest.mark.parametrize("why", UNFOLDED)
def test_a_form_that_does_not_fold_says_why(why):
    m, x = fixed_map()
    with pytest.raises(NeurocompileError, match=f"NC3104.*{why}"):
        fold_graph(UNFOLDED[why](m, x), 2, Fold.parse("1x4"))


DEAD = {
    "linear": lambda m, x: m.add(s.Conv2d, x=x, weight=m.tensor(np.full((2, 2, 1, 1), 2))),
    "sum of real values": lambda m, x: m.add(s.Add, a=x, b=DEAD["linear"](m, x)),
    "neurons": lambda m, x: m.add(s.IntegerLIF, x=DEAD["linear"](m, x), vth=5, dv=0),
    "behind neurons": lambda m, x: DEAD["sum of real values"](m, DEAD["neurons"](m, x)),
    "product": lambda m, x: m.add(s.Mul, a=x, b=DEAD["neurons"](m, x)),
    "attention": lambda m, x: m.attention(x, x, x),
    "pool": lambda m, x: m.add(s.MaxPool2d, x=x, kernel=(2, 2), stride=(2, 2)),
    "pool of real values": lambda m, x: DEAD["pool"](m, DEAD["linear"](m, x)),
    "sum pool": lambda m, x: m.add(s.SumPool2d, x=x, kernel=(2, 2), stride=(2, 2)),
    "shift": lambda m, x: m.add(s.Shift, x=DEAD["linear"](m, x), bits=2),
    "offset": lambda m, x: m.add(
        s.Offset, x=DEAD["linear"](m, x), offset=m.tensor(np.array([[[7]], [[-3]]]), np.int64)
    ),
    "over positions": lambda m, x: m.add(s.Or, x=m.add(s.Sum, x=x, axes=(1, 2), keepdims=True)),
    "mean": lambda m, x: m.add(s.TimeMean, x=m.add(s.Sum, x=x, axes=(1, 2))),
}


@pytest.mark.parametrize("kind", DEAD)
def test_what_nothing_reads_changes_no_other_layer(kind):
    """Neurons are still run, and compared; what no neuron hears is left out, folded and unrolled."""
    m, x = fixed_map()
    DEAD[kind](m, x)
    graph = headed(m, x)
    assert_law(graph, fold_graph(graph, 2, Fold.parse("1x4")))
    assert_equal_to_definition(graph, Schedule(62, True)(Lower(2)(graph)), samples(graph))
