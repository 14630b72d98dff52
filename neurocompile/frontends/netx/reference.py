"""A .net file run as netx's processes on Lava run it, step by step in integers, with nothing of our
graphs: each layer's synapses, then Lava's fixed-point LIF.
"""

from __future__ import annotations

import numpy as np

from neurocompile.frontends.netx.plan import NetxLayer, NetxPlan, Part
from neurocompile.reference.base import ReferenceRun

__all__ = ["NetxReference", "encoded"]

_MOST = 1 << 23


def encoded(plan: NetxPlan, x: np.ndarray) -> np.ndarray:
    """What the host sends, int64: spikes, or what the input's neurons add to their bias."""
    if not plan.weight:
        return np.clip(np.rint(x), 0, 1).astype(np.int64)
    bias = int(plan.layers[0].neuron.bias)
    sent = np.rint(np.asarray(x, np.float64) / (1.0 / plan.weight))
    return np.clip(sent, -4096 - bias, 4095 - bias).astype(np.int64)


class NetxReference:
    """The plan in numpy; a sample is the same in every step, or brings ``frames`` of its own."""

    def __init__(self, plan: NetxPlan, steps: int, frames: bool) -> None:
        self.plan, self.steps, self.frames = plan, steps, frames

    def run(self, x: np.ndarray) -> ReferenceRun:
        """Float32 ``x`` (samples, [steps,] *shape): rates, group means or membranes, and all spikes."""
        plan, steps = self.plan, self.steps
        given = encoded(plan, x)
        if not self.frames:
            given = np.repeat(given[:, None], steps, axis=1)
        spikes: dict[int, np.ndarray] = {-1: given}
        v = np.zeros(0, np.int64)
        for layer in plan.layers:
            spikes[layer.number], v = _layer(layer, spikes, steps)
        last = plan.layers[-1]
        out = spikes[last.number].astype(np.float64)
        if plan.groups:
            logits = out.reshape(len(x), steps, plan.groups, -1).mean(axis=(1, 3))
        elif plan.integrates(steps):
            logits = v.astype(np.float64)
        else:
            logits = out.mean(axis=1)
        layers = plan.layers[:-1] if plan.integrates(steps) else plan.layers
        return ReferenceRun(
            "numpy, integers, as netx runs the file",
            logits,
            {n.name: spikes[n.number].astype(np.uint8) for n in layers},
        )

    def original(self, x: np.ndarray) -> None:
        """Nothing was rewritten."""
        return None


def _layer(
    layer: NetxLayer, spikes: dict[int, np.ndarray], steps: int
) -> tuple[np.ndarray, np.ndarray]:
    """Its spikes (samples, steps, *shape), and its membranes at the end."""
    count, n = len(spikes[-1]), layer.neuron
    sums = np.zeros((count, steps, *layer.shape), np.int64)
    added = np.zeros((count, steps, *layer.shape), np.int64)
    bias = n.bias.reshape(-1, 1, 1) if layer.kind == "conv" and n.bias.ndim else n.bias
    added += bias
    if layer.kind == "input":
        added += spikes[-1]
    for part in layer.parts:
        sums += _arriving(layer, part, spikes[part.source])
    out = np.zeros((count, steps, *layer.shape), np.int64)
    u, v = (np.zeros((count, *layer.shape), np.int64) for _ in range(2))
    for t in range(steps):
        a = sums[:, t]
        if layer.back is not None and t:
            a = a + out[:, t - 1] @ layer.back.T
        u = np.sign(u) * (np.abs(u) * (4096 - n.current) >> 12) + (a << 6)
        u = np.where(u > _MOST, u - 2 * _MOST, np.where(u <= -_MOST, u + 2 * _MOST, u))
        v = np.sign(v) * (np.abs(v) * (4096 - n.leak) >> 12) + u + (added[:, t] << 6)
        v = np.clip(v, 1 - _MOST, _MOST - 1)
        fired = v > n.threshold << 6
        out[:, t] = fired
        v = np.where(fired, 0, v)
    return out, v


def _arriving(layer: NetxLayer, part: Part, spikes: np.ndarray) -> np.ndarray:
    """Sums of one source's synapses, by the step in which they arrive: what Lava takes one step for
    everywhere counts as none.
    """
    if layer.kind == "conv":
        return _windows(layer, part.weight, spikes)
    flat = spikes.reshape(*spikes.shape[:2], -1)
    if part.delay is None:
        return flat @ part.weight.T
    found = np.zeros((*flat.shape[:2], len(part.weight)), np.int64)
    for late in np.unique(part.delay).tolist():
        weight = np.where(part.delay == late, part.weight, 0)
        found[:, late:] += flat[:, : max(flat.shape[1] - late, 0)] @ weight.T
    return found


def _windows(layer: NetxLayer, weight: np.ndarray, x: np.ndarray) -> np.ndarray:
    rows, columns = layer.shape[1:]
    (top, left), (down, right), apart = layer.padding, layer.stride, layer.dilation
    x = np.pad(x, ((0, 0), (0, 0), (0, 0), (top, top), (left, left)))
    found = np.zeros((*x.shape[:2], *layer.shape), np.int64)
    size, each = x.shape[2] // layer.groups, len(weight) // layer.groups
    for i in range(weight.shape[2]):
        for j in range(weight.shape[3]):
            part = x[:, :, :, i * apart[0] :: down, j * apart[1] :: right][..., :rows, :columns]
            for g in range(layer.groups):
                taps = weight[g * each : (g + 1) * each, :, i, j].astype(np.float64)
                mine = part[:, :, g * size : (g + 1) * size].astype(np.float64)
                sums = np.moveaxis(np.tensordot(mine, taps, axes=([2], [1])), -1, 2)
                found[:, :, g * each : (g + 1) * each] += sums.astype(np.int64)
    return found
