"""SpikingBERT: sizes, its neurons, the tokenizer, the trained one, and its import as its authors
write it.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")
pytest.importorskip("onnxscript")

from neurocompile.models.spiking_bert import (  # noqa: E402
    SPIKING_BERT_4_768,
    SPIKING_BERT_6_768,
    Membranes,
    SpikingBert,
    SpikingBertConfig,
)
from neurocompile.models.zoo import sst2  # noqa: E402
from neurocompile.models.zoo.sst2.compare import compare  # noqa: E402
from neurocompile.models.zoo.sst2.text import make_vocabulary  # noqa: E402
from neurocompile.models.zoo.sst2.train import count_correct, sentences, train  # noqa: E402

from neurocompile.frontends.door import open_model  # noqa: E402
from neurocompile.host.text import Tokenizer, words  # noqa: E402
from neurocompile.ir import spiking as s  # noqa: E402
from neurocompile.ir.evaluate import evaluate  # noqa: E402

torch.set_num_threads(1)
DATA = Path(__file__).parents[3] / "shared" / "data" / "sst2"
TINY = SpikingBertConfig(
    vocabulary=40, positions=6, tokens=6, hidden=16, depth=1, num_heads=2, intermediate=32, T=3
)


@pytest.mark.parametrize(
    ("config", "millions"), [(SPIKING_BERT_4_768, 52.78), (SPIKING_BERT_6_768, 66.96)]
)
def test_sizes(config: SpikingBertConfig, millions: float) -> None:
    with torch.device("meta"):
        model = SpikingBert(config)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)


def test_a_neuron_resets_softly_and_leaks_after_the_reset() -> None:
    neurons, seen = Membranes(leaky=0.5, training=False), []
    for x in (0.75, 1.5, 0.25):
        seen.append(float(neurons("n", torch.tensor([x]), 1.0)))
    # u: 0.75 -> 0.375; 1.875 spikes, 0.875 -> 0.4375; 0.6875
    assert seen == [0.0, 1.0, 0.0] and float(neurons.u["n"]) == pytest.approx(0.34375)


def test_padding_is_hidden_from_attention_or_a_token_like_others() -> None:
    torch.manual_seed(0)
    model = SpikingBert(dataclasses.replace(TINY, attention_threshold=0.25)).eval()
    ids = torch.tensor([[2, 5, 6, 0, 0, 0]])
    with torch.no_grad():
        alone = model(ids[:, :3])
        assert torch.allclose(model(ids), alone, atol=1e-5)


def test_gradients_reach_the_embeddings() -> None:
    torch.manual_seed(0)
    model = SpikingBert(dataclasses.replace(TINY, attention_threshold=0.25, masked=False)).train()
    model(torch.randint(3, 40, (4, 6))).square().sum().backward()
    gradient = model.embeddings.word.weight.grad
    assert gradient is not None and gradient.abs().max() > 0


@pytest.mark.filterwarnings("ignore")
def test_it_is_imported_as_its_authors_write_it() -> None:
    torch.manual_seed(0)
    config = dataclasses.replace(TINY, attention_threshold=0.25, masked=False)
    model = SpikingBert(config).eval()
    with torch.no_grad():
        x = model.embeddings(torch.randint(3, 40, (4, 6)))
        graph = open_model(model.encoder, x.numpy()).graph
        kinds = Counter(type(n) for n in graph.nodes)
        assert (kinds[s.StepSoftmax], kinds[s.Normalization], kinds[s.Function]) == (1, 2, 1)
        neurons = [n for n in graph.nodes if isinstance(n, s.LIF)]
        assert len(neurons) == 7 and all(n.soft_reset and np.isinf(n.tau) for n in neurons)
        mean = evaluate(graph, x.numpy(), config.T)
        spikes = mean[neurons[-1].name].mean(1)
        model.encoder.pooler = model.encoder.classifier = torch.nn.Identity()
        assert np.allclose(np.tanh(spikes[:, 0]), model.encoder(x).numpy(), atol=1e-6)


def test_words_and_their_pieces() -> None:
    assert words("It's a movie that doesn't work!") == "it 's a movie that does n't work !".split()
    vocabulary = make_vocabulary(["good goods", "good bad"] * 2, least=3, pieces=1)
    assert vocabulary == ["[PAD]", "[UNK]", "[CLS]", "good", "##s"]
    tokenizer = Tokenizer(vocabulary, 5)
    assert tokenizer(["goods bad", "good " * 9]).tolist() == [[2, 3, 4, 1, 0], [2, 3, 3, 3, 3]]
    assert tokenizer([]).shape == (0, 5)


def test_the_trained_one_reads_sentences() -> None:
    if not (sst2.HERE / "spiking-bert.safetensors").is_file():
        pytest.skip("a plain install has no large weights")
    model = sst2.load()
    ids = sst2.tokenizer()(["a warm and funny film", "dull , tedious and far too long"])
    with torch.no_grad():
        assert model(torch.from_numpy(ids)).argmax(1).tolist() == [1, 0]


@pytest.mark.slow
def test_the_trained_one_has_its_accuracy() -> None:
    if not DATA.is_dir():
        pytest.skip("SST-2 is not there")
    texts, labels = sentences(DATA / "dev.tsv")
    ids = torch.from_numpy(sst2.tokenizer()(texts))
    assert count_correct(sst2.load(), ids, labels) == 705 and len(labels) == 872


@pytest.mark.slow
def test_training_learns_what_words_say(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name, count in (("train", 256), ("dev", 64)):
        lines = []
        for label in rng.integers(0, 2, count):
            said = rng.choice(["bad", "dull", "good", "fine"][2 * label : 2 * label + 2], 3)
            lines.append(f"{' '.join(said)} movie\t{label}")
        (tmp_path / f"{name}.tsv").write_text("\n".join(lines), encoding="utf-8")
    _, vocabulary, facts = train(tmp_path, epochs=20)
    assert "movie" in vocabulary and facts["total"] == 64 and facts["correct"] >= 60


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compiled_it_loses_little() -> None:
    if not DATA.is_dir():
        pytest.skip("SST-2 is not there")
    found = compare(DATA, digits=10, samples=64)
    assert found["total"] == 64 and found["same"] >= 61
    assert abs(found["compiled"] - found["float"]) <= 2
