"""A plan of a .net file as a graph of stage ``quantized``: its integers are the chip's already."""

from __future__ import annotations

import re

import numpy as np

from neurocompile.frontends.netx.plan import ALL, NetxLayer, NetxPlan, Part
from neurocompile.ir import spiking as s
from neurocompile.ir.spiking_rules import check_spiking
from neurocompile.ir.text import Ref, TensorRef

__all__ = ["graph_of"]

_BIAS_EXPONENT = 6
"""Of every bias: netx gives Lava's LIF no other."""
_UNIT = 64
"""Of a membrane: units in 1 of its input."""


def graph_of(plan: NetxPlan, name: str, steps: int, frames: bool) -> s.SpikingGraph:
    """The graph. Its output is the rate of the last layer's spikes, or the means of an average's
    groups, or, of neurons that cannot fire and keep all, their membranes behind ``steps`` steps, as
    Lava's variable ``v`` has them.

    Args:
        frames: whether samples bring a value for each step.
    """
    return _Writer(plan, steps).graph(re.sub(r"\W+", "_", name) or "netx", frames)


class _Writer:
    def __init__(self, plan: NetxPlan, steps: int) -> None:
        self.plan, self.steps = plan, steps
        self.nodes: list[s.Node] = []
        self.tensors: dict[str, np.ndarray] = {}
        self.value: dict[int, str] = {-1: "input"}
        self.flat: dict[tuple[int, int], str] = {}
        """(source, steps late) -> its flattened value."""

    def graph(self, name: str, frames: bool) -> s.SpikingGraph:
        plan, steps = self.plan, self.steps
        unit, low, high = 1.0, 0, 1
        if plan.weight:
            bias = int(plan.layers[0].neuron.bias)
            unit, low, high = 1.0 / plan.weight, -4096 - bias, 4095 - bias
        self.nodes.append(
            s.Input(
                name="input",
                shape=plan.shape,
                unit=unit,
                low=low,
                high=high,
                steps=steps if frames else 0,
            )
        )
        integrates = plan.integrates(steps)
        for layer in plan.layers[: len(plan.layers) - integrates]:
            self.value[layer.number] = self._neurons(layer)
        self._output(integrates)
        graph = s.SpikingGraph(name, "quantized", tuple(self.nodes), self.tensors, exported_T=steps)
        check_spiking(graph, "netx")
        return graph

    def _output(self, integrates: bool) -> None:
        plan, last, bias = self.plan, self.plan.layers[-1], None
        read, unit = self.value.get(last.number, ""), 1.0
        if plan.groups:
            size = int(np.prod(last.shape))
            each = size // plan.groups
            sums = np.kron(np.eye(plan.groups, dtype=np.int64), np.ones((1, each), np.int64))
            read = self._sum("average", [self._linear("average", self._late(last.number, 0), sums)])
            unit = 1.0 / each
        elif integrates:
            read, unit = self._driven(last), float(_UNIT * self.steps)
            if last.neuron.bias.any():
                bias = self._tensor("output.bias", np.broadcast_to(last.neuron.bias, last.shape))
        self.nodes.append(s.TimeMean(name="time_mean", x=Ref(read)))
        self.nodes.append(s.Output(name="output", x=Ref("time_mean"), unit=unit, bias=bias))

    def _neurons(self, layer: NetxLayer) -> str:
        n, bias = layer.neuron, None
        if n.bias.any():
            shape = (-1, 1, 1) if len(layer.shape) == 3 and n.bias.ndim else n.bias.shape
            stored = n.bias.reshape(shape).astype(np.int16)
            bias = self._tensor(f"{layer.name}.bias", np.atleast_1d(stored))
        self.nodes.append(
            s.IntegerLIF(
                name=layer.name,
                x=Ref(self._driven(layer)),
                vth=n.threshold,
                dv=n.leak,
                bias=bias,
                bias_exp=_BIAS_EXPONENT if bias is not None else 0,
                # what the host gives is a bias to netx, which no current keeps
                current=ALL if layer.kind == "input" else n.current,
            )
        )
        return layer.name

    def _driven(self, layer: NetxLayer) -> str:
        """The sum of all that a layer's synapses bring."""
        if layer.kind == "input":
            return "input"
        found: list[str] = []
        for i, part in enumerate(layer.parts):
            name = f"{layer.name}_in{i}" if len(layer.parts) > 1 else f"{layer.name}_in"
            if layer.kind == "conv":
                found += self._conv(layer, name, part)
                continue
            late = [0] if part.delay is None else np.unique(part.delay).tolist()
            for steps in late:
                weight = part.weight
                if part.delay is not None:
                    weight = np.where(part.delay == steps, weight, 0)
                if weight.any() or len(late) == 1:
                    own = name if part.delay is None else f"{name}_late{steps}"
                    found.append(self._linear(own, self._late(part.source, steps), weight))
        if layer.back is not None:
            back = f"{layer.name}_back"
            self.nodes.append(s.Previous(name=back, of=layer.name, shape=layer.shape))
            found.append(self._linear(f"{back}_in", back, layer.back))
        return self._sum(layer.name, found)

    def _sum(self, name: str, values: list[str]) -> str:
        found = values[0]
        for i, other in enumerate(values[1:]):
            self.nodes.append(s.Add(name=f"{name}_sum{i}", a=Ref(found), b=Ref(other)))
            found = f"{name}_sum{i}"
        return found

    def _late(self, source: int, steps: int) -> str:
        """A value flattened, so many steps late."""
        if (source, steps) in self.flat:
            return self.flat[source, steps]
        if steps:
            name = f"{self.value[source]}_late{steps}"
            self.nodes.append(s.Delay(name=name, x=Ref(self._late(source, steps - 1))))
        else:
            name, shape = self.value[source], self.plan.shape_of(source)
            if len(shape) > 1:
                size = int(np.prod(shape))
                self.nodes.append(
                    s.Rearrange(
                        name=f"{name}_flat", x=Ref(name), shape=(size,), sizes=(size,), strides=(1,)
                    )
                )
                name = f"{name}_flat"
        self.flat[source, steps] = name
        return name

    def _linear(self, name: str, x: str, weight: np.ndarray) -> str:
        found = []
        for own, stored, exponent in self._stored(name, weight):
            self.nodes.append(
                s.Linear(name=own, x=Ref(x), weight=self._tensor(own, stored), exponent=exponent)
            )
            found.append(own)
        return self._sum(f"{name}_both", found)

    def _conv(self, layer: NetxLayer, name: str, part: Part) -> list[str]:
        found = []
        for own, stored, exponent in self._stored(name, part.weight):
            self.nodes.append(
                s.Conv2d(
                    name=own,
                    x=Ref(self.value[part.source]),
                    weight=self._tensor(own, stored),
                    stride=layer.stride,
                    padding=layer.padding,
                    dilation=layer.dilation,
                    groups=layer.groups,
                    exponent=exponent,
                )
            )
            found.append(own)
        return found

    def _stored(self, name: str, weight: np.ndarray) -> list[tuple[str, np.ndarray, int]]:
        """Weights as synapses of mixed signs hold them, even numbers in -256..254: as they are, doubled
        with an exponent of -1, or, odd ones beyond 127, the even part and the ones.
        """
        if not (weight % 2).any():
            return [(name, weight, 0)]
        if -128 <= weight.min() and weight.max() <= 127:
            return [(name, 2 * weight, -1)]
        ones = weight % 2
        return [(name, weight - ones, 0), (f"{name}_ones", 2 * ones, -1)]

    def _tensor(self, name: str, values: np.ndarray) -> TensorRef:
        name = name if "." in name else f"{name}.weight"
        kind = np.int64 if name.startswith("output.") else np.int16
        self.tensors[name] = np.ascontiguousarray(values, kind)
        return TensorRef(name)
