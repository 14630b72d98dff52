"""A residual of real values whose layers could bring far more than they ever do keeps its levels."""

from __future__ import annotations

from collections import Counter

import numpy as np

from neurocompile.calibration import calibrate_on
from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import encode_input, evaluate
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.passes.canonicalize import canonicalize
from neurocompile.passes.quantize import Quantize

WIDTH, DEPTH = 64, 4


def deep() -> s.SpikingGraph:
    """A real branch of four ReLU layers beside the first one's values, and neurons that read both:
    the branch's proven range grows several times a layer, its values do not.
    """
    rng = np.random.default_rng(0)
    tensors = {"first": rng.normal(0, 0.5, (WIDTH, 8))}
    nodes: list[s.Node] = [
        s.Input(name="x", shape=(8,)),
        s.Linear(name="first", x=Ref("x"), weight=TensorRef("first")),
    ]
    y = Ref("first")
    for k in range(DEPTH):
        tensors[f"w{k}"] = rng.normal(0, np.sqrt(2 / WIDTH), (WIDTH, WIDTH))
        nodes.append(s.Function(name=f"relu{k}", x=y, function="relu"))
        nodes.append(s.Linear(name=f"layer{k}", x=Ref(f"relu{k}"), weight=TensorRef(f"w{k}")))
        y = Ref(f"layer{k}")
    nodes += [
        s.Add(name="both", a=Ref("first"), b=y),
        s.LIF(name="lif", x=Ref("both"), tau=2.0, v_threshold=0.5),
        s.TimeMean(name="mean", x=Ref("lif")),
        s.Output(name="out", x=Ref("mean")),
    ]
    floats = {name: w.astype(np.float32) for name, w in tensors.items()}
    return canonicalize(s.SpikingGraph("deep", "imported", tuple(nodes), floats))


def test_its_layers_keep_the_levels_that_values_need() -> None:
    graph = deep()
    known, x = np.random.default_rng(1).random((2, 100, 8), np.float32)
    quantized = Quantize(2, calibrate_on(graph, known, 2))(graph)
    layers = ["first", *(f"layer{k}" for k in range(DEPTH))]
    given = encode_input(quantized.input, x)
    found = evaluate(quantized, given, 2, [*layers, "lif"])
    meant = evaluate(graph, (given * quantized.input.unit).astype(np.float32), 2, [*layers, "lif"])
    for name in layers:
        near = np.corrcoef(found[name].ravel(), meant[name].ravel())[0, 1]
        assert near > 0.99, (name, near)
    assert (found["lif"] == meant["lif"]).mean() > 0.9
    assert Counter(type(n) for n in quantized.nodes)[s.Clip] == 1  # what the residual's layer reads
