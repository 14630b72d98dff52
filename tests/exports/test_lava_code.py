"""Programs as Lava code: it runs without us, and sends what the emulator sends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from exports.test_sanafe_files import network

from neurocompile.backends.emulator import Emulator
from neurocompile.backends.encoding import decode
from neurocompile.errors import NeurocompileError
from neurocompile.exports.lava import write_lava
from neurocompile.ir.windows import rounds

pytest.importorskip("lava", reason="needs the extra lava")


def run_alone(circuit, path: Path, x: np.ndarray) -> dict[str, np.ndarray]:
    """What ``path`` gives for ``x``, by its own names, in an interpreter that cannot import us."""
    write_lava(circuit, path)
    np.savez(path.with_name("x.npz"), x=x)
    block = "import sys; sys.modules['neurocompile'] = None; import runpy; "
    call = "sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    arguments = [path.name, "x.npz", "-o", "out.npz", "--record"]
    subprocess.run(
        [sys.executable, "-c", block + call, *arguments], cwd=path.parent, check=True, timeout=300
    )
    with np.load(path.with_name("out.npz")) as found:
        return {name: found[name] for name in found.files}


@pytest.mark.slow
@pytest.mark.parametrize("graded", [False, True])
def test_lava_code_sends_what_the_emulator_sends(tmp_path: Path, graded: bool) -> None:
    circuit = network(3, 62, graded=graded)
    x = np.random.default_rng(0).integers(0, 2, (3, 6, 6, 2)).astype(np.float32)
    found = run_alone(circuit, tmp_path / "net.py", x)
    expected = Emulator().open(circuit).run(x.astype(np.int32))
    np.testing.assert_array_equal(found.pop("output/logits"), decode(circuit, expected))
    assert found.keys() == expected.keys()
    for name, values in expected.items():
        assert values.any()
        np.testing.assert_array_equal(
            found[name].reshape(rounds(circuit, 3), circuit.steps, *values.shape[2:]), values, name
        )


def test_the_name_must_be_a_modules(tmp_path: Path) -> None:
    with pytest.raises(NeurocompileError, match="ends in .py") as caught:
        write_lava(network(0), tmp_path / "net.txt")
    assert caught.value.code == "NC5005" and not list(tmp_path.iterdir())
