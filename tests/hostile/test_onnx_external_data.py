"""External data of a stranger's ONNX file: from beside it, of the size that it says, and from
nowhere else.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx_cases import imported, model, normal, op, refused, small

import neurocompile
from neurocompile.errors import NeurocompileError
from neurocompile.frontends.onnx import load, reference
from neurocompile.frontends.onnx.fold import LARGEST, fold
from neurocompile.reference import large
from neurocompile.reference.isolated import IN_PROCESS
from neurocompile.reference.large import split


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


def unrolled() -> onnx.ModelProto:
    """Two steps of a neuron as others' exporters write it."""
    nodes = [op("MatMul", "x w", "h")]
    membrane = ""
    for t in range(2):
        nodes.append(op("Add", f"h {membrane}", f"u{t}") if t else op("Identity", "h", "u0"))
        nodes += [
            op("GreaterOrEqual", f"u{t} one", f"b{t}"),
            op("Cast", f"b{t}", f"s{t}", to=TensorProto.FLOAT),
            op("Sub", f"one s{t}", f"k{t}"),
            op("Mul", f"u{t} k{t}", f"v{t}"),
        ]
        membrane = f"v{t}"
    nodes += [op("Add", "s0 s1", "s"), op("MatMul", "s head", "out")]
    constants = {"w": normal(4, 4), "head": normal(4, 3, seed=1), "one": np.asarray(1, np.float32)}
    proto = model(nodes, constants, ("batch", 4))
    del proto.functions[:], proto.opset_import[1:]
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


@pytest.mark.parametrize("in_process", ["0", "1"])
@pytest.mark.parametrize("neurons", ["ours", "recovered"])
def test_a_model_above_the_limit_of_one_message_is_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, neurons: str, in_process: str
) -> None:
    monkeypatch.setenv(IN_PROCESS, in_process)
    path = tmp_path / "m.onnx"
    if neurons == "ours":
        onnx.save(external(tmp_path, "weights.bin", normal(4, 4).tobytes()), path)
    else:
        onnx.save(unrolled(), path)
    compiled = neurocompile.compile(path)
    sent: list[dict[str, np.ndarray]] = []

    def noted(proto: onnx.ModelProto) -> tuple[bytes, dict[str, np.ndarray]]:
        sent.append((found := split(proto))[1])
        return found

    monkeypatch.setattr(large, "LIMIT", 64)
    monkeypatch.setattr(large, "LARGE", 32)
    monkeypatch.setattr(reference, "split", noted)
    apart = neurocompile.compile(path)
    assert sent and all(weights for weights in sent)
    assert apart.manifest == compiled.manifest and apart.fingerprint == compiled.fingerprint
    assert apart.quantized.text() == compiled.quantized.text()


def test_a_large_tensor_of_another_size_than_its_shape_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large, "LIMIT", 40)
    monkeypatch.setattr(large, "LARGE", 32)
    proto = small()
    next(t for t in proto.graph.initializer if t.name == "w").raw_data += bytes(4)
    refused(proto, tmp_path, "NC1002", "68 bytes, its shape needs 64")


def test_rows_of_a_table_of_any_size_are_read() -> None:
    """What reads a part of a large constant costs what it reads; what goes through it is refused."""
    table = np.zeros((LARGEST, 2), np.float32)  # pages that nobody touches take no memory
    table[5] = table[LARGEST - 1] = 3
    opsets = [onnx.helper.make_opsetid("", 17)]
    feeds = {"table": table, "rows": np.array([5, LARGEST - 1])}
    (found,) = fold(op("Gather", "table rows", "y"), feeds, opsets, "node 'y'")
    assert found.tolist() == [[3, 3], [3, 3]]
    with pytest.raises(NeurocompileError, match="NC1009 node 'y'.*more than 134,217,728"):
        fold(op("Neg", "table", "y"), {"table": table}, opsets, "node 'y'")
    with pytest.raises(NeurocompileError, match="NC1009 .* at most 134,217,728 are folded"):
        rows = np.zeros(LARGEST, np.int64)
        fold(op("Gather", "table rows", "y"), {"table": table, "rows": rows}, opsets, "node 'y'")


@pytest.mark.slow
@pytest.mark.nightly
def test_a_model_of_more_than_2_gb_builds(tmp_path: Path) -> None:
    """12 GB of memory, 2.2 GB of disk."""
    rows = 140_000_000
    nodes = [op("MatMul", "t w", "h"), op("Gather", "big zero", "row"), op("Add", "h row", "f")]
    proto = small(nodes)
    big = proto.graph.initializer.add(name="big", data_type=TensorProto.FLOAT, dims=[rows, 4])
    big.data_location = TensorProto.EXTERNAL
    big.external_data.add(key="location", value="weights.bin")
    with open(tmp_path / "weights.bin", "wb") as file:
        file.truncate(rows * 16)  # sparse: zeros
    assert (tmp_path / "weights.bin").stat().st_size > 1 << 31
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    onnx.save(small(), tmp_path / "plain.onnx")
    plain, found = (neurocompile.compile(tmp_path / f"{name}.onnx") for name in ("plain", "m"))
    x = normal(5, 4, seed=3)
    np.testing.assert_array_equal(found.run(x).logits, plain.run(x).logits)
