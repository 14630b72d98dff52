"""SpikeGPT: sizes, its forward pass, its import as its authors write it, exactness, the trained one."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")
pytest.importorskip("onnxscript")

from neurocompile.models.spike_gpt import (  # noqa: E402
    SPIKE_GPT_18_512,
    SPIKE_GPT_18_768,
    SpikeGpt,
    SpikeGptConfig,
    State,
)
from neurocompile.models.zoo import characters  # noqa: E402
from spikingjelly.activation_based import functional, neuron  # noqa: E402

import neurocompile  # noqa: E402
from neurocompile.backends.encoding import encode  # noqa: E402
from neurocompile.ir import spiking as s  # noqa: E402
from neurocompile.ir.evaluate import encode_input, evaluate  # noqa: E402

torch.set_num_threads(1)
TINY = SpikeGptConfig(vocabulary=7, width=4, depth=1, mlp_ratio=1, T=3, v_threshold=0.2)


@pytest.mark.parametrize(
    ("config", "millions"), [(SPIKE_GPT_18_768, 215.40), (SPIKE_GPT_18_512, 112.93)]
)
def test_sizes(config: SpikeGptConfig, millions: float) -> None:
    with torch.device("meta"):
        model = SpikeGpt(config)
    assert sum(p.numel() for p in model.parameters()) / 1e6 == pytest.approx(millions, abs=0.005)


def test_its_neuron_is_spikingjellys() -> None:
    torch.manual_seed(0)
    x = torch.randn(20, 3, 5) + 1
    state, lif = State(SpikeGptConfig(), training=False), neuron.LIFNode(tau=2.0, step_mode="m")
    functional.reset_net(lif)
    own = torch.stack([state.lif("n", step) for step in x])
    assert torch.equal(own, lif(x)) and 0.1 < own.mean() < 0.9


def test_a_weighted_mean_is_that_of_all_tokens_so_far() -> None:
    torch.manual_seed(0)
    k, v = 3 * torch.randn(6, 1, 4, dtype=torch.float64), torch.randn(6, 1, 4, dtype=torch.float64)
    decay, first = -torch.rand(4, dtype=torch.float64), torch.randn(4, dtype=torch.float64)
    state = State(TINY, training=False)
    for t in range(6):
        y = state.wkv("w", k[t], v[t], decay, first)
        if not t:
            assert torch.equal(y, v[0])
            continue
        ages = torch.arange(t - 1, -1, -1, dtype=torch.float64)[:, None, None]
        weights = torch.cat([(k[:t] + ages * decay).exp(), (k[t] + first).exp()[None]])
        assert torch.allclose(y, (weights * v[: t + 1]).sum(0) / weights.sum(0))


def test_gradients_reach_the_embeddings() -> None:
    torch.manual_seed(0)
    model = SpikeGpt(TINY).train()
    model(torch.randint(0, 7, (4, 4))).square().sum().backward()
    assert model.embedding.weight.grad is not None and model.embedding.weight.grad.abs().max() > 0


def loud(config: SpikeGptConfig) -> tuple[SpikeGpt, torch.Tensor]:
    """A model of random weights whose neurons fire, and embeddings of random ids."""
    torch.manual_seed(0)
    model = SpikeGpt(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter *= 3
        return model, model.embedded(torch.randint(0, config.vocabulary, (16, config.T)))


@pytest.mark.nightly
@pytest.mark.filterwarnings("ignore")
def test_it_is_imported_as_its_authors_write_it_and_exact() -> None:
    model, x = loud(TINY)
    staged = neurocompile.open(model.core, x[:2].numpy(), calibration=x.numpy(), digits=4)
    canonical = staged.canonical()
    kinds = Counter(type(n) for n in canonical.graph.nodes)
    assert (kinds[s.TokenMean], kinds[s.Quotient], kinds[s.Delay], kinds[s.LIF]) == (1, 0, 2, 2)
    quantized = canonical.quantize()
    circuit = quantized.lower().graph
    expected = evaluate(quantized.graph, encode_input(quantized.graph.input, x[:2].numpy()), TINY.T)
    assert any(expected[n.name].any() for n in quantized.graph.spiking_layers)
    from neurocompile.backends.emulator import Emulator

    inputs = encode(circuit, x[:2].numpy())
    trace = Emulator().open(circuit).run(inputs)
    for view in circuit.views:
        np.testing.assert_array_equal(view.read(trace[view.src]), expected[view.layer])
    pytest.importorskip("lava.magma", reason="the extra 'lava' is not installed")
    from neurocompile.backends.lava import LavaInProcess

    lava = LavaInProcess().open(circuit).run(inputs)
    for p in circuit.populations:
        np.testing.assert_array_equal(lava[p.name], trace[p.name], err_msg=p.name)


def test_the_trained_one_reads_characters() -> None:
    if not (characters.HERE / "spike-gpt.safetensors").is_file():
        pytest.skip("a plain install has no large weights")
    model = characters.load()
    with torch.no_grad():
        found = model(torch.from_numpy(characters.ids_of(["a stirring , funny and f"])))
    after_q = characters.CHARACTERS[int(found[0, 2:].argmax(-1)[0])]
    assert found.shape == (1, 24, len(characters.CHARACTERS)) and after_q.isalpha()
