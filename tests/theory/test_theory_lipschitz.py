"""Norms against matrices, the bound against the ramp network it bounds, and measured sensitivities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import evaluate
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.theory.bounds import operator_norm
from neurocompile.theory.bounds.lipschitz import lipschitz_bound
from neurocompile.theory.bounds.operator_norm import convolution_norm, matrix_norm
from neurocompile.theory.bounds.ramp import ramp_of, ramp_values
from neurocompile.theory.measure.sensitivity import layer_sensitivity, local_lipschitz
from neurocompile.theory.measure.subject import Subject, open_subject


@given(st.integers(1, 6), st.integers(1, 6), st.integers(0, 99))
def test_matrix_norm_is_the_largest_singular_value(a: int, b: int, seed: int) -> None:
    w = np.random.default_rng(seed).standard_normal((a, b))
    assert matrix_norm(w) == pytest.approx(np.linalg.norm(w, 2))


def conv_matrix(weight: np.ndarray, shape: tuple[int, int, int], **fields) -> np.ndarray:
    """The operator, by applying the evaluator to every unit vector."""
    size = int(np.prod(shape))
    nodes = (
        s.Input(name="x", shape=shape),
        s.Conv2d(name="y", x=Ref("x"), weight=TensorRef("w"), **fields),
    )
    graph = s.SpikingGraph("c", "imported", nodes, {"w": weight})
    return evaluate(graph, np.eye(size).reshape(size, *shape), 1, ["y"])["y"].reshape(size, -1).T


@pytest.mark.parametrize(
    ("kernel", "stride"), [((2, 2), (2, 2)), ((3, 2), (1, 1)), ((3, 3), (2, 1))]
)
def test_sums_over_windows_have_no_larger_norm(
    kernel: tuple[int, int], stride: tuple[int, int]
) -> None:
    pool = s.SumPool2d(name="y", x=Ref("x"), kernel=kernel, stride=stride, padding=(1, 0))
    nodes = (s.Input(name="x", shape=(1, 7, 6)), pool, s.Output(name="o", x=Ref("y")))
    graph = s.SpikingGraph("c", "imported", nodes, {})
    operator = evaluate(graph, np.eye(42).reshape(42, 1, 7, 6), 1, ["y"])["y"].reshape(42, -1)
    true, bound = np.linalg.norm(operator, 2), lipschitz_bound(graph).value
    assert true <= bound * (1 + 1e-6) and bound <= 2 * true


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_convolution_norms(data: st.DataObject) -> None:
    groups = data.draw(st.sampled_from([1, 2]))
    kernel = (data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3)))
    fields = {
        "stride": (data.draw(st.integers(1, 2)), data.draw(st.integers(1, 2))),
        "padding": (data.draw(st.integers(0, 1)), data.draw(st.integers(0, 1))),
        "dilation": (data.draw(st.integers(1, 2)), 1),
        "groups": groups,
    }
    shape = (2 * groups, 6, 5)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    weight = rng.standard_normal((groups * 2, 2, *kernel)).astype(np.float32)
    true = np.linalg.norm(conv_matrix(weight, shape, **fields), 2)
    found, method = convolution_norm(weight, shape, **fields)
    assert method == "exact"
    assert found == pytest.approx(true, rel=1e-5)
    for limit in ({"_DENSE": 0}, {"_DENSE": 0, "_FOURIER": 0}):
        with pytest.MonkeyPatch.context() as patch:
            for name, value in limit.items():
                patch.setattr(operator_norm, name, value)
            bound, how = convolution_norm(weight, shape, **fields)
        assert bound >= true * (1 - 1e-5)
        pointwise = kernel == (1, 1) and fields["padding"] == (0, 0)
        assert how == (
            "exact" if pointwise else "reshape bound" if "_FOURIER" in limit else "fourier bound"
        )


def test_fourier_bound_is_tight_on_a_large_map() -> None:
    weight = np.random.default_rng(0).standard_normal((4, 4, 3, 3)).astype(np.float32)
    true = np.linalg.norm(conv_matrix(weight, (4, 12, 12), padding=(1, 1)), 2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(operator_norm, "_DENSE", 0)
        bound, how = convolution_norm(weight, (4, 12, 12), padding=(1, 1))
    assert how == "fourier bound" and true <= bound * (1 + 1e-6) and bound <= 1.1 * true


def test_ramps() -> None:
    lif = s.LIF(name="n", x=Ref("x"), tau=2.0, v_threshold=1.0, decay_input=False)
    assert ramp_of(lif).slope == 2 and ramp_of(lif)(np.array([0.5, 0.75, 1.0, 3.0])).tolist() == [
        0,
        0.5,
        1,
        1,
    ]
    assert (
        ramp_of(s.LIF(name="n", x=Ref("x"), tau=2.0, v_threshold=1.0)).slope == 1
    )  # the input counts half
    assert (
        ramp_of(s.LIF(name="n", x=Ref("x"), tau=np.inf, v_threshold=4.0, decay_input=False)).slope
        == 0.25
    )
    assert (
        ramp_of(s.LIF(name="n", x=Ref("x"), tau=1.0, v_threshold=1.0, decay_input=False)).slope
        == np.inf
    )
    assert ramp_of(
        s.IntegerLIF(name="n", x=Ref("x"), vth=9, dv=2048, gain=3)
    ).slope == pytest.approx(3 / (9 + 1 / 64) * 2)
    assert ramp_of(s.Or(name="n", x=Ref("x"))).slope == 1


def test_the_ramp_joins_silence_and_a_spike_each_step() -> None:
    node = s.LIF(name="y", x=Ref("x"), tau=2.0, v_threshold=1.0, decay_input=False)
    graph = s.SpikingGraph("n", "imported", (s.Input(name="x", shape=(3,)), node), {})
    rates = evaluate(graph, np.array([[0.499, 1.0, 0.7]]), 64, ["y"])["y"].mean(axis=1)[0]
    assert rates[0] == 0 and rates[1] == 1 and 0 < rates[2] < 1


class Net:
    """A random float network of residuals, products, pools and heads."""

    def __init__(self, seed: int) -> None:
        rng = self.rng = np.random.default_rng(seed)
        self.tensors: dict[str, np.ndarray] = {}
        self.nodes: list[s.Node] = [s.Input(name="x", shape=(2, 4, 4))]
        a = self.lif(self.conv("x", 2, 4))
        b, c = self.lif(self.conv(a, 4, 4)), self.lif(self.conv(a, 4, 4))
        both = self.add(s.Add, a=b, b=a) if rng.random() < 0.5 else self.add(s.Mul, a=b, b=c)
        pooled = self.add(s.MaxPool2d, x=both, kernel=(3, 3), stride=(2, 2), padding=(1, 1))
        tokens = self.add(
            s.Rearrange, x=self.lif(pooled), shape=(4, 4), sizes=(4, 4), strides=(1, 4)
        )
        product = self.add(
            s.MatMul,
            a=tokens,
            b=self.add(s.Rearrange, x=tokens, shape=(4, 4), sizes=(4, 4), strides=(1, 4)),
        )
        spikes = self.lif(self.add(s.Scale, x=product, factor=0.5))
        total = self.add(s.Sum, x=spikes, axes=(0,))
        self.tensors["head"] = rng.standard_normal((3, 4)).astype(np.float32)
        mean = self.add(s.TimeMean, x=self.add(s.Linear, x=total, weight=TensorRef("head")))
        self.nodes.append(s.Output(name="out", x=Ref(mean), unit=0.5))

    def add(self, kind: type[s.Node], **fields) -> str:
        name = f"n{len(self.nodes)}"
        self.nodes.append(
            kind(name=name, **{k: Ref(v) if k in ("x", "a", "b") else v for k, v in fields.items()})
        )
        return name

    def conv(self, x: str, inner: int, out: int) -> str:
        name = f"w{len(self.tensors)}"
        self.tensors[name] = self.rng.standard_normal((out, inner, 3, 3)).astype(np.float32)
        return self.add(s.Conv2d, x=x, weight=TensorRef(name), padding=(1, 1))

    def lif(self, x: str) -> str:
        return self.add(
            s.LIF,
            x=x,
            tau=float(self.rng.choice([2.0, 4.0, np.inf])),
            v_threshold=1.0,
            decay_input=False,
        )

    @property
    def graph(self) -> s.SpikingGraph:
        return s.SpikingGraph("net", "imported", tuple(self.nodes), self.tensors)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000))
def test_no_pair_of_inputs_breaks_the_bound(seed: int) -> None:
    graph = Net(seed).graph
    bound = lipschitz_bound(graph).value

    def ramp(node: s.Node, inputs: list[np.ndarray], value: np.ndarray) -> np.ndarray:
        return ramp_values(graph, node, inputs[0]) if isinstance(node, s.LIF) else value

    rng = np.random.default_rng(seed)
    x = rng.standard_normal((30, 2, 4, 4))
    y = x + rng.standard_normal(x.shape) * 10.0 ** rng.uniform(-3, 0, (30, 1, 1, 1))
    a, b = (evaluate(graph, v, 1, ["out"], ramp)["out"].astype(float) for v in (x, y))
    quotient = np.linalg.norm(a - b, axis=1) / np.linalg.norm((x - y).reshape(30, -1), axis=1)
    assert quotient.max() <= bound * (1 + 1e-3) + 1e-3


def test_hand_computed_bound() -> None:
    tensors = {"a": np.diag([3.0, 1.0]).astype(np.float32), "b": np.array([[0.0, 2.0]], np.float32)}
    nodes = (
        s.Input(name="x", shape=(2,)),
        s.Linear(name="l", x=Ref("x"), weight=TensorRef("a")),
        s.LIF(name="n", x=Ref("l"), tau=2.0, v_threshold=4.0, decay_input=False),
        s.Add(name="r", a=Ref("n"), b=Ref("l")),
        s.Linear(name="h", x=Ref("r"), weight=TensorRef("b")),
        s.TimeMean(name="m", x=Ref("h")),
        s.Output(name="y", x=Ref("m"), unit=0.5),
    )
    found = lipschitz_bound(s.SpikingGraph("g", "imported", nodes, tensors))
    assert found.value == pytest.approx((3 * 0.5 + 3) * 2 * 0.5)
    assert [k.node for k in found.layers] == ["l", "n", "r", "h", "y"] and found.unbounded == ()


def test_unbounded_products_and_steps_are_named() -> None:
    x = s.Input(name="x", shape=(2, 2))
    product = s.SpikingGraph(
        "g",
        "imported",
        (x, s.MatMul(name="p", a=Ref("x"), b=Ref("x")), s.Output(name="y", x=Ref("p"))),
        {},
    )
    with pytest.raises(NeurocompileError, match="NC8005 layer 'p'"):
        lipschitz_bound(product)
    step = s.LIF(name="n", x=Ref("x"), tau=1.0, v_threshold=1.0, decay_input=False)
    found = lipschitz_bound(
        s.SpikingGraph("g", "imported", (x, step, s.Output(name="y", x=Ref("n"))), {})
    )
    assert found.value == np.inf and found.unbounded == ("n",)


@pytest.fixture(scope="module")
def subject(digits_model: Path) -> Subject:
    return open_subject(digits_model)


def test_local_value_lies_below_the_bound_and_is_repeatable(subject: Subject, digits_data) -> None:
    circuit = subject.at(4)[1]
    found = local_lipschitz(circuit, digits_data.x[:12])
    assert found == local_lipschitz(circuit, digits_data.x[:12])
    assert subject.canonical is not None
    assert 0 < found.mean_square <= found.largest < lipschitz_bound(subject.canonical).value
    assert found.pairs == 48


def test_bounds_of_float_and_integer_model_agree(subject: Subject) -> None:
    assert subject.canonical is not None
    a, b = lipschitz_bound(subject.canonical).value, lipschitz_bound(subject.at(4)[0]).value
    assert 0.3 < b / a < 3  # 8-bit weights, thresholds of integers


def test_sensitivity_of_a_linear_readout_is_its_weight() -> None:
    """Behind the last layer all is linear: with 10 times the identity and a unit of 0.5, logits
    move 5 times as far.
    """
    tensors = {"w": np.full((4, 4), 60, np.int16), "h": 10 * np.eye(4, dtype=np.int16)}
    nodes = (
        s.Input(name="x", shape=(4,), unit=1.0, low=0, high=3),
        s.Linear(name="l", x=Ref("x"), weight=TensorRef("w")),
        s.IntegerLIF(name="n", x=Ref("l"), vth=100, dv=0),
        s.Linear(name="h", x=Ref("n"), weight=TensorRef("h")),
        s.TimeMean(name="m", x=Ref("h")),
        s.Output(name="y", x=Ref("m"), unit=0.5),
    )
    graph = s.SpikingGraph("g", "quantized", nodes, tensors)
    found = layer_sensitivity(graph, np.ones((200, 4), np.float32), 4, ["n"])
    assert found["n"] == pytest.approx(5.0)
