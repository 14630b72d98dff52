"""One batch on one device: nodes in order, fused where kernels are, values freed after their last
use."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from neurocompile.gpu.nodes import Rules
from neurocompile.gpu.plan import Plan
from neurocompile.gpu.products import exact_arithmetic
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
        """
        given = given or {}
        graph = self.plan.graph
        values: dict[str, torch.Tensor] = {}
        found: dict[str, torch.Tensor] = {}
        waiting: dict[str, s.Node] = {}
        fixed = record | counted | given.keys()
        with exact_arithmetic(), _current(self.device):
            for node in graph.nodes:
                if isinstance(node, s.TimeMean) or isinstance(node, s.Output):
                    break
                if isinstance(node, s.Input):
                    value = self._input(node, x)
                elif node.name in given:
                    value = torch.from_numpy(given[node.name]).to(self.device).transpose(0, 1)
                    value = value.to(self.rules.type(node.name))
                elif self.fused is not None and self.fused.waits(node, fixed):
                    waiting[node.name] = node  # its neuron computes it
                    continue
                elif self.fused is not None and node.name in self.fused.nodes:
                    before = waiting.get(node.inputs[0])
                    value = self.fused(node, before, values)
                else:
                    value = self.rules(node, *(values[i] for i in node.inputs))
                values[node.name] = value
                if node.name in record:
                    found[node.name] = value
                elif node.name in counted:
                    total = value.sum(dtype=torch.int64)
                    found[node.name] = total * (self.plan.steps // len(value))
                self._free(node, waiting, values)
        return found

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
