"""benchmarks/bench_models.py writes rows into docs/models.md and leaves the rest as it is."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

pytest.importorskip("torch")
ROOT = Path(__file__).parents[2]
BENCHMARK = ROOT / "benchmarks" / "bench_models.py"
pytestmark = pytest.mark.skipif(not BENCHMARK.exists(), reason="a plain install has no benchmarks")


def test_rows_are_replaced_in_place_and_prose_stays() -> None:
    from neurocompile.models.registry import MODELS

    spec = importlib.util.spec_from_file_location("bench_models", BENCHMARK)
    assert spec is not None and spec.loader is not None
    bench = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(bench)
    page = (ROOT / "docs" / "models.md").read_text(encoding="utf-8")
    assert bench.written(page, []) == page
    size = page[page.index("<!-- size -->") : page.index("<!-- end of size -->")].splitlines()[3:]
    large = [n for n in MODELS if "tiny" not in n and "slim" not in n]
    assert [bench.named(line) for line in size] == large  # every size, in order
    found = {
        "model": large[1],
        "parameters": 2e6,
        "lif_neurons": 3e6,
        "neurons": 4e6,
        "populations": 5,
        "depth": 6,
        "seconds": {"import": 7.0},
        "megabytes": 1024,
        "least_cores": 8,
    }
    new = bench.written(page, [found])
    row = f"| {large[1]} | 2.00 ({MODELS[large[1]].published:.2f}) | 3.00 | 4.00 | 5 | 6 | 7.0 | 1.00 | 8 |"
    assert new.replace(row, size[1]) == page and row in new
