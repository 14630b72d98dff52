"""A compiled program, once for all pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

import neurocompile
from neurocompile.program import Program

ZOO = Path(__file__).parents[2] / "models" / "zoo" / "qkformer_digits"


@pytest.fixture(scope="session")
def digits() -> Program:
    """The digits model on Loihi 2."""
    pytest.importorskip("matplotlib", reason="needs the extra plot")
    return neurocompile.compile(ZOO / "qkformer.onnx")
