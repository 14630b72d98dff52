"""Counts from ranges and strides equal those of listing every synapse."""

from __future__ import annotations

from itertools import pairwise
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.errors import NeurocompileError
from neurocompile.ir.circuit import LIF, CircuitGraph, Conv2d, Dense, Projection, Strided
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.mapping.cost import convolution_row, row
from neurocompile.mapping.pattern import Pattern
from neurocompile.mapping.resources import CostCounter
from neurocompile.mapping.tile import Tile, cut, grid, whole
from neurocompile.targets import load_target

LOIHI2 = load_target("loihi2")
NAMES = {"name": "p", "src": Ref("s"), "dst": Ref("d")}


def circuit(
    src: tuple[int, ...], dst: tuple[int, ...], projection: Projection, **tensors: np.ndarray
) -> CircuitGraph:
    populations = tuple(
        LIF(name=name, shape=shape, layer=name, vth=1) for name, shape in (("s", src), ("d", dst))
    )
    return CircuitGraph(
        name="c",
        steps=1,
        populations=populations,
        projections=(projection,),
        readouts=(),
        tensors=tensors,
    )


def synapses(graph: CircuitGraph) -> tuple[np.ndarray, np.ndarray]:
    """The oracle: flat source and destination of every synapse, one loop iteration at a time."""
    (p,) = graph.projections
    src, dst = graph.population["s"].shape, graph.population["d"].shape
    if isinstance(p, Strided):
        index = np.indices(p.sizes).reshape(len(p.sizes), prod(p.sizes))
        return (
            p.src_offset + np.array(p.src_strides, dtype=int) @ index,
            p.dst_offset + np.array(p.dst_strides, dtype=int) @ index,
        )
    if isinstance(p, Dense):
        d, s = np.indices((prod(dst), prod(src))).reshape(2, -1)
        return s, d
    out, kh, kw, per_group = graph.tensors["w"].shape
    y, x, o, i, j, c = np.indices((*dst, kh, kw, per_group)).reshape(6, -1)
    h = y * p.stride[0] - p.padding[0] + i * p.dilation[0]
    w = x * p.stride[1] - p.padding[1] + j * p.dilation[1]
    c = c + o // (out // p.groups) * per_group
    inside = (h >= 0) & (h < src[0]) & (w >= 0) & (w < src[1])
    flat = np.ravel_multi_index((h[inside], w[inside], c[inside]), src)
    return flat, np.ravel_multi_index((y[inside], x[inside], o[inside]), dst)


@st.composite
def tiles(draw, shape: tuple[int, ...]) -> Tile:
    pairs = [
        sorted(draw(st.lists(st.integers(0, n), min_size=2, max_size=2, unique=True)))
        for n in shape
    ]
    return Tile("d", tuple(p[0] for p in pairs), tuple(p[1] for p in pairs))


def inside(graph: CircuitGraph, tile: Tile) -> tuple[np.ndarray, np.ndarray]:
    """Synapses that end in the tile."""
    src, dst = synapses(graph)
    held = np.zeros(graph.population["d"].shape, dtype=bool)
    held[tile.slices] = True
    chosen = held.ravel()[dst]
    return src[chosen], dst[chosen]


def check_sources(counter: CostCounter, tile: Tile, src: np.ndarray) -> None:
    mask = counter.sources(counter.circuit.projections[0], tile)
    assert np.array_equal(np.flatnonzero(mask), np.unique(src))


shapes = st.lists(st.integers(1, 5), min_size=1, max_size=4).map(tuple)


@st.composite
def any_strided(draw) -> CircuitGraph:
    """Any strides that stay inside: mostly ones that follow no axes."""
    src, dst = draw(shapes), draw(shapes)
    sizes = draw(st.lists(st.integers(1, 4), min_size=0, max_size=4).map(tuple))
    offsets, strides = [], []
    for shape in (src, dst):
        steps = draw(st.lists(st.integers(-6, 6), min_size=len(sizes), max_size=len(sizes)))
        reach = lambda: [s * (n - 1) for s, n in zip(steps, sizes, strict=True)]  # noqa: E731, B023
        while sum(map(abs, reach())) >= prod(shape):
            steps[int(np.argmax(np.abs(reach())))] = 0
        low = -sum(min(0, r) for r in reach())
        offsets.append(draw(st.integers(low, prod(shape) - 1 - sum(max(0, r) for r in reach()))))
        strides.append(tuple(steps))
    return circuit(
        src,
        dst,
        Strided(
            **NAMES,
            sizes=sizes,
            src_strides=strides[0],
            dst_strides=strides[1],
            src_offset=offsets[0],
            dst_offset=offsets[1],
        ),
    )


@st.composite
def axis_strided(draw) -> CircuitGraph:
    """Loops over axes of an index space: each side keeps some of them, in an order of its own, some
    merged.
    """
    space = draw(st.lists(st.integers(1, 4), min_size=1, max_size=4))
    sides = []
    for _ in range(2):
        kept = draw(st.permutations(range(len(space))))[: draw(st.integers(1, len(space)))]
        lengths = [space[k] + draw(st.integers(0, 1)) for k in kept]
        steps = [prod(lengths[i + 1 :]) for i in range(len(kept))]
        strides = tuple(steps[kept.index(k)] if k in kept else 0 for k in range(len(space)))
        merge = draw(st.integers(0, len(lengths) - 1))
        shape = (prod(lengths[: merge + 1]), *lengths[merge + 1 :])
        sides.append((shape, strides))
    return circuit(
        sides[0][0],
        sides[1][0],
        Strided(**NAMES, sizes=tuple(space), src_strides=sides[0][1], dst_strides=sides[1][1]),
    )


@given(st.one_of(any_strided(), axis_strided()), st.data())
@settings(max_examples=300, deadline=None)
def test_strided_counts_equal_the_oracle(graph: CircuitGraph, data: st.DataObject) -> None:
    tile = data.draw(tiles(graph.population["d"].shape))
    counter, (projection,) = CostCounter(graph, LOIHI2), graph.projections
    src, _ = inside(graph, tile)
    _, fans = np.unique(src, return_counts=True)
    assert counter.synapses(projection, tile) == (
        fans.size,
        sum(row(int(f), 8, LOIHI2.cost) for f in fans),
    )
    check_sources(counter, tile, src)


@st.composite
def convolutions(draw) -> CircuitGraph:
    groups, (h, w) = (
        draw(st.sampled_from([1, 1, 2, 3])),
        draw(st.tuples(st.integers(1, 7), st.integers(1, 7))),
    )
    per_in, per_out = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    pair = lambda low, high: draw(st.tuples(st.integers(low, high), st.integers(low, high)))  # noqa: E731
    kernel, stride, padding, dilation = pair(1, 3), pair(1, 3), pair(0, 2), pair(1, 2)
    out = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, s, p, d in zip((h, w), kernel, stride, padding, dilation, strict=True)
    ]
    out = [max(1, n) for n in out]
    projection = Conv2d(
        **NAMES,
        weight=TensorRef("w"),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        weight_bits=draw(st.integers(2, 8)),
    )
    weight = np.zeros((groups * per_out, *kernel, per_in), dtype=np.int16)
    return circuit((h, w, groups * per_in), (*out, groups * per_out), projection, w=weight)


@given(convolutions(), st.data())
@settings(max_examples=200, deadline=None)
def test_convolution_counts_equal_the_oracle(graph: CircuitGraph, data: st.DataObject) -> None:
    tile = data.draw(tiles(graph.population["d"].shape))
    counter, (projection,) = CostCounter(graph, LOIHI2), graph.projections
    src, _ = inside(graph, tile)
    shape, (out, kh, kw, per_group) = graph.population["s"].shape, graph.tensors["w"].shape
    axons, words = counter.synapses(projection, tile)
    positions = np.unique(src // shape[2]).size
    assert axons == positions
    channels = np.arange(tile.start[2], tile.stop[2]) // (out // projection.groups)
    held = np.unique(channels, return_counts=True)[1]
    assert words == per_group * kh * kw * sum(
        convolution_row(int(n), projection.weight_bits, LOIHI2.cost) for n in held
    )
    check_sources(counter, tile, src)
    assert counter.usage(tile).neurons == tile.size + 1


@given(shapes, shapes, st.integers(1, 8), st.data())
@settings(max_examples=50, deadline=None)
def test_dense_counts_equal_the_oracle(
    src: tuple, dst: tuple, bits: int, data: st.DataObject
) -> None:
    weight = np.zeros((prod(dst), prod(src)), dtype=np.int16)
    graph = circuit(src, dst, Dense(**NAMES, weight=TensorRef("w"), weight_bits=bits), w=weight)
    tile = data.draw(tiles(dst))
    counter = CostCounter(graph, LOIHI2)
    sources, _ = inside(graph, tile)
    _, fans = np.unique(sources, return_counts=True)
    words = sum(row(int(f), bits, LOIHI2.cost) for f in fans)
    assert counter.synapses(graph.projections[0], tile) == (fans.size, words)
    check_sources(counter, tile, sources)


def test_attention_gates_are_counted_without_listing() -> None:
    """(tokens, heads, c, e) from (tokens, heads * c): every component is one axis, whatever the
    size.
    """
    n, heads, e = 4096, 8, 64
    gate = Strided(
        **NAMES,
        sizes=(n, heads, e, e),
        src_strides=(heads * e, e, 1, 0),
        dst_strides=(heads * e * e, e * e, e, 1),
    )
    pattern = Pattern(gate, (n, heads * e), (n, heads, e, e))
    assert max(component.sources.size for component in pattern.components) <= max(n, heads * e)
    assert pattern.fan_out((0, 0, 0, 0), (16, 2, e, 8)) == {8: 16 * 2 * e}


def test_flattened_one_to_one_follows_the_axes() -> None:
    copy = Strided(**NAMES, sizes=(64 * 32,), src_strides=(1,), dst_strides=(1,))
    pattern = Pattern(copy, (8, 8, 32), (1, 64, 32))
    assert max(component.sources.size for component in pattern.components) <= 64
    assert pattern.fan_out((0, 3, 0), (1, 9, 4)) == {1: 24}


@pytest.mark.parametrize(("sizes", "offset"), [((5,), 0), ((2,), 3), ((2,), -1)])
def test_patterns_that_leave_their_population_are_refused(
    sizes: tuple[int, ...], offset: int
) -> None:
    bad = Strided(**NAMES, sizes=sizes, src_strides=(1,), dst_strides=(0,), src_offset=offset)
    with pytest.raises(NeurocompileError, match="NC9001"):
        Pattern(bad, (4,), (4,))


@given(st.integers(1, 300), st.data())
def test_cuts_cover_a_range_once(length: int, data: st.DataObject) -> None:
    parts, align = data.draw(st.integers(1, length)), data.draw(st.integers(1, 8))
    ranges = cut(length, parts, align)
    assert len(ranges) == parts
    assert ranges[0][0] == 0
    assert ranges[-1][1] == length
    assert all(a < b for a, b in ranges)
    assert all(x[1] == y[0] for x, y in pairwise(ranges))
    assert all(a % align == 0 for a, _ in ranges) or length // parts < align


def test_grid_is_a_partition() -> None:
    population = LIF(name="d", shape=(7, 5, 6), layer="d", vth=1)
    covered = np.zeros(population.shape, dtype=int)
    for tile in grid(population, (3, 1, 2), (2, 1, 1)):
        covered[tile.slices] += 1
    assert (covered == 1).all()
    assert whole(population).size == population.size
