"""The order experiment: passes moved, swapped and left out, and what becomes of a graph's meaning.

Three small graphs with dyadic numbers, so that passes are exact; the circuit that comes out must
compute the definition of the graph that went in. A *verdict* is ``same``, ``refused: CODE``,
``silently wrong: WHERE`` or ``crash: ERROR``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from neurocompile.backends.emulator import Emulator
from neurocompile.backends.encoding import decode, encode
from neurocompile.calibration import calibrate_on
from neurocompile.errors import NeurocompileError
from neurocompile.ir import spiking as s
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.ir.evaluate import encode_input, evaluate
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.passes.base import Pass
from neurocompile.passes.canonicalize import canonical_passes
from neurocompile.passes.compose_convolutions import ComposeConvolutions
from neurocompile.passes.lower import Lower
from neurocompile.passes.narrow_weights import NarrowWeights
from neurocompile.passes.quantize import Quantize
from neurocompile.passes.schedule import Schedule

LIF = {"tau": 2.0, "v_threshold": 1.0, "v_reset": 0.0, "decay_input": True}
T = 4


def dyadic(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return (rng.integers(-8, 9, shape) / 8).astype(np.float32)


def norm_tensors(rng: np.random.Generator, name: str, n: int) -> dict[str, np.ndarray]:
    parts = {f"{name}.{part}": dyadic(rng, n) for part in ("shift", "mean")}
    scale, var = np.full(n, 2, np.float32), np.full(n, 3.75, np.float32)
    return parts | {f"{name}.scale": scale, f"{name}.var": var}


def norm(name: str, x: str, axis: int) -> s.BatchNorm:
    parts = {k: TensorRef(f"{name}.{k}") for k in ("scale", "shift", "mean", "var")}
    return s.BatchNorm(name=name, x=Ref(x), eps=0.25, axis=axis, **parts)


def attention() -> s.SpikingGraph:
    """conv, norm, LIF; pool; attention with a factor and a LIF; a residual; linear, norm, LIF; mean,
    head."""
    rng = np.random.default_rng(5)
    tensors = {"k": dyadic(rng, 2, 1, 3, 3), "kb": dyadic(rng, 2), "w": dyadic(rng, 4, 4, 1, 1)}
    tensors |= {"h": dyadic(rng, 3, 16), "hb": dyadic(rng, 3)}
    tensors |= norm_tensors(rng, "n1", 2) | norm_tensors(rng, "n2", 4)
    view = {"sizes": (4, 4), "strides": (4, 1)}
    nodes = (
        s.Input(name="x", shape=(1, 4, 4)),
        s.Conv2d(name="c", x=Ref("x"), weight=TensorRef("k"), bias=TensorRef("kb"), padding=(1, 1)),
        norm("n1", "c", 0),
        s.LIF(name="l1", x=Ref("n1"), **LIF),
        s.MaxPool2d(name="p", x=Ref("l1"), kernel=(2, 1), stride=(2, 1)),
        s.Rearrange(name="q", x=Ref("p"), shape=(4, 4), sizes=(2, 2, 4), strides=(8, 4, 1)),
        s.MatMul(name="qk", a=Ref("q"), b=Ref("q")),
        s.Scale(name="sc", x=Ref("qk"), factor=0.5),
        s.LIF(name="att", x=Ref("sc"), **LIF),
        s.Add(name="res", a=Ref("att"), b=Ref("q")),
        s.Rearrange(name="map", x=Ref("res"), shape=(4, 4, 1), **view),
        s.Conv2d(name="fc", x=Ref("map"), weight=TensorRef("w")),
        norm("n2", "fc", 0),
        s.LIF(name="l2", x=Ref("n2"), **{**LIF, "v_reset": 0.25}),
        s.Rearrange(name="flat", x=Ref("l2"), shape=(16,), sizes=(16,), strides=(1,)),
        s.TimeMean(name="mean", x=Ref("flat")),
        s.Scale(name="sc2", x=Ref("mean"), factor=0.25),
        s.Linear(name="head", x=Ref("sc2"), weight=TensorRef("h"), bias=TensorRef("hb")),
        s.Output(name="out", x=Ref("head")),
    )
    return s.SpikingGraph("attention", "imported", nodes, tensors)


def convolutions() -> s.SpikingGraph:
    """A factor before a BatchNorm on spikes, a bias before a padded convolution, two convolutions
    that compose, and spikes beside a real value."""
    rng = np.random.default_rng(1)
    tensors = {"k": dyadic(rng, 2, 1, 3, 3), "kb": dyadic(rng, 2), "k2": dyadic(rng, 2, 2, 3, 3)}
    tensors |= {"k3": dyadic(rng, 2, 2, 1, 1), "h": dyadic(rng, 3, 32), "hb": dyadic(rng, 3)}
    tensors |= norm_tensors(rng, "bn", 2)
    nodes = (
        s.Input(name="x", shape=(1, 4, 4)),
        s.Conv2d(name="c", x=Ref("x"), weight=TensorRef("k"), bias=TensorRef("kb"), padding=(1, 1)),
        s.LIF(name="l1", x=Ref("c"), **LIF),
        s.Scale(name="sc", x=Ref("l1"), factor=0.5),
        norm("bn", "sc", 0),
        s.Conv2d(name="c2", x=Ref("bn"), weight=TensorRef("k2"), padding=(1, 1)),
        s.Conv2d(name="c3", x=Ref("c2"), weight=TensorRef("k3"), bias=TensorRef("kb")),
        s.Add(name="sum", a=Ref("c3"), b=Ref("l1")),
        s.LIF(name="l2", x=Ref("sum"), **LIF),
        s.Rearrange(name="flat", x=Ref("l2"), shape=(32,), sizes=(32,), strides=(1,)),
        s.Linear(name="head", x=Ref("flat"), weight=TensorRef("h"), bias=TensorRef("hb")),
        s.TimeMean(name="mean", x=Ref("head")),
        s.Output(name="out", x=Ref("mean")),
    )
    return s.SpikingGraph("convolutions", "imported", nodes, tensors)


def soft_resets() -> s.SpikingGraph:
    """Neurons whose membrane is a loop on the chip, and an OR over their sum."""
    rng = np.random.default_rng(2)
    tensors = {"k": dyadic(rng, 2, 1, 3, 3), "kb": dyadic(rng, 2), "h": dyadic(rng, 3, 16)}
    soft = {**LIF, "soft_reset": True}
    nodes = (
        s.Input(name="x", shape=(1, 4, 4)),
        s.Conv2d(name="c", x=Ref("x"), weight=TensorRef("k"), bias=TensorRef("kb"), padding=(1, 1)),
        s.LIF(name="l1", x=Ref("c"), **soft),
        s.Sum(name="any", x=Ref("l1"), axes=(0,), keepdims=True),
        s.LIF(name="mask", x=Ref("any"), **{**LIF, "v_threshold": 0.5}),
        s.Rearrange(name="flat", x=Ref("mask"), shape=(16,), sizes=(16,), strides=(1,)),
        s.Linear(name="head", x=Ref("flat"), weight=TensorRef("h")),
        s.TimeMean(name="mean", x=Ref("head")),
        s.Output(name="out", x=Ref("mean")),
    )
    return s.SpikingGraph("soft_resets", "imported", nodes, tensors)


GRAPHS = (attention, convolutions, soft_resets)


@dataclass(frozen=True)
class Experiment:
    """One graph, its meaning, and the passes that compile it."""

    graph: s.SpikingGraph
    x: np.ndarray
    passes: tuple[Pass[Any, Any], ...]
    want: np.ndarray
    """Logits of the graph itself."""

    @classmethod
    def of(cls, graph: s.SpikingGraph, x: np.ndarray, steps: int = T) -> Experiment:
        passes = (
            *canonical_passes(ComposeConvolutions("merge")),
            Quantize(steps, calibrate_on(graph, x, steps)),
            Lower(steps),
            Schedule(62, True),
            NarrowWeights(4),
        )
        name = graph.output.name
        return cls(graph, x, passes, evaluate(graph, x, steps, [name])[name])

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(one.name for one in self.passes)

    def variants(self) -> Iterator[tuple[str, tuple[Pass[Any, Any], ...]]]:
        """Every pass left out, every pair swapped, every pass at every other place."""
        n = len(self.passes)
        for i in range(n):
            yield f"without {self.names[i]}", self.passes[:i] + self.passes[i + 1 :]
        for i in range(n):
            rest = self.passes[:i] + self.passes[i + 1 :]
            for j in range(n):
                if j != i:
                    yield f"{self.names[i]} at {j}", (*rest[:j], self.passes[i], *rest[j:])
        for i in range(n):
            for j in range(i + 2, n):  # neighbours are moves
                order = list(self.passes)
                order[i], order[j] = order[j], order[i]
                yield f"{self.names[i]} with {self.names[j]}", tuple(order)

    def verdict(self, order: Sequence[Pass[Any, Any]]) -> str:
        """What becomes of the graph in this order."""
        graph: Any = self.graph
        floating = quantized = graph
        try:
            for one in order:
                graph = one(graph)
                if isinstance(graph, s.SpikingGraph):
                    floating, quantized = (
                        (floating, graph) if graph.stage == "quantized" else (graph, graph)
                    )
        except NeurocompileError as error:
            return f"refused: {error.code}"
        except Exception as error:
            return f"crash: {type(error).__name__}: {error}"
        return self._compared(floating, quantized, graph)

    def _compared(self, floating: s.SpikingGraph, quantized: s.SpikingGraph, made: Any) -> str:
        """Float graphs against the graph's own logits, the circuit against its integer graph."""
        steps = next(one.steps for one in self.passes if isinstance(one, Lower))
        output = floating.output.name
        if not np.allclose(
            evaluate(floating, self.x, steps, [output])[output], self.want, rtol=1e-4, atol=1e-5
        ):
            return "silently wrong: float"
        if not isinstance(made, CircuitGraph) or not made.period:
            return "refused: nothing to map"  # the mapper takes scheduled circuits alone
        x = encode_input(quantized.input, self.x)
        want = evaluate(quantized, x, steps, [quantized.output.name])[quantized.output.name]
        with Emulator().open(made) as executor:
            got = decode(made, executor.run(encode(made, self.x)))
        return "same" if np.allclose(got, want) else "silently wrong: circuit"


def small(make: Any) -> Experiment:
    """The experiment of one of :data:`GRAPHS`."""
    x = (np.random.default_rng(0).integers(-8, 17, (6, 1, 4, 4)) / 8).astype(np.float32)
    return Experiment.of(make(), x)
