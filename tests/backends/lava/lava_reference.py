"""A slow, direct, cycle-accurate reference of CircuitGraph's documented semantics, in int64."""

from __future__ import annotations

import itertools

import numpy as np

from neurocompile.ir.circuit import LIF, CircuitGraph, Conv2d, Dense, GradedRelu, HostInput, Strided


def trunc0(x: np.ndarray) -> np.ndarray:
    return np.sign(x) * (np.abs(x) >> 12)


def apply(graph: CircuitGraph, p, s: np.ndarray) -> np.ndarray:
    """What projection ``p`` delivers (flattened) for source output ``s``."""
    src, dst = graph.population[p.src], graph.population[p.dst]
    a = np.zeros(dst.size, np.int64)
    if isinstance(p, Dense):
        a = graph.tensors[p.weight].astype(np.int64) @ s.ravel()
    elif isinstance(p, Strided):
        flat = s.ravel()
        for i in itertools.product(*map(range, p.sizes)):
            d = p.dst_offset + sum(x * y for x, y in zip(i, p.dst_strides))
            a[d] += p.weight * flat[p.src_offset + sum(x * y for x, y in zip(i, p.src_strides))]
    elif isinstance(p, Conv2d):
        w = graph.tensors[p.weight].astype(np.int64)
        c_out, kh, kw, cg = w.shape
        (ph, pw), (sh, sw), (dh, dw) = p.padding, p.stride, p.dilation
        padded = np.pad(s, ((ph, ph), (pw, pw), (0, 0)))
        out = np.zeros(dst.shape, np.int64)
        for y, x, o in np.ndindex(*dst.shape):
            g = o // (c_out // p.groups)
            patch = padded[
                y * sh : y * sh + dh * (kh - 1) + 1 : dh, x * sw : x * sw + dw * (kw - 1) + 1 : dw
            ]
            out[y, x, o] = (patch[:, :, g * cg : (g + 1) * cg] * w[o]).sum()
        a = out.ravel()
    assert src.size == s.size
    return a << p.weight_exp


def run(graph: CircuitGraph, x: np.ndarray) -> dict[str, np.ndarray]:
    """Aligned trace of every population."""
    order = list(graph.topological())
    total = graph.depth + (len(x) - 1) * graph.period + graph.steps
    history = {p.name: np.zeros((total, *p.shape), np.int64) for p in order}
    state = {p.name: [np.zeros(p.size, np.int64), np.zeros(p.size, np.int64)] for p in order}
    for g in range(total):
        for p in order:
            k, t = divmod(g - p.depth, graph.period)
            if isinstance(p, HostInput):
                if 0 <= k < len(x) and t < graph.steps:
                    history[p.name][g] = x[k]
                continue
            a = np.zeros(p.size, np.int64)
            for c in graph.incoming[p.name]:
                if g >= c.delay:
                    a += apply(graph, c, history[c.src][g - c.delay])
            if isinstance(p, LIF):
                u, v = state[p.name]
                if p.reset and t == 0:
                    u, v = u * 0, v * 0
                bias = (
                    0
                    if p.bias is None
                    else np.broadcast_to(graph.tensors[p.bias], p.shape).ravel().astype(np.int64)
                )
                u = trunc0(u * (4096 - (p.du + 1))) + (a << 6)
                assert (np.abs(u) < 2**23).all(), (
                    f"'{p.name}' leaves the range in which Lava's u is exact"
                )
                v = np.clip(
                    trunc0(v * (4096 - p.dv)) + u + (bias << p.bias_exp), -(2**23 - 1), 2**23 - 1
                )
                a = v > (p.vth << 6)
                state[p.name] = [u, np.where(a, 0, v)]
            elif isinstance(p, GradedRelu):
                a = np.maximum(a, 0)
            history[p.name][g] = a.reshape(p.shape)
    return {
        p.name: np.stack(
            [history[p.name][p.depth + k * graph.period :][: graph.steps] for k in range(len(x))]
        )
        for p in order
    }
