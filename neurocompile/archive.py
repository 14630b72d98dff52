"""The container of artifacts and of the stage cache: a zip of stored members with fixed times,
written whole or not at all.

Members are not compressed, so that their bytes depend on nothing but their content (zlib differs
between Pythons).
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import BinaryIO

from neurocompile.errors import NeurocompileError
from neurocompile.files import open_input, write_output

__all__ = ["MALFORMED", "read_archive", "sha256", "write_archive"]

MALFORMED = (
    ArithmeticError,
    AttributeError,
    IndexError,
    KeyError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What values of wrong types and sizes raise where nothing checks them one by one."""

_TIME = (1980, 1, 1, 0, 0, 0)
_LARGEST_MEMBER = 4 << 30


def sha256(data: bytes) -> str:
    """Hex digest."""
    return hashlib.sha256(data).hexdigest()


def write_archive(path: Path, members: Mapping[str, bytes]) -> None:
    """Write ``members`` in their order; NC5005 (and nothing left behind) if that fails."""

    def write(file: BinaryIO) -> None:
        with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
            for name, data in members.items():
                info = zipfile.ZipInfo(name, _TIME)
                info.external_attr = 0o644 << 16
                archive.writestr(info, data)

    write_output(path, write)


def read_archive(
    path: Path, names: Collection[str], optional: Collection[str] = ()
) -> dict[str, bytes]:
    """All members, which must be ``names`` and may be ``optional``; NC1001 or NC5001 if that is not an artifact.

    Names, sizes and places are checked before anything is read: what lies in an archive may
    promise more than it holds, twice, or at the same place.
    """
    try:
        with open_input(path) as file, zipfile.ZipFile(file) as archive:
            found = archive.infolist()
            held = [info.filename for info in found]
            wanted = {*names, *(name for name in optional if name in held)}
            if sorted(held) != sorted(wanted):
                missing = sorted(set(names) - set(held)) or "unknown or twice"
                raise NeurocompileError(
                    "NC5001", f"'{path}' is not a neurocompile artifact: members {missing}"
                )
            for info in found:
                if info.compress_type != zipfile.ZIP_STORED or info.file_size > _LARGEST_MEMBER:
                    raise NeurocompileError(
                        "NC5001", f"'{path}': member '{info.filename}' is compressed or too large"
                    )
            if sum(info.file_size for info in found) > path.stat().st_size:
                raise NeurocompileError("NC5001", f"'{path}': its members lie over each other")
            return {info.filename: archive.read(info) for info in found}
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:
        raise NeurocompileError(
            "NC5001", f"'{path}' is not a neurocompile artifact or is cut short: {error}"
        ) from error
    except OSError as error:
        raise NeurocompileError(
            "NC1001", f"cannot read '{path}': {error.strerror or error}"
        ) from error
