"""Makes the helper module beside these tests importable under any import mode of pytest."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
pytest.importorskip("lava.magma", reason="the extra 'lava' is not installed")
