"""Sample data from .npz files, which are hostile until checked."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from neurocompile.arrays import as_array
from neurocompile.errors import NeurocompileError
from neurocompile.files import as_path, open_input, write_output

__all__ = [
    "Samples",
    "check_inputs",
    "check_labels",
    "first_sample",
    "load_labels",
    "load_samples",
    "save_arrays",
]

_MAX_BYTES = 2**36


@dataclass(frozen=True)
class Samples:
    """``x`` float32 (samples, *input shape), ``y`` int64 (samples,) or None."""

    x: np.ndarray
    y: np.ndarray | None


def load_samples(
    path: str | Path, shape: tuple[int, ...], limit: int | None = None, steps: int = 0
) -> Samples:
    """Read 'x' and, if there, 'y' from ``path``.

    Args:
        shape: of one sample, which 'x' must have.
        limit: read only so many samples, the first.
        steps: that each sample brings, the first of ``shape``; 0 if samples bring none.

    Raises NC1001, NC1006 (shape, dtype) or NC1012.
    """
    path = as_path(path, "NC1001")
    arrays = _arrays(path, ("x", "y"), limit)
    x = check_inputs(arrays["x"], shape, f"'x' of '{path}'", steps)
    y = arrays.get("y")
    if y is not None and (y.dtype.kind not in "iu" or y.shape != x.shape[:1]):
        raise NeurocompileError(
            "NC1006",
            f"'y' of '{path}' is {y.dtype} {list(y.shape)}; integers [{len(x)}] are needed",
        )
    return Samples(x, None if y is None else y.astype(np.int64))


def save_arrays(path: str | Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a compressed .npz, whole or not at all, the same bytes for the same arrays; NC1015 for
    another suffix, NC5005.
    """
    path = as_path(path, "NC5005")
    if path.suffix.lower() != ".npz":
        raise NeurocompileError("NC1015", f"'{path}' does not end in .npz")
    write_output(path, lambda file: np.savez_compressed(file, **dict(arrays)))


def load_labels(path: str | Path, samples: int) -> np.ndarray:
    """int64 (samples,) of an .npy file of integers; NC1001, NC1006 or NC1012."""
    path = as_path(path, "NC1001")
    with open_input(path) as file:
        try:
            found = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError, MemoryError, zipfile.BadZipFile) as error:
            raise NeurocompileError(
                "NC1012", f"'{path}' is not an .npy file of integers: {str(error)[:160]}"
            ) from error
    return check_labels(found, samples)


def first_sample(path: str | Path) -> np.ndarray:
    """The first row of 'x', (1, ...) of whatever shape and dtype; NC1001 or NC1012."""
    return _arrays(as_path(path, "NC1001"), ("x",), 1)["x"]


def _arrays(path: Path, names: tuple[str, ...], limit: int | None) -> dict[str, np.ndarray]:
    """Those of ``names`` that are there, of which 'x' has to be."""
    arrays: dict[str, np.ndarray] = {}
    with open_input(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                for name in names:
                    if f"{name}.npy" in archive.namelist():
                        arrays[name] = _first_rows(archive, name, limit)
        except (
            Exception
        ) as error:  # zipfile, zlib and numpy's header parser raise a dozen types on damaged files
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise NeurocompileError(
                "NC1012", f"'{path}' is not an .npz file of plain arrays: {reason[:160]}"
            ) from error
    if "x" not in arrays:
        raise NeurocompileError("NC1012", f"'{path}' has no array 'x'")
    return arrays


def _first_rows(archive: zipfile.ZipFile, name: str, limit: int | None) -> np.ndarray:
    """The first ``limit`` rows of an array; no more is unpacked, however much there is.

    ValueError where a header promises more than its member holds: numpy allocates what a header
    says before it reads, and a header is a few bytes of a stranger's file.
    """
    with archive.open(f"{name}.npy") as member:
        version = np.lib.format.read_magic(member)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, fortran, dtype = read(member)
        if dtype.hasobject:
            raise ValueError(f"'{name}' holds Python objects")
        size = math.prod(shape) * dtype.itemsize
        held = archive.getinfo(f"{name}.npy").file_size - member.tell()
        if size > held:
            raise ValueError(
                f"'{name}' of shape {list(shape)} needs {size:,} bytes, {held:,} are there"
            )
        kept = shape if limit is None or not shape else (min(limit, shape[0]), *shape[1:])
        wanted = size if fortran else math.prod(kept) * dtype.itemsize
        if wanted > _MAX_BYTES:
            raise ValueError(f"'{name}' holds {wanted:,} bytes, at most {_MAX_BYTES:,} are read")
        data = bytearray()
        while len(data) < wanted:
            more = member.read(min(wanted - len(data), 1 << 24))
            if not more:
                raise ValueError(f"'{name}' is cut short")
            data += more
    array = np.frombuffer(data, dtype)
    if fortran:
        return array.reshape(shape, order="F")[: kept[0] if kept else None]
    return array.reshape(kept)


def check_inputs(x: Any, shape: tuple[int, ...], name: str = "x", steps: int = 0) -> np.ndarray:
    """``x`` as float32 if it is a batch of finite floating-point samples of ``shape``; NC1006,
    NC1012, or NC1021 (another number than ``steps`` of frames) otherwise.
    """
    x = as_array(x, name)
    if x.dtype.kind != "f":
        hint = " (images: divided as the model was trained)" if x.dtype == np.uint8 else ""
        raise NeurocompileError("NC1006", f"{name} is {x.dtype}; float32 is needed{hint}")
    if steps and x.ndim == len(shape) + 1 and x.shape[2:] == tuple(shape[1:]) != x.shape[1:]:
        if x.shape[1] != steps:
            raise NeurocompileError(
                "NC1021",
                f"samples of {name} bring {x.shape[1]:,} steps (frames) each, the program runs {steps:,}: give as many "
                "frames, or build the model for the other number",
            )
    if x.shape[1:] != tuple(shape) or x.ndim != len(shape) + 1:
        raise NeurocompileError(
            "NC1006",
            f"{name} has shape {list(x.shape)}; [samples, {', '.join(map(str, shape))}] is needed",
        )
    if not len(x):
        raise NeurocompileError("NC1012", f"{name} holds no sample")
    with np.errstate(over="ignore"):  # a float64 beyond float32 becomes infinite here
        x = x.astype(np.float32)
    if not np.isfinite(x).all():
        raise NeurocompileError(
            "NC1012",
            f"{name} holds {int((~np.isfinite(x)).sum()):,} values that are NaN or infinite",
        )
    return x


def check_labels(y: object, samples: int) -> np.ndarray:
    """``y`` as int64 (samples,), classes of as many samples; NC1006 otherwise."""
    labels = as_array(y, "y")
    if labels.dtype.kind not in "iu" or labels.shape != (samples,):
        raise NeurocompileError(
            "NC1006", f"y is {labels.dtype} {list(labels.shape)}; integers [{samples}] are needed"
        )
    return labels.astype(np.int64)
