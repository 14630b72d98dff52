"""SinkTimeMean: the mean over time moves behind the linear head."""

from __future__ import annotations

import numpy as np
import pytest

from neurocompile.errors import NeurocompileError
from neurocompile.ir.evaluate import evaluate
from neurocompile.ir.spiking import SpikingGraph
from neurocompile.passes.sink_time_mean import SinkTimeMean

RNG = np.random.default_rng(0)
TENSORS = {
    "w": RNG.normal(size=(2, 3)).astype(np.float32),
    "b": RNG.normal(size=2).astype(np.float32),
}
TENSORS.update(
    {k: RNG.uniform(0.5, 1, 2).astype(np.float32) for k in ("scale", "shift", "mean", "var")}
)
X = RNG.uniform(0, 2, (5, 3)).astype(np.float32)


def graph(body: str, head: str = "%m") -> SpikingGraph:
    text = f"""spiking "g" {{stage = "imported"}}
%x = Input {{shape = [3]}}
%l = LIF {{x = %x, tau = 2.0, v_threshold = 1.0}}
%m = TimeMean {{x = %l}}
{body}
%out = Output {{x = {head}}}
"""
    return SpikingGraph.parse(text, TENSORS)


def test_the_mean_moves_behind_the_head() -> None:
    before = graph("%h = Linear {x = %m, weight = @w, bias = @b}", "%h")
    after = SinkTimeMean()(before)
    assert (
        after.text()
        == """spiking "g" {stage = "imported"}
%x = Input {shape = [3]}
%l = LIF {x = %x, tau = 2.0, v_threshold = 1.0}
%h = Linear {x = %l, weight = @w, bias = @b}
%time_mean = TimeMean {x = %h}
%out = Output {x = %time_mean}
@b : float32[2]
@w : float32[2, 3]
"""
    )
    np.testing.assert_allclose(
        evaluate(after, X, 4)["out"], evaluate(before, X, 4)["out"], rtol=1e-5
    )


def test_every_linear_layer_may_follow_the_mean() -> None:
    before = graph(
        "%s = Scale {x = %m, factor = 0.5}\n%h = Linear {x = %s, weight = @w}\n"
        "%n = BatchNorm {x = %h, scale = @scale, shift = @shift, mean = @mean, var = @var, eps = 1e-05}\n"
        "%a = Add {a = %n, b = %h}\n%v = Rearrange {x = %a, shape = [2, 1], sizes = [2], strides = [1]}\n"
        "%u = Sum {x = %v, axes = [1]}",
        "%u",
    )
    after = SinkTimeMean()(before)
    assert [type(n).__name__ for n in after.nodes[-2:]] == ["TimeMean", "Output"]
    assert sum(type(n).__name__ == "TimeMean" for n in after.nodes) == 1
    np.testing.assert_allclose(
        evaluate(after, X, 4)["out"], evaluate(before, X, 4)["out"], rtol=1e-5
    )


def test_a_model_without_mean_gets_one() -> None:
    after = SinkTimeMean()(
        SpikingGraph.parse(
            'spiking "g" {stage = "imported"}\n%time_mean = Input {shape = [3]}\n%out = Output {x = %time_mean}\n',
            {},
        )
    )
    assert after.text().splitlines()[2:] == [
        "%time_mean.2 = TimeMean {x = %time_mean}",
        "%out = Output {x = %time_mean.2}",
    ]


def test_two_means_become_one() -> None:
    after = SinkTimeMean()(graph("%m2 = TimeMean {x = %m}", "%m2"))
    assert after.text().splitlines()[3:] == [
        "%time_mean = TimeMean {x = %l}",
        "%out = Output {x = %time_mean}",
    ]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ("%h = LIF {x = %m, tau = 2.0, v_threshold = 1.0}", "LIF"),
        ("%h = Mul {a = %m, b = %m}", "Mul"),
        ("%h = Add {a = %m, b = %l}", "Add"),
    ],
)
def test_other_layers_behind_the_mean_are_refused_by_name(body: str, kind: str) -> None:
    with pytest.raises(
        NeurocompileError, match=rf"NC2001 layer 'h' \({kind}\) follows the mean over time"
    ):
        SinkTimeMean()(graph(body, "%h"))
