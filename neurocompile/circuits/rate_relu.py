"""ReLU as a firing rate (Lemma 5): integrate and fire with soft reset fires ``clip(x, 0, 1)`` of
its steps, with an error below 1/T. True only without leak and with a soft reset."""

from __future__ import annotations

from neurocompile.circuits.builder import Builder, strided
from neurocompile.circuits.soft_reset import soft_reset
from neurocompile.errors import NeurocompileError
from neurocompile.ir import circuit as c
from neurocompile.ir import spiking as s
from neurocompile.ir.text import Ref
from neurocompile.parameters import whole
from neurocompile.targets.fields import LOIHI2, ChipFields

__all__ = ["rate_relu"]


def rate_relu(n: int, unit: int, steps: int, fields: ChipFields = LOIHI2) -> c.CircuitGraph:
    """Input int32 (samples, n) in -unit..unit; the readout is the rate, ``relu(x / unit)``.

    A negative input pulls the membrane down to ``-steps * unit``, which a current has to hold
    (17 bits on Loihi 2).
    """
    whole("n", n), whole("unit", unit), whole("steps", steps)
    if 2 * unit * (steps + 2) > fields.current:
        raise NeurocompileError(
            "NC2011",
            f"inputs up to {unit:,} over {steps:,} steps; unit * (steps + 2) is at most {fields.current // 2:,}",
        )
    builder = Builder(fields)
    x = builder.population(c.HostInput, "x", (n,), "x", low=-unit, high=unit)
    current = builder.population(c.GradedRelay, "current", (n,), "current")
    builder.drive(current, [strided(x, (n,), (1,), (1,))])
    node = s.SoftIntegerLIF(name="rate", x=Ref("x"), threshold=unit, reset=unit, decay=0)
    spikes = soft_reset(builder, current, None, node, unit * steps)
    out = builder.population(c.GradedRelay, "out", (n,), "out")
    builder.drive(out, [strided(spikes, (n,), (1,), (1,))])
    builder.readout(out)
    return builder.finish("rate relu", steps)
