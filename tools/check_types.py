"""mypy over ``neurocompile``, which has no type errors: ``python tools/check_types.py``.

Exit code 1 if it finds any. pyproject.toml has the settings: every function is typed, and an
ignored line names the kind of error that it ignores.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

__all__ = ["main"]

ROOT = Path(__file__).resolve().parents[1]


def main() -> int:
    """See the module."""
    return subprocess.run([sys.executable, "-m", "mypy"], cwd=ROOT).returncode


if __name__ == "__main__":
    sys.exit(main())
