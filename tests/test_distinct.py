"""Distinct whole numbers, and that nobody who has millions of them asks numpy's hash table."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

import neurocompile
from neurocompile.distinct import distinct

ROOT = Path(neurocompile.__file__).parent


@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.uint64, bool])
@pytest.mark.parametrize("shape", [(0,), (1,), (7,), (1000,), (3, 40), ()])
def test_distinct_is_what_numpy_finds(dtype, shape):
    for seed, span in enumerate((1, 2, 50, 250)):
        values = np.random.default_rng(seed).integers(0, span, shape).astype(dtype)
        before = values.copy()
        found, wanted = distinct(values), np.unique(values)
        assert found.dtype == wanted.dtype
        np.testing.assert_array_equal(found, wanted)
        np.testing.assert_array_equal(values, before)


def test_the_mapper_sorts():
    """``np.unique`` of values alone hashes from numpy 2.3 on; with places or counts it sorts."""
    hashed = [
        f"{path.name}:{call.lineno}"
        for path in sorted((ROOT / "mapping").glob("*.py"))
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call)
        and ast.unparse(call.func) == "np.unique"
        and not any((k.arg or "").startswith("return_") for k in call.keywords)
    ]
    assert hashed == []
