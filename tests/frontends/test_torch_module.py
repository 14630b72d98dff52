"""Compiling a SpikingJelly module as the user has it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

import neurocompile
from neurocompile.errors import NeurocompileError
from neurocompile.frontends.torch.module import is_factory

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")

FACTORY = """
import torch
from neurocompile.models.qkformer import QKFormer, QKFormerConfig

def make():
    torch.manual_seed(0)
    return QKFormer(QKFormerConfig()), torch.rand(2, 1, 8, 8)

def wrong():
    return 3
"""


def test_a_module_compiles_to_the_program_of_its_exported_file(tmp_path):
    from neurocompile.models.qkformer import QKFormer, QKFormerConfig

    torch.manual_seed(1)
    module, x = QKFormer(QKFormerConfig()), torch.rand(3, 1, 8, 8)
    before = {k: v.clone() for k, v in module.state_dict().items()}
    program = neurocompile.compile(module, x, target="loihi2", T=4)
    neurocompile.export_onnx(module, x, tmp_path / "qkformer.onnx")
    from_file = neurocompile.compile(tmp_path / "qkformer.onnx", target="loihi2", T=4)
    assert program.circuit.text() == from_file.circuit.text()
    assert program.manifest == from_file.manifest
    assert all(torch.equal(v, before[k]) for k, v in module.state_dict().items())
    np.testing.assert_array_equal(program.run(x.numpy()).logits, from_file.run(x.numpy()).logits)


def test_a_module_without_example_input_is_refused():
    with pytest.raises(NeurocompileError, match="NC1014.*example input"):
        neurocompile.compile(torch.nn.Linear(2, 2))


def test_only_module_colon_function_is_a_factory():
    assert is_factory("package.module:function")
    assert not any(map(is_factory, ("model.onnx", "a:b:c", "C:\\model.onnx", "pkg.:f", ":f", "m:")))


@pytest.mark.slow
def test_the_command_line_builds_from_a_factory(tmp_path):
    (tmp_path / "mymodel.py").write_text(FACTORY)
    command = [sys.executable, "-m", "neurocompile", "build"]
    built = subprocess.run([*command, "mymodel:make"], cwd=tmp_path, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    assert neurocompile.load(tmp_path / "make.nca").manifest.model == "qkformer"
    for name, why in (("wrong", "returned int"), ("absent", "no attribute")):
        failed = subprocess.run(
            [*command, f"mymodel:{name}"], cwd=tmp_path, capture_output=True, text=True
        )
        assert failed.returncode == 2
        assert failed.stderr.startswith("error: NC1014") and why in failed.stderr
