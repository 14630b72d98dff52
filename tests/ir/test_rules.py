"""Every rule fires on a minimal graph that breaks it, names the item, and is silent on one that
keeps it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from neurocompile.errors import NeurocompileError
from neurocompile.ir import circuit as c
from neurocompile.ir import spiking as s
from neurocompile.ir.circuit_rules import CIRCUIT_RULES, check_circuit
from neurocompile.ir.spiking_rules import SPIKING_RULES, check_spiking
from neurocompile.ir.text import Ref, TensorRef


def canonical(stage: str = "canonical", **changes: s.Node) -> s.SpikingGraph:
    """Input, Linear, LIF, TimeMean, Output; ``changes`` replaces nodes by name."""
    nodes = {
        "x": s.Input(name="x", shape=(2,), unit=1.0, high=1),
        "w": s.Linear(name="w", x=Ref("x"), weight=TensorRef("w")),
        "l": s.LIF(name="l", x=Ref("w"), tau=2.0, v_threshold=1.0, decay_input=False),
        "m": s.TimeMean(name="m", x=Ref("l")),
        "o": s.Output(name="o", x=Ref("m")),
    }
    tensors = {
        "w": np.ones((2, 2)),
        "b": np.ones(2),
        "half": np.full(2, 0.5),
        "two": np.full(2, 2.0),
        "minus": np.full(2, -0.5),
        "nan": np.array([np.nan, 0.0]),
    }
    if stage == "quantized":
        nodes["l"] = s.IntegerLIF(name="l", x=Ref("w"), vth=1, dv=0)
        tensors["w"] = np.array([[-256, 254], [0, 2]], np.int16)
    nodes.update(changes)
    return s.SpikingGraph("g", stage, tuple(nodes.values()), tensors)


def with_weight(weight: np.ndarray) -> s.SpikingGraph:
    graph = canonical("quantized")
    return graph.replace(tensors={**graph.tensors, "w": weight})


def with_grid(thresholds: np.ndarray, shift: int) -> s.SpikingGraph:
    graph = canonical(
        "quantized",
        c=s.RateSoftmax(name="c", x=Ref("m"), thresholds=TensorRef("grid"), span=8, shift=shift),
    )
    return graph.replace(tensors={**graph.tensors, "grid": thresholds})


def token_mean(decay: str, first: str) -> s.TokenMean:
    return s.TokenMean(
        name="k", k=Ref("w"), v=Ref("w"), decay=TensorRef(decay), first=TensorRef(first)
    )


def with_feedback(**changes) -> s.SpikingGraph:
    """A Previous in front, with ``changes`` to what it should be."""
    graph = canonical()
    back = s.Previous(name="p", **{"shape": (2,), "of": "l", **changes})
    return graph.replace(nodes=(back, *graph.nodes))


LINEAR, LIF = canonical().node["w"], canonical().node["l"]
INTEGER = canonical("quantized").node["l"]
NORM = s.BatchNorm(
    name="n", x=Ref("l"), eps=0.1, **{k: TensorRef("b") for k in ("scale", "shift", "mean", "var")}
)
INT16 = np.zeros((2, 2), np.int16)

BROKEN_SPIKING: dict[str, list[tuple[s.SpikingGraph, str]]] = {
    "tensors are finite": [
        (canonical("imported", w=replace(LINEAR, bias=TensorRef("nan"))), "w"),
        (canonical(l=replace(LIF, bias=TensorRef("nan"))), "l"),
    ],
    "BatchNorm is folded": [(canonical(l2=NORM), "n")],
    "LIF is in normal form": [
        (canonical(l=replace(LIF, decay_input=True)), "l"),
        (canonical(l=replace(LIF, v_reset=0.1)), "l"),
    ],
    "a tau for each channel is >= 1, and divides no input": [
        (canonical(l=replace(LIF, tau=TensorRef("half"))), "l"),
        (canonical(l=replace(LIF, tau=TensorRef("b"), decay_input=True)), "l"),
    ],
    "biases live in LIF, Output and Offset": [
        (canonical(w=replace(LINEAR, bias=TensorRef("b"))), "w"),
        (canonical("quantized", w=replace(LINEAR, bias=TensorRef("b"))), "w"),
    ],
    "scale factors are absorbed": [(canonical(c=s.Scale(name="c", x=Ref("l"), factor=2.0)), "c")],
    "the output is a mean over time": [(canonical(o=s.Output(name="o", x=Ref("l"))), "o")],
    "shifts drop 1 to 7 bits": [
        (canonical(c=s.Shift(name="c", x=Ref("l"), bits=1)), "c"),
        (canonical("quantized", c=s.Shift(name="c", x=Ref("l"), bits=0)), "c"),
        (canonical("quantized", c=s.Shift(name="c", x=Ref("l"), bits=8)), "c"),
    ],
    "offsets are integers": [
        (canonical("quantized", c=s.Offset(name="c", x=Ref("l"), offset=TensorRef("b"))), "c")
    ],
    "a function has a definition and a factor, a normalization an epsilon >= 0": [
        *(
            (canonical(c=node), "c")
            for node in (
                s.Function(name="c", x=Ref("l"), function="unknown"),
                s.Function(name="c", x=Ref("l"), function="gelu", gain=float("inf")),
                s.StepSoftmax(name="c", x=Ref("l"), gain=float("nan")),
                s.Normalization(name="c", x=Ref("l"), axes=(0,), epsilon=-1.0),
            )
        )
    ],
    "segments are int64 of one length that synapses and shifts hold": [
        *(
            (canonical("quantized", c=node), "c")
            for node in (
                s.IntegerFunction(
                    name="c", x=Ref("l"), knots=TensorRef("b"), weights=TensorRef("b")
                ),
                s.IntegerFunction(
                    name="c", x=Ref("l"), knots=TensorRef("b"), weights=TensorRef("w"), shift=99
                ),
            )
        )
    ],
    "products take 1 to 15 digits and drop at most 30 bits, sums of them as many as digits": [
        (
            canonical(
                "quantized",
                c=s.DigitMul(name="c", digits=Ref("l"), value=Ref("l"), bits=bits, shift=shift),
            ),
            "c",
        )
        for bits, shift in ((0, 0), (16, 0), (4, -1), (4, 31))
    ],
    "no floating-point neuron, and no softmax, is left": [
        (canonical("quantized", l=LIF), "l"),
        (canonical("quantized", c=s.Softmax(name="c", x=Ref("m"))), "c"),
    ],
    "a softmax reads what is the same in every step": [
        (canonical(c=s.Softmax(name="c", x=Ref("l"))), "c"),
        (
            canonical(
                "quantized",
                c=s.RateSoftmax(name="c", x=Ref("l"), thresholds=TensorRef("b"), span=3),
            ),
            "c",
        ),
    ],
    "sums over time and spikes of a softmax are integers": [
        (canonical(c=s.TimeSum(name="c", x=Ref("l"), steps=4)), "c"),
        (canonical("quantized", c=s.TimeSum(name="c", x=Ref("l"), steps=1)), "c"),
        *(
            (with_grid(np.array(values, np.int32), shift), "c")
            for values, shift in (([], 0), ([0, 3], 0), ([3, 2], 0), ([3, 9], 0), ([1], 8))
        ),
    ],
    "weights are integers on the chip's grid": [
        (with_weight(INT16.astype(np.int32)), "w"),
        (with_weight(INT16.astype(np.float32)), "w"),
        (with_weight(INT16 + np.int16(256)), "w"),
        (with_weight(INT16 - np.int16(257)), "w"),
        (with_weight(INT16 + np.int16(-32768)), "w"),
    ],
    "weight exponents are 0..7, and 0 before quantization": [
        (canonical(w=replace(LINEAR, exponent=1)), "w"),
        (canonical("quantized", w=replace(LINEAR, exponent=8)), "w"),
        (canonical("quantized", w=replace(LINEAR, exponent=-3)), "w"),
    ],
    "integer soft-reset LIF parameters fit": [
        (
            canonical(
                "quantized",
                l=s.SoftIntegerLIF(
                    name="l", x=Ref("w"), **{"threshold": 4, "reset": 2, "decay": 2048, **bad}
                ),
            ),
            "l",
        )
        for bad in (
            {"threshold": 0, "reset": 0},
            {"threshold": 131072},
            {"decay": 4097},
            {"gain": 0},
            {"reset": 131072},
            {"more": (5,) * 255},
            {"more": (3,)},
            {"more": (6, 5)},
            {"more": (131072,)},
        )
    ],
    "several levels, other amounts": [
        (canonical(l=replace(LIF, **bad)), "l")
        for bad in (
            {"more": (2.0,)},
            {"subtract": 0.5},
            {"more": (0.5,), "soft_reset": True},
            {"current": 0.5, "soft_reset": True},
            {"current": 1.5},
            {"current": 0.5, "bias": TensorRef("b")},
            {"subtract": -1.0, "soft_reset": True},
        )
    ],
    "what was sent a step before": [
        (canonical(p=s.Previous(name="p", shape=(2,), of="l")), "p"),  # it comes behind its layer
        (with_feedback(of="w"), "p"),
        (with_feedback(of="gone"), "p"),
        (with_feedback(shape=(3,)), "p"),
        (with_feedback(levels=2), "p"),
    ],
    "a mean over tokens keeps a share": [
        (canonical(k=token_mean(d, f)), "k")
        for d, f in (("two", "half"), ("half", "minus"), ("nan", "half"))
    ],
    "an integrator keeps a share": [
        (canonical(i=s.Integrator(name="i", x=Ref("w"), decay=1.5)), "i"),
        (canonical("quantized", i=s.IntegerIntegrator(name="i", x=Ref("w"), weight=129)), "i"),
        (
            canonical(
                "quantized", i=s.IntegerIntegrator(name="i", x=Ref("w"), weight=1, largest=1 << 17)
            ),
            "i",
        ),
    ],
    "integer LIF parameters fit": [
        (canonical("quantized", l=replace(INTEGER, **{field: value})), "l")
        for field, value in [
            ("vth", -1),
            ("vth", 131072),
            ("dv", -1),
            ("dv", 4097),
            ("dv", TensorRef("b")),
            ("gain", 0),
            ("bias_exp", 8),
        ]
    ],
}


def circuit(
    change: Callable[[c.CircuitGraph], c.CircuitGraph] = lambda g: g, scheduled: bool = False
) -> c.CircuitGraph:
    """HostInput (2, 2, 1), a Conv2d to a LIF of the same shape, a Dense and a Strided to a relay of
    two, a readout.
    """
    d = (0, 1, 2) if scheduled else (-1, -1, -1)
    delay = {"delay": 1} if scheduled else {}
    populations = (
        c.HostInput(name="x", shape=(2, 2, 1), layer="x", depth=d[0], low=0, high=9),
        c.LIF(name="l", shape=(2, 2, 1), layer="l", depth=d[1], vth=5, bias=TensorRef("bias")),
        c.GradedRelay(name="r", shape=(2,), layer="o", depth=d[2]),
    )
    projections = (
        c.Conv2d(
            name="c", src=Ref("x"), dst=Ref("l"), weight=TensorRef("k"), padding=(1, 1), **delay
        ),
        c.Dense(name="d", src=Ref("l"), dst=Ref("r"), weight=TensorRef("w"), **delay),
        c.Strided(
            name="s",
            src=Ref("l"),
            dst=Ref("r"),
            sizes=(2, 2),
            src_strides=(2, 1),
            dst_strides=(1, 0),
            **delay,
            weight=2,
        ),
    )
    tensors = {
        "k": np.full((1, 3, 3, 1), -256, np.int16),
        "w": np.full((2, 4), 254, np.int16),
        "bias": np.array([-4096, 4095], np.int16).repeat(2).reshape(2, 2, 1),
    }
    readouts = (c.Readout(name="o", src=Ref("r"), scale=1.0),)
    return change(
        c.CircuitGraph(
            "c", 4, populations, projections, readouts, tensors, period=4 if scheduled else 0
        )
    )


def item(name: str, scheduled: bool = False, **fields: Any) -> c.CircuitGraph:
    """The circuit with fields of one item changed."""

    def change(g: c.CircuitGraph) -> c.CircuitGraph:
        parts = ("populations", "projections", "readouts")
        return g.replace(
            **{
                p: tuple(replace(i, **fields) if i.name == name else i for i in getattr(g, p))
                for p in parts
            }
        )

    return circuit(change, scheduled)


def tensor(name: str, value: np.ndarray) -> c.CircuitGraph:
    return circuit(lambda g: g.replace(tensors={**g.tensors, name: value}))


BROKEN_CIRCUIT: dict[str, list[tuple[c.CircuitGraph, str]]] = {
    "thresholds have 17 bits": [
        *(
            (item("l", **{k: v}), "l")
            for k, v in [("vth", -1), ("vth", 131072), ("dv", 4097), ("du", -1), ("bias_exp", 8)]
        ),
        (tensor("bias", np.full((2, 2, 1), 4096, np.int16)), "l"),
        (tensor("bias", np.full((2, 2, 1), -4097, np.int16)), "l"),
    ],
    "weights lie in their sign mode's range": [
        (item("c", sign="excitatory"), "c"),
        (item("d", sign="inhibitory"), "d"),
        (item("d", sign="mixt"), "d"),
        (item("d", weight_bits=7), "d"),
        (item("d", weight_bits=0), "d"),
        (item("d", weight_bits=9), "d"),
        (item("s", weight=3), "s"),
        (item("s", weight=256), "s"),
        (tensor("w", np.full((2, 4), 256, np.int16)), "d"),
        (tensor("k", np.full((1, 3, 3, 1), -258, np.int16)), "c"),
    ],
    "weight exponents are 0..7": [(item("d", weight_exp=-4), "d"), (item("d", weight_exp=8), "d")],
    "strided patterns stay inside": [
        (item("s", src_offset=1), "s"),
        (item("s", src_offset=-1), "s"),
        (item("s", dst_offset=1), "s"),
        (item("s", src_strides=(-2, 1)), "s"),
        (item("s", dst_strides=(1, 1), dst_offset=-1), "s"),
        (item("s", dst_strides=(1, -1), dst_offset=0, sizes=(1, 2)), "s"),
        (
            item("s", sizes=(2, 1, 2), src_strides=(0, 0, 0), dst_strides=(1, 0, 1), dst_offset=0),
            "s",
        ),
    ],
    "convolutions join": [
        (tensor("k", np.zeros((2, 3, 3, 1), np.int16)), "c"),
        (tensor("k", np.zeros((1, 3, 3, 2), np.int16)), "c"),
        (item("c", padding=(0, 1)), "c"),
        (item("c", stride=(2, 2)), "c"),
        (item("c", dst=Ref("r")), "c"),
    ],
    "a matrix has a row a destination": [
        (tensor("w", np.zeros((4, 2), np.int16)), "d"),
        (tensor("w", np.zeros(8, np.int16)), "d"),
    ],
    "recurrent projections join neurons": [(item("c", recurrent=True), "c")],
    "a readout's shape and bias": [(item("o", shape=(3, 1)), "o"), (item("o", shape=(5,)), "o")],
    "a readout is a graded population": [(item("o", src=Ref("l")), "o")],
    "a projection advances by less than T steps": [
        *((item("d", advance=n), "d") for n in (-1, 4)),
        (item("d", advance=1, recurrent=True), "d"),
    ],
    "paths are balanced": [
        (item("d", True, advance=1), "d"),
        (item("d", True, delay=2), "d"),
        (item("d", True, delay=0), "d"),
        (item("l", True, depth=-1), "c"),
    ],
    "folded circuits have lags, slots": [
        (item("d", lag=1), "d"),
        (item("d", lag=-1), "d"),
        (item("l", slots=((2, 1),)), "l"),
        (item("l", slots=((0, 1),)), "l"),
        (item("l", slots=((1, -1),)), "l"),
        (item("l", slots=((1,),)), "l"),
        (item("l", slots=(1,)), "l"),
    ],
    "the host brings a piece of the sample": [
        (item("x", places=TensorRef("w")), "x"),
        (item("x", sample_shape=(2, 2, 1)), "x"),
        *((circuit(lambda g: g.replace(windows=2)), "x") for _ in range(1)),
    ],
    "a graded connection has delay 1": [(item("c", True, delay=2), "c")],
}


def cases(broken: dict[str, list]) -> list:
    return [
        pytest.param(rule, *case, id=f"{rule} {i}")
        for rule, found in broken.items()
        for i, case in enumerate(found)
    ]


@pytest.mark.parametrize(("rule", "graph", "name"), cases(BROKEN_SPIKING))
def test_a_broken_spiking_rule_is_reported_with_its_item(
    rule: str, graph: s.SpikingGraph, name: str
) -> None:
    with pytest.raises(NeurocompileError) as caught:
        check_spiking(graph, "some-pass")
    assert caught.value.code == "NC2004"
    assert caught.value.message.startswith("after some-pass: ")
    assert any(
        f"%{name}: " in part and f"rule: {rule}" in part
        for part in caught.value.message.split("; ")
    )


@pytest.mark.parametrize(("rule", "graph", "name"), cases(BROKEN_CIRCUIT))
def test_a_broken_circuit_rule_is_reported_with_its_item(
    rule: str, graph: c.CircuitGraph, name: str
) -> None:
    with pytest.raises(NeurocompileError) as caught:
        check_circuit(graph, "some-pass")
    assert caught.value.code == "NC2004"
    assert any(
        f"%{name}: " in part and f"rule: {rule}" in part
        for part in caught.value.message.split("; ")
    )


def test_every_rule_has_a_graph_that_breaks_it() -> None:
    for rules, broken in ((SPIKING_RULES, BROKEN_SPIKING), (CIRCUIT_RULES, BROKEN_CIRCUIT)):
        assert all(any(rule.text.startswith(text) for text in broken) for rule in rules)


@pytest.mark.parametrize("stage", ["imported", "canonical", "quantized"])
def test_a_graph_that_keeps_the_rules_passes(stage: str) -> None:
    check_spiking(canonical(stage), "some-pass")


@pytest.mark.parametrize("scheduled", [False, True])
def test_a_circuit_that_keeps_the_rules_passes(scheduled: bool) -> None:
    check_circuit(circuit(scheduled=scheduled), "some-pass")


def test_what_later_stages_forbid_the_imported_graph_may_hold() -> None:
    lif = replace(LIF, decay_input=True, v_reset=0.5, soft_reset=True)
    check_spiking(
        canonical("imported", w=replace(LINEAR, bias=TensorRef("b")), l=lif, n=NORM), "import"
    )


@pytest.mark.parametrize(
    ("graph", "why"),
    [
        (canonical(w=replace(LINEAR, x=Ref("m"))), "%w: reads %m before it is defined"),
        (canonical(w=replace(LINEAR, x=Ref("w"))), "%w: reads %w before it is defined"),
        (canonical(w=replace(LINEAR, weight=TensorRef("gone"))), "%w: tensor @gone is missing"),
        (canonical(again=LINEAR), "%w: is defined twice"),
        (canonical(w=replace(LINEAR, weight=TensorRef("b"))), "%w: Linear"),
    ],
)
def test_a_graph_that_hangs_together_wrongly_is_reported(graph: s.SpikingGraph, why: str) -> None:
    with pytest.raises(NeurocompileError, match="NC2004") as caught:
        check_spiking(graph, "some-pass")
    assert why in caught.value.message


def test_a_circuit_with_loose_ends_or_doubles_is_reported() -> None:
    for graph, why in [
        (item("d", src=Ref("gone")), "%d: joins %gone, which is not there"),
        (item("o", src=Ref("gone")), "%o: joins %gone, which is not there"),
        (
            circuit(lambda g: g.replace(populations=(*g.populations, g.population["l"]))),
            "%l: is defined twice",
        ),
    ]:
        with pytest.raises(NeurocompileError, match="NC2004") as caught:
            check_circuit(graph, "some-pass")
        assert why in caught.value.message


def test_more_than_five_complaints_are_counted() -> None:
    nodes = {f"w{i}": replace(LINEAR, name=f"w{i}", bias=TensorRef("b")) for i in range(7)}
    with pytest.raises(NeurocompileError, match="and 2 more"):
        check_spiking(canonical(**nodes), "some-pass")
