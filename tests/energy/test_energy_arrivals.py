"""Counts by strides equal those of an explicit list of synapses, for random projections."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.energy.arrivals import arrivals, effective_operations, fan_out
from neurocompile.ir.circuit import CircuitGraph, Conv2d, Dense, GradedRelay, Projection, Strided
from neurocompile.ir.text import Ref, TensorRef


def circuit_of(
    src: tuple[int, ...], dst: tuple[int, ...], projection: Projection, weight
) -> CircuitGraph:
    populations = tuple(GradedRelay(name=n, shape=s, layer=n) for n, s in (("a", src), ("b", dst)))
    return CircuitGraph(
        "g", 1, populations, (projection,), (), {} if weight is None else {"w": weight}
    )


def synapses(circuit: CircuitGraph) -> np.ndarray:
    """Stored synapses as a matrix (dst, src) of counts, one loop a synapse."""
    q = circuit.projections[0]
    src, dst = circuit.population["a"], circuit.population["b"]
    found = np.zeros((dst.size, src.size), np.int64)
    if isinstance(q, Dense):
        found += 1
    elif isinstance(q, Strided):
        for index in np.ndindex(*q.sizes):
            s = q.src_offset + sum(i * k for i, k in zip(index, q.src_strides))
            d = q.dst_offset + sum(i * k for i, k in zip(index, q.dst_strides))
            found[d, s] += 1
    else:
        out, kh, kw, per = circuit.tensors["w"].shape
        for y, x, o, i, j, c in np.ndindex(*dst.shape[:2], out, kh, kw, per):
            v = y * q.stride[0] - q.padding[0] + i * q.dilation[0]
            h = x * q.stride[1] - q.padding[1] + j * q.dilation[1]
            if 0 <= v < src.shape[0] and 0 <= h < src.shape[1]:
                channel = o // (out // q.groups) * per + c
                found[
                    np.ravel_multi_index((y, x, o), dst.shape),
                    np.ravel_multi_index((v, h, channel), src.shape),
                ] += 1
    return found


def check(circuit: CircuitGraph, seed: int) -> None:
    rng, q, matrix = np.random.default_rng(seed), circuit.projections[0], synapses(circuit)
    sent = rng.integers(0, 9, (3, circuit.population["a"].size)).astype(np.float64)
    assert np.array_equal(arrivals(circuit, q, sent), sent @ matrix.T)
    assert np.array_equal(fan_out(circuit, q).reshape(-1), matrix.sum(axis=0))
    if isinstance(q, Dense):
        weighted = circuit.tensors["w"] != 0
        assert effective_operations(circuit, q, sent[0]) == (weighted @ sent[0]).sum()


convolutions = st.tuples(
    st.integers(1, 6),
    st.integers(1, 6),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(1, 2),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(0, 2),
    st.integers(0, 2),
    st.integers(1, 2),
)


@settings(deadline=None, max_examples=60)
@given(convolutions, st.integers(0, 99))
def test_convolutions(shape, seed: int) -> None:
    height, width, groups, per, out, kh, kw, sy, sx, py, px, dilation = shape
    rows, columns = (
        (n + 2 * p - dilation * (k - 1) - 1) // s + 1
        for n, p, k, s in ((height, py, kh, sy), (width, px, kw, sx))
    )
    if rows < 1 or columns < 1:
        return
    weight = (
        np.random.default_rng(seed).integers(-1, 2, (out * groups, kh, kw, per)).astype(np.int16)
        * 2
    )
    q = Conv2d(
        name="q",
        src=Ref("a"),
        dst=Ref("b"),
        weight=TensorRef("w"),
        stride=(sy, sx),
        padding=(py, px),
        dilation=(dilation, dilation),
        groups=groups,
    )
    circuit = circuit_of((height, width, groups * per), (rows, columns, out * groups), q, weight)
    check(circuit, seed)
    # operations with weight: the emulator's own convolution of ones where the weight is not 0
    from neurocompile.backends.kernels import project

    sent = (
        np.random.default_rng(seed)
        .integers(0, 9, (1, circuit.population["a"].size))
        .astype(np.int32)
    )
    total = np.zeros((1, circuit.population["b"].size), np.int32)
    project(q, (weight != 0).astype(np.int16), sent, circuit.population["a"].shape, total)
    assert effective_operations(circuit, q, sent[0].astype(np.float64)) == total.sum()


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 99))
def test_matrices(n: int, m: int, seed: int) -> None:
    weight = np.random.default_rng(seed).integers(-1, 2, (m, n)).astype(np.int16) * 2
    check(
        circuit_of(
            (n,), (m,), Dense(name="q", src=Ref("a"), dst=Ref("b"), weight=TensorRef("w")), weight
        ),
        seed,
    )


def test_strided_patterns() -> None:
    cases = [
        (
            (6,),
            (6,),
            Strided(
                name="q", src=Ref("a"), dst=Ref("b"), sizes=(6,), src_strides=(1,), dst_strides=(1,)
            ),
        ),
        (
            (1,),
            (5,),
            Strided(
                name="q", src=Ref("a"), dst=Ref("b"), sizes=(5,), src_strides=(0,), dst_strides=(1,)
            ),
        ),
        (
            (3, 4),
            (3,),
            Strided(
                name="q",
                src=Ref("a"),
                dst=Ref("b"),
                sizes=(3, 4),
                src_strides=(4, 1),
                dst_strides=(1, 0),
            ),
        ),
        (
            (7,),
            (3,),
            Strided(
                name="q",
                src=Ref("a"),
                dst=Ref("b"),
                sizes=(3, 3),
                src_strides=(2, 1),
                dst_strides=(1, 0),
            ),
        ),
        (
            (2, 3),
            (3, 2),
            Strided(
                name="q",
                src=Ref("a"),
                dst=Ref("b"),
                sizes=(2, 3),
                src_strides=(3, 1),
                dst_strides=(1, 2),
            ),
        ),
        (
            (5,),
            (9,),
            Strided(
                name="q",
                src=Ref("a"),
                dst=Ref("b"),
                sizes=(4, 2),
                src_strides=(1, 0),
                dst_strides=(2, 1),
                src_offset=1,
                dst_offset=1,
            ),
        ),
    ]
    for i, (src, dst, q) in enumerate(cases):
        check(circuit_of(src, dst, q, None), i)
