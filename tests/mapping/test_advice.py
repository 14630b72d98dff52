"""What a refused mapping advises is true: the way out that it names is one."""

from __future__ import annotations

import re

import numpy as np
import pytest

from neurocompile.ir import circuit as c
from neurocompile.mapping import advice
from neurocompile.mapping.advice import budget_needs_more_cores, does_not_fit_core, exceeds_target
from neurocompile.mapping.resources import CostCounter
from neurocompile.mapping.tile import Tile
from neurocompile.targets import load_target

LOIHI2 = load_target("loihi2")


def layer(inputs: int, outputs: int, bits: int = 8) -> c.CircuitGraph:
    """``inputs`` spikes of the host to a layer of ``outputs`` neurons, all to all."""
    text = f"""circuit "net" {{steps = 4, period = 4}}
%x = HostInput {{shape = [{inputs}], layer = "x", depth = 0, low = 0, high = 1}}
%l = LIF {{shape = [{outputs}], layer = "l", depth = 1, vth = 5, dv = 0, reset = true}}
%x>l = Dense {{src = %x, dst = %l, delay = 1, weight = @w, weight_bits = {bits}}}
@w : int16[{outputs}, {inputs}]
"""
    return c.CircuitGraph.parse(text, {"w": np.ones((outputs, inputs), np.int16)})


def test_a_neuron_that_no_core_holds_is_told_what_it_needs_and_ways_that_fit() -> None:
    circuit = layer(150_000, 2)
    counter, tile = CostCounter(circuit, LOIHI2), Tile("l", (0,), (1,))
    text = does_not_fit_core(counter, tile, counter.usage)
    assert text.startswith("layer 'l' needs ") and "150,000 x 1 weights at 8 bits of 'x>l'" in text
    named = re.search(r"`target='([^']+)'`", text)
    fits = [
        n
        for n, other in advice.others(counter).items()
        if not other.usage(tile).excess(other.target)
    ]
    assert (named[1] if named else None) == next(iter(fits), None)
    narrow = CostCounter(layer(150_000, 2, 4), LOIHI2)
    assert ("4-bit weights" in text) == (not narrow.usage(tile).excess(LOIHI2))


@pytest.mark.parametrize("limit", [1, LOIHI2.cores])
def test_a_model_above_all_cores_names_the_largest_layer_and_a_larger_limit(limit: int) -> None:
    counter = CostCounter(layer(3000, 3000), LOIHI2)
    lines = exceeds_target(counter, limit)
    short = {cores for _, cores in counter.shortages().values() if cores > limit}
    assert len(lines) == len([n for _, n in counter.shortages().values() if n > limit])
    for line in lines:
        assert "Largest: layer 'l' with " in line
        capped = limit < LOIHI2.cores and max(short) <= LOIHI2.cores
        assert ("raise `max_cores`" in line.lower()) == capped
        assert (f"`max_cores` allows {limit:,} of loihi2" in line) == (limit < LOIHI2.cores)


@pytest.mark.parametrize(
    ("cores", "limit", "enough", "ways"),
    [
        (
            100,
            50,
            4.0,
            "allow a core 4 times as many messages, which fit, raise `max_cores` (to 100), or leave out `budget`.",
        ),
        (LOIHI2.cores + 1, LOIHI2.cores, None, "or leave out `budget`."),
        (10**9, LOIHI2.cores, None, "Leave out `budget`, or train for a lower rate."),
    ],
)
def test_a_budget_that_needs_more_cores_names_every_way_out(cores, limit, enough, ways) -> None:
    counter = CostCounter(layer(30, 40), LOIHI2)
    text = budget_needs_more_cores(counter, cores, limit, {"l": 0.5}, {"l": 2.0}, enough)
    assert text.lower().endswith(ways.lower()), text
    assert "at most 2 of layer 'l' (which sends 20)" in text
    whole = budget_needs_more_cores(counter, cores, limit, {"l": 0.5}, 2.5, enough)
    assert "grants a core 2.5 messages a step" in whole
