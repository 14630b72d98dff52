"""Sample files from strangers: an error with a code, or plain finite arrays; never anything else."""

from __future__ import annotations

import io
import pickle
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from neurocompile.data import check_inputs, load_samples
from neurocompile.errors import NeurocompileError

X = np.linspace(0, 1, 24, dtype=np.float32).reshape(4, 2, 3)
Y = np.arange(4)


def save(folder: Path, **arrays: np.ndarray) -> Path:
    path = folder / "data.npz"
    np.savez(path, **arrays)
    return path


def refused(path: Path, code: str, why: str = ".") -> None:
    with pytest.raises(NeurocompileError, match=why) as caught:
        load_samples(path, (2, 3))
    assert caught.value.code == code, caught.value


def npy(header: str, data: bytes = b"") -> bytes:
    text = header.encode().ljust(118) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + data


def packed(
    folder: Path, member: bytes, name: str = "x.npy", method: int = zipfile.ZIP_DEFLATED
) -> Path:
    path = folder / "packed.npz"
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.writestr(name, member)
    return path


def test_plain_files_load(tmp_path: Path) -> None:
    found = load_samples(save(tmp_path, x=X, y=Y.astype(np.uint8), other=np.array([None])), (2, 3))
    np.testing.assert_array_equal(found.x, X)
    assert (
        found.x.dtype == np.float32
        and found.y.dtype == np.int64
        and found.y.tolist() == [0, 1, 2, 3]
    )
    assert load_samples(save(tmp_path, x=X), (2, 3), limit=3).x.shape == (3, 2, 3)
    assert load_samples(save(tmp_path, x=X.astype(np.float64)), (2, 3)).x.dtype == np.float32


def test_compressed_and_column_major_files_load(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "c.npz", x=np.asfortranarray(X))
    np.testing.assert_array_equal(load_samples(tmp_path / "c.npz", (2, 3)).x, X)


def test_what_cannot_be_opened_is_said_so(tmp_path: Path) -> None:
    refused(tmp_path / "missing.npz", "NC1001", "no such file")
    refused(tmp_path, "NC1001", "not a regular file")


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello\n",
        b"PK\x03\x04",
        bytes(range(256)) * 9,
        pickle.dumps([1]),
        b"\x93NUMPY",
        npy("{}"),
    ],
)
def test_what_is_no_archive_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "bad.npz").write_bytes(content)
    refused(tmp_path / "bad.npz", "NC1012")


def test_a_bare_array_file_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    refused(tmp_path / "x.npy", "NC1012")


class Trap:
    """Would leave a file behind if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple:
        return Path.touch, (self.path,)


def test_pickled_objects_are_refused_and_not_run(tmp_path: Path) -> None:
    for arrays in (
        {"x": np.array([Trap(tmp_path / "trap")])},
        {"x": X, "y": np.array([Trap(tmp_path / "trap")] * 4)},
    ):
        refused(save(tmp_path, **arrays), "NC1012", "objects")
    assert not (tmp_path / "trap").exists()


@pytest.mark.parametrize(
    ("arrays", "code", "why"),
    [
        ({"y": Y}, "NC1012", "no array 'x'"),
        ({}, "NC1012", "no array 'x'"),
        ({"x": X[:, 0]}, "NC1006", r"\[4, 3\]; \[samples, 2, 3\]"),
        ({"x": X[0]}, "NC1006", "is needed"),
        ({"x": X.reshape(4, 3, 2)}, "NC1006", "is needed"),
        ({"x": X[None]}, "NC1006", "is needed"),
        ({"x": np.float32(1)}, "NC1006", "is needed"),
        ({"x": X[:0]}, "NC1012", "no sample"),
        ({"x": (X * 255).astype(np.uint8)}, "NC1006", "uint8; float32 is needed"),
        ({"x": X > 0}, "NC1006", "bool"),
        ({"x": X + 1j}, "NC1006", "complex"),
        ({"x": X.astype("U4")}, "NC1006", "<U4"),
        ({"x": np.zeros(4, [("a", "f4", (2, 3))])}, "NC1006", "float32 is needed"),
        ({"x": np.where(X > 0.5, np.nan, X)}, "NC1012", "12 values"),
        ({"x": np.where(X > 0.99, -np.inf, X)}, "NC1012", "1 values"),
        ({"x": X.astype(np.float64) * 1e300}, "NC1012", "infinite"),
        ({"x": X, "y": Y[:3]}, "NC1006", "integers \\[4\\]"),
        ({"x": X, "y": Y[:, None]}, "NC1006", "integers"),
        ({"x": X, "y": Y.astype(float)}, "NC1006", "float64"),
        ({"x": X, "y": np.int64(1)}, "NC1006", "integers"),
    ],
)
def test_unfit_arrays_are_refused(
    arrays: dict[str, np.ndarray], code: str, why: str, tmp_path: Path
) -> None:
    refused(save(tmp_path, **arrays), code, why)


@pytest.mark.parametrize(
    "header",
    [
        f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**40}, 2, 3), }}",
        f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({2**62}, {2**62}, 3), }}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (-4, 2, 3), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 2, 'a'), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (4, 2, 3), }",
        "{'descr': '<q9', 'fortran_order': False, 'shape': (4, 2, 3), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 2, 3)",
        "__import__('os').abort()",
        "[" * 100,
    ],
)
def test_a_header_is_not_believed(header: str, tmp_path: Path) -> None:
    """A hundred bytes that declare terabytes must not allocate them."""
    started = time.monotonic()
    refused(packed(tmp_path, npy(header, bytes(96))), "NC1012")
    assert time.monotonic() - started < 5


def test_data_shorter_than_its_header_is_refused(tmp_path: Path) -> None:
    whole = io.BytesIO()
    np.save(whole, X)
    for cut in (0, 5, 60, 128, len(whole.getvalue()) - 1):
        refused(packed(tmp_path, whole.getvalue()[:cut]), "NC1012")


@settings(
    deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(
        st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4
    ),
    st.booleans(),
)
def test_damaged_files_give_arrays_or_an_error_of_ours(
    tmp_path: Path, flips: list[tuple[float, int]], deflate: bool
) -> None:
    buffer = io.BytesIO()
    (np.savez_compressed if deflate else np.savez)(buffer, x=X, y=Y)
    content = bytearray(buffer.getvalue())
    for place, value in flips:
        content[int(place * len(content))] = value
    path = tmp_path / "fuzz.npz"
    path.write_bytes(bytes(content))
    try:
        found = load_samples(path, (2, 3))
        assert found.x.shape[1:] == (2, 3) and np.isfinite(found.x).all()
    except NeurocompileError as error:
        assert error.code in ("NC1006", "NC1012")


def test_inputs_given_in_python_are_checked_the_same() -> None:
    assert check_inputs(X.tolist(), (2, 3)).dtype == np.float32
    for bad, code in [
        (X.astype(int), "NC1006"),
        (X[0], "NC1006"),
        (X * np.nan, "NC1012"),
        (X[:0], "NC1012"),
    ]:
        with pytest.raises(NeurocompileError, match=code):
            check_inputs(bad, (2, 3), "calibration 'x'")


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_only_the_samples_that_are_asked_for_are_read(save, tmp_path: Path) -> None:
    x = np.arange(1_000_000 * 4, dtype=np.float32).reshape(-1, 4)
    save(tmp_path / "x.npz", x=x, y=np.arange(len(x)))
    tracemalloc.start()
    found = load_samples(tmp_path / "x.npz", (4,), limit=3)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (found.x == x[:3]).all() and found.y.tolist() == [0, 1, 2]
    assert peak < 1_000_000
