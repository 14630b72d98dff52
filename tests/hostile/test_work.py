"""Work that a number or a file asks for has an end, and is refused before it begins."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_cases import small

import neurocompile
from neurocompile import NeurocompileError


@pytest.mark.parametrize("wanted", [0, -1, 1001, 10**9, 10**30])
def test_subsamples_have_a_limit(wanted: int) -> None:
    started = time.monotonic()
    with pytest.raises(NeurocompileError, match=r"NC8003 subsamples .* from 1 to 1,000"):
        neurocompile.deff(np.random.default_rng(0).random((30, 6)), subsamples=wanted)
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("wanted", [10**9, 10**20])
def test_random_samples_of_a_budget_have_a_limit(wanted: int, tmp_path: Path) -> None:
    onnx.save(small(), tmp_path / "m.onnx")
    with (
        pytest.warns(UserWarning, match="no calibration data"),
        pytest.raises(NeurocompileError, match=r"NC8003 samples is 1.* from 1 to "),
    ):
        neurocompile.budget(tmp_path / "m.onnx", samples=wanted)


@pytest.mark.parametrize("name", ["x" * 5000 + ".npy", "x" * 5000 + ".npz", "a\0b.npz"])
def test_names_that_no_file_can_have(name: str, tmp_path: Path) -> None:
    with pytest.raises(NeurocompileError, match="NC1001 cannot read"):
        neurocompile.deff(tmp_path / name)


def test_the_script_of_a_local_job_is_its_command(tmp_path: Path) -> None:
    pytest.importorskip("submitit")
    from neurocompile.submission.sending import script_of

    found = script_of(tmp_path, cluster="local")
    assert found.startswith("#!/bin/sh\n") and "submitit.core._submit" in found
