"""The example of folds does what its first lines say."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.slow
def test_the_digits_fold_without_a_difference(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "examples" / "04_fold.py"), "--output", str(tmp_path)]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "fold 2x8, 5 of 120 cores, 5 windows, 20 steps a sample" in done.stdout
    assert "  0 differences from" in done.stdout and "98.33% of 360 images right" in done.stdout
    assert (tmp_path / "qkformer.schedule.png").stat().st_size > 10_000
