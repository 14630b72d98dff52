"""What is proven of a graph before torch computes it: types that hold every value, and refusals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from spiking_cases import Maker

torch = pytest.importorskip("torch")

from neurocompile.errors import NeurocompileError  # noqa: E402
from neurocompile.gpu import Evaluator  # noqa: E402
from neurocompile.gpu.plan import Plan, form_of, narrow  # noqa: E402
from neurocompile.ir import spiking as s  # noqa: E402

HOLDS = {"int8": 31, "half": 24, "single": 24, "double": 53}
"""Bits of a sum that a form keeps exact."""


@pytest.mark.parametrize("a, b", [(127, 127), (128, 1), (2048, 2048), (2049, 1), (1, 1 << 40)])
@pytest.mark.parametrize("bits", [20, 24, 25, 31, 32, 53, 54])
def test_a_product_takes_the_cheapest_form_that_is_exact(a: int, b: int, bits: int) -> None:
    total = (1 << bits) - 1
    if bits == 54:
        with pytest.raises(NeurocompileError, match=r"NC4008 here: sums reach 1.8e\+16"):
            form_of(a, b, total, "here")
        return
    form = form_of(a, b, total, "here")
    assert bits <= HOLDS[form]
    cheapest = [f for f in HOLDS if bits <= HOLDS[f]]
    operands = {"int8": 127, "half": 1 << 11}
    assert form == next(f for f in cheapest if max(a, b) <= operands.get(f, 1 << 60))


@pytest.mark.parametrize("bits, kind", [(7, "int8"), (8, "int16"), (31, "int32"), (63, "int64")])
def test_values_take_the_narrowest_type(bits: int, kind: str) -> None:
    for low, high in ((0, (1 << bits) - 1), (-(1 << bits), 0)):
        assert np.dtype(narrow(low, high)) == kind
    with pytest.raises(NeurocompileError, match="NC9001 0.*exceeds 64 bits"):
        narrow(0, 1 << 63)


def graph(exponent: int = 0) -> s.SpikingGraph:
    """A Linear of odd weights times a power of two, a LIF, a mean."""
    m = Maker(lambda strategy: 0, (4,), 0, 1)
    odd = np.array([[1, 3, 5, 7], [9, -1, 3, 1]])
    x = m.add(s.Linear, x=m.x, weight=m.tensor(odd), exponent=exponent)
    x = m.add(s.IntegerLIF, x=x, vth=3, dv=0)
    m.add(s.Output, x=m.add(s.TimeMean, x=x), unit=0.5)
    return m.graph()


def test_what_is_not_exact_is_refused_before_it_runs() -> None:
    with pytest.raises(NeurocompileError, match="NC1015 a graph of stage 'quantized' is needed"):
        Plan.of(replace(graph(), stage="canonical"), 2)
    with pytest.raises(NeurocompileError, match="NC4008 'linear.*': exponent -1 would drop bits"):
        Plan.of(graph(exponent=-1), 2)
    with pytest.raises(NeurocompileError, match=r"NC4008 'linear.*': sums reach .* 2\^62"):
        Plan.of(graph(exponent=60), 2)
    plan = Plan.of(graph(exponent=2), 2)
    (held,) = plan.sums.values()
    assert held.shift == 2 and held.total == 16  # the largest row, in units of the shift


def test_an_evaluation_names_its_device_and_the_shape_it_needs() -> None:
    evaluator = Evaluator(graph(), 2, "cpu")
    assert evaluator.name == f"torch {torch.__version__} on the CPU"
    assert evaluator.readout == evaluator.plan.graph.spiking_layers[-1].name
    for wrong in (np.zeros((2, 5), np.int32), np.zeros((0, 4), np.int32)):
        with pytest.raises(NeurocompileError, match=r"NC1006 .* integers of \(samples, 4\)"):
            evaluator.run(wrong)
