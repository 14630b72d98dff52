"""A model in the compiler's canonical form, as a torch module to be trained further: batch
normalization folded, a parameter for each weight and bias, each behind its fake quantizer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from neurocompile.arrays import ArrayLike
from neurocompile.build_steps import canonical_graph, located, statistics_of
from neurocompile.errors import NeurocompileError, not_importable
from neurocompile.frontends.door import open_model
from neurocompile.gpu.devices import check_device
from neurocompile.guard import guarded
from neurocompile.ir import spiking as s
from neurocompile.ir.tables import KindTable
from neurocompile.ir.text import TensorRef
from neurocompile.options import BuildOptions, GivenOptions, takes_options
from neurocompile.passes.quantize import Quantize
from neurocompile.qat.steps import grids
from neurocompile.targets import load_target
from neurocompile.targets.fields import LOIHI2, ChipFields

try:
    import torch
    from spikingjelly.activation_based import functional, neuron, surrogate
    from torch import nn
except ImportError as error:
    raise not_importable("fine-tuning a model", error, "torch") from error

from neurocompile.qat.grid import FakeQuantizer  # noqa: E402
from neurocompile.qat.operators import OPERATORS  # noqa: E402

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from neurocompile.calibration import Calibration

__all__ = ["TrainableModel", "prepare"]


class TrainableModel(nn.Module):
    """Images (B, *input shape) float32 to logits (B, classes), over T steps.

    Parameters are the canonical graph's tensors; neurons are SpikingJelly's, reset at every call.
    In training mode weights pass their fake quantizers and the input is rounded to its grid. In
    eval mode ``forward`` computes with the rounded weights, which are plain buffers then: such a
    module exports and compiles like any other.

    Args:
        graph: stage canonical.
        statistics: of calibration data; they decide the steps of the grids.
        bits: of the weights, 2 to 8.
        T: steps.
        unit: of the input's grid.
        fields: of the chip.
    """

    def __init__(
        self,
        graph: s.SpikingGraph,
        statistics: Calibration,
        bits: int,
        T: int,
        unit: float,
        fields: ChipFields = LOIHI2,
    ) -> None:
        super().__init__()
        _check(graph)
        self.graph, self.statistics, self.bits, self.T, self.unit = graph, statistics, bits, T, unit
        self.fields = fields
        self.rounding = True
        """False trains, and computes, with weights as they are."""
        names = [str(name) for name in graph.tensors]
        self.slots = {name: f"p{i}" for i, name in enumerate(names)}
        self.values = nn.ParameterDict(
            {
                self.slots[n]: nn.Parameter(torch.tensor(np.asarray(graph.tensors[n], np.float32)))
                for n in names
            }
        )
        self.quantizers = nn.ModuleDict(
            {
                self.slots[grid.tensor]: FakeQuantizer(grid.step, grid.levels)
                for grid in grids(graph, statistics, bits, unit, fields)
            }
        )
        self.biased = dict(_biased(graph))
        self.neurons = {n.name: _placed(self, n) for n in graph.nodes if _spikes(n)}
        self._fixed: dict[str, torch.Tensor] = {}

    # ---- tensors -------------------------------------------------------------------------------

    def tensor(self, name: str) -> torch.Tensor:
        """A weight or bias, on its grid unless ``rounding`` is off."""
        slot = self.slots[str(name)]
        if slot in self._fixed:
            return self._fixed[slot]
        value = self.values[slot]
        return self.quantizers[slot](value) if self.rounding and slot in self.quantizers else value

    def on_grid(self) -> dict[str, np.ndarray]:
        """All tensors by their names in the canonical graph, float32, as the compiler gets them."""
        with torch.no_grad():
            return {name: self.tensor(name).detach().cpu().numpy().copy() for name in self.slots}

    def trained_graph(self) -> s.SpikingGraph:
        """The canonical graph with the tensors of now."""
        return self.graph.replace(tensors=self.on_grid())

    # ---- computing -----------------------------------------------------------------------------

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        functional.reset_net(self)
        exporting = torch.compiler.is_exporting()
        values: dict[str, torch.Tensor] = {}
        left = {n.name: len(self.graph.users[n.name]) for n in self.graph.nodes}
        for node in self.graph.nodes:
            inputs = [values[i] for i in node.inputs]
            if isinstance(node, s.Output):
                return self._output(node, inputs[0])
            values[node.name] = self._value(node, inputs, x, exporting)
            for i in node.inputs:
                left[i] -= 1
                if not left[i]:
                    del values[i]
        raise AssertionError("a canonical graph has an output")

    def _value(
        self, node: s.Node, inputs: list[torch.Tensor], x: torch.Tensor, exporting: bool
    ) -> torch.Tensor:
        if isinstance(node, s.Input):
            # a file repeats its input, which importers know; training computes a constant once
            x = x if exporting else self._rounded_input(x)
            return x.unsqueeze(0).repeat(self.T, *[1] * x.ndim) if exporting else x.unsqueeze(0)
        if isinstance(node, (s.LIF, s.Or)):
            return self._spikes(node, inputs[0])
        tensors = [self.tensor(t) for t in node.tensors]
        if (reader := self.biased.get(node.name)) is not None:
            assert reader.bias is not None
            bias = self.tensor(reader.bias).reshape(-1)
            tensors.append(bias / reader.gain if isinstance(reader, s.LIF) else bias)
        return OPERATORS.of(node)(node, inputs, tensors)

    def _rounded_input(self, x: torch.Tensor) -> torch.Tensor:
        found = self.statistics.input
        if not self.rounding:
            return x
        return torch.round(x / self.unit).clamp(
            round(found.min / self.unit), round(found.max / self.unit)
        ) * x.new_tensor(self.unit)

    def _spikes(self, node: s.LIF | s.Or, x: torch.Tensor) -> torch.Tensor:
        if isinstance(node, s.LIF):
            factor, tau = _factor(node)
            x = x if factor == 1.0 else x * factor
            if node.bias is not None and node not in self.biased.values():
                x = x + self.tensor(node.bias) * tau
        x = x.expand(self.T, *x.shape[1:]) if x.shape[0] == 1 != self.T else x
        return self.get_submodule(self.neurons[node.name])(x)

    def _output(self, node: s.Output, x: torch.Tensor) -> torch.Tensor:
        x = x.mean(0)
        if node.bias is not None and node not in self.biased.values():
            x = x + self.tensor(node.bias)
        x = x if node.unit == 1.0 else x * node.unit
        return x if node.shape is None else x.reshape(-1, *node.shape)

    def train(self, mode: bool = True) -> TrainableModel:
        """In eval mode the rounded tensors are fixed, so that a trace sees values and no rounding."""
        self._fixed = {}
        super().train(mode)
        if not mode:
            with torch.no_grad():
                self._fixed = {slot: self.tensor(n).clone() for n, slot in self.slots.items()}
        return self

    def _apply(self, fn: Any, recurse: bool = True) -> TrainableModel:
        super()._apply(fn, recurse)
        return self.train(self.training)


def _spikes(node: s.Node) -> bool:
    return isinstance(node, (s.LIF, s.Or))


def _factor(node: s.LIF) -> tuple[float, float]:
    """(of the input, of the bias), for a neuron that divides both by tau, as most models' do."""
    tau = 1.0 if np.isinf(node.tau) else float(node.tau)
    return node.gain * tau, tau


def _biased(graph: s.SpikingGraph) -> Iterator[tuple[str, s.LIF | s.Output]]:
    """Layers that can add the bias of what alone reads them, a neuron or the output, directly or
    through maxima or the mean over time, as the layers of a file do.
    """
    for layer in graph.nodes:
        if not isinstance(layer, (s.Conv2d, s.Linear)) or layer.bias is not None:
            continue
        node: s.Node = layer
        while len(graph.users[node.name]) == 1:
            (node,) = graph.users[node.name]
            if not isinstance(node, (s.MaxPool2d, s.TimeMean)):
                break
        if isinstance(node, (s.LIF, s.Output)) and node.bias is not None:
            shape = graph.tensors[node.bias].shape
            axis = len(shape) - 1 if isinstance(layer, s.Linear) else len(shape) - 3
            channels = graph.tensors[layer.weight].shape[0]
            if axis >= 0 and shape == tuple(
                channels if i == axis else 1 for i in range(len(shape))
            ):
                yield layer.name, node


def _placed(model: nn.Module, node: s.Node) -> str:
    """Register the node's neuron under the node's own path, by which an exported file will call it,
    or a free one near it; the path.
    """
    *folders, name = (part or "_" for part in str(node.name).split("."))
    parent, path = model, []
    for folder in [*folders, None]:
        wanted = name if folder is None else folder
        while hasattr(parent, wanted) and (
            folder is None or type(getattr(parent, wanted)) is not nn.Module
        ):
            wanted += "_"
        path.append(wanted)
        if folder is None:
            parent.add_module(wanted, _neuron(node))
        elif not hasattr(parent, wanted):
            parent.add_module(wanted, nn.Module())
        parent = getattr(parent, wanted)
    return ".".join(path)


def _neuron(node: s.Node) -> nn.Module:
    common: dict[str, Any] = dict(
        step_mode="m", detach_reset=True, surrogate_function=surrogate.ATan()
    )
    if isinstance(node, s.Or):  # whole numbers: any input reaches the threshold, and leaves no rest
        return neuron.LIFNode(tau=2.0, v_threshold=0.5, v_reset=0.0, **common)
    assert isinstance(node, s.LIF)
    common |= {"v_threshold": node.v_threshold, "v_reset": None if node.soft_reset else 0.0}
    if np.isinf(float(node.tau)):
        return neuron.IFNode(**common)
    return neuron.LIFNode(tau=float(node.tau), **common)


OBSTACLES: KindTable[Callable[[Any], str]] = KindTable(
    "trained layers", (), "what of it has no gradient"
)
"""node -> what of it cannot be trained, "" for nothing."""
OBSTACLES.add(lambda node: "", *OPERATORS.entries, s.Or, s.Output)
OBSTACLES.add(lambda node: "an input of frames" if node.steps else "", s.Input)


@OBSTACLES.rule(s.LIF)
def _untrained_neuron(node: s.LIF) -> str:
    plain = not (isinstance(node.tau, TensorRef) or node.more or node.current) and node.tau > 1
    if plain and node.subtract in (None, node.v_threshold):
        return ""
    return "a neuron with several thresholds, a synaptic current, a leak for each channel or none"


def _check(graph: s.SpikingGraph) -> None:
    """NC1022 for a node that cannot be trained."""
    for node in graph.nodes:
        rule = OBSTACLES.get(node)
        what = f"a {type(node).__name__}" if rule is None else rule(node)
        if what:
            raise NeurocompileError(
                "NC1022", f"layer '{node.name}' is {what}, which has no gradient here"
            )


@guarded
@takes_options
def prepare(
    model: str | Path | nn.Module,
    example_input: ArrayLike | None = None,
    *,
    bits: int = 4,
    calibration: np.ndarray | str | Path | None = None,
    device: str = "cpu",
    options: BuildOptions | None = None,
    **given: Unpack[GivenOptions],
) -> TrainableModel:
    """``model`` in canonical form, to be trained with rounded weights.

    Args:
        model, example_input, calibration, device, options: as :func:`neurocompile.compile` takes
            them; the module is on the CPU.
        bits: of the weights, 2 to 8.

    Raises:
        NeurocompileError: NC1022 for an operation that has no gradient here; NC2003 (bits);
            whatever importing raises.
    """
    asked = BuildOptions.of(options, {**given, "weight_bits": bits})
    target = load_target(asked.target)
    opened = open_model(model, example_input, asked, calibration=calibration)
    with located(opened):
        canonical = canonical_graph(opened, target)
        statistics = statistics_of(opened, canonical, check_device(device))
        T = opened.options.steps
        fields = ChipFields.of(target)
        quantize = Quantize(T, statistics, bits, most_weights=1 << 14, fields=fields)
        unit = quantize(canonical).input.unit
        return TrainableModel(canonical, statistics, bits, T, unit, fields)
