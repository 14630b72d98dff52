"""RecognizeOr: a LIF that any input makes fire is an OR, for every sequence of inputs."""

from __future__ import annotations

import itertools
from math import inf

import numpy as np
import pytest

from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import evaluate
from neurocompile.ir.text import Ref
from neurocompile.passes.recognize_or import RecognizeOr

LIF = "tau = 2.0, v_threshold = 0.5, decay_input = false"
HEAD = 'spiking "g" {stage = "imported"}\n%x = Input {shape = [3]}\n%l = LIF {x = %x, tau = 2.0, v_threshold = 1.0, decay_input = false}\n'


def lines(*body: str) -> list[str]:
    graph = s.SpikingGraph.parse(
        HEAD + "\n".join(body) + "\n%out = Output {x = %y}\n", {"b": np.zeros(3)}
    )
    return RecognizeOr()(graph).text().splitlines()


def test_a_lif_on_a_sum_of_spikes_that_one_spike_fires_becomes_an_or() -> None:
    """QKFormer's token attention."""
    assert lines(
        "%s = Sum {x = %l, axes = [0], keepdims = true}",
        "%y = LIF {x = %s, " + LIF + ", gain = 0.5}",
    ) == [
        *HEAD.splitlines(),
        "%s = Sum {x = %l, axes = [0], keepdims = true}",
        "%y = Or {x = %s}",
        "%out = Output {x = %y}",
    ]


@pytest.mark.parametrize(
    "body",
    [
        ("%y = LIF {x = %l, " + LIF + ", gain = 0.25}",),  # one spike is too little
        ("%y = LIF {x = %l, " + LIF + ", bias = @b}",),
        ("%y = LIF {x = %x, " + LIF + "}",),  # a real input
        ("%y = LIF {x = %l, " + LIF + ", soft_reset = true, gain = 0.5}",),  # something is left
        ("%y = LIF {x = %l, " + LIF + ", gain = 0.5, current = 0.5}",),  # of the step before
        ("%a = Scale {x = %l, factor = 1.0}", "%y = LIF {x = %a, " + LIF + "}"),
    ],
)
def test_other_lifs_stay(body: tuple[str, ...]) -> None:
    assert lines(*body)[-2 if body[-1].find("@b") < 0 else -3] == body[-1]


@pytest.mark.parametrize("tau", [1.0, 4 / 3, 2.0, 20.0, inf])
@pytest.mark.parametrize(("gain", "threshold"), [(1.0, 1.0), (0.5, 0.5), (0.3, 0.1), (1.0, 1e-30)])
def test_it_is_exact_on_every_sequence(tau: float, gain: float, threshold: float) -> None:
    """All sequences of four steps of 0, 1, 2 or 7 spikes, made as time-varying sums by the steps of
    a first layer.
    """
    lif = s.LIF(name="y", x=Ref("a"), tau=tau, v_threshold=threshold, decay_input=False, gain=gain)
    values = np.array(list(itertools.product([0, 1, 2, 7], repeat=4)), np.float32)
    for count, sequence in enumerate(values):
        v, spikes = np.float32(0), []
        for x in sequence:
            h = v - v / np.float32(tau) + np.float32(gain) * x
            spikes.append(h >= np.float32(threshold))
            v = np.float32(0) if spikes[-1] else h
        assert spikes == [x >= 1 for x in sequence], (count, sequence)
    nodes = (
        s.Input(name="x", shape=(4,)),
        s.LIF(name="a", x=Ref("x"), tau=3.0, v_threshold=1.0, decay_input=False),
        lif,
    )
    graph = s.SpikingGraph("g", "imported", (*nodes, s.Output(name="o", x=Ref("y"))), {})
    after = RecognizeOr()(graph)
    assert isinstance(after.node["y"], s.Or)
    x = np.random.default_rng(0).uniform(0, 3, (50, 4)).astype(np.float32)
    np.testing.assert_array_equal(evaluate(after, x, 6)["y"], evaluate(graph, x, 6)["y"])
