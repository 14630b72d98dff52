"""Rows of data that need not fit in memory: the array of a .npy file or 'x' of an .npz file, a
block at a time.

A .npy file and an uncompressed member of an .npz file are mapped; a compressed member is unpacked
block by block, again for each pass. Either way memory holds one block. Files are hostile until
checked: what a header promises must be there.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.files import as_path, open_input

__all__ = ["Rows", "open_rows", "rows_of"]

_LARGEST = 1e120
_BLOCK_BYTES = 1 << 25
"""Of a block as float64."""


@dataclass(frozen=True)
class Rows:
    """``samples`` flattened to ``width`` numbers each. ``array`` (mapped, or in memory), or a
    compressed file's ``path``.
    """

    source: str
    samples: int
    width: int
    array: np.ndarray | None
    path: Path | None = None
    dtype: np.dtype[Any] | None = None

    @property
    def block(self) -> int:
        """Rows of a block."""
        return max(1, _BLOCK_BYTES // (8 * self.width))

    def blocks(self) -> Iterator[tuple[int, np.ndarray]]:
        """First row and float64 (rows, width) of each block, in order; NC8001 for values that are
        not finite.
        """
        for start, raw in self._raw():
            with np.errstate(over="ignore"):  # wider floats: infinite then
                part = raw.reshape(len(raw), -1).astype(np.float64)
            finite = np.isfinite(part)
            if not finite.all():
                row = start + int(np.argmin(finite.all(axis=1)))
                raise NeurocompileError(
                    "NC8001",
                    f"{self.source}: sample {row} holds NaN or infinity; remove such samples, or mend them",
                )
            largest = float(np.abs(part).max())
            if largest > _LARGEST:
                raise NeurocompileError(
                    "NC8001",
                    f"{self.source} holds numbers up to {largest:.3g}, and squares of numbers beyond {_LARGEST:g} leave "
                    "double precision; divide the data by a constant, which changes no share of the variance",
                )
            yield start, part

    def _raw(self) -> Iterator[tuple[int, np.ndarray]]:
        if self.array is not None:
            for start in range(0, self.samples, self.block):
                yield start, np.asarray(self.array[start : start + self.block])
            return
        assert self.path is not None and self.dtype is not None
        try:
            with (
                open_input(self.path) as file,
                zipfile.ZipFile(file) as archive,
                archive.open("x.npy") as member,
            ):
                _header(member)
                for start in range(0, self.samples, self.block):
                    count = min(self.block, self.samples - start)
                    data = _exactly(member, count * self.width * self.dtype.itemsize)
                    yield start, np.frombuffer(data, self.dtype).reshape(count, self.width)
        except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
            raise NeurocompileError("NC8001", f"{self.source} is damaged: {error}") from error


def rows_of(x: np.ndarray, source: str = "the data") -> Rows:
    """An array (samples, ...) as rows; NC8001 if it is not numbers or has fewer than two samples."""
    x = np.asarray(x)
    _check(source, x.shape, x.dtype)
    return Rows(source, len(x), math.prod(x.shape[1:]), x)


def open_rows(path: str | Path) -> Rows:
    """The rows of a .npy file, or of 'x' in an .npz file; NC1001 or NC8001."""
    path = as_path(path, "NC1001")
    with open_input(path) as file:
        try:
            return _array(file, path) if path.suffix == ".npy" else _member(file, path)
        except NeurocompileError:
            raise
        except (
            Exception
        ) as error:  # zipfile, zlib and numpy's header parser raise a dozen types on damaged files
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise NeurocompileError(
                "NC8001", f"'{path}' is not a .npy or .npz file of plain arrays: {reason[:160]}"
            ) from error


def _array(file: BinaryIO, path: Path) -> Rows:
    """Of an open .npy file, mapped."""
    shape, fortran, dtype = _header(file)
    _check(f"'{path}'", shape, dtype)
    return rows_of(
        np.memmap(file, dtype, "r", file.tell(), shape, "F" if fortran else "C"), f"'{path}'"
    )


def _member(file: BinaryIO, path: Path) -> Rows:
    with zipfile.ZipFile(file) as archive:
        if "x.npy" not in archive.namelist():
            raise NeurocompileError(
                "NC8001", f"'{path}' has no array 'x'; save one with numpy.savez(path, x=samples)"
            )
        info = archive.getinfo("x.npy")
        with archive.open(info) as member:
            shape, fortran, dtype = _header(member)
            start = member.tell()
            _check(f"'x' of '{path}'", shape, dtype)
            needed = math.prod(shape) * dtype.itemsize
            if needed > info.file_size - start:
                raise ValueError(
                    f"'x' of shape {list(shape)} needs {needed:,} bytes, {info.file_size - start:,} are there"
                )
            source, width = f"'x' of '{path}'", math.prod(shape[1:])
            if info.compress_type != zipfile.ZIP_STORED:
                if fortran:
                    raise ValueError(
                        "a compressed array in column order cannot be read row by row; save it with numpy.savez"
                    )
                return Rows(source, shape[0], width, None, path, dtype)
    # a member lies behind a local header of 30 bytes, its name and its extra field
    file.seek(info.header_offset)
    local = _exactly(file, 30)
    offset = (
        info.header_offset
        + 30
        + int.from_bytes(local[26:28], "little")
        + int.from_bytes(local[28:30], "little")
        + start
    )
    array = np.memmap(file, dtype, "r", offset, shape, "F" if fortran else "C")
    return Rows(source, shape[0], width, array)


def _header(member: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = np.lib.format.read_magic(member)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    return read(member)


def _exactly(file: IO[bytes], size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        more = file.read(size - len(data))
        if not more:
            raise EOFError(f"{size - len(data):,} bytes are missing")
        data += more
    return bytes(data)


def _check(source: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    if dtype.kind not in "buif":
        raise NeurocompileError("NC8001", f"{source} is {dtype}; real numbers are needed")
    if len(shape) < 2 or math.prod(shape[1:]) < 1:
        raise NeurocompileError(
            "NC8001",
            f"{source} has shape {list(shape)}; [samples, ...] with at least one value a sample",
        )
    if shape[0] < 2:
        raise NeurocompileError(
            "NC8001",
            f"{source} holds {shape[0]} sample{'' if shape[0] == 1 else 's'}; a variance needs at least 2",
        )
