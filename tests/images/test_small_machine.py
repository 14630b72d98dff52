"""Core images of a small circuit of each chip run as the circuit does: small enough to run without
a compiler too, where every line of the loops is seen.
"""

from __future__ import annotations

import numpy as np
import pytest
from images.mixed_network import STEPS, network
from images.placed import placed

from neurocompile.backends.emulator import Emulator
from neurocompile.images import build_images
from neurocompile.images.image import GROUP_FIELDS
from neurocompile.images.machine import CoreMachine
from neurocompile.ir.circuit import HostInput
from neurocompile.targets import load_target


@pytest.mark.parametrize("graded", [False, True])
@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
def test_the_machine_is_the_circuit(chip: str, graded: bool) -> None:
    circuit, target = network(1, graded=graded), load_target(chip)
    images = build_images(circuit, placed(circuit, target, 1, cores=4), target)
    x = np.random.default_rng(1).integers(0, 2, (3, 6, 6, 2)).astype(np.int32)
    expected = Emulator().open(circuit).run(x)
    found = CoreMachine(images, threads=1).run(x)
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert values.shape == (3, STEPS, *circuit.population[name].shape) and values.any()
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.mark.parametrize("chip", ["loihi1", "loihi2"])
def test_what_is_counted_in_a_stream_agrees_with_itself_and_the_spikes(chip: str) -> None:
    circuit, target = network(2, graded=True), load_target(chip)
    images = build_images(circuit, placed(circuit, target, 2, cores=3), target)
    x = np.random.default_rng(2).integers(0, 2, (2, 6, 6, 2)).astype(np.int32)
    machine = CoreMachine(images, threads=1)
    counts = machine.count(x, by_step=True, warm=False)
    expected = Emulator().open(circuit).run(x)
    population = np.concatenate(
        [c.groups[:, GROUP_FIELDS.index("population")] for c in images.cores]
    )
    for number, p in enumerate(circuit.populations):
        if not isinstance(p, HostInput):
            fired = counts.fired[1, population == number].sum()
            assert fired == np.count_nonzero(expected[p.name]), p.name
    sent, received, met, active = counts.by_step.sum(axis=(0, 1))
    assert sent == received == len(counts.log) > 0
    assert met == counts.operations.sum() == counts.log[:, 3].sum()
    assert active >= counts.active.sum() > 0
