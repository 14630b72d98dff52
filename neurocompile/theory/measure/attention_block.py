"""Softmax attention as the compiler makes it from a model, for measuring: spiking Q, K and V,
softmax(mean Q K^T) mean V.

Nothing here is used to compile a model. The graph is what a front end and ``canonicalize`` leave of
such a layer; it goes through ``quantize`` and ``lower`` like any other.
"""

from __future__ import annotations

import numpy as np

from neurocompile.calibration import calibration_from_weights
from neurocompile.ir import spiking as s
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.ir.evaluate import evaluate
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.parameters import real, whole
from neurocompile.passes.lower import lower
from neurocompile.passes.quantize import Quantize

__all__ = ["attention_block", "compiled_block", "float_attention"]


def attention_block(n: int, d: int, channels: int, gain: float, seed: int) -> s.SpikingGraph:
    """A canonical graph: input (channels, n, 1), Q, K and V of n tokens and d channels from random
    weights and LIF with tau 2 and threshold 1/2, and the attention as output (n, d). Scores are
    ``gain`` Q K^T."""
    (
        whole("n", n),
        whole("d", d),
        whole("channels", channels),
        real("gain", gain),
        whole("seed", seed, 0, 1 << 60),
    )
    rng = np.random.default_rng(seed)
    tensors = {i: rng.normal(0, channels**-0.5, (d, channels, 1, 1)) for i in "qkv"}
    nodes: list[s.Node] = [s.Input(name="x", shape=(channels, n, 1))]
    for i in "qkv":
        shape, strides = ((d, n), (n, 1)) if i == "k" else ((n, d), (1, n))
        nodes += [
            s.Conv2d(name=f"{i}.conv", x=Ref("x"), weight=TensorRef(i)),
            s.LIF(name=f"{i}.lif", x=Ref(f"{i}.conv"), tau=2.0, v_threshold=0.5, decay_input=False),
            s.Rearrange(name=i, x=Ref(f"{i}.lif"), shape=shape, sizes=shape, strides=strides),
        ]
    nodes += [
        s.MatMul(name="scores", a=Ref("q"), b=Ref("k")),
        s.TimeMean(name="mean", x=Ref("scores")),
        s.Softmax(name="softmax", x=Ref("mean"), gain=gain),
        s.TimeMean(name="value", x=Ref("v")),
        s.MatMul(name="attention", a=Ref("softmax"), b=Ref("value")),
        s.TimeMean(name="time", x=Ref("attention")),
        s.Output(name="out", x=Ref("time")),
    ]
    return s.SpikingGraph("attention", "canonical", tuple(nodes), tensors)


def compiled_block(graph: s.SpikingGraph, steps: int) -> tuple[s.SpikingGraph, CircuitGraph]:
    """Quantized and lowered, inputs within -4..4."""
    quantized = Quantize(steps, calibration_from_weights(steps))(graph)
    return quantized, lower(quantized, steps)


def float_attention(
    graph: s.SpikingGraph, quantized: s.SpikingGraph, x: np.ndarray, steps: int
) -> np.ndarray:
    """Softmax attention in float64 on the quantized model's own spikes, (samples, n, d).

    Args:
        graph: of :func:`attention_block`, for its gain.
        x: encoded int32 (samples, channels, n, 1).
    """
    gain = graph.node["softmax"].gain  # type: ignore[attr-defined]
    found = evaluate(quantized, x, steps, ["q", "k", "v"])
    q, k, v = (found[i].astype(np.float64) for i in "qkv")
    scores = gain * (q @ k).mean(axis=1)
    weight = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return weight / weight.sum(axis=-1, keepdims=True) @ v.mean(axis=1)
