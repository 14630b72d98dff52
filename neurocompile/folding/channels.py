"""A layer whose channels leak, or have thresholds, differently, while it is folded.

A population has one leak and one threshold. The layer's input becomes one relay; channels of equal
leak and threshold are a population each that reads its part of it, in the same windows, and one
population gathers their spikes. Unrolled it is the same (:mod:`neurocompile.passes.split_channels`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from neurocompile.folding.values import Real, Value
from neurocompile.ir import circuit as c
from neurocompile.ir import spiking as s
from neurocompile.ir.fields import ALL
from neurocompile.ir.text import Ref, TensorRef
from neurocompile.passes.split_channels import Part

if TYPE_CHECKING:
    from neurocompile.folding.lower import Lowering

__all__ = ["split_lif"]


def split_lif(lowering: Lowering, node: s.IntegerLIF) -> Value:
    """The layer's spikes, gathered."""
    net, builder = lowering.net, lowering.builder
    value = lowering.real(node.x)
    base = value.base
    assert isinstance(base, Real)
    channels = base.shape[2]

    def row(field: int | TensorRef) -> np.ndarray:
        if isinstance(field, TensorRef):
            return lowering.by_channel(node, field, value.layout, channels)
        return np.full(channels, field)

    kinds = np.stack([row(node.vth), row(node.dv)], axis=1)
    bias = None if node.bias is None else row(node.bias)
    whole, digits = net.shape[base.population], base.slots.digits
    lanes = int(np.prod(whole)) // channels
    depth = net.need([(base.population, 0)])
    found: list[tuple[Part, str]] = []
    for number, (vth, dv) in enumerate(np.unique(kinds, axis=0).tolist()):
        chosen = np.flatnonzero((kinds == (vth, dv)).all(axis=1))
        shape = (*whole[:-1], len(chosen))
        part = Part(number, True, shape, (lanes,), (channels,), chosen)
        fields: dict[str, Any] = {
            "vth": int(vth),
            "dv": int(dv),
            "du": node.current - 1,
            "reset": True,
        }
        amount = 0
        if bias is not None:
            fields["bias"] = builder.tensor(f"{node.bias}.{number}", bias[chosen])
            fields["bias_exp"] = node.bias_exp
            amount = max(-(-(int(bias[chosen].max()) << node.bias_exp) >> 6), 0)
        name = net.population(
            c.LIF, f"{node.name}.{number}", shape, node.name, depth, digits, **fields
        )
        reads = part.projections(Ref(base.population), whole=False)
        net.drive(name, (builder.weighted(q, node.gain) for q in reads))
        if amount:
            net.close(name, digits, amount, node.name)
        found.append((part, name))
    gathered = net.population(
        c.LIF,
        node.name,
        whole,
        node.name,
        net.need([(name, 0) for _, name in found]),
        digits,
        vth=0,
        dv=ALL,
        reset=True,
    )
    for part, name in found:
        net.drive(gathered, part.projections(Ref(name), whole=True))
    return lowering.spikes(node.name, gathered, base.slots, base.shape, base.scale, value.layout)
