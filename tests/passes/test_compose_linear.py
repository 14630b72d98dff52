"""ComposeLinear: concatenation before a linear layer becomes a sum of layers, of the same values."""

from __future__ import annotations

import numpy as np
import pytest

from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import evaluate
from neurocompile.passes.compose_linear import ComposeLinear

LIF = "tau = 2.0, v_threshold = 0.5, decay_input = false"


def graph(parts: int, biased: bool, *, other: bool = False) -> s.SpikingGraph:
    """``parts`` layers of three spikes behind each other, or with an ``other`` reader of the first
    place, and a layer that reads all of them."""
    rng = np.random.default_rng(parts + 10 * biased)
    tensors = {"head": rng.normal(size=(5, 3 * parts)).astype(np.float32)}
    lines = ['spiking "g" {stage = "imported"}', "%x = Input {shape = [3]}"]
    total = ""
    for k in range(parts):
        tensors[f"w{k}"] = rng.normal(size=(3, 3)).astype(np.float32)
        tensors[f"p{k}"] = np.zeros((3 * parts, 3), np.float32)
        tensors[f"p{k}"][3 * k : 3 * k + 3] = np.eye(3)
        lines += [
            f"%f{k} = Linear {{x = %x, weight = @w{k}}}",
            f"%l{k} = LIF {{x = %f{k}, {LIF}}}",
            f"%c{k} = Linear {{x = %l{k}, weight = @p{k}}}",
        ]
        if total:
            lines.append(f"%s{k} = Add {{a = {total}, b = %c{k}}}")
        total = f"%s{k}" if total else "%c0"
    if biased:
        tensors["bias"] = np.array([0, 1, -1, 0.5, 0], np.float32)
    lines.append(f"%h = Linear {{x = {total}, weight = @head{', bias = @bias' * biased}}}")
    lines.append(f"%y = LIF {{x = %h, {LIF}}}")
    if other:
        tensors["o"] = rng.normal(size=(5, 3 * parts)).astype(np.float32)
        lines += ["%o = Linear {x = %c0, weight = @o}", "%z = Add {a = %y, b = %o}"]
    lines.append(f"%out = Output {{x = {'%z' if other else '%y'}}}")
    return s.SpikingGraph.parse("\n".join(lines) + "\n", tensors)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_places_are_gone_and_every_value_is_the_same(parts: int, biased: bool) -> None:
    before = graph(parts, biased) if parts > 1 else _wider(biased)
    after = ComposeLinear()(before)
    assert not [n for n in after.nodes if n.name.startswith("c")]
    heads = [n for n in after.nodes if isinstance(n, s.Linear) and not n.name.startswith("f")]
    assert len(heads) == parts
    assert sum(n.bias is not None for n in heads) == biased  # once, not once a part
    x = np.random.default_rng(1).normal(size=(7, 3)).astype(np.float32) * 2
    ours, theirs = (evaluate(g, x, 4, ["h", "y"]) for g in (after, before))
    assert 0 < theirs["y"].mean() < 1
    np.testing.assert_allclose(ours["h"], theirs["h"], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(ours["y"], theirs["y"])


def _wider(biased: bool) -> s.SpikingGraph:
    """One part, put into three of six places."""
    found = graph(1, biased)
    place = np.zeros((6, 3), np.float32)
    place[[4, 0, 3], [0, 1, 2]] = 1
    head = np.random.default_rng(5).normal(size=(5, 6)).astype(np.float32)
    return found.replace(tensors={**found.tensors, "p0": place, "head": head})


@pytest.mark.parametrize("entry", [1.0, 0.5])
def test_what_is_no_place_stays(entry: float) -> None:
    """A value in two places, or weighted."""
    before = graph(2, True)
    for name in ("p0", "p1"):
        weight = before.tensors[name].copy()
        weight[np.where(entry == 1, 0, weight.argmax(axis=0)[0]), 0] = entry
        weight[5, 0] = 1.0 if entry == 1 else 0.0
        before = before.replace(tensors={**before.tensors, name: weight})
    after = ComposeLinear()(before)
    assert after.text() == before.text()


def test_what_somebody_else_reads_stays() -> None:
    before = graph(2, True, other=True)
    after = ComposeLinear()(before)
    assert "c0" in after.node and "c1" not in after.node
    x = np.random.default_rng(1).normal(size=(7, 3)).astype(np.float32) * 2
    ours, theirs = (evaluate(g, x, 4, ["out"])["out"] for g in (after, before))
    np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
