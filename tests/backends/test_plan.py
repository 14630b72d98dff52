"""The emulator's plans against the plain kernels: random circuits of every kind of projection, every
population, sample and step."""

from __future__ import annotations

from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.backends.bias import lif_bias
from neurocompile.backends.emulator import Emulator
from neurocompile.backends.encoding import encode
from neurocompile.backends.kernels import lif, project
from neurocompile.backends.plan import make_plan
from neurocompile.backends.weights import make_weights
from neurocompile.ir import circuit as c
from neurocompile.ir.text import Ref, TensorRef


def by_kernels(circuit: c.CircuitGraph, x: np.ndarray) -> dict[str, np.ndarray]:
    """The trace, population after population, with :mod:`neurocompile.backends.kernels`; for circuits
    without loops."""
    samples, T, trace = len(x), circuit.steps, {}
    for p in circuit.topological():
        if isinstance(p, c.HostInput):
            sent = x if p.stepwise else np.repeat(x[:, None], T, axis=1)
            trace[p.name] = sent.reshape(samples, T, *p.shape).astype(np.int32)
            continue
        a = np.zeros((samples, T, p.size), np.int32)
        for q in circuit.incoming[p.name]:
            source = trace[q.src].reshape(samples, T, -1).astype(np.int32)
            moved = np.zeros_like(source)
            moved[:, : T - q.advance] = source[:, q.advance :]
            rows = moved.reshape(samples * T, -1)
            shape = circuit.population[q.src].shape
            project(q, circuit.weight(q), rows, shape, a.reshape(samples * T, -1))
        if isinstance(p, c.LIF):
            out = np.empty(a.shape, np.uint8)
            u, v = np.zeros((2, samples, p.size), np.int32)
            lif(a, lif_bias(circuit, p), p.vth << 6, p.dv, p.du, u, v, out)
        else:
            out = np.maximum(a, 0) if isinstance(p, c.GradedRelu) else a
        trace[p.name] = out.reshape(samples, T, *p.shape)
    return trace


class Random:
    """A circuit that grows by one random population after the other."""

    def __init__(self, rng: np.random.Generator, steps: int) -> None:
        self.rng, self.steps = rng, steps
        shape = tuple(int(n) for n in rng.integers(1, 6, 2)) + (int(rng.integers(1, 70)),)
        self.stepwise = bool(rng.integers(2))
        low, high = ((0, 1), (-3, 3), (0, 200))[rng.integers(3)]
        self.populations: list[c.Population] = [
            c.HostInput(
                name="x", shape=shape, layer="x", low=low, high=high, stepwise=self.stepwise
            )
        ]
        self.projections: list[c.Projection] = []
        self.tensors: dict[str, np.ndarray] = {}

    def source(self) -> c.Population:
        return self.populations[self.rng.integers(len(self.populations))]

    def weights(self, *shape: int) -> TensorRef:
        kind = self.rng.integers(4)
        if kind == 0:  # as a chip holds them
            values = 2 * self.rng.integers(-128, 128, shape)
        elif kind == 1:
            values = self.rng.integers(0, 256, shape)
        elif kind == 2:
            values = self.rng.choice([-1000, 0, 3, 32767], shape)
        else:
            values = self.rng.integers(-8, 9, shape) * 8
        name = f"w{len(self.tensors)}"
        self.tensors[name] = values.astype(np.int16)
        return TensorRef(name)

    def population(self, shape: tuple[int, ...]) -> str:
        rng, name = self.rng, f"p{len(self.populations)}"
        kind = rng.integers(5)
        if kind == 0:
            made: c.Population = c.GradedRelay(name=name, shape=shape, layer=name)
        elif kind == 1:
            made = c.GradedRelu(name=name, shape=shape, layer=name)
        else:
            bias = None
            if rng.integers(2):
                bias = TensorRef(f"b{name}")
                wide = shape if rng.integers(2) else shape[-1:]
                self.tensors[bias] = rng.integers(-4096, 4096, wide).astype(np.int16)
            made = c.LIF(
                name=name,
                shape=shape,
                layer=name,
                vth=int(rng.choice([0, 1, 40, 700, 20000, 131071])),
                dv=int(rng.choice([0, 1, 2048, 3000, 4095, 4096])),
                du=int(rng.choice([4095, 4095, 4095, 0, 2047, 3210])),
                bias=bias,
                bias_exp=int(rng.integers(8)) if bias else 0,
                reset=True,
            )
        self.populations.append(made)
        return name

    def add(self) -> None:
        rng, source = self.rng, self.source()
        advance = int(rng.integers(self.steps)) if rng.integers(8) == 0 else 0
        common = {"name": f"q{len(self.projections)}", "src": Ref(source.name), "advance": advance}
        kind = rng.integers(3)
        if kind == 0 and len(source.shape) == 3:
            common["dst"], made = None, self.convolution(source, common)
        elif kind == 1:
            n = int(rng.integers(1, 300))
            weight = self.weights(n, source.size)
            exponent = int(rng.integers(3))
            made = c.Dense(
                **common, dst=Ref(self.population((n,))), weight=weight, weight_exp=exponent
            )
        else:
            made = self.strided(source, common)
        self.projections.append(made)
        if rng.integers(2):  # a second source for it
            dst = next(p for p in self.populations if p.name == made.dst)
            others = [p for p in self.populations if p.size == dst.size and p.name != dst.name]
            if others:
                other = others[rng.integers(len(others))]
                self.projections.append(
                    c.Strided(
                        name=f"q{len(self.projections)}",
                        src=Ref(other.name),
                        dst=Ref(dst.name),
                        sizes=(dst.size,),
                        src_strides=(1,),
                        dst_strides=(1,),
                        weight=int(rng.choice([1, -1, 5])),
                    )
                )

    def convolution(self, source: c.Population, common: dict) -> c.Conv2d:
        rng = self.rng
        height, width, channels = source.shape
        groups = int(rng.choice([n for n in range(1, channels + 1) if channels % n == 0]))
        groups = groups if rng.integers(2) else 1
        out = groups * int(rng.integers(1, 1 + 300 // groups))
        kernel, stride, dilation = (
            tuple(int(n) for n in rng.integers(1, top, 2)) for top in (4, 4, 3)
        )
        padding = tuple(int(n) for n in rng.integers(0, 3, 2))
        rows = tuple(
            (n + 2 * p - d * (k - 1) - 1) // s + 1
            for n, p, d, k, s in zip((height, width), padding, dilation, kernel, stride)
        )
        if min(rows) < 1:
            kernel, padding, rows = (
                (1, 1),
                (0, 0),
                tuple((n - 1) // s + 1 for n, s in zip((height, width), stride)),
            )
        weight = self.weights(out, *kernel, channels // groups)
        common["dst"] = Ref(self.population((*rows, out)))
        return c.Conv2d(
            **common,
            weight=weight,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
        )

    def strided(self, source: c.Population, common: dict) -> c.Strided:
        rng = self.rng
        if rng.integers(3) == 0:  # all of it, as it is
            sizes, src, dst = (source.size,), [1], [1]
        else:
            sizes = tuple(int(n) for n in rng.integers(1, 5, 3))
            src = [int(n) for n in rng.permutation([sizes[1] * sizes[2], sizes[2], 1])]
            src = [s if rng.integers(4) else 0 for s in src]
            while sum((n - 1) * s for n, s in zip(sizes, src)) >= source.size:
                src[int(np.argmax(src))] = 0
            kept = [k for k in range(3) if rng.integers(4)]
            order, dst, place = rng.permutation(kept).tolist() if kept else [], [0, 0, 0], 1
            for k in order:
                dst[int(k)], place = place, place * sizes[int(k)]
        spare = source.size - 1 - sum((n - 1) * s for n, s in zip(sizes, src))
        size = 1 + sum((n - 1) * s for n, s in zip(sizes, dst))
        offset = int(rng.integers(0, 3)) if rng.integers(2) else 0
        one_to_one = 0 not in dst
        exponent = int(rng.integers(-3 if one_to_one else 0, 3)) if rng.integers(2) else 0
        return c.Strided(
            **common,
            dst=Ref(self.population((size + 2 * offset,))),
            sizes=sizes,
            src_strides=tuple(src),
            dst_strides=tuple(dst),
            weight=1 if rng.integers(2) else int(rng.integers(-255, 256)),
            weight_exp=exponent,
            src_offset=int(rng.integers(0, spare + 1)) if rng.integers(2) else 0,
            dst_offset=offset,
        )

    def finish(self) -> c.CircuitGraph:
        # what rounds is its destination's only input
        rounds = {q.dst for q in self.projections if q.weight_exp < 0}
        kept, seen = [], set()
        for q in self.projections:
            if q.dst not in rounds or q.dst not in seen:
                kept.append(q)
            seen.add(q.dst)
        return c.CircuitGraph(
            "random", self.steps, tuple(self.populations), tuple(kept), (), self.tensors
        )


def random_case(seed: int, steps: int, samples: int) -> tuple[c.CircuitGraph, np.ndarray]:
    """A random circuit and inputs of it, few or many of them 0."""
    rng = np.random.default_rng(seed)
    growing = Random(rng, steps)
    for _ in range(int(rng.integers(1, 8))):
        growing.add()
    circuit = growing.finish()
    host = circuit.inputs[0]
    shape = (samples, steps, *host.shape) if host.stepwise else (samples, *host.shape)
    x = rng.integers(host.low, host.high + 1, shape).astype(np.int32)
    x[rng.random(shape) < rng.choice([0, 0.5, 0.95])] = 0
    return circuit, x


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 4))
def test_every_kind_of_projection_equals_the_plain_kernels(seed, steps):
    circuit, x = random_case(seed, steps, samples=2)
    expected = by_kernels(circuit, x)
    found = Emulator(1).open(circuit).run(x)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
        assert found[name].dtype == (np.uint8 if circuit.population[name].spiking else np.int32)
    last = circuit.populations[-1].name  # gates between are summed without being stored
    np.testing.assert_array_equal(Emulator(1).open(circuit).run(x, [last])[last], expected[last])


def matrix_product(rectifies: bool, order: str) -> c.CircuitGraph:
    """Gates [i, j] of x[i] and y[j] (or of a value y[j] while x[i] fires), and their sum over one
    digit."""
    rows, columns, most = 5, 7, 50
    gate_shape = (rows, columns)
    strides = {"i": (columns, 1), "j": (1, 0)}
    populations = [
        c.HostInput(name="x", shape=(rows,), layer="x", low=0, high=1, stepwise=True),
        c.LIF(name="s", shape=(rows,), layer="s", vth=0, dv=4096, reset=True),
        c.LIF(name="one", shape=(1,), layer="one", vth=0, bias=TensorRef("one")),
        c.GradedRelay(name="y", shape=(columns,), layer="y"),
    ]
    line = {"sizes": (rows,), "src_strides": (1,), "dst_strides": (1,)}
    projections = [
        c.Strided(name="xs", src=Ref("x"), dst=Ref("s"), **line),
        c.Dense(name="xy", src=Ref("x"), dst=Ref("y"), weight=TensorRef("w")),
    ]
    both = {"sizes": gate_shape, "dst_strides": (columns, 1)}
    if rectifies:
        populations.append(c.GradedRelu(name="g", shape=gate_shape, layer="g"))
        projections += [
            c.Strided(name="yg", src=Ref("y"), dst=Ref("g"), src_strides=(0, 1), **both),
            c.Strided(
                name="sg", src=Ref("s"), dst=Ref("g"), src_strides=(1, 0), weight=most, **both
            ),
            c.Strided(
                name="og", src=Ref("one"), dst=Ref("g"), src_strides=(0, 0), weight=-most, **both
            ),
        ]
    else:
        populations += [
            c.LIF(name="t", shape=(columns,), layer="t", vth=20, dv=4096, reset=True),
            c.LIF(name="g", shape=gate_shape, layer="g", vth=1, dv=4095),
        ]
        across = {"sizes": (columns,), "src_strides": (1,), "dst_strides": (1,)}
        projections += [
            c.Strided(name="yt", src=Ref("y"), dst=Ref("t"), **across),
            c.Strided(name="sg", src=Ref("s"), dst=Ref("g"), src_strides=(1, 0), **both),
            c.Strided(name="tg", src=Ref("t"), dst=Ref("g"), src_strides=(0, 1), **both),
        ]
    size, away = (columns, 0) if order == "i" else (rows, 1)
    kept = (0, 1) if away == 0 else (1, 0)
    populations.append(c.GradedRelay(name="out", shape=(size,), layer="out"))
    projections.append(
        c.Strided(
            name="go",
            src=Ref("g"),
            dst=Ref("out"),
            sizes=gate_shape,
            src_strides=strides["i"][:1] + strides["j"][:1],
            dst_strides=kept,
            weight=3,
        )
    )
    w = np.random.default_rng(1).integers(0, most // rows, (columns, rows)).astype(np.int16)
    return c.CircuitGraph(
        "product",
        6,
        tuple(populations),
        tuple(projections),
        (),
        {"w": w, "one": np.ones(1, np.int16)},
    )


@pytest.mark.parametrize("rectifies", [False, True])
@pytest.mark.parametrize("order", ["i", "j"])
def test_gates_that_one_sum_reads_are_not_stored_and_their_sum_is_exact(rectifies, order):
    circuit = matrix_product(rectifies, order)
    x = np.random.default_rng(0).integers(0, 2, (9, 6, 5)).astype(np.int32)
    expected = by_kernels(circuit, x)
    executor = Emulator(1).open(circuit)
    np.testing.assert_array_equal(executor.run(x, ["out"])["out"], expected["out"])
    for name, values in executor.run(x).items():
        np.testing.assert_array_equal(values, expected[name], err_msg=name)
    weights = make_weights(circuit)
    fused, whole = make_plan(circuit, weights, ["out"]), make_plan(circuit, weights, ["out", "g"])
    assert len(fused.ops) == len(whole.ops) - 1


def test_memory_is_that_of_what_is_alive(digits_program, digits_data):
    circuit = digits_program.circuit
    weights = make_weights(circuit)
    out = circuit.readouts[0].src
    plan = make_plan(circuit, weights, [out])
    everything = sum(p.size for p in circuit.populations) * circuit.steps
    assert plan.octets + plan.words < everything / 2
    x = encode(circuit, digits_data.x[:2])
    whole = Emulator(1).open(circuit).run(x)
    np.testing.assert_array_equal(Emulator(1).open(circuit).run(x, [out])[out], whole[out])


def test_copies_are_read_where_their_source_lies():
    relay = {"sizes": (6,), "src_strides": (1,), "dst_strides": (1,)}
    populations = [c.HostInput(name="x", shape=(6,), layer="x", low=0, high=1)]
    projections = []
    for k, kind in enumerate([c.GradedRelay, c.GradedRelay, c.GradedRelu, c.GradedRelay]):
        populations.append(kind(name=f"r{k}", shape=(6,), layer="r"))
        src = populations[-2].name
        projections.append(c.Strided(name=f"q{k}", src=Ref(src), dst=Ref(f"r{k}"), **relay))
    circuit = c.CircuitGraph("copies", 3, tuple(populations), tuple(projections), (), {})
    x = np.eye(6, dtype=np.int32)
    trace = Emulator(2).open(circuit).run(x)
    for values in trace.values():
        np.testing.assert_array_equal(values, np.repeat(x[:, None], 3, axis=1))
        assert values.size == prod(values.shape)
    assert len(make_plan(circuit, make_weights(circuit), ["r3"]).ops) == 1


def test_messages_are_counted_as_the_trace_has_them(digits_program, digits_data):
    circuit = digits_program.circuit
    x = encode(circuit, digits_data.x[:5])
    trace = Emulator(1).open(circuit).run(x)
    for threads in (1, 3):
        counts = Emulator(threads).open(circuit).messages(x)
        assert counts == {name: np.count_nonzero(values) for name, values in trace.items()}


def test_the_digits_plan_does_no_more_work_than_it_did(digits_program):
    """Counts, which no machine's load moves: operations, sources, bytes of arenas and weights."""
    circuit = digits_program.circuit
    weights = make_weights(circuit)
    plan = make_plan(circuit, weights, [circuit.readouts[0].src])
    assert len(circuit.populations) - len(plan.ops) >= 0.3 * len(circuit.populations)
    kinds = [row[0] for row in plan.sources]
    assert kinds.count(4) >= 2  # products of matrices, of which no gate is stored
    assert kinds.count(2) <= 2  # all but inputs and readout add int8 rows
    synapses = sum(w.size for w in circuit.tensors.values() if w.dtype == np.int16)
    assert weights.small.nbytes < 1.6 * synapses
    assert plan.octets + 4 * plan.words < 150_000  # a sample's memory
