"""Time within a sample, on the chip: a line of T neurons, of which neuron t fires in step t.
Windows and tables read it.

The first neuron fires on its own bias, and a neuron that fires in every step blocks it from step 1
on. Everything else of a circuit that has phases is a projection from this line: a *window* is a
neuron that some of the line excites, a *table* a graded value whose weights are its values. T
neurons for a circuit, whatever its size.
"""

from __future__ import annotations

import numpy as np

from neurocompile.circuits.builder import Builder, planes, strided
from neurocompile.circuits.normalize import recurrent
from neurocompile.ir import circuit as c
from neurocompile.ir.fields import ALL
from neurocompile.ir.text import Ref

__all__ = ["clock_line", "table", "window"]

_ALONE = {"vth": 0, "dv": ALL, "reset": True}


def clock_line(builder: Builder, steps: int, layer: str = "clock") -> str:
    """A population (``steps``,) whose neuron t fires in step t of each sample and in no other."""
    first = np.zeros(steps, np.int16)
    first[0] = 1
    one = builder.tensor("past.bias", np.ones(1, np.int16))
    past = builder.population(c.LIF, "past", (1,), layer, bias=one, **_ALONE)
    line = builder.population(
        c.LIF, "step", (steps,), layer, bias=builder.tensor("step.bias", first), **_ALONE
    )
    builder.drive(line, [recurrent(strided(past, (1,), (1,), (1,), weight=-1))])
    if steps > 1:
        builder.drive(line, [recurrent(strided(line, (steps - 1,), (1,), (1,), dst_offset=1))])
    return line


def window(builder: Builder, line: str, start: int, stop: int, name: str) -> str:
    """One neuron that fires in steps ``start`` .. ``stop - 1``."""
    found = builder.population(c.LIF, name, (1,), "clock", **_ALONE)
    builder.drive(found, [strided(line, (stop - start,), (1,), (0,), src_offset=start)])
    return found


def table(builder: Builder, line: str, values: np.ndarray, name: str) -> str:
    """A graded population (1,) that is ``values[t]`` >= 0 in step t; integers (steps,)."""
    found = builder.population(
        c.GradedRelay, name, (1,), "clock", largest=int(values.max(initial=0))
    )
    for digit, exponent in planes(values, builder.fields):
        if digit.any():
            weight = builder.tensor(f"{name}.values", digit.astype(np.int16)[None])
            builder.drive(
                found,
                [
                    c.Dense(
                        name="",
                        src=Ref(line),
                        dst=Ref(""),
                        weight=weight,
                        sign="excitatory",
                        weight_exp=exponent,
                    )
                ],
            )
    return found
