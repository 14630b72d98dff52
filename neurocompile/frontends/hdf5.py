"""HDF5 files of strangers: nothing outside of the file is followed (links, external or virtual data),
and sizes are looked at before memory is taken.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from neurocompile.errors import NeurocompileError, not_importable
from neurocompile.files import open_input

__all__ = ["Hdf5Reader", "digest_of"]

MOST_BYTES = 4 << 30
"""Of all values of a file together."""


class Hdf5Reader:
    """Reads one file, and says what is wrong with it.

    Args:
        what: that the file is to be, with its article: "a NIR file".
        extra: of this package, whose dependency reads it.
        most: bytes of all its values together.
    """

    def __init__(self, path: Path, what: str, extra: str, most: int = MOST_BYTES) -> None:
        self.path, self.what, self.extra = path, what, extra
        self.most, self.bytes = most, 0

    @contextmanager
    def opened(self) -> Iterator[Any]:
        """The file; NC1001 (not readable), NC1002 (no such file as it is to be), NC4001 (no h5py)."""
        try:
            import h5py
        except ImportError as error:
            raise not_importable(self.what, error, self.extra) from error
        try:
            with open_input(self.path) as opened, h5py.File(opened, "r") as file:
                yield file
        except (OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
            raise self.wrong(" ".join(str(error).split())) from error

    def wrong(self, what: str) -> NeurocompileError:
        """NC1002 with what is wrong."""
        name = self.what.removeprefix("a ").removeprefix("an ")
        return NeurocompileError("NC1002", f"'{self.path}' is no {name}: {what}")

    def held(self, group: Any, name: str) -> Any:
        """Member ``name`` of a group, if it lies in this very file."""
        import h5py

        if not isinstance(group, h5py.Group):
            raise self.wrong(f"{group.name} is no group")
        link = group.get(name, getlink=True)
        if link is None:
            raise self.wrong(f"{group.name} has no '{name}'")
        if not isinstance(link, h5py.HardLink):
            raise self.wrong(f"'{name}' is a link to elsewhere")
        return group[name]

    def values(self, dataset: Any, what: str) -> np.ndarray:
        """The values of a dataset that lies in this file, of a size that is allowed."""
        import h5py

        if not isinstance(dataset, h5py.Dataset):
            raise self.wrong(f"{what} is no dataset")
        if dataset.is_virtual or dataset.external:
            raise self.wrong(f"{what} lies outside of the file")
        self.bytes += int(dataset.size or 0) * max(dataset.dtype.itemsize, 1)
        if self.bytes > self.most:
            raise self.wrong(f"it holds more than {self.most:,} bytes")
        return np.asarray(dataset[()])

    def word(self, dataset: Any) -> str:
        """One word."""
        value = self.values(dataset, getattr(dataset, "name", "it")).reshape(-1)
        if value.size != 1:
            raise self.wrong(f"{dataset.name} is no word")
        word = value[0]
        return word.decode("utf-8", "replace") if isinstance(word, bytes) else str(word)

    def numbers(
        self, dataset: Any, what: str, of_words: Callable[[str], NeurocompileError] | None = None
    ) -> np.ndarray:
        """Numbers, int64 or finite float64.

        Args:
            of_words: what to raise where words stand instead.
        """
        found = self.values(dataset, what)
        if found.dtype.kind in "iub":
            return found.astype(np.int64)
        if found.dtype.kind == "f":
            found = found.astype(np.float64)
            if not np.isfinite(found).all():
                raise self.wrong(f"{what} is not finite")
            return found
        if found.dtype.kind in "SO" and found.size and of_words is not None:
            raise of_words(str(found.reshape(-1)[0]))
        raise self.wrong(f"{what} holds {found.dtype}")


def digest_of(path: Path) -> str:
    """SHA-256 of a file, hexadecimal."""
    with open_input(path) as file:
        return hashlib.sha256(file.read()).hexdigest()
