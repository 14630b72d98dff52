"""Who vouches for an artifact: Ed25519 over its manifest."""

from __future__ import annotations

import json
import zipfile

import pytest

from neurocompile import NeurocompileError
from neurocompile.artifact.verify import verify

pytest.importorskip("cryptography")
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519


def pem(key, public: bool = False) -> bytes:
    if public:
        return key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


@pytest.fixture(scope="module")
def keys(tmp_path_factory):
    """(private, public, another public key), and what is no Ed25519 key."""
    folder = tmp_path_factory.mktemp("keys")
    one, other = (ed25519.Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in (1, 2))
    for name, content in {
        "key.pem": pem(one),
        "key.pub": pem(one, public=True),
        "other.pub": pem(other, public=True),
        "curve.pem": pem(ec.generate_private_key(ec.SECP256R1())),
        "junk.pem": b"junk",
        "large.pem": b"x" * 100_000,
    }.items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def signed(digits_program, keys, tmp_path_factory):
    path = tmp_path_factory.mktemp("signed") / "signed.nca"
    digits_program.save(path, signing_key=keys / "key.pem")
    return path


def members(path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(path, files):
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def test_a_signed_artifact_verifies_against_its_key_alone(signed, keys):
    found = verify(signed, keys / "key.pub")
    assert found.trusted and found.signed_by is not None
    with pytest.raises(NeurocompileError, match="NC5007.*trusted is"):
        verify(signed, keys / "other.pub")


def test_the_same_key_gives_the_same_bytes(signed, digits_program, keys, tmp_path):
    digits_program.save(tmp_path / "again.nca", signing_key=keys / "key.pem")
    assert (tmp_path / "again.nca").read_bytes() == signed.read_bytes()


def test_an_unsigned_artifact_is_not_trusted(digits_program, keys, tmp_path):
    digits_program.save(tmp_path / "plain.nca")
    with pytest.raises(NeurocompileError, match="NC5007.*not signed"):
        verify(tmp_path / "plain.nca", keys / "key.pub")


def test_any_change_of_the_manifest_or_the_signature_is_found(signed, keys, tmp_path):
    files = members(signed)
    manifest = json.loads(files["manifest.json"]) | {"model": "another"}
    signature = json.loads(files["signature.json"])
    other = f"{int(signature['signature'][:2], 16) ^ 1:02x}" + signature["signature"][2:]
    for changed in (
        {"manifest.json": json.dumps(manifest).encode()},
        {"manifest.json": files["manifest.json"] + b" "},
        {"signature.json": json.dumps(signature | {"signature": other}).encode()},
        {"signature.json": json.dumps(signature | {"signature": "zz"}).encode()},
    ):
        path = packed(tmp_path / "forged.nca", files | changed)
        with pytest.raises(NeurocompileError, match="NC5007.*changed after"):
            verify(path, keys / "key.pub")


@pytest.mark.parametrize("name", ["curve.pem", "junk.pem", "large.pem", "absent.pem", "key.pub"])
def test_what_is_no_private_key_is_said_before_anything_is_written(
    name, digits_program, keys, tmp_path
):
    with pytest.raises(NeurocompileError, match="NC5006"):
        digits_program.save(tmp_path / "x.nca", signing_key=keys / name)
    assert not list(tmp_path.iterdir())
