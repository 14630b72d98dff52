"""The whole stage on random models: the same logits, and the same spikes where all numbers are
dyadic.
"""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import evaluate
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.passes.base import SpikingPass
from neurocompile.passes.canonicalize import canonical_passes, canonicalize
from neurocompile.passes.compose_convolutions import ComposeConvolutions

LAYERS = st.fixed_dictionaries(
    {
        "tau": st.sampled_from([1.0, 2.0, 4.0]),
        "v_threshold": st.sampled_from([0.5, 1.0, 1.25]),
        "v_reset": st.sampled_from([0.0, -0.5, 0.25]),
        "decay_input": st.booleans(),
    }
)


def model(first: dict, second: dict, third: dict, seed: int) -> s.SpikingGraph:
    """conv, norm, LIF; pool; attention with a scale and a LIF; a residual; linear, norm, LIF; mean;
    head. Dyadic.
    """
    rng = np.random.default_rng(seed)

    def dyadic(*shape: int) -> np.ndarray:
        return (rng.integers(-8, 9, shape) / 8).astype(np.float32)

    tensors = {
        "k": dyadic(2, 1, 3, 3),
        "kb": dyadic(2),
        "w": dyadic(4, 4),
        "h": dyadic(3, 16),
        "hb": dyadic(3),
    }
    for name, n in (("n1", 2), ("n2", 4)):
        tensors |= {f"{name}.{part}": dyadic(n) for part in ("shift", "mean")}
        tensors |= {
            f"{name}.scale": np.full(n, 2, np.float32),
            f"{name}.var": np.full(n, 3.75, np.float32),
        }

    def norm(name: str, x: str, axis: int) -> s.BatchNorm:
        parts = {k: TensorRef(f"{name}.{k}") for k in ("scale", "shift", "mean", "var")}
        return s.BatchNorm(name=name, x=Ref(x), eps=0.25, axis=axis, **parts)

    nodes = (
        s.Input(name="x", shape=(1, 4, 4)),
        s.Conv2d(name="c", x=Ref("x"), weight=TensorRef("k"), bias=TensorRef("kb"), padding=(1, 1)),
        norm("n1", "c", 0),
        s.LIF(name="l1", x=Ref("n1"), **first),
        s.MaxPool2d(name="p", x=Ref("l1"), kernel=(2, 1), stride=(2, 1)),
        s.Rearrange(name="q", x=Ref("p"), shape=(4, 4), sizes=(2, 2, 4), strides=(8, 4, 1)),
        s.MatMul(name="qk", a=Ref("q"), b=Ref("q")),
        s.Scale(name="sc", x=Ref("qk"), factor=0.5),
        s.LIF(name="att", x=Ref("sc"), **second),
        s.Add(name="res", a=Ref("att"), b=Ref("q")),
        s.Linear(name="fc", x=Ref("res"), weight=TensorRef("w")),
        norm("n2", "fc", 1),
        s.LIF(name="l2", x=Ref("n2"), **third),
        s.Rearrange(name="flat", x=Ref("l2"), shape=(16,), sizes=(16,), strides=(1,)),
        s.TimeMean(name="mean", x=Ref("flat")),
        s.Scale(name="sc2", x=Ref("mean"), factor=0.25),
        s.Linear(name="head", x=Ref("sc2"), weight=TensorRef("h"), bias=TensorRef("hb")),
        s.Output(name="out", x=Ref("head")),
    )
    return s.SpikingGraph("g", "imported", nodes, tensors)


@settings(deadline=None, max_examples=40)
@given(LAYERS, LAYERS, LAYERS, st.integers(0, 999))
def test_the_canonical_model_has_the_same_spikes_and_logits(
    first: dict, second: dict, third: dict, seed: int
) -> None:
    graph = model(first, second, third, seed)
    after = canonicalize(graph)
    assert after.stage == "canonical"
    x = (np.random.default_rng(seed).integers(-8, 17, (8, 1, 4, 4)) / 8).astype(np.float32)
    before, found = evaluate(graph, x, 4), evaluate(after, x, 4)
    for name in ("l1", "att", "l2"):
        np.testing.assert_array_equal(found[name], before[name], err_msg=name)
    np.testing.assert_allclose(found["out"], before["out"], rtol=1e-5, atol=1e-6)


@settings(deadline=None, max_examples=10)
@given(LAYERS, LAYERS, LAYERS, st.integers(0, 99))
def test_a_canonical_model_is_a_fixed_point(
    first: dict, second: dict, third: dict, seed: int
) -> None:
    after = canonicalize(model(first, second, third, seed))
    again = canonicalize(after.replace(stage="imported"))
    assert [type(n) for n in again.nodes] == [type(n) for n in after.nodes]
    x = np.random.default_rng(seed).normal(size=(4, 1, 4, 4)).astype(np.float32)
    np.testing.assert_array_equal(evaluate(again, x, 4)["out"], evaluate(after, x, 4)["out"])


def test_nothing_that_canonical_forbids_is_left() -> None:
    fields = {"tau": 2.0, "v_threshold": 1.0, "v_reset": -0.5, "decay_input": True}
    after = canonicalize(model(fields, {**fields, "v_reset": 0.0, "v_threshold": 0.25}, fields, 0))
    kinds = [type(n).__name__ for n in after.nodes]
    assert not {"BatchNorm", "Scale"} & set(kinds)
    assert kinds[-2:] == ["TimeMean", "Output"]
    assert kinds.count("Or") == 1 and isinstance(after.node["att"], s.Or)
    assert all(n.bias is None for n in after.nodes if isinstance(n, (s.Conv2d, s.Linear)))
    assert set(after.tensors) == {t for n in after.nodes for t in n.tensors}


def test_random_real_weights_change_few_spikes() -> None:
    fields = {"tau": 2.0, "v_threshold": 1.0, "v_reset": -0.3, "decay_input": True}
    graph, rng = model(fields, fields, fields, 0), np.random.default_rng(0)
    graph = graph.replace(
        tensors={
            k: np.abs(rng.normal(size=v.shape)).astype(np.float32) for k, v in graph.tensors.items()
        }
    )
    x = rng.normal(size=(40, 1, 4, 4)).astype(np.float32)
    before, after = evaluate(graph, x, 4), evaluate(canonicalize(graph), x, 4)
    assert np.mean(before["l2"] == after["l2"]) > 0.999


def test_passes_have_names_and_do_not_touch_their_argument() -> None:
    fields = {"tau": 2.0, "v_threshold": 1.0, "v_reset": 0.25, "decay_input": True}
    graph = model(fields, fields, fields, 0)
    text, tensors = graph.text(), {k: v.copy() for k, v in graph.tensors.items()}
    canonicalize(graph)
    assert graph.text() == text
    assert all(np.array_equal(graph.tensors[k], v) for k, v in tensors.items())
    passes = canonical_passes(ComposeConvolutions())
    assert len({p.name for p in passes}) == len(passes)


def test_a_pass_that_breaks_the_rules_is_named() -> None:
    class Breaks(SpikingPass):
        name = "breaks"

        def apply(self, graph: s.SpikingGraph) -> s.SpikingGraph:
            return graph.replace(nodes=graph.nodes[1:])

    fields = {"tau": 2.0, "v_threshold": 1.0}
    with pytest.raises(
        NeurocompileError, match="NC2004 after breaks: %c: reads %x before it is defined"
    ):
        Breaks()(model(fields, fields, fields, 0))


def test_an_if_neuron_stays_one() -> None:
    fields = {"tau": inf, "v_threshold": 1.0, "decay_input": False}
    assert canonicalize(model(fields, fields, fields, 0)).node["l1"].tau == inf
