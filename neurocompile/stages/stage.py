"""What all stages share: a graph, its text, what it costs, and values of its own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import msgspec
import numpy as np

from neurocompile.data import check_inputs
from neurocompile.dumps import Graph, write_graph
from neurocompile.energy.ann import ann_macs
from neurocompile.files import as_path
from neurocompile.frontends.model import FloatModel
from neurocompile.guard import guarded
from neurocompile.ir import spiking as s
from neurocompile.ir.analysis import shapes
from neurocompile.ir.circuit import CircuitGraph, HostInput, synapse_count
from neurocompile.ir.evaluate import encode_input, evaluate, step_outputs, step_source
from neurocompile.mapping.resources import CostCounter
from neurocompile.progress import Stages
from neurocompile.stage_cache import OFF, StageCache
from neurocompile.targets.schema import Target

__all__ = ["Costs", "Stage"]


class Costs(msgspec.Struct, frozen=True):
    """What a stage's graph takes: counts by name."""

    model: str
    stage: str
    figures: dict[str, int | float | str]

    def __repr__(self) -> str:
        lines = [f"{self.model}, {self.stage}"]
        for name, value in self.figures.items():
            shown = f"{value:,}" if isinstance(value, (int, float)) else value
            lines.append(f"  {name:<24} {shown}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        from neurocompile.notebook import html_table

        return html_table(f"{self.model}, {self.stage}", ("", ""), self.figures.items())


@dataclass(frozen=True)
class Stage:
    """What all stages share."""

    name: ClassVar[str]
    number: ClassVar[int]

    model: FloatModel
    """What was opened, with its options."""
    target: Target
    timer: Stages = field(repr=False)
    cache: StageCache = field(default=OFF, kw_only=True, repr=False)
    """Where it is kept when it is done."""

    @property
    def graph(self) -> Graph:
        """The stage's graph; its ``tensors`` hold the numbers."""
        raise NotImplementedError

    def text(self) -> str:
        """The graph's text form (tensors by dtype and shape only)."""
        return self.graph.text()

    @guarded
    def costs(self) -> Costs:
        """What the graph takes, counted."""
        figures = dict(_figures(self.graph, self.target))
        return Costs(self.graph.name, self.name, figures)

    @guarded
    def dump(self, folder: str | Path) -> Path:
        """Write text and tensors to ``folder`` as ``N-STAGE.txt`` and ``.safetensors``, which
        ``neurocompile opt`` reads; the path of the text. NC5005 for what cannot be written.
        """
        path = as_path(folder, "NC5005")
        return write_graph(self.graph, path, f"{self.number}-{self.name}")

    @guarded
    def logits(self, x: np.ndarray) -> np.ndarray:
        """What the model returns for float32 ``x`` (samples, *input shape), its first output where
        there are several: float64 (samples, ...).
        """
        graph, host = self._spiking(), self.model.host
        stepwise = host is not None and host.stepwise
        name = step_source(graph) if stepwise else graph.output.name
        cut = evaluate(graph, self._input(x), self.steps, [name])[name]
        return self._returned(step_outputs(graph, cut) if stepwise else cut)

    @guarded
    def spikes(self, x: np.ndarray) -> dict[str, np.ndarray]:
        """Spikes of every layer, (samples, steps, *shape), by its name."""
        graph = self._spiking()
        names = [n.name for n in graph.spiking_layers]
        return evaluate(graph, self._input(x), self.steps, names)

    @property
    def steps(self) -> int:
        """Of a sample, T."""
        return self.model.options.steps

    def _returned(self, cut: np.ndarray) -> np.ndarray:
        """What the host makes of the chip's values, if it has a part."""
        host = self.model.host
        return np.asarray(cut if host is None else host.run(cut)[0][host.main], np.float64)

    def _spiking(self) -> s.SpikingGraph:
        assert isinstance(self.graph, s.SpikingGraph)
        return self.graph

    def _checked(self, x: Any) -> np.ndarray:
        node = self.model.graph.input
        return check_inputs(x, node.sample_shape, steps=node.steps)

    def _input(self, x: Any) -> np.ndarray:
        x = self._checked(x)
        node = self._spiking().input
        return encode_input(node, x) if self._spiking().stage == "quantized" else x

    def __repr__(self) -> str:
        costs = self.costs().figures
        told = ", ".join(f"{k} {v:,}" for k, v in list(costs.items())[:3] if isinstance(v, int))
        return f"<{type(self).__name__} '{self.graph.name}' for {self.target.name}: {told}>"

    def _repr_html_(self) -> str:
        return self.costs()._repr_html_()


def _figures(graph: Graph, target: Target) -> Iterator[tuple[str, int | float | str]]:
    if isinstance(graph, CircuitGraph):
        shortages = CostCounter(graph, target).shortages()
        cores = max((n for _, n in shortages.values()), default=0)
        yield "neurons", sum(p.size for p in graph.populations if not isinstance(p, HostInput))
        yield "synapses", sum(synapse_count(graph, q) for q in graph.projections)
        yield "cores at least", cores
        yield "populations", len(graph.populations)
        yield "projections", len(graph.projections)
        yield "depth, steps", graph.depth
        yield "steps a sample", graph.sample_period
        return
    size = shapes(graph)
    weights = {n.weight for n in graph.nodes if isinstance(n, (s.Conv2d, s.Linear))}
    yield "layers", len(graph.spiking_layers)
    yield "neurons", sum(prod(size[n.name]) for n in graph.spiking_layers)
    yield "weights", sum(graph.tensors[name].size for name in weights)
    yield "nodes", len(graph.nodes)
    yield "multiplications a step", ann_macs(graph)
