"""Integers are chosen for the fields that a target has, and every field of its file is read."""

from __future__ import annotations

import ast
from functools import cache
from importlib import resources
from pathlib import Path

import msgspec
import numpy as np
import pytest
import yaml

import neurocompile
from neurocompile.backends.emulator import emulate_cycles
from neurocompile.backends.encoding import encode
from neurocompile.build_steps import build_circuit, canonical_graph, statistics_of
from neurocompile.calibration import Calibration
from neurocompile.circuits.attention import attention
from neurocompile.circuits.normalize import normalization
from neurocompile.circuits.one_winner import one_winner
from neurocompile.circuits.rate_relu import rate_relu
from neurocompile.circuits.winners import k_winners
from neurocompile.errors import NeurocompileError
from neurocompile.frontends.door import open_model
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.ir.evaluate import encode_input, evaluate
from neurocompile.ir.spiking import SpikingGraph
from neurocompile.mapping.fields import exceeded_fields
from neurocompile.pass_order import circuit_passes
from neurocompile.passes.quantize import Quantize
from neurocompile.passes.schedule import Schedule
from neurocompile.targets import load_target
from neurocompile.targets import schema as types
from neurocompile.targets.fields import LOIHI2, ChipFields

MODELS = resources.files("neurocompile.models") / "zoo"
DIGITS = str(MODELS / "digits" / "spikformer.onnx")
RESFORMER = str(MODELS / "digits" / "spiking_resformer.onnx")
DRIVEN = str(MODELS / "digits" / "spike_driven_transformer.onnx")
QKFORMER = str(MODELS / "qkformer_digits" / "qkformer.onnx")
LOIHI2_FILE = (resources.files("neurocompile.hw_targets") / "loihi2.yaml").read_text()


def target_file(folder: Path, **values: object) -> str:
    """Loihi 2 with other values, by ``part__field``."""
    target = yaml.safe_load(LOIHI2_FILE)
    target["name"] = "narrow"
    for name, value in values.items():
        part, _, field = name.partition("__")
        target[part][field]["value"] = value
    path = folder / "narrow.yaml"
    path.write_text(yaml.safe_dump(target))
    return str(path)


@cache
def canonical(path: str) -> tuple[SpikingGraph, Calibration, int]:
    opened = open_model(path)
    graph = canonical_graph(opened, load_target("loihi2"))
    return graph, statistics_of(opened, graph), opened.options.steps


def built(path: str, target: str) -> tuple[SpikingGraph, CircuitGraph]:
    """What a build for the target makes, but for the mapping."""
    graph, statistics, steps = canonical(path)
    chip = load_target(target)
    quantized = Quantize(steps, statistics, fields=ChipFields.of(chip))(graph)
    return quantized, build_circuit(quantized, steps, 8, chip)


def exact(quantized: SpikingGraph, circuit: CircuitGraph) -> None:
    """The chip's own streams, delays and all, give the integers of the definition."""
    x = np.random.default_rng(0).random((2, *quantized.input.sample_shape), dtype=np.float32)
    host = circuit.inputs[0]
    x = ((host.low + x * (host.high - host.low)) * host.scale).astype(np.float32)
    integers = encode_input(quantized.input, x)
    meant = evaluate(quantized, integers, circuit.steps, [v.layer for v in circuit.views])
    trace = emulate_cycles(circuit, encode(circuit, x))
    for view in circuit.views:
        found = view.read(trace[view.src], circuit.windows)
        assert np.array_equal(meant[view.layer], found), view.layer


NARROW = {
    "thresholds of 10 bits": (DIGITS, {"neuron__threshold": [0, 1023]}),
    "biases of 6 bits": (DIGITS, {"neuron__bias_mantissa": [-64, 63]}),
    "small bias exponents": (DIGITS, {"neuron__bias_exponent": [0, 3]}),
    "membranes of 18 bits": (DRIVEN, {"neuron__state_bits": 18}),
    "messages of 14 bits": (RESFORMER, {"synapse__payload_bits": 14}),
    "weight exponents to 3": (RESFORMER, {"synapse__weight_exponent": [-7, 3]}),
    "delays of 3 steps": (QKFORMER, {"delay__max_spike_delay": 3}),
}


@pytest.mark.parametrize(("model", "values"), NARROW.values(), ids=NARROW)
def test_a_narrower_chip_is_compiled_for(model, values, tmp_path) -> None:
    target = target_file(tmp_path, **values)
    chip = load_target(target)
    assert exceeded_fields(built(model, "loihi2")[1], chip), "Loihi 2's program would fit"
    quantized, circuit = built(model, target)
    assert exceeded_fields(circuit, chip) == []
    exact(quantized, circuit)


SMALL = {
    "neuron__threshold": [0, 8191],
    "neuron__bias_mantissa": [-256, 255],
    "neuron__state_bits": 22,
    "synapse__weight_bits": [1, 5],
    "synapse__weight_exponent": [-5, 4],
    "synapse__payload_bits": 18,
    "delay__max_spike_delay": 4,
}
READY_MADE = {
    "ReLU by rate": (lambda *fields: rate_relu(2, 40, 12, *fields), 7),
    "softmax attention": (lambda *fields: attention(2, 2, 7, 0.05, 32, *fields), 7),
    "normalization": (lambda *fields: normalization(4, 60, 9, False, *fields), 1),
    "one winner": (lambda *fields: one_winner(4, 30, 9, *fields), 1),
    "k winners": (lambda *fields: k_winners(5, 2, 90, 3, *fields), 1),
}


@pytest.mark.parametrize(("make", "low"), READY_MADE.values(), ids=READY_MADE)
def test_ready_made_circuits_are_made_for_a_narrower_chip(make, low, tmp_path) -> None:
    """The same spikes from five bits, fewer exponents and short delays; constants take more synapses."""
    chip = load_target(target_file(tmp_path, **SMALL))
    fields = ChipFields.of(chip)
    wide = Schedule(62, True)(make())
    narrow = make(fields)
    for one in circuit_passes(narrow.steps, 5, chip)[1:]:
        narrow = one(narrow)
    assert exceeded_fields(wide, chip), "Loihi 2's circuit would fit"
    assert exceeded_fields(narrow, chip) == []
    x = np.random.default_rng(0).integers(low, 8, (3, *wide.inputs[0].shape)).astype(np.int32)
    meant, found = (emulate_cycles(g, encode(g, x))["out"] for g in (wide, narrow))
    np.testing.assert_array_equal(found, meant)


def test_what_no_choice_of_integers_fits_is_refused(tmp_path) -> None:
    """Two bits of threshold resolve nothing; a leak of 1/2 is no choice of ours."""
    with pytest.raises(NeurocompileError, match="NC2002.*leave their fields at every scale"):
        built(DIGITS, target_file(tmp_path, neuron__threshold=[0, 3], neuron__state_bits=9))
    target = target_file(tmp_path, neuron__voltage_decay=[0, 1023])
    lines = exceeded_fields(built(DIGITS, target)[1], load_target(target))
    assert any("a voltage decay of 2,048; narrow has 1,023" in line for line in lines)
    assert all("voltage decay" in line for line in lines)


def test_the_shipped_boards_of_loihi_2_have_its_fields() -> None:
    for name in ("loihi2", "kapoho_point", "hala_point"):
        assert ChipFields.of(load_target(name)) == LOIHI2


def test_graded_messages_that_may_wait_need_no_relays(tmp_path) -> None:
    """``delay.graded_delay``: relays become delays, and the integers stay."""
    target = target_file(tmp_path, delay__graded_delay=True)
    quantized, waiting = built(QKFORMER, target)
    _, relayed = built(QKFORMER, "loihi2")

    def relays(circuit: CircuitGraph) -> int:
        return sum(".wait" in p.name and not p.spiking for p in circuit.populations)

    def longest(circuit: CircuitGraph) -> int:
        graded = {p.name for p in circuit.populations if not p.spiking}
        return max(q.delay for q in circuit.projections if q.src in graded)

    assert relays(relayed) > 0 and longest(relayed) == 1
    assert relays(waiting) == 0 and 1 < longest(waiting) <= waiting.graded_delay == 62
    assert relayed.depth == waiting.depth
    exact(quantized, waiting)


PARTS = {
    name: field.type
    for name, field in ((f.name, f) for f in msgspec.structs.fields(types.Target))
    if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct)
}
FIELDS = [
    field.name
    for part in (types.Target, *PARTS.values(), types.RowCost, types.BlockCost)
    for field in msgspec.structs.fields(part)
]
TEXTS = {"description": "for people", "source": "for people", "status": "for people"}
"""Fields that decide nothing, by design."""


def test_every_field_of_a_target_is_read() -> None:
    """By name, as an attribute or a key, outside of the schema itself and of what prints it."""
    package = Path(neurocompile.__file__).parent
    told = {package / "targets" / "schema.py", package / "cli" / "targets.py"}
    read: set[str] = set()
    for path in package.rglob("*.py"):
        if path not in told and "models" not in path.parts:
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute):
                    read.add(node.attr)
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    read.add(node.value)
    starts = tuple(
        text for text in read if text.endswith("_operation_")
    )  # "synaptic_operation_" + kind
    missing = set(FIELDS) - read - TEXTS.keys()
    assert sorted(name for name in missing if not name.startswith(starts)) == []
