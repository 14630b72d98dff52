"""Core images as a file (``.nci``): a zip of stored members, the same bytes for the same images.

``images.json`` (names, and the SHA-256 of each member), ``host.safetensors`` and
``cores/NNNNNN.safetensors``. Written core by core, so that memory does not grow with their number.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import msgspec
import numpy as np
from msgspec import Struct
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from neurocompile.archive import MALFORMED
from neurocompile.errors import NeurocompileError
from neurocompile.files import as_path, open_input, write_output
from neurocompile.guard import guarded
from neurocompile.images.build import CoreImages, ImageBuilder
from neurocompile.images.check import check_images
from neurocompile.images.image import CoreImage, HostImage, Outputs
from neurocompile.images.names import FORMAT, Names
from neurocompile.progress import chunks

__all__ = ["load_images", "read_images", "save_images", "write_images"]

_TIME = (1980, 1, 1, 0, 0, 0)
_INDEX, _HOST = "images.json", "host.safetensors"
_MOST_CORES = 1 << 20


class _Index(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    names: Names
    members: dict[str, str]
    """Member -> SHA-256."""


def _member(core: int) -> str:
    return f"cores/{core:06d}.safetensors"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    return save_tensors({name: np.ascontiguousarray(a) for name, a in sorted(arrays.items())})


def _index_bytes(names: Names, members: Mapping[str, str]) -> bytes:
    # sorted here: msgspec's "deterministic" order recurses once a key, and 63,620 sorted ones end the stack
    own = msgspec.Raw(msgspec.json.encode(names, order="deterministic"))
    text = msgspec.json.encode({"names": own, "members": dict(sorted(members.items()))})
    return msgspec.json.format(text, indent=1)


def _host_arrays(host: HostImage, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    own = {"populations": host.populations, "by_neuron": host.by_neuron}
    own |= {"by_position": host.by_position}
    own |= {f"tensor:{name}": tensor for name, tensor in tensors.items()}
    return own | {f"outputs:{name}": a for name, a in vars(host.outputs).items()}


def write_images(
    file: BinaryIO, images: CoreImages | ImageBuilder, *, progress: bool = False
) -> None:
    """Write all images to an open file; those of a builder are made core by core."""
    host, make = (
        (images.make_host(), images.core)
        if isinstance(images, ImageBuilder)
        else (images.host, images.cores.__getitem__)
    )
    hashes: dict[str, str] = {}

    def add(name: str, data: bytes) -> None:
        info = zipfile.ZipInfo(name, _TIME)
        info.external_attr = 0o644 << 16
        archive.writestr(info, data)
        hashes[name] = _sha256(data)

    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        add(_HOST, _bytes(_host_arrays(host, images.host_tensors)))
        for part in chunks(images.names.cores, 1, "core images", progress):
            for core in range(part.start, part.stop):
                add(_member(core), _bytes(make(core).arrays()))
        add(_INDEX, _index_bytes(images.names, hashes))


@guarded
def save_images(builder: ImageBuilder, path: str | Path, *, progress: bool = False) -> None:
    """Write the images to ``path``, whole or not at all (NC5005)."""
    path = as_path(path, "NC5005")
    write_output(path, lambda file: write_images(file, builder, progress=progress))


@guarded
def load_images(path: str | Path) -> CoreImages:
    """Read and check images; NC1001, NC5001 (no images), NC5002 (damaged) or NC5004 (tables that
    lead out of themselves).
    """
    path = as_path(path, "NC1001")
    with open_input(path) as file:
        return read_images(file, path)


def read_images(file: BinaryIO, path: str | Path) -> CoreImages:
    """:func:`load_images` from an open file; ``path`` is for what is said."""
    size = file.seek(0, 2)
    try:
        with zipfile.ZipFile(file) as archive:
            images = _read(archive, size)
        problems = check_images(images)
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise NeurocompileError(
            "NC5001", f"'{path}' holds no core images or is cut short: {error}"
        ) from error
    except (SafetensorError, RuntimeError, *MALFORMED) as error:
        raise NeurocompileError(
            "NC5001",
            f"'{path}': its tables are malformed, or missing: {type(error).__name__}: {error}",
        ) from error
    if problems:
        raise NeurocompileError("NC5004", f"'{path}': {problems[0]}")
    return images


def _read(archive: zipfile.ZipFile, size: int) -> CoreImages:
    members = archive.infolist()
    if sum(info.file_size for info in members) > size or any(
        info.compress_type != zipfile.ZIP_STORED for info in members
    ):
        raise ValueError("members are compressed or lie over each other")
    index = msgspec.json.decode(archive.read(_INDEX), type=_Index)
    if index.names.format != FORMAT:
        raise ValueError(f"format {index.names.format}, this neurocompile reads {FORMAT}")
    if not 1 <= index.names.cores <= _MOST_CORES:
        raise ValueError(f"{index.names.cores} cores")
    wanted = [_HOST, *(_member(core) for core in range(index.names.cores)), _INDEX]
    if [info.filename for info in members] != wanted:
        raise ValueError("members are missing, unknown or in another order")

    def arrays(name: str) -> dict[str, np.ndarray]:
        data = archive.read(name)
        if index.members.get(name) != _sha256(data):
            raise NeurocompileError("NC5002", f"member '{name}' is damaged (SHA-256 differs)")
        return dict(load_tensors(data))

    found = arrays(_HOST)
    host = HostImage(
        found["populations"],
        found["by_neuron"],
        found["by_position"],
        Outputs(**_own(found, "outputs:")),
    )
    cores = tuple(_core(arrays(_member(core))) for core in range(index.names.cores))
    return CoreImages(index.names, host, cores, _own(found, "tensor:"))


def _own(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {k[len(prefix) :]: v for k, v in arrays.items() if k.startswith(prefix)}


def _core(arrays: dict[str, np.ndarray]) -> CoreImage:
    outputs = {name: arrays.pop(name) for name in Outputs.__dataclass_fields__}
    return CoreImage(**arrays, outputs=Outputs(**outputs))
