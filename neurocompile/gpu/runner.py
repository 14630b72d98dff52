"""One batch on one device: nodes in order, fused where kernels are, values freed after their last
use."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import neurocompile.gpu.real  # noqa: F401 (fills the table of its rules)
from neurocompile.gpu.nodes import Rules
from neurocompile.gpu.plan import Plan
from neurocompile.ir import spiking as s

if TYPE_CHECKING:
    from neurocompile.gpu.fused import FusedRules

__all__ = ["Runner"]


class Runner:
    """A plan on one device."""

    def __init__(self, plan: Plan, device: torch.device, kernels: bool | None = None) -> None:
        self.plan, self.device = plan, device
        self.rules = Rules(plan, device)
        self.fused = _fused_rules(plan, self.rules, kernels)
        nodes = plan.graph.nodes
        self._looped = {n.name for a, b in plan.graph.loops for n in nodes[a : b + 1]}

    @torch.no_grad()
    def run(
        self,
        x: np.ndarray | torch.Tensor,
        record: frozenset[str],
        counted: frozenset[str] = frozenset(),
        given: Mapping[str, np.ndarray] | None = None,
    ) -> dict[str, torch.Tensor]:
        """Values of ``record``, (T or 1, samples, *shape), and of ``counted`` the sums over all
        samples and steps.

        Args:
            x: integers (samples, *the input's sample_shape).
            given: values (samples, steps, *shape) in place of computed ones.

        To be called inside of ``exact_arithmetic``, which is the whole process's.
        """
        given = given or {}
        graph = self.plan.graph
        values: dict[str, torch.Tensor] = {}
        found: dict[str, torch.Tensor] = {}
        waiting: dict[str, s.Node] = {}
        fixed = record | counted | given.keys()
        with _current(self.device):
            loops, settled = dict(graph.loops), {}
            for place, node in enumerate(graph.nodes):
                if isinstance(node, (s.TimeMean, s.Output)):  # what the host computes
                    break
                if place in loops:
                    settled = self._settle(graph.nodes[place : loops[place] + 1], values, given, x)
                if node.name in settled:
                    value = settled[node.name]
                elif self._waits(node, fixed):
                    waiting[node.name] = node  # its neuron computes it
                    continue
                else:
                    value = self._value(node, values, given, waiting, x)
                values[node.name] = value
                if node.name in record:
                    found[node.name] = value
                elif node.name in counted:
                    total = value.sum(dtype=torch.int64)
                    found[node.name] = total * (self.plan.steps // len(value))
                self._free(node, waiting, values)
        return found

    def _waits(self, node: s.Node, fixed: Collection[str]) -> bool:
        """Whether ``node`` is left to the neurons that read it: not those of a loop."""
        if self.fused is None or node.name in fixed or not self.fused.waits(node, fixed):
            return False
        users = self.plan.graph.users[node.name]
        return self._looped.isdisjoint((node.name, *(user.name for user in users)))

    def _value(
        self,
        node: s.Node,
        values: Mapping[str, torch.Tensor],
        given: Mapping[str, np.ndarray],
        waiting: Mapping[str, s.Node],
        x: np.ndarray | torch.Tensor,
    ) -> torch.Tensor:
        if isinstance(node, s.Input):
            return self._input(node, x)
        if node.name in given:
            value = torch.from_numpy(given[node.name]).to(self.device).transpose(0, 1)
            return value.to(self.rules.type(node.name))
        if self.fused is not None and node.name in self.fused.nodes:
            return self.fused(node, waiting.get(node.inputs[0]), values)
        return self.rules(node, *(values[i] for i in node.inputs))

    def _settle(
        self,
        nodes: Sequence[s.Node],
        before: Mapping[str, torch.Tensor],
        given: Mapping[str, np.ndarray],
        x: np.ndarray | torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Values of the nodes of a loop: rounds until the spikes that feed back stay as they are, at
        most one for each step (:func:`neurocompile.ir.evaluate.evaluate`).
        """
        values, back = dict(before), self.plan.graph.fed_back
        while True:
            last = {n.name: values.get(n.name) for n in nodes if n.name in back}
            for node in nodes:
                if isinstance(node, s.Previous) and node.name not in given:
                    values[node.name] = self._delayed(node, values.get(node.of), len(x))
                else:
                    values[node.name] = self._value(node, values, given, {}, x)
            if all(v is not None and torch.equal(v, values[k]) for k, v in last.items()):
                return {n.name: values[n.name] for n in nodes}

    def _delayed(self, node: s.Previous, spikes: torch.Tensor | None, samples: int) -> torch.Tensor:
        """``spikes`` one step later; zeros where they are not known yet."""
        shape, kind = (self.plan.steps, samples, *node.shape), self.rules.type(node.name)
        value = torch.zeros(shape, dtype=kind, device=self.device)
        if spikes is not None:
            value[1:] = spikes[:-1]
        return value

    def _input(self, node: s.Input, x: np.ndarray | torch.Tensor) -> torch.Tensor:
        value = torch.as_tensor(x).to(self.device)
        value = value.transpose(0, 1) if node.steps else value[None]
        return value.to(self.rules.type(node.name))

    def _free(self, node: s.Node, waiting: dict[str, s.Node], values: dict) -> None:
        for i in set(node.inputs):
            if self.plan.last[i] != node.name:
                continue
            values.pop(i, None)
            before = waiting.pop(i, None)
            if before is not None:
                self._free_behind(before, waiting, values, node)

    def _free_behind(
        self, before: s.Node, waiting: dict[str, s.Node], values: dict, node: s.Node
    ) -> None:
        """What a node that waited read, if nobody reads it later."""
        order = {n.name: k for k, n in enumerate(self.plan.graph.nodes)}
        for i in set(before.inputs):
            if order[self.plan.last[i]] <= order[node.name]:
                values.pop(i, None)


def _current(device: torch.device) -> AbstractContextManager[Any]:
    """Kernels are launched on the current GPU."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _fused_rules(plan: Plan, rules: Rules, kernels: bool | None) -> FusedRules | None:
    if kernels is False or kernels is None and rules.device.type != "cuda":
        return None
    try:
        from neurocompile.gpu.fused import FusedRules
    except ImportError:  # no Triton: the same integers, slower
        if kernels:
            raise
        return None
    return FusedRules(plan, rules)
