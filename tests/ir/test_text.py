"""The text form of both graphs prints, parses back to the same graph, and names the line of every
error.
"""

from __future__ import annotations

import dataclasses
import typing

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurocompile.errors import NeurocompileError
from neurocompile.ir import circuit as c
from neurocompile.ir import spiking as s
from neurocompile.ir.text import Ref, TensorRef

NAMES = st.text("abcXYZ019_.-/:<>+", min_size=1, max_size=8)
FLOATS = st.floats(allow_nan=False) | st.sampled_from(
    [1e-17, float("inf"), float("-inf"), -2.5, 1e300, 5e-324, 0.1]
)
INTS = st.integers(-(2**40), 2**40)
SHAPES = st.lists(st.integers(1, 9), max_size=4).map(tuple)
STRINGS = st.text(max_size=8) | st.sampled_from(
    ['say "hi"', "back\\slash", "a\nb", "é\u2028{}", "%x @y = ,"]
)
BY_TYPE = {
    int: INTS,
    float: FLOATS,
    bool: st.booleans(),
    str: STRINGS,
    Ref: NAMES.map(Ref),
    TensorRef: NAMES.map(TensorRef),
    TensorRef | None: st.none() | NAMES.map(TensorRef),
    tuple[int, ...]: st.lists(INTS, max_size=4).map(tuple),
    tuple[int, ...] | None: st.none() | st.lists(INTS, max_size=4).map(tuple),
    tuple[int, int]: st.tuples(INTS, INTS),
    tuple[tuple[int, int], ...]: st.lists(st.tuples(INTS, INTS), max_size=3).map(tuple),
    int | TensorRef: INTS | NAMES.map(TensorRef),
    float | TensorRef: FLOATS | NAMES.map(TensorRef),
    tuple[float, ...]: st.lists(FLOATS, max_size=4).map(tuple),
    float | None: st.none() | FLOATS,
}
TENSORS = st.dictionaries(
    NAMES,
    st.tuples(SHAPES, st.sampled_from(["float32", "int16", "int64"])).map(lambda t: np.zeros(*t)),
    max_size=3,
)


def items(kind: type) -> st.SearchStrategy:
    """Random instances of a node, population or projection: text knows nothing of what a field
    means.
    """
    hints = typing.get_type_hints(kind)
    fields = {f.name: BY_TYPE[hints[f.name]] for f in dataclasses.fields(kind)}
    return st.builds(kind, **{**fields, "name": NAMES})


def of_kinds(kinds: dict[str, type], base: type | None = None) -> st.SearchStrategy:
    chosen = [k for k in kinds.values() if base is None or issubclass(k, base)]
    return st.lists(st.one_of(*map(items, chosen)), max_size=5).map(tuple)


SPIKING = st.builds(
    s.SpikingGraph,
    name=STRINGS,
    stage=STRINGS,
    nodes=of_kinds(s.KINDS),
    tensors=TENSORS,
    exported_T=INTS,
)
CIRCUITS = st.builds(
    c.CircuitGraph,
    name=STRINGS,
    steps=INTS,
    populations=of_kinds(c.KINDS, c.Population),
    projections=of_kinds(c.KINDS, c.Projection),
    readouts=of_kinds(c.KINDS, c.Readout),
    tensors=TENSORS,
    period=INTS,
    views=of_kinds(c.KINDS, c.View),
)


def check_round_trip(graph: s.SpikingGraph | c.CircuitGraph) -> None:
    text = graph.text()
    parsed = type(graph).parse(text, graph.tensors)
    assert parsed == graph
    assert parsed.text() == text


@given(SPIKING)
def test_a_spiking_graph_parses_back_from_its_text(graph: s.SpikingGraph) -> None:
    check_round_trip(graph)


@given(CIRCUITS)
def test_a_circuit_graph_parses_back_from_its_text(graph: c.CircuitGraph) -> None:
    check_round_trip(graph)


@given(st.one_of(*[items(kind) for kind in s.KINDS.values()]))
def test_parsed_references_keep_their_type(node: s.Node) -> None:
    graph = s.SpikingGraph("g", "imported", (node,), {})
    (parsed,) = s.SpikingGraph.parse(graph.text(), {}).nodes
    assert (parsed.inputs, parsed.tensors) == (node.inputs, node.tensors)
    for field in dataclasses.fields(node):
        default = getattr(node, field.name) == field.default
        assert default or type(getattr(parsed, field.name)) is type(getattr(node, field.name))


def test_defaults_are_left_out() -> None:
    node = s.LIF(name="l", x=Ref("x"), tau=2.0, v_threshold=1.0)
    graph = s.SpikingGraph("g", "imported", (node,), {})
    assert (
        graph.text()
        == 'spiking "g" {stage = "imported"}\n%l = LIF {x = %x, tau = 2.0, v_threshold = 1.0}\n'
    )


GOOD = """spiking "g" {stage = "imported"}
%x = Input {shape = [1, 2]}
%y = Linear {x = %x, weight = @w}
@w : float32[3, 2]
"""
TENSOR = {"w": np.zeros((3, 2), np.float32)}


@pytest.mark.parametrize(
    ("old", "new", "line", "why"),
    [
        ("spiking", "circuit", 1, "expected spiking"),
        ('"g"', "g", 1, "expected string"),
        ('"g"', "string", 1, "expected string"),
        ('"g"', r'"\q"', 1, "not a JSON string"),
        ('"imported"', r'"\u12"', 1, "not a JSON string"),
        ('stage = "imported"', "", 1, "stage"),
        ('stage = "imported"', 'stage = "imported", colour = 1', 1, "colour"),
        ('stage = "imported"', 'stage = "imported", nodes = []', 1, "nodes"),
        ('stage = "imported"', 'stage = "a", stage = "b"', 1, "twice"),
        ("%x = Input", "x = Input", 2, "expected ref"),
        ("%x = Input", "ref = Input", 2, "expected ref"),
        ("%x = Input", "%x : Input", 2, "unexpected"),
        ("Input", "Imput", 2, "unknown kind 'Imput'"),
        ("Input", '"Input"', 2, "expected word"),
        ("shape", "shapes", 2, "shapes"),
        ("shape = [1, 2]", "", 2, "shape"),
        ("shape = [1, 2]", "shape = [1, 2], name = 3", 2, "name"),
        ("[1, 2]}", "[1, 2", 2, "too early"),
        ("[1, 2]", "[1 2]", 2, "expected ,"),
        ("[1, 2]", "[" * 5000, 2, "nest deeper"),
        ("[1, 2]", "maybe", 2, "unknown word 'maybe'"),
        ("[1, 2]", "9" * 5000, 2, "too many digits"),
        ("[1, 2]}", "[1, 2]} more", 2, "after the closing brace"),
        ("[1, 2]", '"open', 2, "unexpected"),
        ("@w}", "@}", 3, "unexpected"),
        ("@w : float32[3, 2]", "@w float32[3, 2]", 4, "not a tensor declaration"),
        ("@w : float32[3, 2]", "@v : float32[3, 2]", 4, "@v has no values"),
        ("[3, 2]", "[2, 3]", 4, "float32[3, 2], the text says float32[2, 3]"),
        ("float32", "float64", 4, "the text says float64"),
    ],
)
def test_malformed_text_is_an_error_that_names_the_line(
    old: str, new: str, line: int, why: str
) -> None:
    assert s.SpikingGraph.parse(GOOD, TENSOR).text() == GOOD
    with pytest.raises(NeurocompileError) as caught:
        s.SpikingGraph.parse(GOOD.replace(old, new, 1), TENSOR)
    assert caught.value.code == "NC2005"
    assert f"line {line}:" in caught.value.message
    assert why in caught.value.message


@pytest.mark.parametrize("text", ["", "\n\n", "@w : float32[3, 2]\n"])
def test_a_text_without_header_is_an_error(text: str) -> None:
    with pytest.raises(NeurocompileError, match="NC2005 line 1"):
        s.SpikingGraph.parse(text, TENSOR)


@given(st.text(st.characters(max_codepoint=127), max_size=60), st.integers(0, len(GOOD)))
def test_any_text_parses_or_is_an_error_of_ours(noise: str, place: int) -> None:
    for kind in (s.SpikingGraph, c.CircuitGraph):
        try:
            kind.parse(GOOD[:place] + noise + GOOD[place:], TENSOR)
        except NeurocompileError as error:
            assert error.code == "NC2005"


def test_a_circuit_with_an_unknown_header_field_is_an_error() -> None:
    with pytest.raises(NeurocompileError, match="NC2005 line 1.*views"):
        c.CircuitGraph.parse('circuit "c" {steps = 4, views = 1}\n', {})


def test_numpy_scalars_print_as_plain_numbers() -> None:
    node = s.Input(
        name="x", shape=(np.int64(2), 3), unit=np.float64(0.25), low=np.int32(-1), high=np.int16(7)
    )
    graph = s.SpikingGraph("g", "quantized", (node,), {})
    assert "shape = [2, 3], unit = 0.25, low = -1, high = 7" in graph.text()
    assert s.SpikingGraph.parse(graph.text(), {}) == graph
