"""What all tests share: the marker ``slow``, the digits model compiled once, and its images."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import settings

ROOT = Path(__file__).parents[1]
DIGITS = ROOT / "models" / "zoo" / "qkformer_digits"

# CI judges a change by the same examples each time; everywhere else every run tries new ones
settings.register_profile("ci", derandomize=True, print_blob=True)
if os.environ.get("CI"):
    settings.load_profile("ci")

# a test sees what it computes, not what another kept, and leaves nothing in the user's cache
os.environ["NEUROCOMPILE_CACHE"] = "off"

sys.path.insert(0, str(Path(__file__).parent))  # for spiking_cases, under any import mode of pytest

if os.environ.get("NUMBA_DISABLE_JIT") == "1":  # compiled loops run as Python, so all of them do
    import plain_vectors

    plain_vectors.install()


class Data(NamedTuple):
    """``x`` float32 (samples, 1, 8, 8), ``y`` int64 (samples,)."""

    x: np.ndarray
    y: np.ndarray


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--slow",
        action="store_true",
        help="run the tests marked slow too (or set NEUROCOMPILE_SLOW=1)",
    )
    parser.addoption(
        "--nightly", action="store_true", help="with --slow: run the tests marked nightly too"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "slow: takes many seconds; runs only with --slow or NEUROCOMPILE_SLOW=1"
    )
    config.addinivalue_line(
        "markers", "nightly: the long rest of a law whose sample is slow; runs only with --nightly"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    slow = config.getoption("--slow") or os.environ.get("NEUROCOMPILE_SLOW") == "1"
    for item in items:
        if "nightly" in item.keywords and not config.getoption("--nightly"):
            item.add_marker(pytest.mark.skip(reason="nightly: run with --slow --nightly"))
        elif "slow" in item.keywords and not slow:
            item.add_marker(pytest.mark.skip(reason="slow: run with --slow"))


@pytest.fixture(scope="session")
def digits_model() -> Path:
    """The trained QKFormer for digits."""
    return DIGITS / "qkformer.onnx"


@pytest.fixture(scope="session")
def digits_data() -> Data:
    """The 360 held-out images."""
    with np.load(DIGITS / "test.npz") as archive:
        return Data(archive["x"], archive["y"])


@pytest.fixture(scope="session")
def digits_program(digits_model: Path):
    """The digits model compiled for loihi2 with T = 4, once."""
    import neurocompile

    return neurocompile.compile(digits_model, target="loihi2", T=4)
