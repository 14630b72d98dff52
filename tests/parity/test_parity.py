"""Zero differences from the quantized model to Lava's own process models, and figures for the float
model.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import neurocompile
from neurocompile.backends.emulator import Emulator
from neurocompile.backends.encoding import encode
from neurocompile.backends.lava.compat import require_lava
from neurocompile.errors import NeurocompileError
from neurocompile.frontends.onnx.reference import run_onnx
from neurocompile.ir.circuit import LIF, GradedRelay
from neurocompile.ir.evaluate import encode_input, evaluate
from neurocompile.parity.check import compare_backend, parity
from neurocompile.pipeline import import_model


@pytest.fixture
def lava():
    pytest.importorskip("lava.magma", reason="the extra 'lava' is not installed")
    try:
        require_lava()
    except NeurocompileError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def spikingjelly():
    pytest.importorskip("torch")
    pytest.importorskip("spikingjelly", reason="the extra 'torch' is not installed")
    from neurocompile.reference.spikingjelly import run_spikingjelly

    return run_spikingjelly


def assert_exact(report, backends: tuple[str, ...], samples: int) -> None:
    assert tuple(b.backend for b in report.backends) == backends
    for b in report.backends:
        assert (b.differences, b.first, b.samples) == (0, None, samples), str(b.first)
        assert b.values > 1000 and "NOT hardware" in b.banner
    assert report.exact


# ---- the exact half ------------------------------------------------------------------------------


def test_emulator_and_lava_agree_with_the_quantized_model_on_eight_images(
    digits_program, digits_data, lava
):
    report = digits_program.parity(digits_data.x[:8])
    assert_exact(report, ("emulator", "lava"), 8)
    assert report.backends[0].populations == len(digits_program.quantized.spiking_layers) + 1
    assert report.backends[1].populations == len(digits_program.circuit.populations)
    values = (
        sum(p.size for p in digits_program.circuit.populations) * digits_program.circuit.steps * 8
    )
    assert report.backends[1].values == values


def test_the_emulator_agrees_with_the_quantized_model_on_all_images(digits_program, digits_data):
    assert_exact(digits_program.parity(digits_data.x, against=("emulator",)), ("emulator",), 360)


@pytest.mark.slow
def test_lava_agrees_on_all_images(digits_program, digits_data, lava):
    assert_exact(digits_program.parity(digits_data.x, against=("lava",)), ("lava",), 360)


@pytest.mark.slow
def test_lavas_own_runtime_agrees_on_four_images(digits_program, digits_data, lava):
    report = parity(digits_program, digits_data.x[:5], against=("lava-runtime",), runtime_samples=4)
    assert_exact(report, ("lava-runtime",), 4)


@pytest.mark.parametrize("T", [1, 2, 3, 6, 8])
def test_another_T_than_that_of_the_file_is_exact_too(T, digits_model, digits_data, lava):
    program = neurocompile.compile(digits_model, T=T)
    assert (
        program.circuit.steps == T
        and program.circuit.period >= T
        and program.manifest.exported_T == 4
    )
    assert_exact(program.parity(digits_data.x[:3]), ("emulator", "lava"), 3)


@pytest.mark.parametrize("bits", [2, 4, 6])
def test_fewer_weight_bits_are_exact_too(bits, digits_model, digits_data, lava):
    program = neurocompile.compile(digits_model, weight_bits=bits)
    step = 1 << (9 - bits)
    weights = [t for t in program.circuit.tensors.values() if t.ndim == 4]
    assert weights and all((w % step == 0).all() and np.abs(w).max() < 256 for w in weights)
    assert_exact(program.parity(digits_data.x[:2]), ("emulator", "lava"), 2)


def test_a_short_target_with_relays_is_exact_too(digits_program, digits_data, lava):
    from neurocompile.passes.lower import lower
    from neurocompile.passes.schedule import schedule

    circuit = schedule(
        lower(digits_program.quantized, 4), max_spike_delay=2, power_of_two_period=True
    )
    assert any(".wait" in p.name for p in circuit.populations)
    program = dataclasses.replace(digits_program, circuit=circuit)
    assert_exact(program.parity(digits_data.x[:2]), ("emulator", "lava"), 2)


# ---- a difference is found and named -------------------------------------------------------------


@pytest.mark.parametrize("layer", [0, 7, -1])
def test_an_altered_threshold_is_reported_with_layer_neuron_step_and_values(
    digits_program, digits_data, layer
):
    circuit, x = digits_program.circuit, digits_data.x[:4]
    view = circuit.views[layer]
    population = circuit.population[view.src]
    higher = dataclasses.replace(population, vth=2 * population.vth + 1)
    altered = circuit.replace(
        populations=tuple(higher if p is population else p for p in circuit.populations)
    )
    report = dataclasses.replace(digits_program, circuit=altered).parity(x, against=("emulator",))
    first = report.backends[0].first
    assert not report.exact and report.backends[0].differences > 0
    expected = evaluate(
        digits_program.quantized, encode_input(digits_program.quantized.input, x), 4, [view.layer]
    )[view.layer]
    found = view.read(Emulator().open(altered).run(encode(altered, x))[view.src])
    sample, step, *neuron = (int(i[0]) for i in np.nonzero(expected != found))
    assert (first.layer, first.population, first.sample, first.step) == (
        view.layer,
        view.src,
        sample,
        step,
    )
    assert first.neuron == tuple(neuron)
    assert (
        (first.expected, first.found)
        == (expected[sample, step][tuple(neuron)], found[sample, step][tuple(neuron)])
        == (1, 0)
    )
    assert f"layer '{view.layer}'" in str(first) and f"step {step}: expected 1, found 0" in str(
        first
    )


def test_an_altered_readout_is_reported_at_the_logits(digits_program, digits_data):
    circuit = digits_program.circuit
    bias = {
        circuit.readouts[0].bias: circuit.tensors[circuit.readouts[0].bias]
        + np.eye(10, dtype=np.int64)[3]
    }
    altered = circuit.replace(tensors={**circuit.tensors, **bias})
    report = dataclasses.replace(digits_program, circuit=altered).parity(
        digits_data.x[:2], against=("emulator",)
    )
    first = report.backends[0].first
    assert report.backends[0].differences == 2
    assert (first.layer, first.sample, first.neuron, first.found - first.expected) == (
        "logits",
        0,
        (3,),
        4,
    )


def test_a_difference_beyond_the_first_chunk_keeps_its_sample_number(digits_program, digits_data):
    x = np.repeat(np.zeros_like(digits_data.x[:1]), 40, axis=0)
    x[35] = digits_data.x[0]
    circuit = digits_program.circuit
    view = circuit.views[0]
    quiet = circuit.replace(
        populations=tuple(
            dataclasses.replace(p, vth=131071) if p.name == view.src else p
            for p in circuit.populations
        )
    )
    expected = evaluate(
        digits_program.quantized, encode_input(digits_program.quantized.input, x), 4, [view.layer]
    )[view.layer]
    first = (
        dataclasses.replace(digits_program, circuit=quiet)
        .parity(x, against=("emulator",))
        .backends[0]
        .first
    )
    assert first.sample == int(np.nonzero(expected)[0][0])


def test_the_emulator_compared_with_itself_has_no_difference(digits_program, digits_data):
    result = compare_backend(
        digits_program.circuit, "emulator", encode(digits_program.circuit, digits_data.x[:40])
    )
    assert (result.differences, result.samples, result.populations) == (
        0,
        40,
        len(digits_program.circuit.populations),
    )


# ---- the float half ------------------------------------------------------------------------------


def test_spikingjelly_and_onnxruntime_give_the_same_spikes_up_to_rounding(
    digits_model, digits_data, spikingjelly
):
    loaded, imported = import_model(digits_model)
    ours, theirs = (
        spikingjelly(imported.graph, digits_data.x, 4),
        run_onnx(loaded, imported, digits_data.x),
    )
    assert set(ours.layers) == set(theirs.layers) == {n.name for n in imported.graph.spiking_layers}
    equal = sum(
        int((ours.layers[k] == v.reshape(ours.layers[k].shape)).sum())
        for k, v in theirs.layers.items()
    )
    total = sum(v.size for v in theirs.layers.values())
    assert equal / total >= 0.9999
    assert (ours.logits.argmax(axis=1) == theirs.logits.argmax(axis=1)).mean() >= 0.995
    assert "onnxruntime" in theirs.what and "SpikingJelly" in ours.what


@pytest.mark.parametrize("T", [1, 3])
def test_spikingjelly_agrees_with_the_float_evaluation_at_other_T(
    T, digits_model, digits_data, spikingjelly
):
    _, imported = import_model(digits_model)
    run = spikingjelly(imported.graph, digits_data.x[:30], T)
    ours = evaluate(imported.graph, digits_data.x[:30], T, list(run.layers))
    equal = sum(int((run.layers[k].reshape(v.shape) == v).sum()) for k, v in ours.items())
    assert equal / sum(v.size for v in ours.values()) >= 0.999


def test_the_compiled_model_is_as_accurate_as_the_float_one_within_half_a_point(
    digits_program, digits_model, digits_data
):
    report = digits_program.parity(digits_data.x, digits_data.y, against=(), reference=digits_model)
    half = report.reference
    assert half.samples == 360 and half.accuracy_reference >= 0.97
    assert half.accuracy_quantized >= half.accuracy_reference - 0.005
    assert half.same_predictions >= 0.98
    assert {layer.layer for layer in half.layers} == {v.layer for v in digits_program.circuit.views}
    for layer in half.layers:
        assert layer.agreement >= 0.9 and abs(layer.rate_error) < 0.002
    assert digits_program.run(digits_data.x).accuracy(digits_data.y) == half.accuracy_quantized


def test_float_and_quantized_part_where_the_report_says(digits_program, digits_model, digits_data):
    half = digits_program.parity(digits_data.x[:60], against=(), reference=digits_model).reference
    layers = [v.layer for v in digits_program.circuit.views]
    agreement = {layer.layer: layer.agreement for layer in half.layers}
    assert half.accuracy_reference is None
    assert half.parts is None or agreement[half.parts.layer] < 1
    assert half.parts is not None or min(agreement[k] for k in layers) == 1


def test_the_reference_is_the_model_in_whatever_file(
    digits_program, digits_model, digits_data, tmp_path
):
    """Another file, statistics of other data: the same model. Another weight: refused."""
    onnx = pytest.importorskip("onnx")
    proto = onnx.load(digits_model)
    proto.doc_string = "another file"
    for entry in proto.metadata_props:
        if entry.key == "neurocompile.calibration":
            entry.value = entry.value.replace('"rate": 0', '"rate": 0.1')
    onnx.save(proto, tmp_path / "other.onnx")
    x = digits_data.x[:4]
    report = digits_program.parity(x, against=(), reference=tmp_path / "other.onnx")
    assert min(k.agreement for k in report.reference.layers) > 0.9
    weight = max(proto.graph.initializer, key=lambda t: len(t.raw_data))
    array = onnx.numpy_helper.to_array(weight).copy()
    array.flat[0] += np.abs(array).max()
    weight.CopyFrom(onnx.numpy_helper.from_array(array, weight.name))
    onnx.save(proto, tmp_path / "other.onnx")
    with pytest.raises(NeurocompileError, match="^NC1006 .*is not the model.*other integers"):
        digits_program.parity(x, against=(), reference=tmp_path / "other.onnx")


def test_rates_are_measured_on_calibration_samples_and_modelled_without(
    digits_program, digits_model, digits_data
):
    measured = neurocompile.compile(digits_model, calibration=digits_data.x[:32])
    assert (
        "measured on 32" in measured.manifest.rates_source
        and "modelled" in digits_program.manifest.rates_source
    )
    names = {p.name for p in measured.circuit.populations}
    assert set(measured.manifest.rates) == names and all(
        0 <= v <= 1 for v in measured.manifest.rates.values()
    )
    trace = measured.trace(digits_data.x[:32])
    for p in measured.circuit.populations:
        assert measured.manifest.rates[p.name] == pytest.approx(
            np.count_nonzero(trace[p.name]) / trace[p.name].size, abs=1e-8
        )
    for p in (
        digits_program.circuit.populations
    ):  # the model of rates never misses a message that must come
        if isinstance(p, LIF) and p.vth == 0 and not digits_program.circuit.incoming[p.name]:
            assert digits_program.manifest.rates[p.name] == 1
        assert 0 <= digits_program.manifest.rates[p.name] <= 1 or isinstance(p, GradedRelay)
