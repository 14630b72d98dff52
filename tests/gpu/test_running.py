"""``run`` and ``parity`` with a device of torch say what the CPU says, bit for bit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("torch")

from neurocompile.cli import main  # noqa: E402
from neurocompile.errors import NeurocompileError  # noqa: E402
from neurocompile.gpu.definition import definition_on  # noqa: E402
from neurocompile.ir.analysis import shapes  # noqa: E402
from neurocompile.ir.evaluate import encode_input  # noqa: E402
from neurocompile.theory.measure.examine import examine  # noqa: E402
from neurocompile.theory.measure.subject import open_subject  # noqa: E402


def code_of(*arguments: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(list(arguments))
    return int(left.value.code or 0)


def test_run_gives_the_emulators_bits(digits_program, digits_data) -> None:
    expected = digits_program.run(digits_data.x[:20])
    found = digits_program.run(digits_data.x[:20], device="torch-cpu")
    np.testing.assert_array_equal(found.logits, expected.logits)
    assert found.spikes == expected.spikes
    assert found.neuron_steps == expected.neuron_steps
    assert "NOT hardware" in found.banner and "torch" in found.banner


def test_parity_compares_the_emulator_with_it(digits_program, digits_data) -> None:
    report = digits_program.parity(digits_data.x[:3], against=["emulator"], device="torch-cpu")
    assert report.exact and report.backends[0].values > 1000


@pytest.mark.slow
def test_the_float_half_is_the_same(digits_program, digits_data, digits_model) -> None:
    pytest.importorskip("spikingjelly")
    options = {"against": ["emulator"], "reference": digits_model}
    x, y = digits_data.x[:6], digits_data.y[:6]
    found = digits_program.parity(x, y, device="torch-cpu", **options)
    assert found.exact and found.backends[0].values > 1000
    assert found.reference == digits_program.parity(x, y, **options).reference


def test_a_device_takes_the_emulators_place_alone(digits_program, digits_data) -> None:
    with pytest.raises(NeurocompileError, match="NC1015 device torch-cpu takes the emulator's"):
        digits_program.run(digits_data.x[:1], "lava", device="torch-cpu")
    with pytest.raises(NeurocompileError, match="NC1015 device is 'gpu'; cpu, cuda, cuda:N and"):
        digits_program.run(digits_data.x[:1], device="gpu")


def test_the_command_takes_a_device(digits_program, digits_data, tmp_path, capsys) -> None:
    digits_program.save(tmp_path / "digits.nca")
    np.savez(tmp_path / "x.npz", x=digits_data.x[:3], y=digits_data.y[:3])
    files = [str(tmp_path / "digits.nca"), "--input", str(tmp_path / "x.npz")]
    assert code_of("run", *files, "--device", "torch-cpu") == 0
    said = capsys.readouterr().out
    assert "the quantized model's integers by torch" in said and "accuracy     100.00%" in said
    assert code_of("run", *files, "--device", "tpu") == 2
    assert "choose cpu, cuda" in capsys.readouterr().err


def test_given_values_take_the_place_of_computed_ones(digits_program, digits_data) -> None:
    graph, x = digits_program.quantized, digits_data.x[:2]
    integers = encode_input(graph.input, x)
    layer, last = graph.spiking_layers[3].name, graph.output.name
    silent = {layer: np.zeros((2, 4, *shapes(graph)[layer]), np.int64)}
    expected, found = (
        definition_on(graph, 4, device)(integers, None, silent) for device in ("cpu", "torch-cpu")
    )
    assert not expected[layer].any()
    assert (expected[last] != definition_on(graph, 4, "cpu")(integers, [last])[last]).any()
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.mark.slow
def test_a_budget_of_a_device_is_that_of_the_emulator(digits_model, digits_data) -> None:
    subject, x = open_subject(digits_model), digits_data.x[:3]
    options = {"origin": "digits", "steps": (1, 4)}
    expected = examine(subject, x, **options)
    found = examine(replace(subject, device="torch-cpu"), x, **options)
    for part in ("points", "local", "beside", "layers", "goal", "run.spikes", "steps"):
        if hasattr(expected, part):
            assert getattr(found, part) == getattr(expected, part), part
    assert found.run.spikes == expected.run.spikes and not found.run.messages
