"""Every pin has the hashes of its files, and neither names an address."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    tomllib = pytest.importorskip("tomli")

ROOT = Path(__file__).resolve().parents[2]
if not (ROOT / "tools" / "lock.py").exists():
    pytest.skip("no checkout", allow_module_level=True)
sys.path.insert(0, str(ROOT / "tools"))

from lock import HASHES, compare, pins_of, requirements  # noqa: E402


def test_every_pin_has_hashes() -> None:
    pins = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["uv"]
    text = HASHES.read_text()
    kept = pins_of(text)
    assert sorted(p.replace('"', "'") for p in kept) == sorted(pins["constraint-dependencies"])
    assert all(re.fullmatch("sha256:[0-9a-f]{64}", h) for each in kept.values() for h in each)
    assert all(kept.values()) and "://" not in text and "index" not in text.partition("\n")[2]
    assert requirements(kept) == text


def test_another_file_in_place_of_a_kept_one_is_refused_and_a_new_one_is_said() -> None:
    kept = pins_of(
        "a==1 \\\n    --hash=sha256:aa \\\n    --hash=sha256:bb\nb==2 --hash=sha256:cc\n"
    )
    assert kept == {"a==1": ["sha256:aa", "sha256:bb"], "b==2": ["sha256:cc"]}
    assert compare(kept, kept) == ([], [])
    more = kept | {"b==2": ["sha256:cc", "sha256:dd"]}
    assert compare(kept, more) == ([], ["b==2: files that were not there"])
    other = kept | {"a==1": ["sha256:aa", "sha256:ee"]}
    assert compare(kept, other)[0] == ["a==1: 1 of 2 files are gone or are other files now"]
    assert compare(kept, {"a==1": kept["a==1"]})[0] == [
        "b==2: a hash is kept of what is not pinned"
    ]
    assert compare({}, kept)[0] == [f"{pin}: pinned, but no hash is kept" for pin in kept]
