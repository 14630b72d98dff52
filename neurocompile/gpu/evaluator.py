"""A quantized graph on torch devices: batches as large as memory allows, over any number of GPUs.

The definition is :mod:`neurocompile.ir.evaluate`; every integer is its own, whatever the device, the
batch and the number of GPUs. The readout's mean over the steps is taken on the host, in float64, as
there.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.gpu.devices import torch_devices
from neurocompile.gpu.plan import Plan
from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import evaluate

if TYPE_CHECKING:
    import torch

    from neurocompile.gpu.runner import Runner

__all__ = ["Evaluator", "Totals"]

_LARGEST_BATCH = 512
_SHARE = 0.6
"""Of the free memory that a batch may use."""
_OFFSETS = 1 << 30
"""Elements of a value in one step that a batch has at most: kernels count them in 32 bits."""
_CPU_BYTES = 512 << 20
"""That a batch on the CPU may use."""


@dataclass(frozen=True)
class Totals:
    """``logits`` float64 (samples, *shape); ``spikes``: layer -> of all samples and steps;
    ``neuron_steps``: layer -> neurons times samples times steps.
    """

    logits: np.ndarray
    spikes: dict[str, int]
    neuron_steps: dict[str, int]
    step_values: np.ndarray | None = None
    """What the readout's mean is of: int64 (samples, T, *shape)."""


class Evaluator:
    """A quantized graph ready to be evaluated.

    Args:
        graph: stage quantized; NC1015 otherwise, NC4008 where nothing exact is known for a node.
        steps: T.
        device: torch-cpu, cuda (all GPUs) or cuda:N. NC4001 without torch, NC4007 without the GPU.
        batch: samples at once; by default what the free memory allows.
        kernels: use the Triton kernels; by default where a GPU and Triton are.
    """

    def __init__(
        self,
        graph: s.SpikingGraph,
        steps: int,
        device: str = "cuda",
        *,
        batch: int | None = None,
        kernels: bool | None = None,
    ) -> None:
        self.devices = torch_devices(device)
        from neurocompile.gpu.runner import Runner

        self.plan = Plan.of(graph, steps)
        self._tail = _tail(graph)
        self._batch = batch
        self._runners = [Runner(self.plan, d, kernels) for d in self.devices]

    @property
    def name(self) -> str:
        """What computes, for a banner."""
        import torch

        if self.devices[0].type == "cpu":
            return f"torch {torch.__version__} on the CPU"
        names = [torch.cuda.get_device_name(d) for d in self.devices]
        which = names[0] if len(names) == 1 else f"{len(names)} x {names[0]}"
        return f"torch {torch.__version__} on {which}"

    @property
    def readout(self) -> str:
        """The value whose mean over the steps is read out."""
        return str(self._tail[0].inputs[0])

    def evaluate(
        self,
        x: np.ndarray,
        record: Collection[str] | None = None,
        given: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, np.ndarray]:
        """As :func:`neurocompile.ir.evaluate.evaluate`.

        Args:
            x: encoded int32 (samples, *the input's sample_shape).
            record: names of the values to return; all if None.
            given: values (samples, steps, *shape) that take the place of computed ones.

        Returns:
            name -> integers (samples, T, *shape) in the narrowest type; float64 (samples, *shape)
            for the TimeMean and the Output.
        """
        graph, steps = self.plan.graph, self.plan.steps
        wanted = {n.name for n in graph.nodes} if record is None else set(record)
        on_device = [n.name for n in graph.nodes if n.name in wanted and n not in self._tail]
        before = self.readout
        names = frozenset({*on_device, before})

        def collected(found: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
            host = {k: found[k].transpose(0, 1).contiguous().cpu().numpy() for k in on_device}
            host |= {"": found[before].transpose(0, 1).cpu().numpy().astype(np.int64)}
            return host

        parts = self._batches(x, names, collected, given=given)
        found = {}
        for name in on_device:
            whole = np.concatenate([p[name] for p in parts])
            found[name] = np.broadcast_to(whole, (len(x), steps, *whole.shape[2:]))
        ends = self._finish(np.concatenate([p[""] for p in parts]))
        found |= {n.name: ends[n.name] for n in self._tail if n.name in wanted}
        return found

    def run(self, x: np.ndarray) -> Totals:
        """Logits, and how often each layer spiked; nothing else leaves the device.

        Args:
            x: encoded int32 (samples, *the input's sample_shape).
        """
        graph, steps = self.plan.graph, self.plan.steps
        layers = [n.name for n in graph.spiking_layers]
        before = self.readout

        def collected(found: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
            sums = {k: v.cpu().numpy() for k, v in found.items() if k != before}
            return sums | {"": found[before].transpose(0, 1).cpu().numpy().astype(np.int64)}

        parts = self._batches(x, frozenset({before}), collected, frozenset(layers) - {before})
        values = np.concatenate([p[""] for p in parts])
        values = np.broadcast_to(values, (len(x), steps, *values.shape[2:]))
        spikes = {
            k: int(values.sum()) if k == before else sum(int(p[k]) for p in parts) for k in layers
        }
        sizes = {k: len(x) * steps * prod(self.plan.size[k]) for k in layers}
        return Totals(self._finish(values)[graph.output.name], spikes, sizes, values)

    def _finish(self, values: np.ndarray) -> dict[str, np.ndarray]:
        """The mean over the steps and the Output, of int64 (samples, T, *shape), as the definition
        computes them.
        """
        graph = self.plan.graph
        first = self.readout
        source = s.Input(name=first, shape=values.shape[2:], unit=1.0, steps=self.plan.steps)
        rest = graph.replace(nodes=(source, *self._tail))
        values = np.broadcast_to(values, (len(values), self.plan.steps, *values.shape[2:]))
        return evaluate(rest, values, self.plan.steps, [n.name for n in self._tail])

    def _batches(
        self,
        x: np.ndarray,
        names: frozenset[str],
        collect: Callable[[dict[str, torch.Tensor]], dict[str, np.ndarray]],
        counted: frozenset[str] = frozenset(),
        given: Mapping[str, np.ndarray] | None = None,
    ) -> list[dict[str, np.ndarray]]:
        """What ``collect`` makes of each batch, in order; one thread a device."""
        from neurocompile.gpu.products import exact_arithmetic

        x = np.asarray(x)
        if x.shape[1:] != self.plan.graph.input.sample_shape or not len(x):
            raise NeurocompileError(
                "NC1006",
                f"x has the shape {x.shape}; integers of "
                f"(samples, {', '.join(map(str, self.plan.graph.input.sample_shape))}) are needed",
            )
        size = self._batch or min(_fitting(r, names) for r in self._runners)
        size = max(1, min(size, -(-len(x) // len(self.devices))))
        starts = range(0, len(x), size)

        def on(k: int) -> list[tuple[int, list[dict[str, np.ndarray]]]]:
            return [
                (
                    i,
                    self._part(
                        k, x, slice(i, min(i + size, len(x))), names, collect, counted, given
                    ),
                )
                for i in starts[k :: len(self.devices)]
            ]

        with exact_arithmetic():  # of the process, so around all threads
            if len(self.devices) == 1:
                done = on(0)
            else:
                with ThreadPoolExecutor(len(self.devices)) as pool:
                    done = [
                        pair for part in pool.map(on, range(len(self.devices))) for pair in part
                    ]
        return [made for _, parts in sorted(done, key=lambda pair: pair[0]) for made in parts]

    def _part(
        self,
        k: int,
        x: np.ndarray,
        at: slice,
        names: frozenset[str],
        collect: Callable[[dict[str, torch.Tensor]], dict[str, np.ndarray]],
        counted: frozenset[str],
        given: Mapping[str, np.ndarray] | None,
    ) -> list[dict[str, np.ndarray]]:
        """One batch on device ``k``; in halves where its memory does not suffice after all, for other
        programs use it too."""
        import torch

        part = {name: _writable(v[at]) for name, v in (given or {}).items()}
        try:
            found = self._runners[k].run(_writable(x[at], np.int32), names, counted, part)
            return [collect(found)]
        except torch.OutOfMemoryError as error:
            if at.stop - at.start == 1:
                raise NeurocompileError(
                    "NC4010", f"one sample does not fit the free memory of {self.devices[k]}"
                ) from error
        torch.cuda.empty_cache()
        middle = (at.start + at.stop) // 2
        halves = slice(at.start, middle), slice(middle, at.stop)
        rest = (names, collect, counted, given)
        return [made for half in halves for made in self._part(k, x, half, *rest)]


def _writable(x: np.ndarray, kind: type | None = None) -> np.ndarray:
    """``x`` dense and writable, as torch wants an array."""
    return np.require(x, kind, ["C", "W"])


def _tail(graph: s.SpikingGraph) -> tuple[s.Node, ...]:
    """The TimeMean and what follows it; it needs real numbers, and is small."""
    at = next((i for i, n in enumerate(graph.nodes) if isinstance(n, s.TimeMean)), None)
    if at is None:
        at = len(graph.nodes) - 1
    names = {n.name for n in graph.nodes[at:]}
    for k, node in enumerate(graph.nodes[at:]):
        if not set(node.inputs) <= names and k:
            raise NeurocompileError(
                "NC4008", f"'{node.name}' follows the mean over the steps and reads what does not"
            )
    return graph.nodes[at:]


def _fitting(runner: Runner, record: frozenset[str]) -> int:
    """Samples whose widest point fits the memory that is free, and whose offsets fit the kernels'."""
    import torch

    device, plan = runner.device, runner.plan
    if device.type == "cpu":
        free = _CPU_BYTES
    else:
        reserved = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        free = int((torch.cuda.mem_get_info(device)[0] + reserved) * _SHARE)
    need = max(1, plan.sample_bytes(runner.fused is not None, record))
    return max(1, min(_LARGEST_BATCH, free // need, _OFFSETS // plan.widest_step))
