"""What a user calls: compile, save, load, run, trace, parity, and the answers to wrong calls."""

from __future__ import annotations

import subprocess
import sys
from importlib.resources import files

import numpy as np
import pytest

import neurocompile
from neurocompile import NeurocompileError
from neurocompile.errors import ViolationList


def error_of(action, *arguments, **options) -> NeurocompileError:
    with pytest.raises(NeurocompileError) as error:
        action(*arguments, **options)
    return error.value


def test_compile_save_load_run_as_the_readme_says(digits_model, digits_data, tmp_path):
    program = neurocompile.compile(digits_model, target="loihi2", T=4)
    program.save(tmp_path / "digits.nca")
    loaded = neurocompile.load(str(tmp_path / "digits.nca"))
    result = loaded.run(digits_data.x)
    assert result.predictions.shape == (360,) and result.logits.shape == (360, 10)
    assert result.accuracy(digits_data.y) > 0.97
    assert result.backend == "emulator" and "NOT hardware" in result.banner
    assert loaded.parity(digits_data.x[:2], against=("emulator",)).exact


def test_a_run_counts_the_spikes_of_every_layer(digits_program, digits_data):
    x = digits_data.x[:70]  # more than one chunk
    result = digits_program.run(x)
    trace = digits_program.trace(x, [v.src for v in digits_program.circuit.views])
    for view in digits_program.circuit.views:
        assert result.spikes[view.layer] == trace[view.src].sum()
        assert result.neuron_steps[view.layer] == trace[view.src].size
    np.testing.assert_array_equal(result.logits[65], digits_program.run(x[65:66]).logits[0])


def test_a_run_on_lava_gives_the_emulators_logits(digits_program, digits_data):
    pytest.importorskip("lava.magma", reason="the extra 'lava' is not installed")
    ours, theirs = (
        digits_program.run(digits_data.x[:2], backend) for backend in ("emulator", "lava")
    )
    np.testing.assert_array_equal(ours.logits, theirs.logits)
    assert ours.spikes == theirs.spikes and theirs.backend == "lava"


def test_a_program_tells_its_sizes(digits_program):
    assert digits_program.input_shape == (1, 8, 8)
    assert (
        digits_program.spiking_neurons > 1000
        and digits_program.synapses > digits_program.spiking_neurons
    )
    assert digits_program.mapping.target == digits_program.target.name == "loihi2"
    assert "map" in digits_program.seconds
    assert digits_program.summary() is not None


@pytest.mark.parametrize("T", [0, -1, 65537, 1.0, 4.5, "4", True, False, [4]])
def test_a_T_that_is_no_integer_from_1_to_65536_is_refused(T, digits_model):
    assert error_of(neurocompile.compile, digits_model, T=T).code == "NC1007"


@pytest.mark.parametrize("option", ["T", "seed", "weight_bits", "max_cores"])
def test_options_may_be_numpy_integers(option, digits_model, tmp_path):
    value = {"T": 4, "seed": 1, "weight_bits": 8, "max_cores": 60}[option]
    neurocompile.compile(digits_model, **{option: np.int64(value)}).save(tmp_path / "a.nca")
    assert getattr(neurocompile.load(tmp_path / "a.nca").manifest.options, option) == value


@pytest.mark.parametrize("bits", [-1, 0, 1, 9, 100])
def test_weight_bits_out_of_range_are_refused(bits, digits_model):
    assert error_of(neurocompile.compile, digits_model, weight_bits=bits).code == "NC2003"


@pytest.mark.parametrize(
    "shape", [(1, 8, 8), (2, 8, 8), (2, 1, 8, 9), (2, 3, 8, 8), (2, 1, 8, 8, 1), (8,), ()]
)
@pytest.mark.parametrize("call", ["run", "trace", "parity"])
def test_an_input_of_another_shape_is_refused_with_both_shapes(shape, call, digits_program):
    error = error_of(getattr(digits_program, call), np.zeros(shape, np.float32))
    assert error.code == "NC1006" and str(list(shape)) in str(error) and "1, 8, 8" in str(error)


@pytest.mark.parametrize("dtype", [np.uint8, np.int64, bool, complex, object])
def test_an_input_that_is_not_floating_point_is_refused(dtype, digits_program):
    assert error_of(digits_program.run, np.zeros((2, 1, 8, 8), dtype)).code == "NC1006"


def test_an_input_without_samples_or_with_infinite_values_is_refused(digits_program):
    assert error_of(digits_program.run, np.zeros((0, 1, 8, 8), np.float32)).code == "NC1012"
    x = np.zeros((2, 1, 8, 8), np.float32)
    x[1, 0, 3, 3] = np.nan
    assert error_of(digits_program.run, x).code == "NC1012"
    x[1, 0, 3, 3] = -np.inf
    assert error_of(digits_program.parity, x).code == "NC1012"


def test_double_precision_and_lists_are_taken(digits_program, digits_data):
    x = digits_data.x[:2]
    expected = digits_program.run(x).logits
    np.testing.assert_array_equal(digits_program.run(x.astype(np.float64)).logits, expected)
    np.testing.assert_array_equal(digits_program.run(x.tolist()).logits, expected)
    np.testing.assert_array_equal(digits_program.run(np.asfortranarray(x)).logits, expected)


def test_values_beyond_the_calibrated_range_are_clipped(digits_program):
    black, beyond = np.ones((1, 1, 8, 8), np.float32), np.full((1, 1, 8, 8), 1e6, np.float32)
    np.testing.assert_array_equal(
        digits_program.run(black).logits, digits_program.run(beyond).logits
    )


def test_an_unknown_backend_is_refused_with_the_known_ones(digits_program, digits_data):
    error = error_of(digits_program.run, digits_data.x[:1], backend="gpu")
    assert error.code == "NC4005" and all(
        name in str(error) for name in ("emulator", "lava", "lava-runtime", "loihi")
    )
    assert (
        error_of(digits_program.parity, digits_data.x[:1], against=("emulator", "nest")).code
        == "NC4005"
    )


def test_an_unknown_target_is_refused(digits_model):
    assert error_of(neurocompile.compile, digits_model, target="truenorth").code == "NC3001"


def test_a_file_that_is_missing_or_no_model_is_refused(tmp_path):
    assert error_of(neurocompile.compile, tmp_path / "absent.onnx").code == "NC1001"
    (tmp_path / "noise.onnx").write_bytes(bytes(range(256)))
    assert error_of(neurocompile.compile, tmp_path / "noise.onnx").code == "NC1002"


def test_a_model_larger_than_the_target_names_every_resource_that_lacks(digits_model):
    error = error_of(neurocompile.compile, digits_model, target="sim_small")
    assert isinstance(error, ViolationList) and error.code == "NC3101" and len(error.messages) >= 3
    text = str(error)
    assert text.count("NC3101") == len(error.messages)
    for resource in ("neurons", "input axons", "words of synaptic memory"):
        assert f"{resource}, so at least" in text
    assert "sim_small has 16" in text and "`target=" in text


def test_layers_that_fit_no_core_are_all_named(digits_model, tmp_path):
    text = (files("neurocompile.hw_targets") / "sim_small.yaml").read_text()
    for a, b in (
        ("columns: {value: 2", "columns: {value: 60"),
        ("rows: {value: 2", "rows: {value: 60"),
        ("cores_usable: {value: 16", "cores_usable: {value: 14400"),
        ("name: sim_small", "name: narrow"),
        ("synaptic_memory_words: {value: 1000", "synaptic_memory_words: {value: 30"),
    ):
        assert a in text
        text = text.replace(a, b, 1)
    (tmp_path / "narrow.yaml").write_text(text)
    error = error_of(neurocompile.compile, digits_model, target=tmp_path / "narrow.yaml")
    assert isinstance(error, ViolationList) and error.code == "NC3102" and len(error.messages) >= 3
    for message in error.messages:
        assert (
            "layer '" in message
            and "words of synaptic memory on a core for one neuron, narrow has 30" in message
        )


def test_more_cores_than_asked_for_are_never_used(digits_model):
    program = neurocompile.compile(digits_model, max_cores=30)
    assert program.mapping.cores_used <= 30
    assert error_of(neurocompile.compile, digits_model, max_cores=2).code == "NC3101"


def test_seeds_move_cores_and_nothing_else(digits_model, digits_program, digits_data):
    other = neurocompile.compile(digits_model, seed=5)
    assert other.circuit.text() == digits_program.circuit.text()
    assert other.manifest.proof != digits_program.manifest.proof
    np.testing.assert_array_equal(
        other.run(digits_data.x[:5]).logits, digits_program.run(digits_data.x[:5]).logits
    )


def test_importing_neurocompile_imports_nothing_heavy():
    code = "import sys, neurocompile; print([m for m in ('numpy', 'torch', 'onnx', 'lava', 'numba') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'complie'"):
        neurocompile.complie  # noqa: B018


@pytest.mark.parametrize(
    ("option", "value", "code"),
    [
        ("weight_bits", 4.5, "NC2003"),
        ("weight_bits", "8", "NC2003"),
        ("seed", -1, "NC1015"),
        ("seed", None, "NC1015"),
        ("max_cores", 0, "NC1015"),
        ("max_cores", True, "NC1015"),
        ("T", 2.0, "NC1007"),
    ],
)
def test_options_of_wrong_type_or_range_are_named(option, value, code, digits_model):
    error = error_of(neurocompile.compile, digits_model, **{option: value})
    assert error.code == code
    assert option in error.message


def test_compiling_and_emulating_import_neither_torch_nor_lava(digits_model, tmp_path):
    script = (
        "import sys, numpy as np, neurocompile\n"
        f"program = neurocompile.compile({str(digits_model)!r})\n"
        f"program.save({str(tmp_path / 'a.nca')!r})\n"
        f"neurocompile.load({str(tmp_path / 'a.nca')!r}).run(np.zeros((1, 1, 8, 8), np.float32))\n"
        "found = {'torch', 'lava', 'spikingjelly', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(str(found) if found else 0)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_inputs_outside_of_the_calibrated_range_are_said_with_their_share(digits_program):
    x = np.zeros((4, 1, 8, 8), np.float32)
    assert digits_program.run(x).outside == 0.0
    x[0, 0, 0] = 99.0  # 8 of 256
    for call in (digits_program.run, digits_program.trace, digits_program.energy):
        with pytest.warns(UserWarning, match=r"3\.12% of the values of x lie outside of 0\.\.1, "):
            call(x)
    with pytest.warns(UserWarning, match="are clipped to it"):
        assert digits_program.parity(x, against=()).outside == 8 / 256


def test_another_number_of_frames_is_said():
    from neurocompile.data import check_inputs

    frames = np.zeros((2, 5, 1, 8, 8), np.float32)
    assert check_inputs(frames, (5, 1, 8, 8), steps=5).shape == frames.shape
    error = error_of(check_inputs, frames, (10, 1, 8, 8), steps=10)
    assert error.code == "NC1021" and "bring 5 steps (frames) each, the program runs 10" in str(
        error
    )
    assert error_of(check_inputs, frames, (10, 2, 8, 8), steps=10).code == "NC1006"
