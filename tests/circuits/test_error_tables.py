"""docs/circuits.md holds what ``benchmarks/bench_circuits.py`` prints: every operator's row, by its name."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BENCHMARK = ROOT / "benchmarks" / "bench_circuits.py"
pytestmark = pytest.mark.skipif(not BENCHMARK.exists(), reason="a plain install has no benchmarks")
NEEDED = (
    *("product", "square", "sum of squares", "reciprocal", "inverse square root", "exp"),
    *("LayerNorm", "RMSNorm", "gelu", "sigmoid", "tanh", "relu", "largest of a row"),
    *("softmax", "softmax, n = 1024", "softmax, n = 64, a third masked", "LayerNorm, d = 1024"),
)


@pytest.fixture(scope="module")
def circuit_rows():
    spec = importlib.util.spec_from_file_location("bench_circuits", BENCHMARK)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def documented() -> dict[str, list[str]]:
    text = (ROOT / "docs" / "circuits.md").read_text(encoding="utf-8")
    table = text[text.index("| circuit | B=4") :].split("\n\n", 1)[0].splitlines()[2:]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    return {name: cells for name, *cells in rows}


def test_the_table_has_a_row_of_every_circuit(circuit_rows) -> None:
    names = [name for name, _ in circuit_rows.rows()]
    assert list(documented()) == names
    assert all(any(name.startswith(needed) for name in names) for needed in NEEDED)
    text = (ROOT / "docs" / "circuits.md").read_text(encoding="utf-8")
    assert "| ReLU by rate |" in text and "circuits.png" in text


@pytest.mark.parametrize(
    "name",
    [
        "gelu",
        "square",
        pytest.param("softmax, n = 64, a third masked", marks=pytest.mark.slow),
        pytest.param("inverse square root, in LayerNorm, d = 384", marks=pytest.mark.slow),
        pytest.param("LayerNorm, d = 64, outliers", marks=pytest.mark.slow),
    ],
)
def test_the_command_prints_what_the_table_says(circuit_rows, name: str) -> None:
    measured = dict(circuit_rows.rows())[name](8)
    cells = documented()[name]
    assert float(cells[circuit_rows.DIGITS.index(8)]) == pytest.approx(measured["rms"], rel=0.05)
