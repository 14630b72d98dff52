"""NormalizeLIF: one form for every hard-reset LIF, with the same spikes."""

from __future__ import annotations

from math import inf

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from neurocompile.errors import NeurocompileError
from neurocompile.ir.evaluate import evaluate
from neurocompile.ir.spiking import SpikingGraph
from neurocompile.passes.normalize_lif import NormalizeLIF

TENSORS = {"b": np.array([0.5, -0.25, 1.0], np.float32)}


def graph(fields: str) -> SpikingGraph:
    return SpikingGraph.parse(
        'spiking "g" {stage = "imported"}\n%x = Input {shape = [3]}\n'
        f"%l = LIF {{x = %x, {fields}}}\n%out = Output {{x = %l}}\n",
        TENSORS,
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "tau = 2.0, v_threshold = 1.0",
            "tau = 2.0, v_threshold = 1.0, decay_input = false, gain = 0.5",
        ),
        (
            "tau = 2.0, v_threshold = 1.0, v_reset = -0.5, gain = 3.0",
            "tau = 2.0, v_threshold = 1.5, decay_input = false, gain = 1.5",
        ),
        (
            "tau = inf, v_threshold = 1.0, decay_input = false",
            "tau = inf, v_threshold = 1.0, decay_input = false",
        ),
        (
            "tau = 4.0, v_threshold = 1.0, bias = @b",
            "tau = 4.0, v_threshold = 1.0, decay_input = false, gain = 0.25, bias = @b.normal",
        ),
        (
            "tau = 4.0, v_threshold = 1.0, decay_input = false, bias = @b",
            "tau = 4.0, v_threshold = 1.0, decay_input = false, bias = @b",
        ),
    ],
)
def test_the_normal_form_in_text(before: str, after: str) -> None:
    assert NormalizeLIF()(graph(before)).text().splitlines()[2] == f"%l = LIF {{x = %x, {after}}}"


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from([1.0, 2.0, 4.0, 8.0, inf]),
    st.integers(1, 12),
    st.integers(-8, 8),
    st.booleans(),
    st.booleans(),
    st.integers(0, 999),
)
def test_spikes_are_equal_on_dyadic_numbers(tau, excess, reset, decay, biased, seed) -> None:
    """Every operation is exact in float32, so equality holds at every threshold."""
    decay = decay and tau != inf
    bias = ", bias = @b" if biased else ""
    before = graph(
        f"tau = {tau!r}, v_threshold = {(reset + excess) / 8}, v_reset = {reset / 8}, "
        f"decay_input = {str(decay).lower()}, gain = 0.5{bias}"
    )
    x = (np.random.default_rng(seed).integers(-16, 48, (40, 3)) / 8).astype(np.float32)
    np.testing.assert_array_equal(
        evaluate(NormalizeLIF()(before), x, 4)["l"], evaluate(before, x, 4)["l"]
    )


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ("tau = 2.0, v_threshold = 1.0, v_reset = 1.0", "it always fires"),
        ("tau = 2.0, v_threshold = -1.0", "it always fires"),
        ("tau = inf, v_threshold = 1.0", "it never fires"),
    ],
)
def test_what_has_no_normal_form_is_refused_by_name(fields: str, why: str) -> None:
    with pytest.raises(NeurocompileError, match=f"NC2001 layer 'l'.*{why}"):
        NormalizeLIF()(graph(fields))
