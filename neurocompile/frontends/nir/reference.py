"""A NIR file run as it is written, step by step in float32, with nothing of our graphs."""

from __future__ import annotations

from collections import deque

import numpy as np

from neurocompile.frontends.nir.graph import labels_of
from neurocompile.frontends.nir.plan import NirPlan, NirStep, pair_of
from neurocompile.reference.base import ReferenceRun

__all__ = ["NirReference"]


class NirReference:
    """The plan in numpy; a sample is the same in every step, or brings ``frames`` of its own."""

    def __init__(self, plan: NirPlan, steps: int, frames: bool) -> None:
        self.plan, self.steps, self.frames = plan, steps, frames

    def run(self, x: np.ndarray) -> ReferenceRun:
        """Float32 ``x`` (samples, [steps,] *shape): the mean of what Output reads, and all spikes."""
        plan, batch = self.plan, len(x)
        values: dict[str, np.ndarray] = {}
        state: dict[str, list[np.ndarray]] = {}
        late: dict[str, deque[np.ndarray]] = {}
        sent: dict[str, np.ndarray] = {}
        layers: dict[str, list[np.ndarray]] = {
            s.name: []
            for s in plan.steps
            if s.neuron is not None and s.neuron.threshold is not None
        }
        total = np.zeros((batch, *plan.steps[-1].shape), np.float32)
        for step in plan.steps:
            zero = np.zeros((batch, *step.shape), np.float32)
            sent[step.name] = zero
            state[step.name] = [zero, zero]
            late[step.name] = deque([zero] * step.delay)
        for t in range(self.steps):
            for step in plan.steps:
                if step.node.kind == "Input":
                    given = x[:, t] if self.frames else x
                    values[step.name] = given.reshape(batch, *step.shape).astype(np.float32)
                    continue
                read = sum(values[s] for s in step.sources) + sum(sent[s] for s in step.fed_back)
                values[step.name] = _value(step, np.asarray(read), state, late)
            for name, kept in layers.items():
                sent[name] = values[name]
                kept.append(values[name].astype(np.uint8))
            total += values[plan.steps[-1].name]
        labels = labels_of(plan)
        return ReferenceRun(
            "numpy, float32, as the file is written",
            total / np.float32(self.steps),
            {labels[name]: np.stack(kept, axis=1) for name, kept in layers.items()},
        )

    def original(self, x: np.ndarray) -> None:
        """Nothing was rewritten."""
        return None


def _value(
    step: NirStep,
    x: np.ndarray,
    state: dict[str, list[np.ndarray]],
    late: dict[str, deque[np.ndarray]],
) -> np.ndarray:
    kind, f = step.node.kind, step.node.fields
    if step.neuron is not None:
        return _neuron(step, x, state[step.name])
    if kind in ("Affine", "Linear"):
        found = x @ f["weight"].T.astype(np.float32)
        return found + f["bias"].astype(np.float32) if "bias" in f else found
    if kind in ("Conv1d", "Conv2d", "SumPool2d", "AvgPool2d"):
        return _windows(step, x)
    if kind == "Scale":
        return x * f["scale"].astype(np.float32)
    if kind == "Delay" and step.delay:
        late[step.name].append(x)
        return late[step.name].popleft()
    return x.reshape(len(x), *step.shape)


def _neuron(step: NirStep, x: np.ndarray, state: list[np.ndarray]) -> np.ndarray:
    n = step.neuron
    assert n is not None

    def real(value: np.ndarray) -> np.ndarray:
        return value.astype(np.float32)

    before, v = state
    current = real(n.current) * before + x
    h = real(n.keep) * v + real(n.gain) * current + real(n.bias)
    state[0] = current
    if n.threshold is None:
        state[1] = h
        return h
    fired = (h > real(n.threshold)).astype(np.float32)
    state[1] = h * (1 - fired) if n.subtract is None else h - fired * real(n.subtract)
    return fired


def _windows(step: NirStep, x: np.ndarray) -> np.ndarray:
    stride, padding = (pair_of(step, name) for name in ("stride", "padding"))
    x = np.pad(x, ((0, 0), (0, 0), *((p, p) for p in padding)))
    f, kind = step.node.fields, step.node.kind
    rows, columns = step.shape[1:]
    if kind in ("SumPool2d", "AvgPool2d"):
        kernel, dilation = pair_of(step, "kernel_size"), (1, 1)
    else:
        weight = f["weight"].astype(np.float32)
        weight = weight[:, :, None] if weight.ndim == 3 else weight
        kernel = (int(weight.shape[2]), int(weight.shape[3]))
        dilation = pair_of(step, "dilation")
    found = np.zeros((len(x), *step.shape), np.float32)
    for i in range(kernel[0]):
        for j in range(kernel[1]):
            top, left = i * dilation[0], j * dilation[1]
            part = x[
                :,
                :,
                top : top + rows * stride[0] : stride[0],
                left : left + columns * stride[1] : stride[1],
            ][:, :, :rows, :columns]
            if kind in ("SumPool2d", "AvgPool2d"):
                found += part
                continue
            groups = int(f["groups"].reshape(-1)[0])
            size, each = part.shape[1] // groups, len(weight) // groups
            for g in range(groups):
                taps = weight[g * each : (g + 1) * each, :, i, j]
                found[:, g * each : (g + 1) * each] += np.einsum(
                    "oc,bchw->bohw", taps, part[:, g * size : (g + 1) * size]
                )
    if kind == "AvgPool2d":
        return found / np.float32(kernel[0] * kernel[1])
    if "bias" in f:
        found += f["bias"].astype(np.float32).reshape(-1, 1, 1)
    return found
