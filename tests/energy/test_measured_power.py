"""Power from Lava's probes: arithmetic, refusals. No Loihi here: what Intel's extension would do is
not tested.
"""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from neurocompile.backends.lava.power_probe import (
    Readings,
    attach_probes,
    check_readings,
    read_probes,
)
from neurocompile.energy.power import power_of
from neurocompile.errors import NeurocompileError

joules = st.floats(0, 1e3)


@given(joules, joules, st.floats(1e-6, 1e4), st.integers(1, 100_000))
def test_energy_of_all_inferences_is_that_of_the_run(
    static: float, dynamic: float, seconds: float, samples: int
) -> None:
    found = power_of(Readings(static + dynamic, static, seconds), samples)
    assert found.seconds_per_inference * samples == pytest.approx(seconds)
    assert found.static_pj * samples == pytest.approx(static * 1e12, rel=1e-9, abs=1e-3)
    assert (found.static_pj + found.dynamic_pj) * samples == pytest.approx(
        (static + dynamic) * 1e12, rel=1e-9, abs=1e-3
    )


def test_readings_are_summed_over_steps() -> None:
    found = read_probes(
        SimpleNamespace(
            energy=3.0, static_energy=np.array([1.0, 0.5]), execution_time=np.full(8, 0.25)
        )
    )
    assert found == {"energy": 3.0, "static_energy": 1.5, "execution_time": 2.0}
    assert check_readings(found) == Readings(3.0, 1.5, 2.0)


@pytest.mark.parametrize("energy", [None, np.nan, [], "none"])
def test_what_a_board_does_not_give_is_not_zero(energy: object) -> None:
    found = read_probes(SimpleNamespace(energy=energy, execution_time=[1.0]))
    assert found["energy"] is None and found["static_energy"] is None
    with pytest.raises(
        NeurocompileError, match="NC7006 the board gave no energy, no static_energy: "
    ):
        check_readings(found)


@pytest.mark.parametrize("readings", [(1.0, 2.0, 1.0), (1.0, -0.5, 1.0), (1.0, 0.5, 0.0)])
def test_readings_that_contradict_each_other_are_refused(
    readings: tuple[float, float, float],
) -> None:
    names = ("energy", "static_energy", "execution_time")
    with pytest.raises(NeurocompileError, match="NC7006 .* contradict"):
        check_readings(dict(zip(names, readings, strict=True)))


def test_without_the_extension_lava_has_no_probes() -> None:
    pytest.importorskip("lava.magma.core", reason="the extra 'lava' is not installed")
    from lava.magma.core.run_configs import Loihi2HwCfg
    from lava.utils.loihi import is_installed

    if is_installed():
        pytest.skip("Intel's extension is installed")
    with pytest.raises(NeurocompileError, match="NC4002 Lava has no power probes for Loihi2HwCfg"):
        attach_probes(Loihi2HwCfg(), 16)
