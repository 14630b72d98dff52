"""Sample data from .npz files, which are hostile until checked."""

from __future__ import annotations

import math
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from neurocompile.errors import NeurocompileError

__all__ = ["Samples", "check_inputs", "load_samples"]

_MAX_BYTES = 2**36


@dataclass(frozen=True)
class Samples:
    """``x`` float32 (samples, *input shape), ``y`` int64 (samples,) or None."""

    x: np.ndarray
    y: np.ndarray | None


def load_samples(path: str | Path, shape: tuple[int, ...], limit: int | None = None) -> Samples:
    """Read 'x' and, if there, 'y' from ``path``.

    Args:
        shape: of one sample, which 'x' must have.
        limit: use only so many samples, the first.

    Raises NC1001, NC1006 (shape, dtype) or NC1012.
    """
    path = Path(path)
    if not path.is_file():
        why = "not a regular file" if path.exists() else "no such file"
        raise NeurocompileError("NC1001", f"cannot read '{path}': {why}")
    try:
        sizes = _declared_sizes(path)
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in sizes}
    except PermissionError as error:
        raise NeurocompileError("NC1001", f"cannot read '{path}': {error.strerror}") from error
    except (
        Exception
    ) as error:  # zipfile, zlib and numpy's header parser raise a dozen types on damaged files
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise NeurocompileError(
            "NC1012", f"'{path}' is not an .npz file of plain arrays: {reason[:160]}"
        ) from error
    if "x" not in arrays:
        raise NeurocompileError("NC1012", f"'{path}' has no array 'x'")
    x = check_inputs(arrays["x"], shape, f"'x' of '{path}'")
    y = arrays.get("y")
    if y is not None and (y.dtype.kind not in "iu" or y.shape != x.shape[:1]):
        raise NeurocompileError(
            "NC1006",
            f"'y' of '{path}' is {y.dtype} {list(y.shape)}; integers [{len(x)}] are needed",
        )
    return Samples(x[:limit], None if y is None else y[:limit].astype(np.int64))


def _declared_sizes(path: Path) -> dict[str, int]:
    """Bytes of 'x' and 'y', if there; ValueError where an array's header promises more than its
    member holds.

    numpy allocates what a header says before it reads, and a header is a few bytes of a stranger's
    file.
    """
    sizes = {}
    with zipfile.ZipFile(path) as archive:
        for name in ("x", "y"):
            if f"{name}.npy" not in archive.namelist():
                continue
            with archive.open(f"{name}.npy") as member:
                version = np.lib.format.read_magic(member)
                read = (
                    np.lib.format.read_array_header_1_0
                    if version == (1, 0)
                    else np.lib.format.read_array_header_2_0
                )
                shape, _, dtype = read(member)
                if dtype.hasobject:
                    raise ValueError(f"'{name}' holds Python objects")
                sizes[name] = math.prod(shape) * dtype.itemsize
                held = archive.getinfo(f"{name}.npy").file_size - member.tell()
            if sizes[name] > min(held, _MAX_BYTES):
                raise ValueError(
                    f"'{name}' of shape {list(shape)} needs {sizes[name]:,} bytes, {held:,} are there"
                )
    return sizes


def check_inputs(x: np.ndarray, shape: tuple[int, ...], name: str = "x") -> np.ndarray:
    """``x`` as float32 if it is a batch of finite floating-point samples of ``shape``; NC1006 or
    NC1012 otherwise.
    """
    x = np.asarray(x)
    if x.dtype.kind != "f":
        raise NeurocompileError("NC1006", f"{name} is {x.dtype}; float32 is needed")
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
