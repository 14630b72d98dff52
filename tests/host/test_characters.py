"""Characters in front of the chip, the text that a program writes, and hostile parts."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_cases import lif, model, normal, op
from safetensors.numpy import load, save

import neurocompile
from neurocompile.cli import main
from neurocompile.errors import NeurocompileError
from neurocompile.host.characters import CharacterPart, text_part_of

KNOWN, T, C = "\n abcd", 5, 8


def part(**changes) -> CharacterPart:
    fields = {"vocabulary": KNOWN, "table": normal(len(KNOWN), C), "length": T}
    return CharacterPart(**{**fields, **changes})


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> neurocompile.Program:
    """Steps are tokens: a layer of leaky neurons, logits of each step."""
    nodes = [
        op("Transpose", "x", "t", perm=[1, 0, 2]),
        op("MatMul", "t w", "f"),
        lif("f", "l"),
        op("MatMul", "l v", "o"),
        op("Transpose", "o", "out", perm=[1, 0, 2]),
    ]
    constants = {"w": 2 * normal(C, 12, seed=1), "v": normal(12, len(KNOWN), seed=2)}
    path = tmp_path_factory.mktemp("characters") / "m.onnx"
    onnx.save(model(nodes, constants, (None, T, C)), path)
    return neurocompile.compile(path, calibration=part()(["abcd", "dcba", " a\n", "bad"] * 4))


def test_text_is_one_row_a_character() -> None:
    found = part()
    np.testing.assert_array_equal(found(["Bad?"])[0], found.table[[3, 2, 5, 1, 1]])
    np.testing.assert_array_equal(found(["aaabcdabcd"]), found(["dabcd"]))
    assert found(["a", "b"]).shape == (2, *found.shape) and found.known("A-é") == "a  "


def test_the_likeliest_character_of_the_last_step_comes_next(program) -> None:
    text = part()
    written, perplexity = "ab", 1.0
    for _ in range(7):
        row = program.run(text([written])).step_logits[0, min(len(written), T) - 1]
        written += KNOWN[row.argmax()]
        perplexity /= np.exp(row.max()) / np.exp(row).sum()
    found = program.with_text(text).generate("AB", 7)
    assert (found.prompt, found.text, found.window) == ("ab", written[2:], T)
    assert found.perplexity == pytest.approx(perplexity ** (1 / 7)) and found.spikes > 0
    if find_spec("torch") is not None:
        assert program.with_text(text).generate("AB", 7, device="torch-cpu").text == found.text


def test_parts_of_a_sample_with_its_state_are_the_whole(program) -> None:
    x = part()(["abcd ", "dc"])
    whole = program.run(x)
    for sample, wanted in zip(x, whole.step_logits):
        stream = program.stream()
        parts = [stream.run(sample[a:b]) for a, b in ((0, 2), (2, 4), (4, 5))]
        np.testing.assert_array_equal(np.concatenate(parts), wanted)
        assert (stream.done, stream.left) == (T, 0)
    assert sum(stream.spikes.values()) > 0
    alone = program.stream().run(x[0, 2:4])  # from an empty state they differ
    assert (alone != whole.step_logits[0, 2:4]).any()
    with pytest.raises(NeurocompileError, match="NC1006 1 steps for a sample .* 0 of its 5 left"):
        stream.run(x[0, :1])
    with pytest.raises(NeurocompileError, match=r"NC1006 a part of a sample is \(steps, 8\)"):
        program.stream().run(x[0, :, :3])


def test_what_comes_whole_has_no_parts(digits_program) -> None:
    with pytest.raises(NeurocompileError, match="NC1006 .*outputs are means over a whole sample"):
        digits_program.stream()


def test_draws_are_seeded_and_as_likely_as_the_logits_say(program) -> None:
    text = program.with_text(part())
    warm = [text.generate("a", 12, temperature=3.0, seed=seed).text for seed in (0, 0, 1)]
    assert warm[0] == warm[1] != warm[2]
    assert text.generate("a", 12, temperature=1e-4).text == text.generate("a", 12).text


def test_the_command_writes_what_the_program_does(program, tmp_path: Path, capfd) -> None:
    text, path = program.with_text(part()), tmp_path / "m.nca"
    text.save(path)
    loaded = neurocompile.load(path)
    assert loaded.fingerprint == text.fingerprint
    assert isinstance(loaded.text_part, CharacterPart)
    capfd.readouterr()
    arguments = ["generate", str(path), "--prompt", "cab", "--characters", "4"]
    for form in ([], ["--json"]):
        with pytest.raises(SystemExit) as stop:
            main([*arguments, *form])
        assert stop.value.code == 0
        out, wanted = capfd.readouterr().out, text.generate("cab", 4)
        if form:
            assert json.loads(out)["text"] == wanted.text
        else:
            assert f"cab|{wanted.text}" in out and f"{wanted.spikes:,} spikes" in out


def test_what_writes_no_text_says_so(program) -> None:
    text = program.with_text(part())
    with pytest.raises(NeurocompileError, match="NC1006 .*no vocabulary of characters"):
        program.generate("a")
    with pytest.raises(NeurocompileError, match="NC1006 .*prompt is empty"):
        text.generate("")
    with pytest.raises(NeurocompileError, match="NC1015 .*0 characters"):
        text.generate("a", 0)
    with pytest.raises(NeurocompileError, match="NC1015 .*temperature -1"):
        text.generate("a", temperature=-1)
    fewer = CharacterPart(KNOWN[:4], normal(4, C), T)
    with pytest.raises(NeurocompileError, match="NC1006 .*logits of each step for 4 characters"):
        program.with_text(fewer).generate("a")
    with pytest.raises(NeurocompileError, match=r"NC1006 .*samples \[4, 8\], .* \[5, 8\]"):
        program.with_text(part(length=4))


HOSTILE = {
    "not finite": {"table": np.full((len(KNOWN), C), np.nan, np.float32)},
    "another type": {"table": np.zeros((len(KNOWN), C))},
    "fewer rows": {"table": normal(3, C)},
    "twice a character": {"characters": np.frombuffer(b"\n aabc", np.uint8)},
    "no text": {"characters": np.full(6, 255, np.uint8)},
    "no length": {"length": np.zeros(1, np.int64)},
    "endless": {"length": np.array([1 << 40], np.int64)},
    "several lengths": {"length": np.array([5, 5], np.int64)},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_strangers_characters_are_refused(name: str) -> None:
    with pytest.raises(ValueError):
        text_part_of(save({**load(part().content), **HOSTILE[name]}))


def test_content_comes_back() -> None:
    content = part().content
    found = text_part_of(content)
    assert isinstance(found, CharacterPart) and found.content == content
    with pytest.raises(ValueError, match="malformed"):
        text_part_of(content[:40])
    with pytest.raises(ValueError, match="malformed"):
        text_part_of(save({"characters": np.zeros(2, np.uint8)}))
