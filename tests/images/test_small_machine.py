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
from neurocompile.images.machine import CoreMachine
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
