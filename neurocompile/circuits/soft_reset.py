"""LIF with soft reset, exactly: ``h = leak (h - v_th s) + x; s = h >= v_th`` from neurons that only
know the hard reset.

Leaky: one neuron whose *current* is the membrane. Loihi's LIF keeps its current when it spikes;
with an instantaneous voltage (dv = 4096) it is a leaky integrator that a threshold reads, and a
recurrent inhibition of ``leak v_th`` from the neuron to itself is the reset, one step later, when
it is due::

    u = trunc0(u (4096 - decay) / 4096) + 2^6 (x - reset s);   s = u + 1 > 2^6 threshold      (bias 1: >= from >)

Integrate and fire (a current always decays): the membrane travels as a graded value in a loop of
its own, and a neuron without memory reads the same inputs::

    h = h + x - threshold s;   s = 2^6 h + 1 > 2^6 threshold

Several levels are several such neurons, one a threshold, each of which sees the spikes of all: as
many copies of the membrane. Without memory, or without a reset, there is no loop.

Both read ``x`` from a relay, so that weights are stored once, and all connections of the loop are
one to one. On Loihi 2 membranes have 17 bits, a payload 23: where a layer's sums need more, ``x`` is shifted
right on its way, by one product's exponent.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from neurocompile.circuits.builder import Builder, planes, strided
from neurocompile.errors import NeurocompileError
from neurocompile.ir import circuit as c
from neurocompile.ir import spiking as s
from neurocompile.ir.fields import ALL
from neurocompile.ir.text import Ref, TensorRef

__all__ = ["add_constants", "soft_reset"]


def soft_reset(
    builder: Builder,
    current: str,
    bias: np.ndarray | None,
    node: s.SoftIntegerLIF,
    largest: int,
    layer: str = "",
    feedback: tuple[c.Projection, ...] = (),
) -> str:
    """Neurons of ``node`` for the graded population ``current``; returns the population of spikes,
    or with several levels the graded one that counts them.

    Args:
        node: with one threshold, decay and reset.
        layer: of the user's model, where it is not called like ``node``.
        bias: integers that broadcast against the shape of ``current``, added to it here.
        largest: bound of the membrane of integrate and fire.
        feedback: what else the spikes drive, one step later, in units of ``current``: multiples of
            what ``node.shift`` drops.
    """
    first, decay, reset = node.threshold, node.decay, node.reset
    if isinstance(first, TensorRef) or isinstance(decay, TensorRef) or isinstance(reset, TensorRef):
        raise NeurocompileError("NC9001", f"'{node.name}' differs from channel to channel")
    shape, layer = builder.shape(current), layer or node.name
    n = int(np.prod(shape))
    if bias is not None:
        add_constants(builder, current, bias, layer)
    if node.shift:
        shifted = builder.population(c.GradedRelay, f"{node.name}.shifted", shape, layer)
        builder.drive(
            shifted, [replace(strided(current, (n,), (1,), (1,)), weight_exp=-node.shift)]
        )
        current = shifted
    names = [node.name]
    if node.levels > 1:
        names = [f"{node.name}.level{k + 1}" for k in range(node.levels)]
    fields = {"du": decay - 1} if decay else {"largest": largest}
    one = builder.tensor(f"{node.name}.at_least", np.ones(1, np.int16))
    spikes = [
        builder.population(
            c.LIF, name, shape, layer, vth=threshold, bias=one, dv=ALL, reset=True, **fields
        )
        for name, threshold in zip(names, (first, *node.more))
    ]
    membranes: list[str] = []
    if not decay:
        name = f"{node.name}.membrane"
        membranes = [builder.population(c.GradedRelay, name, shape, layer, largest=largest)]
    own = strided(current, (n,), (1,), (1,))
    loops = [(src, 1) for src in membranes]
    loops += [(src, -weight) for src in spikes for weight in builder.terms(reset)]
    for name in (*membranes, *spikes):
        builder.drive(name, [own])
        builder.drive(
            name,
            [replace(strided(src, (n,), (1,), (1,), weight=w), recurrent=True) for src, w in loops],
        )
        back = [replace(p, weight_exp=p.weight_exp - node.shift) for p in feedback]
        builder.drive(
            name, [replace(p, src=Ref(src), recurrent=True) for src in spikes for p in back]
        )
    if node.levels == 1:
        return spikes[0]
    count = builder.population(c.GradedRelay, node.name, shape, layer, largest=node.levels)
    builder.drive(count, [strided(src, (n,), (1,), (1,)) for src in spikes])
    return count


def add_constants(
    builder: Builder, dst: str, values: np.ndarray, layer: str, one: str | None = None
) -> None:
    """Add integers that broadcast against the shape of ``dst`` to its input, through a small relay;
    in the steps in which the neuron ``one`` fires, by default in all.
    """
    shape, size = builder.shape(dst), values.size
    relay = builder.population(c.GradedRelay, f"{layer}.bias", values.shape, layer)
    one = one or builder.always_on(f"{layer}.bias")
    for sign, mode in ((1, "excitatory"), (-1, "inhibitory")):
        part = np.maximum(sign * values.reshape(-1, 1).astype(np.int64), 0)
        for digit, exponent in planes(part, builder.fields):
            if digit.any():
                weight = builder.tensor(f"{layer}.bias.weight", (sign * digit).astype(np.int16))
                builder.drive(
                    relay,
                    [
                        c.Dense(
                            name="",
                            src=Ref(one),
                            dst=Ref(""),
                            weight=weight,
                            sign=mode,
                            weight_exp=exponent,
                        )
                    ],
                )
    repeat = int(np.prod(shape)) // size
    builder.drive(dst, [strided(relay, (repeat, size), (0, 1), (size, 1))])
