"""One artifact for all tests of the command line; the command line is called in this process."""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import neurocompile
from neurocompile.cli import main
from neurocompile.ir.circuit import LIF
from neurocompile.program import Program

ZOO = Path(__file__).parents[2] / "models" / "zoo" / "qkformer_digits"


PROGRESS = re.compile(r"^  [^\n]*\d( s|/[\d,]+)(, about [^\n]* left)?\n", re.MULTILINE)
"""Lines of stages that took a second or more: a machine under load has more of them."""


class Called(NamedTuple):
    """What a call of the command line gave."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Stdout as the one JSON object it has to be."""
        return json.loads(self.out)


@pytest.fixture
def cli(capfd: pytest.CaptureFixture[str]) -> Callable[..., Called]:
    """Call the command line in this process; stdout and stderr of everything, file descriptors
    included.
    """

    def call(*arguments: object) -> Called:
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in arguments])
        out, err = capfd.readouterr()
        found = Called(int(stop.value.code or 0), out, PROGRESS.sub("", err))
        assert "Traceback" not in found.out + found.err
        return found

    return call


@pytest.fixture(scope="session")
def model() -> Path:
    """A trained model."""
    return ZOO / "qkformer.onnx"


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three labelled samples."""
    path = tmp_path_factory.mktemp("data") / "three.npz"
    with np.load(ZOO / "test.npz") as archive:
        np.savez(path, x=archive["x"][:3], y=archive["y"][:3])
    return path


@pytest.fixture(scope="session")
def program(model: Path) -> Program:
    """The model, compiled."""
    return neurocompile.compile(model)


@pytest.fixture(scope="session")
def artifact(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program's file."""
    path = tmp_path_factory.mktemp("artifact") / "qkformer.nca"
    program.save(path)
    return path


@pytest.fixture(scope="session")
def altered(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An intact file whose circuit has one threshold that the quantized model does not have."""
    circuit = program.circuit
    first = next(
        p for p in circuit.populations if isinstance(p, LIF) and p.name == circuit.views[0].src
    )
    raised = dataclasses.replace(first, vth=first.vth + 40)
    populations = tuple(raised if p is first else p for p in circuit.populations)
    path = tmp_path_factory.mktemp("altered") / "altered.nca"
    dataclasses.replace(program, circuit=circuit.replace(populations=populations)).save(path)
    return path
