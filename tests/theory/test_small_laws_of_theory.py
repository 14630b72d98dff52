"""Laws of small functions of the theory, each against its definition in other words."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.theory.bounds.lipschitz import GAINS
from neurocompile.theory.bounds.margin import epsilon_for_accuracy
from neurocompile.theory.bounds.ramp import ramp_values
from neurocompile.theory.bounds.shares import layer_size, shares
from neurocompile.theory.bounds.threshold_lif import evaluate_constant_depth
from neurocompile.theory.experiments.digits import digits
from neurocompile.theory.experiments.paper import TABLE6
from neurocompile.theory.measure.data_rows import open_rows


@pytest.mark.parametrize("factor", [1e-6, 1.0, 1e6])
def test_shares_of_a_budget_do_not_depend_on_the_logits_unit(factor: float) -> None:
    """Parts of the whole go by D^2 n d, whatever D is measured in, and add up to it."""
    views = [
        SimpleNamespace(layer=name, shape=shape)
        for name, shape in (("a", (4, 2, 3)), ("b", (6, 5)), ("c", ()))
    ]
    circuit = SimpleNamespace(views=views)
    depends = {"a": 2.0 * factor, "b": 0.5 * factor, "c": 0.0}
    found = shares(circuit, 120.0, depends, {"a": 7.0})
    weights = [depends[v.layer] ** 2 * np.prod(layer_size(v.shape)) for v in views]
    assert [f.layer for f in found] == ["a", "b", "c"]
    parts = np.array(weights) / sum(weights)
    assert [f.share for f in found] == pytest.approx(parts)
    assert [f.spikes for f in found] == pytest.approx(120 * parts)
    assert [f.expected for f in found] == [7.0, 0.0, 0.0]
    with pytest.raises(NeurocompileError, match="NC8003"):
        shares(circuit, 120.0, dict.fromkeys("abc", 0.0), {})


def test_an_accuracy_that_a_model_lacks_is_told_by_the_one_that_it_has() -> None:
    logits = np.array([[3.0, 0], [0.25, 0], [0, 1], [1, 0]])
    with pytest.raises(NeurocompileError, match=r"right on 75\.00%.*accuracy 100\.00%"):
        epsilon_for_accuracy(logits, np.array([0, 0, 1, 1]), 1.0)
    assert epsilon_for_accuracy(logits, np.array([0, 0, 1, 1]), 0.75) == 0.25 / np.sqrt(2)


@pytest.mark.parametrize("exponent", [0, 3])
def test_a_ramps_bias_is_in_units_of_the_neurons_input(exponent: int) -> None:
    """Of an integer neuron mantissa 2^e / 64: as that much more input; of a float one itself."""
    bias = np.array([64, -128, 512])
    x = np.linspace(-300, 900, 60).reshape(20, 1, 3)
    graph = SimpleNamespace(tensors={"b": bias})
    plain = s.IntegerLIF(name="y", x=Ref("x"), vth=200, dv=1024)
    biased = s.IntegerLIF(
        name="y", x=Ref("x"), vth=200, dv=1024, bias=TensorRef("b"), bias_exp=exponent
    )
    moved = ramp_values(graph, plain, x + bias * 2**exponent / 64)
    np.testing.assert_allclose(ramp_values(graph, biased, x), moved)
    assert np.ptp(moved) > 0
    one = s.LIF(name="y", x=Ref("x"), tau=2.0, v_threshold=100.0, bias=TensorRef("b"))
    two = s.LIF(name="y", x=Ref("x"), tau=2.0, v_threshold=100.0)
    np.testing.assert_allclose(ramp_values(graph, one, x), ramp_values(graph, two, x + bias))


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0])
def test_three_layers_fire_as_the_neuron_that_they_unroll(beta: float) -> None:
    """In dyadic numbers; a neuron that always fires and one that never does are among them."""
    current = np.random.default_rng(3).integers(-2, 4, (40, 5)) / 4
    current[0], current[1] = 2.0, -1.0
    v, wanted = np.zeros(len(current)), []
    for t in range(current.shape[1]):
        v = beta * v + current[:, t]
        wanted.append(v >= 0.75)
        v = np.where(wanted[-1], 0.0, v)
    found = evaluate_constant_depth(current, beta, 0.75)
    assert (found == np.stack(wanted, axis=1)).all() and found[0].all() and not found[1].any()


def test_a_view_multiplies_distances_by_how_often_it_repeats() -> None:
    x = np.random.default_rng(4).normal(size=6)
    for sizes, strides, repeats in (((2, 3), (3, 1), 1), ((3, 2), (1, 3), 1), ((4, 6), (0, 1), 4)):
        node = s.Rearrange(name="y", x=Ref("x"), shape=sizes, sizes=sizes, strides=strides)
        gain, bound, _ = GAINS.of(node)(None, node, [2.0])
        view = np.lib.stride_tricks.as_strided(x, sizes, [8 * n for n in strides])
        assert gain == pytest.approx(np.linalg.norm(view) / np.linalg.norm(x))
        assert gain == pytest.approx(repeats**0.5) and bound == pytest.approx(2 * gain)


@pytest.mark.parametrize("kind", ["float64", "float32", "int16", "uint8"])
def test_rows_of_an_archive_are_its_numbers(kind: str, tmp_path: Path) -> None:
    x = np.arange(7 * 2 * 3).reshape(7, 2, 3).astype(kind)
    np.savez(tmp_path / "a.npz", x=x)
    np.savez_compressed(tmp_path / "c.npz", x=x)
    np.save(tmp_path / "a.npy", x)
    for name in ("a.npz", "c.npz", "a.npy"):
        rows = open_rows(tmp_path / name)
        found = np.concatenate([part for _, part in rows._raw()]).reshape(x.shape)
        assert (found == x).all()


def test_the_papers_steps_are_those_of_accuracies() -> None:
    """Table VI: more accuracy on the same data needs more steps; every one is a share of 1."""
    by_data: dict[str, list[tuple[float, float, int]]] = {}
    for data, *row in TABLE6:
        by_data.setdefault(data, []).append(tuple(row))
    assert all(0.5 < accuracy < 1 for _, accuracy, *_ in TABLE6)
    assert all(rows == sorted(rows) for rows in by_data.values())


def test_the_digits_of_the_experiments_are_those_that_trained_nothing() -> None:
    subject, samples = digits("QKFormer")
    assert samples.x.shape == (360, *subject.input_shape)
