"""A plan of a NIR file as an imported graph."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.frontends.nir.plan import Neuron, NirPlan, NirStep, pair_of
from neurocompile.ir.spiking import SpikingGraph

__all__ = ["graph_of", "labels_of"]


def labels_of(plan: NirPlan) -> dict[str, str]:
    """A name in the graph for each node."""
    found: dict[str, str] = {}
    for step in plan.steps:
        label = re.sub(r"\W+", "_", step.name, flags=re.ASCII).strip("_") or "node"
        label = f"n{label}" if label[0].isdigit() else label
        while label in found.values():
            label += "_"
        found[step.name] = label
    return found


def graph_of(
    plan: NirPlan, name: str, steps: int, shape: tuple[int, ...], frames: bool, origin: str
) -> SpikingGraph:
    """The graph, of stage ``imported``.

    Args:
        shape: of the input as the file has it.
        frames: whether samples bring a value for each step.

    Raises:
        NeurocompileError: NC1003 for a neuron whose parameters differ where no layer in front can take them.
    """
    return _Writer(plan, origin).graph(re.sub(r"\W+", "_", name) or "nir", steps, shape, frames)


class _Writer:
    def __init__(self, plan: NirPlan, origin: str) -> None:
        self.plan, self.origin, self.labels = plan, origin, labels_of(plan)
        self.lines: list[str] = []
        self.tensors: dict[str, np.ndarray] = {}
        self.value: dict[str, str] = {}
        """Node -> name of its value in the graph."""
        self.readers: dict[str, int] = {}
        for step in plan.steps:
            for source in step.sources:
                self.readers[source] = self.readers.get(source, 0) + 1
        self.by_name = {step.name: step for step in plan.steps}
        self.scaled = {step.name: self._row_gain(step) for step in plan.steps}
        """Node -> gain of each of its rows, that the neuron behind it asks for."""

    def graph(self, name: str, steps: int, shape: tuple[int, ...], frames: bool) -> SpikingGraph:
        head = f'spiking "{name}" {{stage = "imported", exported_T = {steps}}}'
        more = f", steps = {steps}" if frames else ""
        first, last = self.plan.steps[0], self.plan.steps[-1]
        label = self.labels[first.name]
        self.lines.append(f"%{label} = Input {{shape = {list(shape)}{more}}}")
        self.value[first.name] = label
        if shape != first.shape:
            self.value[first.name] = self._reshaped(label, f"{label}_image", first.shape)
        for step in self.plan.steps[1:-1]:
            self._node(step)
        read = self._sum(last)
        self.lines.append(f"%time_mean = TimeMean {{x = %{read}}}")
        self.lines.append(f"%{self.labels[last.name]} = Output {{x = %time_mean}}")
        return SpikingGraph.parse("\n".join([head, *self.lines, ""]), self.tensors)

    def _add(self, name: str, kind: str, **fields: Any) -> str:
        told = ", ".join(f"{key} = {value}" for key, value in fields.items())
        self.lines.append(f"%{name} = {kind} {{{told}}}")
        return name

    def _tensor(self, name: str, values: np.ndarray) -> str:
        self.tensors[name] = np.ascontiguousarray(values, np.float32)
        return f"@{name}"

    def _reshaped(self, value: str, name: str, shape: tuple[int, ...]) -> str:
        size = int(np.prod(shape))
        return self._add(
            name, "Rearrange", x=f"%{value}", shape=list(shape), sizes=[size], strides=[1]
        )

    def _sum(self, step: NirStep) -> str:
        """The sum of what a node reads."""
        label = self.labels[step.name]
        values = [self.value[s] for s in step.sources]
        for i, source in enumerate(step.fed_back):
            shape = self.by_name[source].shape
            values.append(
                self._add(
                    f"{label}_back{i}", "Previous", of=f'"{self.labels[source]}"', shape=list(shape)
                )
            )
        found = values[0]
        for i, other in enumerate(values[1:]):
            found = self._add(f"{label}_sum{i}", "Add", a=f"%{found}", b=f"%{other}")
        return found

    def _node(self, step: NirStep) -> None:
        kind, label = step.node.kind, self.labels[step.name]
        x = self._sum(step)
        if step.neuron is not None:
            found = self._neuron(step, step.neuron, x, label)
        elif kind in ("Affine", "Linear", "Conv1d", "Conv2d"):
            found = self._linear(step, x, label)
        elif kind in ("SumPool2d", "AvgPool2d"):
            found = self._pool(step, x, label)
        elif kind == "Flatten":
            found = self._reshaped(x, label, step.shape)
        elif kind == "Scale":
            factor = self._one(step, step.node.fields["scale"], "scale")
            found = self._scale(x, factor, label)
        elif kind == "Delay":
            found = x
            for i in range(step.delay):
                found = self._add(f"{label}_{i}", "Delay", x=f"%{found}")
        else:  # ends of a subgraph
            found = x
        self.value[step.name] = found

    def _linear(self, step: NirStep, x: str, label: str) -> str:
        kind, f, gain = step.node.kind, step.node.fields, self.scaled[step.name]
        weight = f["weight"][:, :, None] if kind == "Conv1d" else f["weight"]
        bias = f.get("bias")
        if gain is not None:
            weight = weight * gain.reshape(-1, *[1] * (weight.ndim - 1))
            bias = None if bias is None else bias.reshape(-1) * gain
        fields: dict[str, Any] = {"x": f"%{x}", "weight": self._tensor(f"{label}.weight", weight)}
        if bias is not None and np.any(bias):
            fields["bias"] = self._tensor(f"{label}.bias", bias.reshape(-1))
        if kind in ("Affine", "Linear"):
            return self._add(label, "Linear", **fields)
        for field in ("stride", "padding", "dilation"):
            fields[field] = list(pair_of(step, field))
        return self._add(label, "Conv2d", **fields, groups=int(f["groups"].reshape(-1)[0]))

    def _pool(self, step: NirStep, x: str, label: str) -> str:
        kernel = pair_of(step, "kernel_size")
        fields = {field: list(pair_of(step, field)) for field in ("stride", "padding")}
        summed = step.node.kind == "SumPool2d"
        name = label if summed else f"{label}_sum"
        found = self._add(name, "SumPool2d", x=f"%{x}", kernel=list(kernel), **fields)
        return found if summed else self._scale(found, 1.0 / (kernel[0] * kernel[1]), label)

    def _scale(self, value: str, factor: float, name: str) -> str:
        return self._add(name, "Scale", x=f"%{value}", factor=repr(float(factor)))

    def _one(self, step: NirStep, values: np.ndarray, what: str) -> float:
        found = np.unique(values)
        if found.size != 1:
            raise NeurocompileError(
                "NC1003",
                f"node '{step.name}' ({step.node.kind}) of {self.origin} has {found.size:,} different values of {what}, "
                f"{found[0]:g} to {found[-1]:g}; one for the layer is read",
            )
        return float(found[0])

    def _row_gain(self, step: NirStep) -> np.ndarray | None:
        """What the only reader of a linear layer asks of its rows, float64 (rows): a neuron's gain over its
        threshold, where these differ from neuron to neuron.
        """
        if step.node.kind not in ("Affine", "Linear", "Conv1d", "Conv2d"):
            return None
        readers = [s for s in self.plan.steps if step.name in s.sources]
        if len(readers) != 1 or readers[0].neuron is None:
            return None
        wanted = _gains(readers[0].neuron, readers[0].shape)
        if wanted is None:
            return None
        if step.node.kind in ("Affine", "Linear"):
            return wanted.reshape(-1) if len(step.shape) == 1 else None
        rows = wanted.reshape(step.shape[0], -1)
        return rows[:, 0] if np.all(rows == rows[:, :1]) else None

    def _neuron(self, step: NirStep, n: Neuron, x: str, label: str) -> str:
        wanted = _gains(n, step.shape)
        if wanted is not None:  # every layer in front has taken it, so that neurons are alike
            if any(self.scaled[s] is None for s in step.sources):
                raise NeurocompileError(
                    "NC1003",
                    f"neurons of node '{step.name}' of {self.origin} differ in threshold or resistance, and a layer in front "
                    "cannot take that: it has other readers, or is no Linear, Affine or Conv with a value a row",
                )
            unit = np.ones(()) if n.threshold is None else n.threshold
            n = replace(
                n,
                gain=np.ones(()),
                bias=n.bias / unit,
                threshold=None if n.threshold is None else np.ones(()),
                subtract=None if n.subtract is None else n.subtract / unit,
            )
        keep, gain = n.keep, self._one(step, n.gain, "gain")
        current = self._one(step, n.current, "current")
        if current and (n.threshold is None or n.subtract is not None or np.any(n.bias != 0)):
            x = self._add(f"{label}_current", "Integrator", x=f"%{x}", decay=repr(current))
            current = 0.0
        if n.threshold is None:
            if gain != 1.0:
                x = self._scale(x, gain, f"{label}_gain")
            if np.any(n.bias != 0):
                raise NeurocompileError(
                    "NC1003", f"membrane '{step.name}' has a v_leak that is not 0"
                )
            return self._add(
                label, "Integrator", x=f"%{x}", decay=repr(self._one(step, keep, "tau"))
            )
        threshold = self._one(step, n.threshold, "threshold")
        fields: dict[str, Any] = {"x": f"%{x}"}
        if np.unique(keep).size == 1:
            kept = float(np.unique(keep)[0])
            fields["tau"] = "inf" if kept == 1.0 else repr(1.0 / (1.0 - kept))
        else:
            with np.errstate(divide="ignore"):
                fields["tau"] = self._tensor(f"{label}.tau", 1.0 / (1.0 - keep))
        # a spike needs more than the threshold here, and as much as it there
        fields |= {
            "v_threshold": repr(float(np.nextafter(np.float32(threshold), np.float32(np.inf)))),
            "decay_input": "false",
            "gain": repr(gain),
        }
        if n.subtract is not None:
            fields |= {"soft_reset": "true", "subtract": repr(self._one(step, n.subtract, "reset"))}
        if np.any(n.bias != 0):
            fields["bias"] = self._tensor(f"{label}.bias", np.broadcast_to(n.bias, step.shape))
        if current:
            fields["current"] = repr(current)
        return self._add(label, "LIF", **fields)


def _gains(n: Neuron, shape: tuple[int, ...]) -> np.ndarray | None:
    """Gain over threshold of each neuron where one number does not say it, float64 of the shape."""
    unit = np.ones(()) if n.threshold is None else n.threshold
    if np.unique(n.gain).size == 1 and np.unique(unit).size == 1:
        return None
    return np.broadcast_to(n.gain / unit, shape)
