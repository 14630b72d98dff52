"""Events of a camera as frames: what a model of frames of events takes, (samples, T, 2, H, W).

An event is a time, a pixel and a polarity. A frame counts those of its bin, polarity by polarity,
as SpikingJelly's data sets do (``split_by`` time or number), so that a model trained on them sees
the same numbers.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

import numpy as np

from neurocompile.aedat import MAGIC_3, MAGIC_4, read_aedat3, read_aedat4
from neurocompile.errors import NeurocompileError
from neurocompile.files import as_path, open_input
from neurocompile.guard import guarded

if TYPE_CHECKING:
    import h5py

__all__ = ["Events", "frames_from_events", "load_events"]

_FIELDS = {"x": ("x", "xs"), "y": ("y", "ys"), "t": ("t", "ts"), "p": ("p", "ps", "polarity")}
"""A field by the names that files and libraries give it."""
_GROUPS = ("", "events", "CD", "CD/events")
"""Where an HDF5 file keeps them: by itself, DSEC and e2vid, Prophesee."""
MOST = 2**28
"""Events of one recording."""


@dataclass(frozen=True, eq=False)
class Events:
    """Events of one recording, each array (events,), in the order of their times."""

    x: np.ndarray
    """int64, column from 0."""
    y: np.ndarray
    """int64, row from 0."""
    t: np.ndarray
    """int64 or float64, never falling; of any unit."""
    p: np.ndarray
    """bool: the pixel became brighter."""

    def __len__(self) -> int:
        return len(self.t)

    @staticmethod
    def of(given: Any, name: str = "events") -> Events:
        """Events of a structured array (such as tonic's) or a mapping of arrays by field.

        Raises:
            NeurocompileError: NC1012 where a field lacks, is of another length or no number, a
                time falls, or a pixel is negative.
        """
        if isinstance(given, Events):
            return given
        found = {field: _field(given, field, names, name) for field, names in _FIELDS.items()}
        lengths = {field: len(values) for field, values in found.items()}
        if len(set(lengths.values())) != 1 or not lengths["t"]:
            raise _refused(name, f"its fields hold {lengths} events; as many of each are needed")
        x, y = (found[axis].astype(np.int64) for axis in "xy")
        t, p = found["t"], found["p"]
        if min(x.min(), y.min()) < 0:
            raise _refused(name, "it has negative pixels")
        if t.dtype.kind == "f" and not np.isfinite(t).all():
            raise _refused(name, "it has times that are no numbers")
        t = t.astype(np.float64 if t.dtype.kind == "f" else np.int64)
        fall = np.flatnonzero(t[1:] < t[:-1])
        if len(fall):
            at = int(fall[0]) + 1
            raise _refused(name, f"event {at} is of time {t[at]}, the one before of {t[at - 1]}")
        return Events(x, y, t, p > 0)


@guarded
def load_events(path: str | Path) -> Events:
    """Events of a file: .npy or .npz (a structured array, or arrays by field), HDF5 (DSEC, e2vid
    and Prophesee's layouts) or AEDAT 4 and 3.1 (extra ``events``). Nothing in it is executed.

    Raises:
        NeurocompileError: NC1001, NC1012; NC4001 without h5py, or what an AEDAT file is compressed by.
    """
    path = as_path(path, "NC1001")
    with open_input(path) as file:
        try:
            start = file.read(len(MAGIC_4))
            file.seek(0)
            if start[:8] == b"\x89HDF\r\n\x1a\n":
                return _hdf5(file, path)
            if start == MAGIC_4:
                return Events.of(read_aedat4(file, MOST), f"'{path}'")
            if start == MAGIC_3:
                return Events.of(read_aedat3(file, MOST), f"'{path}'")
            if start[:6] == b"\x93NUMPY":
                return Events.of(np.load(file, allow_pickle=False), f"'{path}'")
            if zipfile.is_zipfile(file):
                file.seek(0)
                with np.load(file, allow_pickle=False) as archive:
                    whole = archive["events"] if "events" in archive.files else dict(archive)
                return Events.of(whole, f"'{path}'")
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, MemoryError) as error:
            reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
            raise _refused(f"'{path}'", reason) from error
    raise _refused(
        f"'{path}'",
        "it is neither .npy, .npz, HDF5, AEDAT 4 nor AEDAT 3.1; write others as one of them with tonic",
    )


@guarded
def frames_from_events(
    events: Any, T: int, shape: Sequence[int], *, by: Literal["time", "number"] = "time"
) -> np.ndarray:
    """Frames of one recording, or of a list of them.

    Args:
        events: :class:`Events`, a structured array or mapping with x, y, t, p; or a list of such.
        T: frames of a recording.
        shape: (2, H, W): polarity (darker, brighter), rows, columns; or (1, H, W), which counts
            both together.
        by: bins of equal time, or of equal numbers of events; the last takes what is left.

    Returns:
        float32 (T, *shape), or (samples, T, *shape) of a list: events counted.

    Raises:
        NeurocompileError: NC1012 for events that are none or lie outside of ``shape``, NC1015.
    """
    if isinstance(events, (list, tuple)):
        return np.stack([frames_from_events(one, T, shape, by=by) for one in events])
    polarities, rows, columns = _shape(shape)
    if isinstance(T, bool) or not isinstance(T, int) or not 1 <= T <= 4096:
        raise NeurocompileError("NC1015", f"T is {T!r}; 1 to 4,096 frames can be made")
    found = Events.of(events)
    if found.x.max() >= columns or found.y.max() >= rows:
        raise _refused(
            "events",
            f"pixels go to row {found.y.max()} and column {found.x.max()}; "
            f"shape {tuple(shape)} has {rows} rows and {columns} columns",
        )
    bins = _bins(found.t, T, by)
    plane = found.p.astype(np.int64) if polarities == 2 else 0
    place = ((bins * polarities + plane) * rows + found.y) * columns + found.x
    counted = np.bincount(place, minlength=T * polarities * rows * columns)
    return counted.reshape(T, polarities, rows, columns).astype(np.float32)


def _bins(t: np.ndarray, T: int, by: str) -> np.ndarray:
    """int64 (events,): the frame of each event."""
    if by == "number":
        return np.minimum(np.arange(len(t)) // max(len(t) // T, 1), T - 1)
    if by != "time":
        raise NeurocompileError("NC1015", f"by is {by!r}; take 'time' or 'number'")
    width = (t[-1] - t[0]) // T
    if width <= 0:
        text = f"{len(t):,} events within {t[-1] - t[0]} units of time do not fill {T} frames"
        raise _refused("events", text)
    return np.minimum(((t - t[0]) // width).astype(np.int64), T - 1)


def _shape(shape: Sequence[int]) -> tuple[int, int, int]:
    sizes = tuple(shape)
    right = len(sizes) == 3 and all(isinstance(n, int) and 1 <= n <= 4096 for n in sizes)
    if not right or sizes[0] not in (1, 2):
        raise NeurocompileError("NC1015", f"shape is {sizes}; (2, H, W) or (1, H, W) is needed")
    return sizes[0], sizes[1], sizes[2]


def _field(given: Any, field: str, names: Sequence[str], where: str) -> np.ndarray:
    if isinstance(given, np.ndarray):
        known: Sequence[str] = given.dtype.names or ()
    elif isinstance(given, Mapping):
        known = list(given)
    else:
        text = f"a structured array or a mapping is needed, not a {type(given).__name__}"
        raise _refused(where, text)
    name = next((n for n in names if n in known), None)
    if name is None:
        raise _refused(where, f"it has no field '{field}' (it has {', '.join(map(str, known))})")
    values = np.asarray(given[name])
    if values.ndim != 1 or values.dtype.kind not in "biuf" or len(values) > MOST:
        text = f"'{name}' is {values.dtype} {list(values.shape)}; (events,) numbers, at most {MOST:,}, are needed"
        raise _refused(where, text)
    return values


def _hdf5(file: IO[bytes], path: Path) -> Events:
    if find_spec("h5py") is None:
        raise NeurocompileError("NC4001", "HDF5 needs h5py: pip install 'neurocompile[events]'")
    import h5py

    with h5py.File(file, "r") as archive:
        for place in _GROUPS:
            found = archive if not place else archive.get(place)
            if isinstance(found, h5py.Dataset) and found.dtype.names:
                _small(found, path)
                return Events.of(found[()], f"'{path}'")
            if isinstance(found, h5py.Group):
                fields = _datasets(found, path)
                if len(fields) == len(_FIELDS):
                    return Events.of(fields, f"'{path}'")
    raise _refused(
        f"'{path}'",
        "it has no events in a layout that is known: x, y, t, p in 'events' or 'CD/events'",
    )


def _datasets(group: h5py.Group, path: Path) -> dict[str, np.ndarray]:
    import h5py

    found = {}
    for names in _FIELDS.values():
        for name in names:
            values = group.get(name)
            if isinstance(values, h5py.Dataset):
                _small(values, path)
                found[name] = values[()]
                break
    return found


def _small(values: h5py.Dataset, path: Path) -> None:
    """A header promises sizes before anything is read."""
    if values.ndim != 1 or values.size > MOST or values.dtype.itemsize > 64:
        text = f"'{values.name}' is {values.dtype} {list(values.shape)}: more than {MOST:,} events, or none"
        raise _refused(f"'{path}'", text)


def _refused(where: str, why: str) -> NeurocompileError:
    return NeurocompileError("NC1012", f"{where} cannot be read as events: {why}")
