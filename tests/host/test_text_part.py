"""Sentences in front of the chip: pieces, embeddings, artifacts that take text, and hostile ones."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx_cases import ints, lif, model, normal, op, timed
from safetensors.numpy import load, save

import neurocompile
from neurocompile.cli import main
from neurocompile.errors import NeurocompileError
from neurocompile.host.text import SPECIAL, TextPart, Tokenizer, words

TOKENS, D = 3, 4
PIECES = (*SPECIAL, "good", "bad", "##ly", "n't")


def part(**changes) -> TextPart:
    fields = {
        "vocabulary": PIECES,
        "table": normal(len(PIECES), D),
        "places": normal(TOKENS, D, seed=1),
        "weight": normal(D, seed=2),
        "bias": normal(D, seed=3),
        "epsilon": 1e-3,
    }
    return TextPart(**{**fields, **changes})


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> neurocompile.Program:
    nodes, constants = timed(
        (TOKENS, D),
        [op("MatMul", "t w", "f"), lif("f", "l"), op("ReduceMean", "l axes", "out", keepdims=0)],
    )
    constants |= {"w": normal(D, 5), "axes": ints(0, 2)}
    path = tmp_path_factory.mktemp("text") / "m.onnx"
    onnx.save(model(nodes, constants, (None, TOKENS, D)), path)
    return neurocompile.compile(path, calibration=part()(["good", "bad"] * 8))


def test_words_and_pieces() -> None:
    assert words("It's GOOD, isn't it?") == ["it", "'s", "good", ",", "is", "n't", "it", "?"]
    found = Tokenizer(PIECES, 5)(["badly goodlyly didn't", "x" * 100, ""])
    assert found.tolist() == [[2, 4, 5, 3, 5], [2, 1, 0, 0, 0], [2, 0, 0, 0, 0]]


def test_embeddings_are_a_layer_norm_of_word_and_place() -> None:
    torch = pytest.importorskip("torch")
    text = part()
    (found,) = text(["good bad"])
    x = torch.from_numpy(text.table[[2, 3, 4]] + text.places)
    wanted = torch.nn.functional.layer_norm(
        x, (D,), torch.from_numpy(text.weight), torch.from_numpy(text.bias), text.epsilon
    )
    np.testing.assert_allclose(found, wanted.numpy(), atol=1e-6)
    assert found.dtype == np.float32


def test_a_program_takes_sentences_and_its_artifact_too(program, tmp_path: Path, capfd) -> None:
    texts = ["good", "badly good"]
    with_text = program.with_text(part())
    wanted = program.run(part()(texts)).logits
    np.testing.assert_array_equal(with_text.run(texts).logits, wanted)
    np.testing.assert_array_equal(with_text.run(texts[0]).logits, wanted[:1])
    np.testing.assert_array_equal(with_text.run(part()(texts)).logits, wanted)
    assert with_text.fingerprint != program.fingerprint
    with_text.save(tmp_path / "m.nca")
    loaded = neurocompile.load(tmp_path / "m.nca")
    assert loaded.fingerprint == with_text.fingerprint
    np.testing.assert_array_equal(loaded.run(texts).logits, wanted)
    capfd.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["run", str(tmp_path / "m.nca"), "--text", texts[0], "--text", texts[1], "--json"])
    assert stop.value.code == 0
    found = json.loads(capfd.readouterr().out)
    assert found["predictions"] == wanted.argmax(1).tolist() and found["samples"] == 2


def test_what_takes_no_sentence_says_so(program) -> None:
    with pytest.raises(NeurocompileError, match="NC1006 .*no tokenizer.*with_text"):
        program.run(["good"])
    with pytest.raises(NeurocompileError, match="NC1006 .*sentences and numbers"):
        program.with_text(part()).run(["good", 3])
    with pytest.raises(NeurocompileError, match=r"NC1006 .*samples \[2, 4\], .* \[3, 4\]"):
        program.with_text(part(places=normal(2, D)))


HOSTILE = {
    "other channels": {"weight": np.ones(D + 1, np.float32)},
    "not finite": {"table": np.full((len(PIECES), D), np.inf, np.float32)},
    "another type": {"bias": np.zeros(D)},
    "fewer rows": {"table": normal(3, D)},
    "twice a piece": {
        "vocabulary": np.frombuffer(b'["[PAD]","[UNK]","[CLS]","a","a","b","c"]', np.uint8)
    },
    "no specials": {"vocabulary": np.frombuffer(b'["a","b","c","d","e","f","g"]', np.uint8)},
    "no text": {"vocabulary": np.frombuffer(b"[1, 2]", np.uint8)},
    "epsilon": {"epsilon": np.array([np.nan])},
    "several epsilons": {"epsilon": np.ones(2)},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_strangers_text_part_is_refused(name: str) -> None:
    content = save({**load(part().content), **HOSTILE[name]})
    with pytest.raises(ValueError):
        TextPart.of(content)
    with pytest.raises(ValueError, match="malformed"):
        TextPart.of(content[:40])


def test_content_comes_back() -> None:
    text = part()
    assert TextPart.of(text.content).content == text.content
