"""The container of an artifact: a zip of stored members with fixed times, written whole or not at
all.

Members are not compressed, so that their bytes depend on nothing but their content (zlib differs
between Pythons).
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

from neurocompile.errors import NeurocompileError

__all__ = ["read_archive", "sha256", "write_archive"]

_TIME = (1980, 1, 1, 0, 0, 0)
_LARGEST_MEMBER = 4 << 30


def sha256(data: bytes) -> str:
    """Hex digest."""
    return hashlib.sha256(data).hexdigest()


def write_archive(path: Path, members: Mapping[str, bytes]) -> None:
    """Write ``members`` in their order; NC5005 (and nothing left behind) if that fails."""
    try:
        handle, temporary = tempfile.mkstemp(
            dir=path.parent, prefix=f".{path.name}.", suffix=".part"
        )
        try:
            with (
                os.fdopen(handle, "wb") as file,
                zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive,
            ):
                for name, data in members.items():
                    info = zipfile.ZipInfo(name, _TIME)
                    info.external_attr = 0o644 << 16
                    archive.writestr(info, data)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError as error:
        raise NeurocompileError(
            "NC5005", f"cannot write '{path}': {error.strerror or error}"
        ) from error


def read_archive(path: Path) -> dict[str, bytes]:
    """All members; NC1001 or NC5001 if that is not an artifact."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {}
            for info in archive.infolist():
                if info.compress_type != zipfile.ZIP_STORED or info.file_size > _LARGEST_MEMBER:
                    raise NeurocompileError(
                        "NC5001", f"'{path}': member '{info.filename}' is compressed or too large"
                    )
                members[info.filename] = archive.read(info)
            return members
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise NeurocompileError(
            "NC5001", f"'{path}' is not a neurocompile artifact or is cut short: {error}"
        ) from error
    except OSError as error:
        raise NeurocompileError(
            "NC1001", f"cannot read '{path}': {error.strerror or error}"
        ) from error
