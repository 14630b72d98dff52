"""Values of nodes that torch's evaluators leave to the definition: of real operators, each of one
step, whose float64 definitions run on the CPU.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from neurocompile.ir import spiking as s
from neurocompile.ir.evaluate import DEFINITIONS

__all__ = ["DEFINED", "by_definition"]

DEFINED = (s.Function, s.Normalization, s.StepSoftmax, s.Quotient, s.TokenMean, s.Delay)
"""Their kinds."""


def by_definition(
    node: s.Node, inputs: tuple[torch.Tensor, ...], tensors: Mapping[str, torch.Tensor], steps: int
) -> torch.Tensor:
    """The value of ``node`` of a graph with ``tensors``, as ``inputs`` (T or 1, samples, *shape) of one
    device and type.
    """
    values = [x.transpose(0, 1).cpu().numpy() for x in inputs]
    own = [tensors[t].cpu().numpy() for t in node.tensors]
    found = DEFINITIONS.of(node)(node, values, own, steps)
    return torch.from_numpy(np.ascontiguousarray(found.swapaxes(0, 1))).to(inputs[0])
