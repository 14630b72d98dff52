"""Artifacts are reproducible to the byte, written whole or not at all, and nothing hostile gets
past loading.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

import neurocompile
from neurocompile import NeurocompileError
from neurocompile.artifact.verify import verify

MEMBERS = (
    "manifest.json",
    "quantized.txt",
    "circuit.txt",
    "weights.safetensors",
    "mapping.json",
    "target.json",
    "calibration.json",
    "versions.json",
)


@pytest.fixture(scope="module")
def artifact(digits_program, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("artifact") / "digits.nca"
    digits_program.save(path)
    return path


@pytest.fixture
def members(artifact) -> dict[str, bytes]:
    with zipfile.ZipFile(artifact) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def write(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def rehashed(members: dict[str, bytes], **changed: object) -> dict[str, bytes]:
    """The members with a manifest that vouches for them, as somebody who forges an artifact would
    write it.
    """
    manifest = json.loads(members["manifest.json"]) | changed
    hashed = {k: v for k, v in members.items() if k not in ("manifest.json", "versions.json")}
    manifest["members"] = {k: hashlib.sha256(v).hexdigest() for k, v in hashed.items()}
    return members | {"manifest.json": json.dumps(manifest).encode()}


def code_of(action, *arguments) -> str:
    with pytest.raises(NeurocompileError) as error:
        action(*arguments)
    return error.value.code


def harmless(action, *arguments) -> str:
    """ "" if ``action`` succeeds, its code if it refuses; anything but a NeurocompileError fails
    the test.
    """
    try:
        action(*arguments)
    except NeurocompileError as error:
        return error.code
    return ""


# ---- the same bytes ------------------------------------------------------------------------------


def test_saving_a_loaded_artifact_gives_the_same_bytes(artifact, tmp_path):
    neurocompile.load(artifact).save(tmp_path / "again.nca")
    assert (tmp_path / "again.nca").read_bytes() == artifact.read_bytes()


def test_a_loaded_program_is_the_saved_one(artifact, digits_program, digits_data):
    loaded = neurocompile.load(artifact)
    assert loaded.circuit.text() == digits_program.circuit.text()
    assert loaded.mapping == digits_program.mapping and loaded.target == digits_program.target
    np.testing.assert_array_equal(
        loaded.run(digits_data.x[:9]).logits, digits_program.run(digits_data.x[:9]).logits
    )


def test_the_archive_holds_eight_stored_members_with_fixed_times(artifact):
    with zipfile.ZipFile(artifact) as archive:
        assert tuple(archive.namelist()) == MEMBERS
        for info in archive.infolist():
            assert info.compress_type == zipfile.ZIP_STORED and info.date_time == (
                1980,
                1,
                1,
                0,
                0,
                0,
            )


@pytest.mark.slow
def test_builds_in_other_folders_with_other_threads_and_hash_seeds_give_the_same_bytes(
    digits_model, tmp_path, artifact
):
    built = []
    for threads in "12":
        folder = tmp_path / f"build{threads}"
        folder.mkdir()
        shutil.copy(digits_model, folder)
        environment = os.environ | {
            f"{k}_NUM_THREADS": threads for k in ("OMP", "MKL", "OPENBLAS", "NUMBA")
        }
        environment |= {"PYTHONHASHSEED": threads, "PYTHONPATH": str(Path(__file__).parents[2])}
        code = f"import neurocompile as n; n.compile('{digits_model.name}', target='loihi2', T=4).save('digits.nca')"
        subprocess.run(
            [sys.executable, "-c", code], cwd=folder, env=environment, check=True, timeout=300
        )
        built.append((folder / "digits.nca").read_bytes())
    assert built[0] == built[1] == artifact.read_bytes()


def test_options_hold_for_the_cores(members, tmp_path):
    options = json.loads(members["manifest.json"])["options"] | {"max_cores": 2}
    path = write(tmp_path / "forged.nca", rehashed(members, options=options))
    assert code_of(neurocompile.load, path) == "NC5004"


# ---- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MEMBERS)
@pytest.mark.parametrize("where", [0.0, 0.3, 0.999])
def test_one_flipped_bit_in_any_member_is_noticed(members, tmp_path, name, where):
    data = bytearray(members[name])
    data[int(where * len(data))] ^= 0x02
    path = write(tmp_path / "damaged.nca", members | {name: bytes(data)})
    assert (
        harmless(neurocompile.load, path) in ("NC5001", "NC5002", "NC5003")
        or name == "manifest.json"
    )


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.9, 0.999])
def test_a_file_cut_short_is_no_artifact(artifact, tmp_path, share):
    data = artifact.read_bytes()
    (tmp_path / "cut.nca").write_bytes(data[: int(share * len(data))])
    assert code_of(neurocompile.load, tmp_path / "cut.nca") == "NC5001"


def test_what_is_not_a_zip_is_no_artifact(tmp_path, digits_model):
    assert code_of(neurocompile.load, digits_model) == "NC5001"
    (tmp_path / "text.nca").write_text("PK\x03\x04 not really")
    assert code_of(neurocompile.load, tmp_path / "text.nca") == "NC5001"


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    assert code_of(neurocompile.load, tmp_path / "absent.nca") == "NC1001"
    assert code_of(neurocompile.load, tmp_path) == "NC1001"


@pytest.mark.parametrize("schema", [0, 1, 99, "1", None])
def test_another_schema_version_is_refused(members, tmp_path, schema):
    path = write(tmp_path / "old.nca", rehashed(members, schema=schema))
    assert code_of(neurocompile.load, path) == "NC5003"


def test_an_unknown_field_of_the_manifest_is_refused(members, tmp_path):
    assert (
        code_of(neurocompile.load, write(tmp_path / "m.nca", rehashed(members, surprise=1)))
        == "NC5001"
    )


def test_compressed_members_are_refused(members, tmp_path):
    path = write(tmp_path / "small.nca", members, zipfile.ZIP_DEFLATED)
    assert code_of(neurocompile.load, path) == "NC5001"


@pytest.mark.parametrize("extra", ["extra.txt", "../outside.txt", "/etc/absolute"])
def test_an_extra_member_is_refused_and_never_extracted(members, tmp_path, extra):
    assert (
        code_of(neurocompile.load, write(tmp_path / "more.nca", members | {extra: b"x"}))
        == "NC5001"
    )
    assert [p.name for p in tmp_path.iterdir()] == ["more.nca"]


@pytest.mark.parametrize("name", MEMBERS)
def test_a_missing_member_is_refused(members, tmp_path, name):
    path = write(tmp_path / "less.nca", {k: v for k, v in members.items() if k != name})
    assert code_of(neurocompile.load, path) == "NC5001"


def test_two_hundred_random_bit_flips_never_escape_as_another_exception(artifact, tmp_path):
    data, rng = artifact.read_bytes(), random.Random(0)
    start = data.rindex(
        b"PK\x01\x02", 0, data.index(b"PK\x05\x06")
    )  # of the last entry of the directory
    directory = data.index(b"PK\x01\x02")
    for i in range(200):
        damaged = bytearray(data)
        # a third anywhere, a third in the directory, a third in its end
        low = (0, directory, start)[i % 3]
        damaged[rng.randrange(low, len(data))] ^= 1 << rng.randrange(8)
        (tmp_path / "flip.nca").write_bytes(damaged)
        harmless(neurocompile.load, tmp_path / "flip.nca")


@pytest.mark.parametrize(
    "name",
    [
        "quantized.txt",
        "circuit.txt",
        "mapping.json",
        "target.json",
        "calibration.json",
        "manifest.json",
    ],
)
def test_forged_members_never_escape_as_another_exception(members, tmp_path, name):
    rng, data = random.Random(name), members[name]
    lines = data.split(b"\n")
    for i in range(60):
        forged = bytearray(data)
        if i % 3 == 0:
            forged[rng.randrange(len(data))] = rng.randrange(256)
        elif i % 3 == 1:  # a number becomes something else
            at = rng.choice([k for k, byte in enumerate(data) if chr(byte).isdigit()])
            forged[at : at + 1] = rng.choice(
                [b"-1", b"0", b"99999", b"1.5", b'"x"', b"[]", b"null", b"%x"]
            )
        else:  # a line is lost, or said twice
            kept = lines[:]
            k = rng.randrange(len(lines))
            kept[k : k + 1] = [lines[k]] * rng.choice([0, 2])
            forged = bytearray(b"\n".join(kept))
        changed = members | {name: bytes(forged)}
        try:
            changed = changed if name == "manifest.json" else rehashed(changed)
        except ValueError:
            continue
        harmless(neurocompile.load, write(tmp_path / "forged.nca", changed))


def test_forged_weights_that_are_no_tensors_are_refused(members, tmp_path):
    for data in (b"", b"\xff" * 40, b"\x08\0\0\0\0\0\0\0{}      "):
        path = write(tmp_path / "w.nca", rehashed(members | {"weights.safetensors": data}))
        assert code_of(neurocompile.load, path) == "NC5001"


# ---- writing -------------------------------------------------------------------------------------


def test_a_file_that_cannot_be_written_leaves_nothing_behind(digits_program, tmp_path):
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "folder").mkdir()
    for path in (tmp_path / "absent" / "a.nca", tmp_path / "file" / "a.nca", tmp_path / "folder"):
        assert code_of(digits_program.save, path) == "NC5005"
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder"]


def test_writing_replaces_an_older_file_whole(artifact, digits_program, tmp_path):
    (tmp_path / "a.nca").write_bytes(b"old" * 1_000_000)
    digits_program.save(tmp_path / "a.nca")
    assert (tmp_path / "a.nca").read_bytes() == artifact.read_bytes()
    assert [p.name for p in tmp_path.iterdir()] == ["a.nca"]


# ---- verify --------------------------------------------------------------------------------------


def test_a_good_artifact_verifies(artifact, digits_program):
    found = verify(artifact)
    assert (found.members, found.samples) == (8, digits_program.manifest.proof.samples)
    assert found.cores == digits_program.mapping.cores_used
    assert found.populations == len(digits_program.circuit.populations)


def test_an_altered_resource_does_not_verify_even_with_a_new_hash(members, tmp_path):
    mapping = json.loads(members["mapping.json"])
    mapping["cores"][0]["used"]["neurons"] += 1
    path = write(
        tmp_path / "m.nca", rehashed(members | {"mapping.json": json.dumps(mapping).encode()})
    )
    with pytest.raises(
        NeurocompileError, match=r"core 0: the mapping records .* neurons, counted are"
    ) as error:
        verify(path)
    assert error.value.code == "NC5004"


def test_a_lost_tile_does_not_verify(members, tmp_path):
    mapping = json.loads(members["mapping.json"])
    mapping["cores"][-1]["tiles"].pop()
    path = write(
        tmp_path / "m.nca", rehashed(members | {"mapping.json": json.dumps(mapping).encode()})
    )
    assert code_of(verify, path) == "NC5004"


def test_an_altered_weight_is_not_what_the_quantized_graph_gives_even_with_a_new_hash(
    digits_program, members, tmp_path
):
    tensors = {k: v.copy() for k, v in load_tensors(members["weights.safetensors"]).items()}
    stem = next(
        q
        for q in digits_program.circuit.projections
        if q.src == digits_program.circuit.inputs[0].name
    )
    name = f"circuit:{stem.weight}"
    tensors[name].ravel()[:4] = np.clip(tensors[name].ravel()[:4] + 64, -256, 254)
    path = write(
        tmp_path / "w.nca", rehashed(members | {"weights.safetensors": save_tensors(tensors)})
    )
    with pytest.raises(NeurocompileError, match="does not give its circuit") as error:
        verify(path)
    assert error.value.code == "NC5004"


def test_an_altered_delay_does_not_even_load(digits_program, tmp_path):
    circuit = digits_program.circuit
    shorter = circuit.replace(
        period=circuit.steps,
        projections=tuple(
            dataclasses.replace(q, delay=q.delay - 1) if q.delay > 1 else q
            for q in circuit.projections
        ),
    )
    dataclasses.replace(digits_program, circuit=shorter).save(tmp_path / "d.nca")
    assert code_of(verify, tmp_path / "d.nca") == "NC5001"  # loading checks the rules already


@pytest.mark.parametrize("proof", [{"samples": -1}, {"samples": 10**15}, {"seed": -5}])
def test_a_forged_proof_is_refused(members, tmp_path, proof):
    manifest = json.loads(members["manifest.json"])
    path = write(tmp_path / "p.nca", rehashed(members, proof=manifest["proof"] | proof))
    assert code_of(verify, path) == "NC5004"


def test_a_forged_circuit_that_cannot_run_is_refused(members, tmp_path):
    text = members["circuit.txt"]
    host = next(line for line in text.split(b"\n") if b"= HostInput" in line)
    forgeries = {
        "no host": text.replace(
            host, host.replace(b"HostInput", b"GradedRelay").split(b", low")[0] + b"}"
        ),
        "no steps": text.replace(b"{steps = 4", b"{steps = 0"),
        "no samples fit": text.replace(b"low = 0, high", b"low = 99, high", 1),
        "another input": text.replace(
            host, host.replace(b"source_axes = [1, 2, 0]", b"source_axes = [1, 2, 7]")
        ),
        "an input of its own steps": text.replace(
            host, host.replace(b"low = 0", b"low = 0, stepwise = true", 1)
        ),
        "not a number": text.replace(b"{steps = 4", b'{steps = "4"'),
    }
    for why, forged in forgeries.items():
        assert forged != text, why
        path = write(tmp_path / "c.nca", rehashed(members | {"circuit.txt": forged}))
        assert code_of(verify, path) in ("NC5001", "NC5004"), why
