"""A transformer block of real values (LayerNorm, softmax attention, GELU) with a spiking neuron at its end."""

from __future__ import annotations

import numpy as np

from neurocompile.ir import spiking as s
from neurocompile.ir.text import Ref, TensorRef

__all__ = ["vit_block"]


def vit_block(n: int, d: int, heads: int, hidden: int, seed: int = 0) -> s.SpikingGraph:
    """Tokens (d, n, 1), imported; random weights of the size that keeps variances."""
    rng = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray] = {}
    nodes: list[s.Node] = [s.Input(name="x", shape=(d, n, 1))]

    def tensor(name: str, value: np.ndarray) -> TensorRef:
        tensors[name] = value.astype(np.float32)
        return TensorRef(name)

    def add(kind: type[s.Node], name: str, **fields) -> Ref:
        nodes.append(kind(name=name, **fields))
        return Ref(name)

    def conv(name: str, x: str, out: int, inputs: int) -> Ref:
        weight = tensor(f"{name}.w", rng.standard_normal((out, inputs, 1, 1)) / inputs**0.5)
        bias = tensor(f"{name}.b", 0.1 * rng.standard_normal(out))
        return add(s.Conv2d, name, x=Ref(x), weight=weight, bias=bias)

    def norm(name: str, x: str) -> Ref:
        y = add(s.Normalization, name, x=Ref(x), axes=(0,), epsilon=1e-5)
        scale = tensor(f"{name}.scale", 1 + 0.2 * rng.standard_normal(d))
        shift = tensor(f"{name}.shift", 0.1 * rng.standard_normal(d))
        zero, one = tensor(f"{name}.zero", np.zeros(d)), tensor(f"{name}.one", np.ones(d))
        return add(
            s.BatchNorm,
            f"{name}.affine",
            x=y,
            scale=scale,
            shift=shift,
            mean=zero,
            var=one,
            eps=0.0,
        )

    def view(name: str, x: str, shape: tuple[int, ...], sizes, strides) -> Ref:
        return add(s.Rearrange, name, x=Ref(x), shape=shape, sizes=sizes, strides=strides)

    embedded = conv("embed", "x", d, d)
    place = tensor("place", 0.5 * rng.standard_normal((d, n, 1)))
    embedded = add(s.Offset, "placed", x=embedded, offset=place)
    first, each = norm("ln1", embedded), d // heads
    q, k, v = (conv(name, first, d, d) for name in "qkv")
    rows = ((heads, n, each), (heads, n, each), (each * n, 1, n))
    columns = ((heads, each, n), (heads, each, n), (each * n, n, 1))
    q, k, v = view("q.rows", q, *rows), view("k.columns", k, *columns), view("v.rows", v, *rows)
    scores = add(s.MatMul, "scores", a=q, b=k)
    scaled = add(s.Scale, "scaled", x=scores, factor=each**-0.5)
    softmax = add(s.StepSoftmax, "softmax", x=scaled)
    mixed = add(s.MatMul, "mixed", a=softmax, b=v)
    joined = view("joined", mixed, (d, n, 1), (heads, each, n), (n * each, 1, each))
    middle = add(s.Add, "middle", a=embedded, b=conv("proj", joined, d, d))
    wide = add(s.Function, "gelu", x=conv("fc1", norm("ln2", middle), hidden, d), function="gelu")
    last = add(s.Add, "last", a=middle, b=conv("fc2", wide, d, hidden))
    out = conv("out", norm("ln3", last), d, d)
    spikes = add(s.LIF, "lif", x=out, tau=2.0, v_threshold=1.0)
    flat = view("flat", spikes, (d * n,), (d * n,), (1,))
    mean = add(s.TimeMean, "mean", x=flat)
    head = tensor("head.w", rng.standard_normal((10, d * n)) / (d * n) ** 0.5)
    logits = add(s.Linear, "head", x=mean, weight=head)
    add(s.Output, "logits", x=logits)
    return s.SpikingGraph("vit_block", "imported", tuple(nodes), tensors)
