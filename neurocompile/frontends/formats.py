"""Files that people in this field have, told apart by their first bytes: what is none of ONNX gets
a name and the way from there.
"""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import BinaryIO

from neurocompile.errors import NeurocompileError
from neurocompile.files import open_input

__all__ = ["recognized"]

_HEAD = 16
_MODULE = "build the network in Python, load the weights into it, and compile(module, x)"
_SCRIPT = (
    "a TorchScript archive of PyTorch, in which the Python code of the neurons is gone: give compile(module, x) the module "
    "that it was scripted from, or the file that torch.onnx.export makes of that"
)
_CHECKPOINT = f"a PyTorch checkpoint (torch.save), weights and no network: {_MODULE}"
_EXPORTED = (
    "a program of torch.export (.pt2): give compile(module, x) the module that it was exported from, or the file of "
    "torch.onnx.export(torch.export.load(path))"
)
_HDF5 = (
    "an HDF5 file: NIR graphs end in .nir and networks of lava-dl in .net; of weights of Keras and others, export the network "
    "to ONNX"
)
_MAGIC: tuple[tuple[bytes, str], ...] = (
    (b"\x93NUMPY", "an array of numpy (.npy); samples are .npz files, and go to `calibration`"),
    (b"GGUF", "a GGUF file, weights of llama.cpp: no spiking network"),
    (b"\x1f\x8b", "compressed (gzip): unpack it first"),
    (b"BZh", "compressed (bzip2): unpack it first"),
    (b"7z\xbc\xaf", "compressed (7z): unpack it first"),
    (b"<?xml", "an XML file"),
    (b"<!DOCTYPE", "a web page: the download is a page about the file, not the file"),
    (b"<html", "a web page: the download is a page about the file, not the file"),
    (b"version https://git-lfs", "a pointer of Git LFS: 'git lfs pull' fetches the file itself"),
)


def recognized(path: Path) -> str:
    """What ``path`` is and what to do with it, or "" if it is nothing that we know."""
    try:
        with open_input(path) as file:
            head = file.read(_HEAD + 16)
            if zipfile.is_zipfile(file):
                return _of_zip(file)
    except (OSError, NeurocompileError):
        return ""
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return _HDF5
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return f"a pickle, as torch.save wrote it before 1.6: {_MODULE}. It may run code when it is loaded"
    if head[4:8] == b"TFL3":
        return "a TensorFlow Lite model: only ONNX files and torch modules are read"
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") <= path.stat().st_size:
        return f"a safetensors file, weights alone and no network: {_MODULE}"
    for magic, what in _MAGIC:
        if head.startswith(magic):
            return what
    if path.suffix == ".py":
        return "Python code: name a function of it that returns (module, example input), 'build file:function'"
    return ""


def _of_zip(file: BinaryIO) -> str:
    try:
        with zipfile.ZipFile(file) as archive:
            names = archive.namelist()[:100_000]
    except Exception:  # damaged in one of a dozen ways
        return "a damaged zip archive (a PyTorch checkpoint that is cut short?)"
    last = {name.rpartition("/")[2] for name in names}
    if "manifest.json" in last and "circuit.txt" in last:
        return "a compiled program: run, parity, energy and neurocompile.load() take it"
    if any("/code/" in name or name.startswith("code/") for name in names):
        return _SCRIPT
    if any("exported_program" in name or name.endswith("models/model.json") for name in names):
        return _EXPORTED
    if "data.pkl" in last:
        return _CHECKPOINT
    if names and all(name.endswith(".npy") for name in names):
        return "arrays of numpy (.npz): samples go to `calibration`, not in the model's place"
    if "model.weights.h5" in last:
        return "a Keras model: only ONNX files and torch modules are read (tf2onnx converts it)"
    return "a zip archive: unpack it, and give the .onnx file in it"
