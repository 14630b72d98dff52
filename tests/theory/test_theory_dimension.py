"""Effective dimension: against independent computations, exact and sketched, in memory and from
files.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import pytest

from neurocompile.errors import NeurocompileError
from neurocompile.theory.measure.data_rows import open_rows, rows_of
from neurocompile.theory.measure.effective_dimension import effective_dimension
from neurocompile.theory.measure.spectrum import sketched_spectrum


def independent(x: np.ndarray, quantile: float) -> int:
    """Singular values of the centred data; no covariance anywhere."""
    x = x.reshape(len(x), -1).astype(float)
    power = np.linalg.svd(x - x.mean(axis=0), compute_uv=False) ** 2
    return int(np.searchsorted(np.cumsum(power) / power.sum(), quantile) + 1)


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    return pytest.importorskip("sklearn.datasets").load_digits().images


def test_digits_against_svd_and_sklearn(digits: np.ndarray) -> None:
    from sklearn.decomposition import PCA

    found = effective_dimension(rows_of(digits))
    assert (
        found.full
        == independent(digits, 0.95)
        == PCA(0.95).fit(digits.reshape(len(digits), -1)).n_components_
        == 29
    )
    assert effective_dimension(rows_of(digits), 0.9).full == 21
    rng = np.random.default_rng(0)
    sizes = [rng.permutation(len(digits))[: round(0.8 * len(digits))] for _ in range(5)]
    assert found.subsamples == tuple(independent(digits[np.sort(i)], 0.95) for i in sizes)
    assert found.mean == np.mean(found.subsamples) and found.std == pytest.approx(
        np.std(found.subsamples, ddof=1)
    )
    variances = PCA().fit(digits.reshape(len(digits), -1)).explained_variance_ratio_
    assert np.allclose(found.spectrum.variances / found.spectrum.total, variances, atol=1e-12)


def test_torch_on_a_device_finds_the_same(digits: np.ndarray) -> None:
    pytest.importorskip("torch", reason="needs the extra gpu")
    for width in (4096, 0):  # exact, and by a sketch
        a, b = (
            effective_dimension(rows_of(digits), exact_width=width, device=device)
            for device in ("cpu", "torch-cpu")
        )
        assert (a.full, a.subsamples, a.curve) == (b.full, b.subsamples, b.curve)
        np.testing.assert_allclose(
            a.spectrum.variances, b.spectrum.variances, rtol=1e-9, atol=1e-9 * a.spectrum.total
        )
    with pytest.raises(NeurocompileError, match="NC1015"):
        effective_dimension(rows_of(digits), device="tpu")


def test_shift_and_scale_change_nothing(digits: np.ndarray) -> None:
    a = effective_dimension(rows_of(digits))
    b = effective_dimension(rows_of(digits * 1e-3 + 1e4))
    assert (a.full, a.subsamples) == (b.full, b.subsamples)


def test_known_dimension() -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((400, 7)) @ np.linalg.qr(rng.standard_normal((50, 7)))[0].T
    found = effective_dimension(rows_of(x), 0.9999)
    assert found.full == 7 and set(found.subsamples) == {7} and found.std == 0


def test_sketch_agrees_with_the_exact_number_and_never_falls_below(digits: np.ndarray) -> None:
    rng = np.random.default_rng(0)
    wide = digits.reshape(len(digits), -1) @ rng.standard_normal((64, 300))
    exact = effective_dimension(rows_of(wide))
    sketched = effective_dimension(rows_of(wide), exact_width=100)
    assert not sketched.spectrum.exact and sketched.method.startswith("randomized")
    assert exact.full <= sketched.full <= exact.full + 1
    assert sketched.spectrum.total == pytest.approx(exact.spectrum.total)
    few = sketched_spectrum(rows_of(wide), np.ones(len(wide), bool), 10, 0)
    assert (few.variances <= exact.spectrum.variances[:10] * (1 + 1e-9)).all()
    assert np.allclose(few.variances[:5], exact.spectrum.variances[:5], rtol=1e-3)


def test_a_sketch_that_does_not_reach_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("neurocompile.theory.measure.effective_dimension._FIRST_SKETCH", 8)
    monkeypatch.setattr("neurocompile.theory.measure.effective_dimension._LARGEST_SKETCH", 16)
    x = np.random.default_rng(0).standard_normal((300, 100))
    with pytest.raises(NeurocompileError, match="NC8004 .*lower `quantile`"):
        effective_dimension(rows_of(x), 0.99, exact_width=50)


def test_files_mapped_and_streamed_give_the_same(
    digits: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "neurocompile.theory.measure.data_rows._BLOCK_BYTES", 64 * 8 * 100
    )  # blocks of 100 rows
    np.save(tmp_path / "a.npy", digits)
    np.savez(tmp_path / "b.npz", y=np.arange(len(digits)), x=digits)
    np.savez_compressed(tmp_path / "c.npz", x=digits)
    np.savez(tmp_path / "d.npz", x=np.asfortranarray(digits))
    whole = effective_dimension(rows_of(digits))
    for name in ("a.npy", "b.npz", "c.npz", "d.npz"):
        rows = open_rows(tmp_path / name)
        assert (rows.array is None) == (name == "c.npz")
        assert np.array_equal(
            np.concatenate([part for _, part in rows.blocks()]), digits.reshape(len(digits), -1)
        )
        assert effective_dimension(rows).subsamples == whole.subsamples
    assert isinstance(open_rows(tmp_path / "b.npz").array, np.memmap)


def test_integers_are_read(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (50, 3, 4, 4), dtype=np.uint8)
    np.savez(tmp_path / "x.npz", x=x)
    assert effective_dimension(open_rows(tmp_path / "x.npz")).full == independent(x, 0.95)


@pytest.mark.parametrize(
    ("array", "code", "word"),
    [
        (np.full((9, 4), np.nan), "NC8001", "sample 0"),
        (np.where(np.arange(36).reshape(9, 4) == 17, np.inf, 0.0), "NC8001", "sample 4"),
        (np.ones((9, 4)), "NC8002", "the same"),
        (np.full((9, 4), 0.1, np.float32), "NC8002", "the same"),
        (np.zeros((1, 4)), "NC8001", "1 sample"),
        (np.zeros((0, 4)), "NC8001", "0 sample"),
        (np.zeros(5), "NC8001", "shape"),
        (np.zeros((5, 0)), "NC8001", "shape"),
        (np.zeros((5, 2), complex), "NC8001", "complex"),
        (np.array([["a", "b"]] * 3), "NC8001", "real numbers"),
    ],
)
def test_hostile_arrays(tmp_path: Path, array: np.ndarray, code: str, word: str) -> None:
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "x.npz", x=array)
        with pytest.raises(NeurocompileError) as error:
            effective_dimension(open_rows(tmp_path / "x.npz"))
        assert (
            error.value.code == code and word in str(error.value) and "\n" not in str(error.value)
        )


def test_hostile_files(tmp_path: Path) -> None:
    def code(name: str) -> str:
        with pytest.raises(NeurocompileError) as error:
            effective_dimension(open_rows(tmp_path / name))
        return error.value.code

    assert code("absent.npz") == "NC1001" and code(".") == "NC1001"
    (tmp_path / "text.npz").write_text("hello")
    np.savez(tmp_path / "other.npz", z=np.zeros((3, 3)))
    np.savez(tmp_path / "pickle.npz", x=np.array([[object()]] * 2, dtype=object))
    np.save(tmp_path / "pickle.npy", np.array([{"a": 1}] * 2, dtype=object))
    for name in ("text.npz", "other.npz", "pickle.npz", "pickle.npy"):
        assert code(name) == "NC8001"
    np.savez_compressed(tmp_path / "cut.npz", x=np.random.default_rng(0).random((1000, 50)))
    data = bytearray((tmp_path / "cut.npz").read_bytes())
    data[5000:5100] = bytes(100)
    (tmp_path / "cut.npz").write_bytes(data)
    assert code("cut.npz") == "NC8001"


def test_a_header_that_promises_too_much(tmp_path: Path) -> None:
    import io
    import zipfile

    for compression in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        member = io.BytesIO()
        np.lib.format.write_array_header_1_0(
            member, {"descr": "<f8", "fortran_order": False, "shape": (1 << 40, 4)}
        )
        with zipfile.ZipFile(tmp_path / "x.npz", "w", compression) as archive:
            archive.writestr("x.npy", member.getvalue() + bytes(64))
        with pytest.raises(NeurocompileError, match="NC8001 .*are there"):
            open_rows(tmp_path / "x.npz")


@pytest.mark.parametrize(
    "options",
    [{"quantile": 0}, {"quantile": 1}, {"quantile": float("nan")}, {"subsamples": 0}, {"share": 2}],
)
def test_parameters(digits: np.ndarray, options: dict) -> None:
    with pytest.raises(NeurocompileError, match="NC8003"):
        effective_dimension(rows_of(digits), **options)


@pytest.mark.parametrize(
    ("samples", "rank", "limited"),
    [(500, 20, False), (30, 1000, True), (500, 1000, True), (2, 9, True)],
)
def test_samples_that_limit_the_answer_are_said(samples, rank, limited):
    rng = np.random.default_rng(0)
    x = rng.standard_normal((samples, rank)) @ rng.standard_normal((rank, 400))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = effective_dimension(rows_of(x))
    assert found.limited == limited == any("limit the effective" in str(w.message) for w in caught)
    assert found.curve[-1] == (samples, found.full)
    counts = [n for n, _ in found.curve]
    assert counts == sorted(set(counts))
    assert found.uncertainty >= found.std


def test_one_subsample_scatters_nothing(digits: np.ndarray) -> None:
    found = effective_dimension(rows_of(digits), subsamples=1)
    assert found.std == 0 and found.uncertainty == found.growth and found.mean > 0
    more = effective_dimension(rows_of(digits), subsamples=3)
    assert more.std == pytest.approx(np.std(more.subsamples) * np.sqrt(3 / 2))
