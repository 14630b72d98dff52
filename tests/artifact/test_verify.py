"""Verification lowers the quantized graph again: a circuit altered where the proof's samples do not
look is found.
"""

from __future__ import annotations

import dataclasses

import msgspec
import numpy as np
import pytest

from neurocompile import NeurocompileError
from neurocompile import proof as proofs
from neurocompile.artifact.verify import verify
from neurocompile.proof import make_proof
from neurocompile.targets.shipped import unlike_shipped


def test_a_circuit_that_is_not_its_quantized_graphs_is_refused_though_its_proof_is_made_anew(
    digits_program, tmp_path
):
    circuit, manifest = digits_program.circuit, digits_program.manifest
    name = next(k for k, v in circuit.tensors.items() if v.ndim == 4)
    weight = circuit.tensors[name].copy()
    weight.flat[0] -= 2 * np.sign(weight.flat[0]) if weight.flat[0] else -2
    altered = circuit.replace(tensors={**circuit.tensors, name: weight})
    proof = make_proof(altered, manifest.proof.samples, manifest.proof.seed)
    forged = dataclasses.replace(
        digits_program, circuit=altered, manifest=msgspec.structs.replace(manifest, proof=proof)
    )
    forged.save(tmp_path / "forged.nca")
    with pytest.raises(NeurocompileError, match="NC5004.*does not give its circuit"):
        verify(tmp_path / "forged.nca")


def test_a_proof_is_the_same_from_runs_that_hold_few_outputs(digits_program, monkeypatch):
    circuit, proof = digits_program.circuit, digits_program.manifest.proof
    monkeypatch.setattr(proofs, "_PROOF_BYTES", 100_000)
    groups = proofs._hashed_together(circuit, proof.samples)
    assert len(groups) > 5
    assert [name for names in groups for name in names] == sorted(circuit.population)
    assert make_proof(circuit, proof.samples, proof.seed) == proof


def test_a_target_that_is_not_the_shipped_one_is_named(digits_program, tmp_path):
    digits_program.save(tmp_path / "own.nca")
    found = verify(tmp_path / "own.nca")
    assert (found.target, found.unlike_shipped) == (digits_program.target.name, ())
    document = msgspec.to_builtins(digits_program.target)
    document["description"] = "a chip of somebody's own"
    changed = msgspec.convert(document, type(digits_program.target))
    assert unlike_shipped(changed) == ("description",)
    document["name"] = "somebodys"
    assert unlike_shipped(msgspec.convert(document, type(digits_program.target))) is None
