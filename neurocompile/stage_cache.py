"""Finished stages of builds, kept on disk by what they were made of.

A key is the SHA-256 of everything that decides a stage: the content that it reads, its options, our
own source text and the versions of the libraries that compute. So nothing stale is ever found, and
nothing is ever invalidated; what was used least recently goes when the folder is full. An entry is
an archive as artifacts are (no pickles), with the hash of each member: a damaged one is removed, and
its stage computed anew.

Without a folder of its own that only this user can write (no HOME, a read-only one, a folder of
somebody else's), nothing is kept and nothing is read.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import shutil
import stat
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec
import numpy as np
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from neurocompile.advice import warn
from neurocompile.archive import MALFORMED, read_archive, sha256, write_archive
from neurocompile.errors import NeurocompileError
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.ir.circuit_rules import check_circuit
from neurocompile.ir.spiking import SpikingGraph
from neurocompile.ir.spiking_rules import check_spiking

__all__ = [
    "OFF",
    "CacheEntry",
    "StageCache",
    "cache_folder",
    "clear_cache",
    "graph_members",
    "graph_of",
    "key_of",
    "laid_out",
    "list_cache",
    "ours",
]

FOLDER = "NEUROCOMPILE_CACHE"
"""Environment variable: the folder, or ``off``."""
SIZE = "NEUROCOMPILE_CACHE_GB"
"""Environment variable: the most that it holds."""
_GIGABYTES = 4.0
_SUFFIX = ".ncc"
_SEAL = "sums.json"
_STALE = 86_400.0
"""Seconds after which what an interrupted process left is removed."""
_LIBRARIES = ("numpy", "numba", "onnx", "onnxruntime", "torch")


class CacheEntry(msgspec.Struct, frozen=True):
    """One finished stage on disk."""

    stage: str
    key: str
    bytes: int
    used: float
    """Seconds since the epoch, when it was last written or read."""


@dataclass(frozen=True)
class StageCache:
    """Where finished stages are kept; :data:`OFF` keeps none."""

    folder: Path | None
    why: str = ""
    """Why nothing is kept."""
    limit: int = int(_GIGABYTES * 1e9)

    @classmethod
    def of(cls, wanted: bool) -> StageCache:
        """This user's cache, or :data:`OFF`."""
        return opened() if wanted else OFF

    def get(
        self, stage: str, key: str, names: Collection[str], optional: Collection[str] = ()
    ) -> dict[str, bytes] | None:
        """The members of an entry; None if there is none, or a damaged one, which is removed."""
        if self.folder is None or not (path := self._path(stage, key)).exists():
            return None
        try:
            members = read_archive(path, [*names, _SEAL], optional)
            sums = msgspec.json.decode(members.pop(_SEAL), type=dict[str, str])
            if sums != {name: sha256(data) for name, data in members.items()}:
                raise NeurocompileError("NC5002", f"'{path}' is damaged")
        except (NeurocompileError, msgspec.DecodeError):
            self.damaged(stage, key)
            return None
        with contextlib.suppress(OSError):
            os.utime(path)
        return members

    def put(self, stage: str, key: str, made: Callable[[], Mapping[str, bytes]]) -> None:
        """Keep what ``made`` gives, if there is room; what cannot be written costs time alone."""
        if self.folder is None:
            return
        try:
            members = made()
            size = sum(map(len, members.values()))
            if size > self.limit // 2 or shutil.disk_usage(self.folder).free < 2 * size:
                return
            sums = {name: sha256(data) for name, data in members.items()}
            seal = msgspec.json.encode(sums, order="deterministic")
            write_archive(self._path(stage, key), {**members, _SEAL: seal})
            self._trim()
        except (NeurocompileError, OSError, *MALFORMED):
            return

    def damaged(self, stage: str, key: str) -> None:
        """Remove an entry that is not what its stage wrote, and say so."""
        path = self._path(stage, key)
        with contextlib.suppress(OSError):
            path.unlink()
        warn(f"'{path.name}' in the cache of stages was damaged: removed, and computed anew")

    def entries(self) -> list[CacheEntry]:
        """What is kept, what was used last first."""
        found = []
        for path in self._files(_SUFFIX):
            stage, _, key = path.stem.rpartition("-")
            with contextlib.suppress(OSError):
                told = path.lstat()
                found.append(CacheEntry(stage, key, told.st_size, told.st_mtime))
        return sorted(found, key=lambda e: (-e.used, e.stage, e.key))

    def clear(self) -> int:
        """Remove all entries; how many there were."""
        removed = 0
        for path in [*self._files(_SUFFIX), *self._files(".part")]:
            with contextlib.suppress(OSError):
                path.unlink()
                removed += path.suffix == _SUFFIX
        return removed

    def _trim(self) -> None:
        total = 0
        for entry in self.entries():
            total += entry.bytes
            if total > self.limit:
                with contextlib.suppress(OSError):
                    self._path(entry.stage, entry.key).unlink()
        for part in self._files(".part"):
            with contextlib.suppress(OSError):
                if time.time() - part.lstat().st_mtime > _STALE:
                    part.unlink()

    def _files(self, suffix: str) -> Iterator[Path]:
        if self.folder is not None:
            with contextlib.suppress(OSError):
                yield from (p for p in self.folder.iterdir() if p.suffix == suffix)

    def _path(self, stage: str, key: str) -> Path:
        assert self.folder is not None
        return self.folder / f"{stage}-{key}{_SUFFIX}"


OFF = StageCache(None, "it is switched off")
"""Keeps nothing."""


def cache_folder() -> Path | None:
    """Where finished stages are kept; None where none can be."""
    return opened().folder


def list_cache() -> list[CacheEntry]:
    """The finished stages that are kept, what was used last first."""
    return opened().entries()


def clear_cache() -> int:
    """Remove all finished stages; how many there were."""
    return opened().clear()


def opened() -> StageCache:
    """The cache that the environment asks for, made if it is not there; off, with a reason, where
    it cannot be trusted or written.
    """
    named = os.environ.get(FOLDER)
    if named is not None and named.strip().lower() in ("", "off", "0", "no"):
        return replace(OFF, why=f"{FOLDER} is '{named}'")
    try:
        folder = Path(named) if named else _usual() / "stages"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        why = _untrusted(folder)
    except (OSError, RuntimeError, ValueError) as error:  # no HOME, a file in its place
        why = str(error)
    return replace(OFF, why=why) if why else StageCache(folder, limit=_limit())


def _usual() -> Path:
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "neurocompile"


def _untrusted(folder: Path) -> str:
    """Why a folder's content may be of somebody else, or cannot be written; empty if neither."""
    told = folder.stat()
    if not os.access(folder, os.W_OK | os.X_OK):
        return f"no permission to write in '{folder}'"
    if hasattr(os, "geteuid") and told.st_uid != os.geteuid():
        return f"'{folder}' belongs to another user"
    if os.name == "posix" and stat.S_IMODE(told.st_mode) & 0o022:
        return f"others may write in '{folder}'"
    return ""


def _limit() -> int:
    try:
        gigabytes = float(os.environ.get(SIZE, _GIGABYTES))
    except ValueError:
        gigabytes = _GIGABYTES
    return int(min(max(gigabytes, 0.0), 1e6) * 1e9)


def key_of(*parts: object) -> str:
    """SHA-256 over our code, the libraries and ``parts``: texts, bytes, arrays, graphs, structs."""
    digest = hashlib.sha256(_code().encode())
    for part in parts:
        for piece in _pieces(part):
            view = piece.data if isinstance(piece, np.ndarray) else memoryview(piece)
            digest.update(f"{view.nbytes}:".encode())
            digest.update(view)
    return digest.hexdigest()


def _pieces(part: object) -> Iterator[bytes | np.ndarray]:
    if isinstance(part, np.ndarray):
        yield f"{part.dtype.str}{part.shape}".encode()
        yield np.ascontiguousarray(part).reshape(-1)
    elif isinstance(part, (SpikingGraph, CircuitGraph)):
        yield part.text().encode()
        for name in sorted(part.tensors):
            yield name.encode()
            yield from _pieces(part.tensors[name])
    elif isinstance(part, bytes):
        yield part
    elif isinstance(part, str):
        yield part.encode()
    else:
        yield msgspec.json.encode(part, order="deterministic")


@cache
def _code() -> str:
    """Hash of our source text, the libraries' versions and the machine's kind."""
    digest = hashlib.sha256(f"{platform.python_version()} {platform.machine()}".encode())
    root = Path(__file__).parent
    for path in sorted(p for s in (".py", ".yaml") for p in root.rglob(f"*{s}")):
        digest.update(str(path.relative_to(root)).encode())
        digest.update(path.read_bytes())
    for name in _LIBRARIES:
        try:
            digest.update(f"{name} {version(name)}".encode())
        except PackageNotFoundError:
            continue
    return digest.hexdigest()


def ours(graph: SpikingGraph | CircuitGraph) -> bool:
    """Whether all its kinds of nodes are our own: of others' code a key knows nothing."""
    return all(type(n).__module__.startswith("neurocompile.") for n in graph.items)


def laid_out(graph: SpikingGraph) -> SpikingGraph:
    """With its tensors as a file gives them: in order of names, each contiguous. Float sums depend
    on strides, so a graph that was computed and one that was read must have the same.
    """
    tensors = {
        name: np.ascontiguousarray(array).reshape(array.shape)
        for name, array in sorted(graph.tensors.items())
    }
    return graph.replace(tensors=tensors)


def graph_members(graph: SpikingGraph | CircuitGraph) -> dict[str, bytes]:
    """``graph.txt`` and ``graph.safetensors``."""
    tensors = {k: np.ascontiguousarray(v).reshape(v.shape) for k, v in graph.tensors.items()}
    return {
        "graph.txt": graph.text().encode(),
        "graph.safetensors": save_tensors(dict(sorted(tensors.items()))),
    }


def graph_of(members: Mapping[str, bytes]) -> SpikingGraph | CircuitGraph:
    """Inverse of :func:`graph_members`, checked by the rules of its stage."""
    text, tensors = members["graph.txt"].decode(), load_tensors(members["graph.safetensors"])
    if text.lstrip().startswith("circuit"):
        circuit = CircuitGraph.parse(text, tensors)
        check_circuit(circuit, "reading the cache")
        return circuit
    graph = SpikingGraph.parse(text, tensors)
    check_spiking(graph, "reading the cache")
    return graph
