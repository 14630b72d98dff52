"""Programs as Lava code: it runs without us, and sends what the emulator sends."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from exports.test_sanafe_files import network

import neurocompile
from neurocompile.backends.emulator import Emulator
from neurocompile.backends.encoding import decode, encode
from neurocompile.backends.lava.compat import require_lava
from neurocompile.errors import NeurocompileError
from neurocompile.exports.lava import write_lava
from neurocompile.ir.windows import host_rounds, rounds

DIGITS = Path(__file__).parents[2] / "models" / "zoo" / "qkformer_digits" / "qkformer.onnx"
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


@pytest.mark.slow
def test_folded_samples_are_sent_as_our_host_sends_them(tmp_path: Path, digits_data) -> None:
    """The code's own encoding of samples, pieces of them and clocks, window by window."""
    program = neurocompile.compile(DIGITS, T=4, fold="1x4")
    circuit, x = program.circuit, digits_data.x[:3]
    assert circuit.windows > 1 and len(circuit.inputs) > 1
    program.export_lava(tmp_path / "net.py")
    require_lava()  # in this process the start method of others may be chosen already
    script = runpy.run_path(str(tmp_path / "net.py"))
    found = script["encode"](np.asarray(x, np.float32))
    integers = encode(circuit, np.asarray(x, np.float32))
    assert len(found) == len(circuit.inputs)
    for host, values in zip(circuit.inputs, found.values(), strict=True):
        ours = host_rounds(circuit, host, integers)
        ours = ours if host.stepwise else np.repeat(ours[:, None], circuit.steps, axis=1)
        np.testing.assert_array_equal(values.reshape(ours.shape), ours, host.name)
    trace = Emulator().open(circuit).run(integers, [circuit.readouts[0].src])
    rounds_of = trace[circuit.readouts[0].src].reshape(-1, circuit.steps, 10)
    np.testing.assert_array_equal(script["logits"](rounds_of), decode(circuit, trace))
