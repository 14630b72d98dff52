"""A folder of text files, each whole or not there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import BinaryIO

from neurocompile.errors import NeurocompileError
from neurocompile.files import write_output

__all__ = ["write_folder"]


def write_folder(folder: str | Path, files: Mapping[str, Iterable[str]]) -> None:
    """Write ``files`` (name -> parts of text, one after the other) into ``folder``, which is made
    where it is missing; NC5005 where it cannot be written.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise NeurocompileError(
            "NC5005",
            f"cannot write '{folder}': {error.strerror or error}; give another folder with -o",
        ) from error
    for name, parts in files.items():

        def write(out: BinaryIO, parts: Iterable[str] = parts) -> None:
            for part in parts:
                out.write(part.encode())

        write_output(folder / name, write)
