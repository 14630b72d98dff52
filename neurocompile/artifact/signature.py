"""Signatures of artifacts: Ed25519 (RFC 8032) over the manifest, which holds the hash of what runs.

Hashes show damage; a signature shows who vouches for an artifact. Keys are PEM files as `openssl
genpkey -algorithm ed25519` writes them (docs/artifacts.md). ``versions.json`` is not covered: it
says what the artifact was built with, and nothing reads it but people.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from neurocompile.errors import NeurocompileError
from neurocompile.files import read_input

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import (
        Ed25519PrivateKey,
        Ed25519PublicKey,
    )

__all__ = ["Signature", "check_signature", "load_public_key", "load_signing_key", "sign"]

_CONTEXT = b"neurocompile artifact 1\n"
"""Before the manifest, so that a signature of something else never fits."""
_KEY_BYTES = 1 << 14


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``signature.json`` holds. ``key`` is the fingerprint of the signer's public key."""

    algorithm: str
    key: str
    signature: str
    """64 bytes in hexadecimal."""


def load_signing_key(path: str | Path) -> Ed25519PrivateKey:
    """An unencrypted Ed25519 private key; NC5006 for anything else."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = _load(path, "load_pem_private_key", password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise _no_key(path, "private")
    return key


def load_public_key(path: str | Path) -> Ed25519PublicKey:
    """An Ed25519 public key; NC5006 for anything else."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    key = _load(path, "load_pem_public_key")
    if not isinstance(key, Ed25519PublicKey):
        raise _no_key(path, "public")
    return key


def sign(manifest: bytes, key: Ed25519PrivateKey) -> Signature:
    """The signature of a manifest; the same bytes for the same key."""
    return Signature("ed25519", fingerprint(key.public_key()), key.sign(_CONTEXT + manifest).hex())


def check_signature(
    path: Path, manifest: bytes, signature: Signature | None, trusted: str | Path
) -> None:
    """NC5007 unless ``signature`` is one of ``manifest`` by the owner of the public key in the file
    ``trusted``.
    """
    from cryptography.exceptions import InvalidSignature

    key = load_public_key(trusted)
    if signature is None:
        raise NeurocompileError("NC5007", f"'{path}' is not signed; build it with `sign`")
    own = fingerprint(key)
    if signature.algorithm != "ed25519" or signature.key != own:
        raise NeurocompileError(
            "NC5007",
            f"'{path}' is signed by key {signature.key[:16]}, trusted is {own[:16]} ('{trusted}')",
        )
    try:
        key.verify(bytes.fromhex(signature.signature), _CONTEXT + manifest)
    except (InvalidSignature, ValueError) as error:
        raise NeurocompileError(
            "NC5007", f"'{path}' was changed after it was signed, or its signature is forged"
        ) from error


def fingerprint(key: Ed25519PublicKey) -> str:
    """SHA-256 of the raw public key, hexadecimal."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()


def _load(path: str | Path, how: str, **options: Any) -> Any:
    try:
        from cryptography.exceptions import UnsupportedAlgorithm
        from cryptography.hazmat.primitives import serialization
    except ImportError as error:
        raise NeurocompileError(
            "NC4001", f"signatures need cryptography: pip install 'neurocompile[sign]' ({error})"
        ) from error
    data = read_input(path, _KEY_BYTES, "NC5006")
    try:
        return getattr(serialization, how)(data, **options)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        kind = "private" if "private" in how else "public"
        raise _no_key(path, kind) from error


def _no_key(path: str | Path, kind: str) -> NeurocompileError:
    return NeurocompileError(
        "NC5006",
        f"'{path}' is no {kind} Ed25519 key in PEM without a password; 'openssl genpkey -algorithm "
        "ed25519 -out key.pem' makes one, 'openssl pkey -in key.pem -pubout -out key.pub' its "
        "public half",
    )
