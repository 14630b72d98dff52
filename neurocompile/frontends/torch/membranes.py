"""SpikingJelly's membranes as models read them at their end, in operations that torch can trace in place
of a state: those that never fire (NonSpikingIFNode, NonSpikingLIFNode), and what a neuron that
fires holds behind its last step (``lif.v``).
"""

from __future__ import annotations

import copy

import torch
from torch import nn

from neurocompile.errors import NeurocompileError

__all__ = ["Membrane", "is_membrane", "potential"]

_KINDS = frozenset({"NonSpikingIFNode", "NonSpikingLIFNode"})


def is_membrane(kind: type) -> bool:
    """Whether ``kind`` is one of them, or a subclass that does not change how it charges."""
    for base in kind.__mro__:
        if base.__name__ in _KINDS:
            return True
        if {"neuronal_charge", "forward", "multi_step_forward"} & vars(base).keys():
            return False
    return False


class Membrane(nn.Module):
    """``v(t) = v(t - 1) + (x(t) - v(t - 1)) / tau`` from 0, or the sum of x without a tau: (T, B,
    ...) to the membranes (T, B, ...) as a list, or to what the node decodes of them, (B, ...).
    """

    def __init__(self, node: nn.Module) -> None:
        super().__init__()
        self.tau, self.decode = getattr(node, "tau", None), node.decode
        known = (None, "max-mem", "max-abs-mem", "mean-mem", "last-mem", "last_mem")
        if self.decode not in known or self.tau is not None and not float(self.tau) >= 1:
            raise NeurocompileError(
                "NC1013",
                f"{type(node).__name__} decodes {self.decode!r} with tau {self.tau}; {known[1:]} and tau >= 1 are known",
            )
        # versions of SpikingJelly spell the last membrane differently, and list all for the other
        with torch.no_grad():
            self.listed = isinstance(copy.deepcopy(node)(torch.zeros(2, 1)), list)

    def forward(self, x_seq: torch.Tensor) -> list[torch.Tensor] | torch.Tensor:
        """See the class."""
        T = x_seq.shape[0]
        kept, gain = (1.0, 1.0) if self.tau is None else (1 - 1 / self.tau, 1 / self.tau)
        back = torch.arange(T)[:, None] - torch.arange(T)  # steps since the input
        matrix = torch.where(back >= 0, gain * kept ** back.clamp(min=0).double(), 0.0).float()
        v = (matrix @ x_seq.flatten(1)).view(x_seq.shape)
        if self.decode == "max-mem":
            return v.amax(0)
        if self.decode == "max-abs-mem":
            high, low = v.amax(0), v.amin(0)
            return torch.where(high.abs() > low.abs(), high, low)
        if self.decode == "mean-mem":
            return v.mean(0)
        return list(v.unbind(0)) if self.listed else v[-1]


def potential(
    x_seq: torch.Tensor,
    tau: float | torch.Tensor,
    v_threshold: float,
    v_reset: float,
    decay_input: bool,
    soft_reset: bool,
) -> torch.Tensor:
    """What a neuron keeps behind the last step of its current (T, B, ...), as SpikingJelly computes
    it from ``v_reset``, or from 0 with a soft reset: (B, ...).
    """
    rest = 0.0 if soft_reset else v_reset
    v = torch.full_like(x_seq[0], rest)
    for x in x_seq.unbind(0):
        v = v + (x - (v - rest)) / tau if decay_input else v - (v - rest) / tau + x
        spikes = (v >= v_threshold).to(v.dtype)
        v = v - spikes * v_threshold if soft_reset else v * (1.0 - spikes) + spikes * v_reset
    return v
