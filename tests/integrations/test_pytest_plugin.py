"""The plugin as another repository sees it, in a pytest of its own."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest
from onnx_cases import small

pytest_plugins = ["pytester"]

TESTS = """
import numpy as np
import pytest

X = np.random.default_rng(0).random((4, 4)).astype("float32")


def test_exact(nc_program, nc_parity):
    program = nc_program("m.onnx", T=4)
    assert program is nc_program("m.onnx", T=4)
    assert nc_parity(program, X).exact


def test_target(nc_program):
    assert nc_program("m.onnx", T=4).target.name == "sim_small"


def test_broken(nc_program, nc_parity):
    import dataclasses

    program = nc_program("m.onnx", T=4)
    silent = {name: 0 * tensor for name, tensor in program.circuit.tensors.items()}
    circuit = program.circuit.replace(tensors=silent)
    nc_parity(dataclasses.replace(program, circuit=circuit), X)


@pytest.mark.requires_loihi
def test_chip():
    raise AssertionError("no chip here")
"""


def test_fixtures_options_and_marker(pytester: pytest.Pytester) -> None:
    (pytester.path / "m.onnx").write_bytes(small().SerializeToString())
    pytester.makepyfile(TESTS)
    if not entry_points(group="pytest11", name="neurocompile"):
        pytest.skip("neurocompile is not installed, so no entry point names the plugin")
    found = pytester.runpytest_subprocess("-p", "no:xdist", "--nc-target", "sim_small", "-rs")
    found.assert_outcomes(passed=2, failed=1, skipped=1)
    found.stdout.fnmatch_lines(
        ["*AssertionError: 'm' is not exact:*", "*first at layer*step*", "*requires_loihi*"]
    )
