"""Core images whose hashes are right and whose tables lead nowhere are refused, never our defect."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx_cases import small
from safetensors.numpy import load, save

import neurocompile
from neurocompile import NeurocompileError
from neurocompile.images.file import load_images

HOST = "host.safetensors"


@pytest.fixture(scope="module")
def members(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    folder = tmp_path_factory.mktemp("images")
    onnx.save(small(), folder / "m.onnx")
    x = np.random.default_rng(0).random((4, 4)).astype(np.float32)
    neurocompile.compile(folder / "m.onnx", calibration=x).save_images(folder / "m.nci")
    with zipfile.ZipFile(folder / "m.nci") as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def pack(members: dict[str, bytes], path: Path) -> Path:
    index = json.loads(members["images.json"])
    for name in index["members"]:
        index["members"][name] = hashlib.sha256(members[name]).hexdigest()
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (members | {"images.json": json.dumps(index).encode()}).items():
            archive.writestr(name, data)
    return path


@pytest.mark.parametrize("field", ["places", "pattern"])
def test_a_table_that_is_not_there(field: str, members: dict[str, bytes], tmp_path: Path) -> None:
    index = json.loads(members["images.json"])
    index["names"]["inputs"][0][field] = "none"
    path = pack(members | {"images.json": json.dumps(index).encode()}, tmp_path / "f.nci")
    with pytest.raises(NeurocompileError, match=r"NC5001.*f\.nci.*none"):
        load_images(path)


FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "a number": lambda a: np.array(0, a.dtype),
    "a row of rows": lambda a: a.reshape(1, 1, -1),
    "text": lambda a: np.frombuffer(b"abcdefgh" * 9, np.uint8),
    "no number": lambda a: np.full(a.shape, np.nan),
    "nothing": lambda a: a.reshape(-1)[:0],
    "none": lambda a: None,
}


@pytest.mark.parametrize("form", FORMS)
def test_every_table_in_another_form(form: str, members: dict[str, bytes], tmp_path: Path) -> None:
    refused = 0
    for member in (name for name in members if name.endswith(".safetensors")):
        tables = load(members[member])
        for name, table in tables.items():
            other = FORMS[form](table)
            held = {k: v for k, v in tables.items() if k != name}
            if other is not None:
                held[name] = np.ascontiguousarray(other).reshape(other.shape)
            path = pack(members | {member: save(held)}, tmp_path / "f.nci")
            try:
                load_images(path)
            except NeurocompileError as error:
                assert error.code in ("NC5001", "NC5004"), (member, name, error)
                refused += 1
    assert refused > 10
