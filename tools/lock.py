"""Rewrite the pins of every dependency in pyproject.toml (``[tool.uv] constraint-dependencies``):
``python tools/lock.py``.

They are the project's lock: exact versions with their markers, and no download address, so that uv
resolves the same environment from whatever index a lab uses. ``--check`` only says whether they are
what uv resolves.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(
    r"(# pins: tools/lock\.py writes them\nconstraint-dependencies = \[\n)(.*?)(^\]\n)",
    re.DOTALL | re.MULTILINE,
)


def resolve() -> list[str]:
    """``name==version ; marker`` of every package of every extra and group, sorted."""
    command = [
        "uv",
        "export",
        "--quiet",
        "--no-hashes",
        "--no-emit-project",
        "--no-header",
        "--no-annotate",
        "--all-extras",
        "--all-groups",
        "--format",
        "requirements.txt",
    ]
    text = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    return sorted(line.strip() for line in text.splitlines() if "==" in line)


def main() -> int:
    """Exit code 1 if ``--check`` finds other pins."""
    path = ROOT / "pyproject.toml"
    old = path.read_text()
    if "--check" not in sys.argv:
        (ROOT / "uv.lock").unlink(missing_ok=True)
        path.write_text(BLOCK.sub(r"\1\3", old))
    pins = "".join(f'    "{pin}",\n' for pin in (p.replace('"', "'") for p in resolve()))
    new = BLOCK.sub(lambda m: m[1] + pins + m[3], old)
    if "--check" in sys.argv:
        print("pins are current" if new == old else "pins differ from what uv resolves")
        return int(new != old)
    path.write_text(new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
