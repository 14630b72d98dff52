"""Growing membranes: bases, windows, and equality of definition, emulator and Lava."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from neurocompile.backends.emulator import Emulator, emulate_cycles
from neurocompile.backends.encoding import decode
from neurocompile.circuits.one_spike import DELAYS, OneSpikeCode, one_spike_layer, one_spike_values
from neurocompile.circuits.one_spike_attention import (
    one_spike_attention,
    one_spike_attention_values,
)
from neurocompile.errors import NeurocompileError
from neurocompile.ir import circuit as c
from neurocompile.theory.measure.convergence import prepared

LAVA = find_spec("lava") is not None and find_spec("lava.magma") is not None
STEPS = {2.0: 6, 1.618: 10, 1.466: 14, 1.380: 18, 1.325: 24}


def same_everywhere(circuit: c.CircuitGraph, x: np.ndarray) -> dict[str, np.ndarray]:
    """Of every population: samples apart, streamed, and, where it is installed, on Lava."""
    expected = Emulator().open(circuit).run(x)
    found = emulate_cycles(circuit, x)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)
    if LAVA:
        from neurocompile.backends.lava import LavaInProcess

        with LavaInProcess().open(circuit) as executor:
            values = executor.run(x)
        for name in expected:
            np.testing.assert_array_equal(values[name], expected[name], err_msg=name)
    return expected


@pytest.mark.parametrize("base", DELAYS)
def test_powers_grow_by_the_base(base: float) -> None:
    code = OneSpikeCode(base, 24)
    powers = code.powers[code.wait :]
    np.testing.assert_allclose(powers[1:] / powers[:-1], base, rtol=0.13)
    assert powers[-1] / powers[-2] == pytest.approx(base, rel=2e-3)
    roots = np.roots([1, *(-float(DELAYS[base].count(d)) for d in range(1, 5))])
    largest, *others = sorted(np.abs(roots))[::-1]
    assert largest == pytest.approx(base, abs=5e-4) and max(others) <= 1.0 + 1e-9


@pytest.mark.parametrize(
    "base", [b if b == 1.618 else pytest.param(b, marks=pytest.mark.slow) for b in DELAYS]
)
def test_a_layer_is_its_definition_streamed_and_on_lava(base: float) -> None:
    rng, code = np.random.default_rng(0), OneSpikeCode(base, STEPS[base])
    weight = 2 * rng.integers(-20, 21, (3, 4))
    largest = 400
    circuit = prepared(one_spike_layer(weight, largest, code))
    x = rng.integers(-largest, largest + 1, (6, 4)).astype(np.int32)
    x[0], x[1] = 0, (largest, -largest, 1, -1)
    found = same_everywhere(circuit, x)
    sent = one_spike_values(x, code.threshold(largest), code)
    assert np.abs(sent).max() == code.largest and len(np.unique(np.abs(sent))) >= 4
    np.testing.assert_array_equal(decode(circuit, Emulator().open(circuit).run(x)), sent @ weight.T)
    for name in ("sent.s", "sent.s.2"):  # one spike a window at most
        assert found[name].sum(axis=1).max() <= 1


def test_values_round_to_the_nearest_power() -> None:
    code = OneSpikeCode(1.618, 12)
    x = np.arange(1, 1001)
    sent = one_spike_values(x, code.threshold(1000), code)
    near = sent[x >= 100] / code.largest * 1000 / x[x >= 100]
    assert 0.7 < near.min() and near.max() < 1.35 and abs(np.log(near).mean()) < 0.05


@pytest.mark.parametrize(("base", "steps"), [(1.15, 40), (1.618, 4)])
def test_bases_without_an_integer_membrane_are_refused(base: float, steps: int) -> None:
    with pytest.raises(NeurocompileError, match="NC2011 a code of base"):
        OneSpikeCode(base, steps)


def test_what_leaves_its_fields_is_refused() -> None:
    code = OneSpikeCode(2.0, 12)
    with pytest.raises(NeurocompileError, match="NC2011 'layer' collects up to"):
        one_spike_layer(np.full((1, 9), 254), 100, code)
    with pytest.raises(NeurocompileError, match="NC2011 'sent' sends from"):
        one_spike_layer(np.full((1, 1), 2), 100_000, code)
    with pytest.raises(NeurocompileError, match=r"NC2011 weights \(1, 2\)"):
        one_spike_layer(np.array([[2, 3]]), 100, code)


@pytest.mark.parametrize(
    ("base", "steps", "n", "d"),
    [
        (2.0, 5, 2, 2),
        *(
            pytest.param(*case, marks=pytest.mark.slow)
            for case in ((1.618, 9, 3, 2), (1.466, 13, 5, 3), (1.325, 20, 2, 1))
        ),
    ],
)
def test_attention_is_its_definition_streamed_and_on_lava(
    base: float, steps: int, n: int, d: int
) -> None:
    rng, code = np.random.default_rng(1), OneSpikeCode(base, steps)
    largest, unit = 400, 4.0 / 400**2
    circuit = prepared(one_spike_attention(n, d, largest, unit, code))
    x = rng.integers(-largest, largest + 1, (5, 3, n, d)).astype(np.int32)
    x[0], x[1] = 0, largest
    x[2, :2] //= 8  # many scores close together
    same_everywhere(circuit, x)
    meant = one_spike_attention_values(x, unit, largest, code)
    found = decode(circuit, Emulator().open(circuit).run(x)).reshape(meant.shape)
    np.testing.assert_allclose(found, meant, rtol=0, atol=1e-9)
    assert len(np.unique(meant)) > 4
