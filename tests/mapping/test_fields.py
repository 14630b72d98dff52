"""Targets with narrower fields than Loihi 2: weights keep to them, and whatever leaves one is
refused (NC3113).
"""

from __future__ import annotations

from dataclasses import replace
from importlib import resources
from pathlib import Path

import msgspec
import numpy as np
import pytest
import yaml

from neurocompile.backends.emulator import Emulator
from neurocompile.errors import NeurocompileError
from neurocompile.mapping.fields import exceeded_fields
from neurocompile.mapping.mapping import check_mapping, map_circuit
from neurocompile.passes.narrow_weights import narrow_weights
from neurocompile.pipeline import compile_model, estimate_model
from neurocompile.targets import list_targets, load_target
from neurocompile.targets.loader import parse_target
from neurocompile.targets.schema import Target

MODEL = Path(__file__).resolve().parents[2] / "models" / "zoo" / "qkformer_digits" / "qkformer.onnx"
TEXT = resources.files("neurocompile.hw_targets").joinpath("loihi2.yaml").read_text()


def narrower(section: str, field: str, value: object) -> str:
    content = yaml.safe_load(TEXT)
    content["name"] = "narrow"
    content[section][field]["value"] = value
    return yaml.safe_dump(content)


def target_of(*change: object) -> Target:
    return parse_target(narrower(*change).encode(), "narrow.yaml")


@pytest.fixture(scope="module")
def program():
    return compile_model(MODEL)


@pytest.mark.parametrize(
    "name", sorted({*list_targets()} - {"sim_small"})
)  # whose delays are shorter
def test_shipped_targets_hold_what_loihi2_holds(program, name: str) -> None:
    assert exceeded_fields(program.circuit, load_target(name)) == []


@pytest.mark.parametrize(
    ("section", "field", "value", "says"),
    [
        ("neuron", "threshold", [0, 100], "; narrow has 100 (neuron.threshold)"),
        ("neuron", "threshold", [1, 131071], "needs a threshold of 0; narrow has 1..131,071"),
        ("neuron", "bias_mantissa", [-16, 15], "; narrow has -16..15"),
        ("neuron", "voltage_decay", [0, 100], "needs a voltage decay of "),
        ("neuron", "current_decay", [0, 4094], "needs a current decay of 4,095; narrow has 4,094"),
        ("neuron", "state_bits", 12, " bits of state; narrow has 12"),
        ("synapse", "payload_bits", 4, " bits of a message; narrow has 4"),
        ("synapse", "weight_bits", [1, 4], "needs 8 weight bits; narrow has 4"),
        ("delay", "max_spike_delay", 1, " steps of delay; narrow has 1"),
    ],
)
def test_what_leaves_a_field_is_refused(
    program, section: str, field: str, value: object, says: str
) -> None:
    """Where it is mapped, and where a mapping is checked: with layer, need, limit and two ways out."""
    target = target_of(section, field, value)
    lines = exceeded_fields(program.circuit, target)
    assert any(says in line for line in lines), lines
    for line in lines:
        assert line.startswith("layer '") and ", or " in line and "\n" not in line
    with pytest.raises(NeurocompileError) as caught:
        map_circuit(program.circuit, target, {})
    assert caught.value.code == "NC3113"
    mapping = msgspec.structs.replace(program.mapping, target="narrow")
    assert check_mapping(program.circuit, mapping, target) == [f"NC3113 {line}" for line in lines]


@pytest.mark.slow
def test_weights_take_the_bits_that_the_target_has(tmp_path: Path) -> None:
    """Without --weight-bits; gates and constants too, and the spikes are those of the same bits on
    Loihi 2.
    """
    path = tmp_path / "narrow.yaml"
    path.write_text(narrower("synapse", "weight_bits", [1, 4]))
    found, wide = compile_model(MODEL, target=path), compile_model(MODEL, weight_bits=4)
    assert (
        max(q.weight_bits for q in found.circuit.projections)
        == 4
        == found.manifest.options.weight_bits
    )
    assert max(q.weight_bits for q in wide.circuit.projections) == 8
    high = min(p.circuit.inputs[0].high for p in (found, wide))
    shape = (2, *found.circuit.input_shape)
    x = np.random.default_rng(0).integers(0, high + 1, shape, dtype=np.int32)
    ours, theirs = (Emulator().open(p.circuit).run(x) for p in (found, wide))
    assert all(np.array_equal(theirs[name], values) for name, values in ours.items())
    with pytest.raises(
        NeurocompileError, match=r"needs 8 weight bits; narrow has 4.*`weight_bits=4`"
    ):
        compile_model(MODEL, target=path, weight_bits=8)
    estimated = estimate_model(MODEL, target=path, weight_bits=8)
    assert {code for code, _ in estimated.violations} == {"NC3113"} and not estimated.fits


@pytest.mark.parametrize("bits", [1, 2, 3, 5, 7])
def test_a_wide_weight_of_a_circuit_becomes_several(bits: int) -> None:
    from neurocompile.circuits.builder import Builder, strided
    from neurocompile.ir import circuit as c

    builder = Builder()
    source = builder.population(c.HostInput, "x", (6,), "x", low=-9, high=9)
    relay = builder.population(c.GradedRelay, "y", (6,), "y")
    builder.drive(
        relay,
        [strided(source, (6,), (1,), (1,), weight=w) for w in (1, -3, 85, 255, -172, 255 << 3)],
    )
    builder.readouts.append(c.Readout(name="r", src=relay, scale=1.0))
    circuit = builder.finish("wide", 2).replace(period=2)
    circuit = circuit.replace(
        populations=tuple(replace(p, depth=i) for i, p in enumerate(circuit.populations)),
        projections=tuple(replace(q, delay=1) for q in circuit.projections),
    )
    narrow = narrow_weights(circuit, bits)
    assert {q.weight_bits for q in narrow.projections} == {bits}
    x = np.arange(-9, 9, dtype=np.int32).reshape(3, 6)
    assert np.array_equal(Emulator().open(narrow).run(x)["y"], Emulator().open(circuit).run(x)["y"])
