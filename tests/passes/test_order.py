"""No order of passes is silently wrong: every pass left out, swapped with another, or moved to
another place gives the graph's own values or is refused by name.

``tools/nightly_order.py`` runs all of it, on the trained models too.
"""

from __future__ import annotations

from collections import Counter

import pytest
from order_cases import GRAPHS, attention, convolutions, small, soft_resets

from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.passes.base import Pass, Rewriter
from neurocompile.passes.fold_scale import FoldScale
from neurocompile.passes.lower import Lower
from neurocompile.passes.move_bias import MoveBias
from neurocompile.passes.narrow_weights import NarrowWeights
from neurocompile.passes.recognize_or import RecognizeOr
from neurocompile.passes.schedule import Schedule


def wrong(verdicts: dict[str, str]) -> dict[str, str]:
    return {k: v for k, v in verdicts.items() if not v.startswith(("same", "refused"))}


@pytest.mark.parametrize("make", GRAPHS)
def test_the_shipped_order_keeps_the_meaning(make) -> None:
    experiment = small(make)
    assert experiment.verdict(experiment.passes) == "same"


def test_no_pass_left_out_or_swapped_with_its_neighbour_is_silently_wrong() -> None:
    experiment, n = small(convolutions), 0
    for i, name in enumerate(experiment.names):
        rest = experiment.passes[:i] + experiment.passes[i + 1 :]
        orders = {"without": rest, "later": (*rest[: i + 1], experiment.passes[i], *rest[i + 1 :])}
        verdicts = {f"{name} {how}": experiment.verdict(order) for how, order in orders.items()}
        n += len(verdicts)
        assert wrong(verdicts) == {}
    assert n == 2 * len(experiment.passes)


@pytest.mark.slow
@pytest.mark.parametrize("make", [convolutions, soft_resets])
def test_no_move_swap_or_deletion_is_silently_wrong(make) -> None:
    experiment = small(make)
    verdicts = {name: experiment.verdict(order) for name, order in experiment.variants()}
    assert wrong(verdicts) == {}
    found = Counter(v.split(":")[0] for v in verdicts.values())
    assert found["same"] > 50 and found["refused"] > 150, found


class LosesFactors(FoldScale):
    """What a pass did that did not know the kind behind a factor."""

    def apply(self, graph: s.SpikingGraph) -> s.SpikingGraph:
        rewriter = Rewriter(graph)
        for node in graph.nodes:
            if isinstance(node, s.Scale):
                rewriter.forward(node, rewriter.resolve(node.x))
            else:
                rewriter.emit(rewriter.resolved(node))
        return rewriter.finish()


def test_the_experiment_finds_what_is_silently_wrong() -> None:
    experiment = small(attention)
    order = [LosesFactors() if one.name == "fold-scale" else one for one in experiment.passes]
    assert experiment.verdict(order) == "silently wrong: float"


def test_without_contracts_wrong_orders_crash(monkeypatch) -> None:
    monkeypatch.setattr(Pass, "check_required", lambda self, graph: None)
    experiment = small(convolutions)
    assert experiment.verdict(experiment.passes[:-3]).startswith("refused: nothing to map")
    assert experiment.verdict(experiment.passes[::-1]).startswith("crash: AttributeError")


def test_a_refusal_names_the_pass_what_it_misses_and_who_makes_it_so() -> None:
    graph = attention()
    with pytest.raises(NeurocompileError) as caught:
        FoldScale()(graph)
    assert str(caught.value) == (
        "NC2014 pass 'fold-scale' requires that BatchNorm is folded: %n1 a BatchNorm is left; run "
        "settle-batch-norm before it"
    )
    with pytest.raises(NeurocompileError, match="NC2014 pass 'recognize-or' requires .* normal fo"):
        RecognizeOr()(graph)
    with pytest.raises(NeurocompileError, match="NC2014 pass 'move-bias' .*run settle-batch-norm"):
        MoveBias()(graph)
    with pytest.raises(NeurocompileError, match="NC2014 pass 'lower' .*quantized.*run quantize"):
        Lower(4)(graph)
    with pytest.raises(
        NeurocompileError,
        match="NC2014 pass 'schedule' takes a CircuitGraph, this is a SpikingGraph; lower makes",
    ):
        Schedule(62, True)(graph)


def test_a_circuit_is_scheduled_once_and_narrowed_behind() -> None:
    experiment = small(soft_resets)
    graph = experiment.graph
    for one in experiment.passes:
        if isinstance(one, NarrowWeights):
            break
        before, graph = graph, one(graph)
    with pytest.raises(NeurocompileError, match="NC2014 pass 'schedule' requires .* no depths"):
        Schedule(62, True)(graph)
    with pytest.raises(NeurocompileError, match="NC2014 pass 'narrow-weights' .*run schedule"):
        NarrowWeights(4)(before)


class Forgets(FoldScale):
    """A pass that does not do what it says."""

    name = "forgets"

    def apply(self, graph: s.SpikingGraph) -> s.SpikingGraph:
        return graph


def test_a_pass_that_breaks_its_promise_is_our_defect() -> None:
    scaled = s.SpikingGraph.parse(
        'spiking "g" {stage = "imported"}\n%x = Input {shape = [2]}\n'
        "%y = Scale {x = %x, factor = 2.0}\n%out = Output {x = %y}\n",
        {},
    )
    with pytest.raises(NeurocompileError, match="NC2004 after forgets: %y a Scale is left"):
        Forgets()(scaled)
