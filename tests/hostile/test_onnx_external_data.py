"""External data of a stranger's ONNX file: from beside it, of the size that it says, and from
nowhere else.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_cases import imported, normal, op, refused, small

from neurocompile.frontends.onnx import load


def external(
    folder: Path, location: str, data: bytes | None = bytes(64), **entries: object
) -> onnx.ModelProto:
    proto = small()
    tensor = next(t for t in proto.graph.initializer if t.name == "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    if data is not None:
        (folder / "weights.bin").write_bytes(data)
    return proto


def test_external_data_beside_the_model_is_read(tmp_path: Path) -> None:
    data = normal(4, 4).tobytes()
    (tmp_path / "sub").mkdir()
    for content, entries in ((data, {}), (bytes(8) + data + bytes(9), {"offset": 8, "length": 64})):
        graph = imported(external(tmp_path, "weights.bin", content, **entries), tmp_path)[1].graph
        np.testing.assert_array_equal(graph.tensors["w"], normal(4, 4).T)


def test_external_data_outside_the_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "secret").write_bytes(bytes(64))
    (folder / "link").symlink_to(tmp_path / "secret")
    (folder / "up").symlink_to(tmp_path)
    for place in (
        "../secret",
        str(tmp_path / "secret"),
        "link",
        "up/secret",
        "a/../../secret",
        "/etc/passwd",
        "",
        ".",
    ):
        code = "NC1001" if place == "." else "NC1005"
        refused(external(folder, place), folder, code)


def test_external_data_in_any_other_tensor_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(64))
    tensor = external(tmp_path, "weights.bin").graph.initializer[0]
    node = helper.make_node("Constant", [], ["c"], value=tensor)
    refused(small([node, op("MatMul", "t c", "f")]), tmp_path, "NC1005")


@pytest.mark.parametrize(
    ("data", "entries", "code"),
    [
        (bytes(63), {}, "NC1002"),
        (bytes(65), {}, "NC1002"),
        (bytes(64), {"offset": 1}, "NC1002"),
        (bytes(64), {"offset": -1}, "NC1002"),
        (bytes(64), {"length": 2**62}, "NC1002"),
        (bytes(64), {"offset": 2**62, "length": 64}, "NC1002"),
        (bytes(64), {"length": "many"}, "NC1001"),
        (None, {}, "NC1001"),
    ],
)
def test_external_data_of_another_size_is_refused(
    data: bytes | None, entries: dict, code: str, tmp_path: Path
) -> None:
    if entries.get("length") == 2**62:
        entries = {**entries, "offset": 1}
    refused(external(tmp_path, "weights.bin", data, **entries), tmp_path, code)


def test_a_huge_sparse_file_is_not_read(tmp_path: Path) -> None:
    proto = external(tmp_path, "weights.bin")
    with open(tmp_path / "weights.bin", "wb") as file:
        file.truncate(2**42)
    refused(proto, tmp_path, "NC1002")
    next(t for t in proto.graph.initializer if t.name == "w").dims[:] = [2**20, 2**20]
    refused(proto, tmp_path, "NC1002")


def test_all_external_data_of_a_file_share_one_budget(tmp_path: Path, monkeypatch) -> None:
    proto = external(tmp_path, "weights.bin")
    second = proto.graph.initializer.add()
    second.CopyFrom(next(t for t in proto.graph.initializer if t.name == "w"))
    second.name = "again"
    monkeypatch.setattr(load, "_MAX_EXTERNAL", 100)  # of 64 bytes each
    refused(proto, tmp_path, "NC1002")
