"""The zoo's small models of every family: their float accuracy is the card's, and 8 bits cost at
most half a point.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

import neurocompile

ZOO = Path(__file__).parents[2] / "models" / "zoo" / "digits"
ENLARGED = {"meta_spikeformer": 4}
NAMES = ["spikformer", "spike_driven_transformer", "spiking_resformer", "meta_spikeformer"]


def images(data, name: str) -> tuple[np.ndarray, np.ndarray]:
    factor = ENLARGED.get(name, 1)
    return data.x.repeat(factor, 2).repeat(factor, 3), data.y


@pytest.mark.parametrize("name", [*NAMES, "vit"])
def test_float_accuracy_is_the_cards(name: str, digits_data) -> None:
    x, y = images(digits_data, name)
    session = onnxruntime.InferenceSession(ZOO / f"{name}.onnx")
    source = session.get_inputs()[0]
    batch = source.shape[0] if isinstance(source.shape[0], int) else len(x)
    parts = [session.run(None, {source.name: x[k : k + batch]})[0] for k in range(0, len(x), batch)]
    correct = int((np.concatenate(parts).argmax(1) == y).sum())
    facts = json.loads((ZOO / f"{name}.json").read_text(encoding="utf-8"))
    assert (
        abs(correct - facts["correct"]) <= 1
    )  # a spike that rounds differently can turn one image
    assert facts["correct"] / facts["total"] >= 0.975


@pytest.mark.parametrize("name", NAMES)
def test_eight_bits_cost_at_most_half_a_point(name: str, digits_data) -> None:
    x, y = images(digits_data, name)
    program = neurocompile.compile(ZOO / f"{name}.onnx", T=4)
    correct = int((program.run(x).predictions == y).sum())
    facts = json.loads((ZOO / f"{name}.json").read_text(encoding="utf-8"))
    assert (facts["correct"] - correct) / len(y) <= 0.005
    assert f"{correct / len(y):.2%} ({correct})" in (ZOO / "card.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_rep_convolutions_in_factors_cost_no_more(digits_data) -> None:
    """Real values between convolutions have no neuron whose threshold could set their unit."""
    pytest.importorskip("lava.magma", reason="the extra 'lava' is not installed")
    x, y = images(digits_data, "meta_spikeformer")
    program = neurocompile.compile(ZOO / "meta_spikeformer.onnx", T=4, convolutions="factor")
    facts = json.loads((ZOO / "meta_spikeformer.json").read_text(encoding="utf-8"))
    assert (facts["correct"] - int((program.run(x).predictions == y).sum())) / len(y) <= 0.005
    assert program.parity(x[:1], against=("emulator", "lava")).exact


@pytest.mark.parametrize("name", NAMES)
def test_they_are_exact_on_lava(name: str, digits_data) -> None:
    pytest.importorskip("lava.magma", reason="the extra 'lava' is not installed")
    x, _ = images(digits_data, name)
    report = neurocompile.compile(ZOO / f"{name}.onnx", T=4).parity(
        x[:2], against=("emulator", "lava")
    )
    assert report.exact, [b.first for b in report.backends]


@pytest.mark.slow
def test_a_vit_in_digits_costs_at_most_half_a_point(digits_data) -> None:
    """LayerNorm, softmax attention and GELU of two blocks; its integers on the emulator."""
    x, y = images(digits_data, "vit")
    staged = neurocompile.open(ZOO / "vit.onnx", target="kapoho_point").canonical().quantize()
    logits = staged.logits(x)
    correct = int((logits.argmax(1) == y).sum())
    facts = json.loads((ZOO / "vit.json").read_text(encoding="utf-8"))
    assert (facts["correct"] - correct) / len(y) <= 0.005
    assert f"{correct / len(y):.2%} ({correct})" in (ZOO / "card.md").read_text(encoding="utf-8")
    np.testing.assert_array_equal(staged.lower().logits(x[:2]), logits[:2])


@pytest.mark.parametrize("name", [*NAMES, "vit"])
def test_files_name_no_machine(name: str) -> None:
    content = (ZOO / f"{name}.onnx").read_bytes() + (ZOO / "card.md").read_bytes()
    assert (
        b"/home/" not in content
        and str(Path(__file__).parents[2]).encode() not in content
        and b"/tmp/" not in content
    )
