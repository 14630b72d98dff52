"""SpikedAttention: the code of one spike, spike by spike against by value, exactness, the trained one."""

from __future__ import annotations

from collections import Counter
from math import log

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")

from neurocompile.models.spiked_attention import (  # noqa: E402
    OneSpike,
    SpikedAttentionConfig,
    SpikedTransformer,
    spike_shift,
)
from neurocompile.models.zoo import spiked_digits  # noqa: E402

import neurocompile  # noqa: E402
from neurocompile.ir import spiking as s  # noqa: E402

torch.set_num_threads(1)
TINY = SpikedAttentionConfig(image_size=4, dim=4, num_heads=2, mlp_ratio=1, base=1.6, steps=5)


def converted(config: SpikedAttentionConfig) -> tuple[SpikedTransformer, torch.Tensor]:
    """A model of random weights, and images (32, 1, 4, 4)."""
    torch.manual_seed(1)
    model, x = SpikedTransformer(config), torch.rand(32, 1, 4, 4)
    torch.nn.init.normal_(model.places, 0, 0.5)
    model.train()
    model(x)
    return model.convert(x), x


@pytest.mark.parametrize(("base", "steps"), [(1.15, 40), (2.0, 6)])
def test_a_value_is_rounded_to_the_nearest_power(base: float, steps: int) -> None:
    neuron = OneSpike(SpikedAttentionConfig(base=base, steps=steps)).double()
    neuron.mode = "spikes"
    x = torch.linspace(-1.2, 1.2, 4001, dtype=torch.float64)
    powers = torch.cat([torch.zeros(1), base ** -torch.arange(steps, dtype=torch.float64)])
    powers = torch.cat([-powers, powers])
    nearest = (x[:, None] - powers).abs().min(1).values
    large = x.abs() >= (1 + 1 / base) / 2 * base ** -(steps - 1.0)  # smaller ones send no spike
    y = neuron(x)
    torch.testing.assert_close((x - y).abs()[large], nearest[large])
    assert not y[~large].any() and large.any() and not large.all()


def test_spike_by_spike_it_is_the_network_of_values() -> None:
    for config in (TINY, SpikedAttentionConfig(image_size=4, dim=8, depth=2)):
        model, x = converted(config)
        model, x = model.double(), x.double()
        values = model(x)
        torch.testing.assert_close(model.set_mode("time")(x), values, rtol=0, atol=1e-12)
        assert (model.set_mode("float")(x) - values).abs().max() > 1e-3


def test_the_shift_of_the_winner_is_a_softmax_within_a_step() -> None:
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(50, 20, dtype=torch.float64, generator=generator) / 2
    e = spike_shift(scores, 1.15, 40)
    ratio = (e / torch.exp(scores - scores.amax(-1, keepdim=True))).log().abs()
    assert (e.amax(-1) - 1).abs().max() < 1e-12 and ratio.max() <= log(1.15) / 2 + 1e-12


def test_modes_have_names() -> None:
    with pytest.raises(ValueError, match="no mode 'spike'"):
        SpikedTransformer(TINY).set_mode("spike")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_it_compiles_from_the_module_and_is_exact() -> None:
    model, x = converted(TINY)
    images = x.numpy()
    program = neurocompile.compile(model, images[:2], calibration=images)
    assert program.manifest.import_agreement == 1.0
    kinds = Counter(type(n) for n in program.quantized.nodes)
    assert kinds[s.SoftIntegerLIF] == 16 and kinds[s.DigitMatMul] == 3
    against = ["emulator"]
    try:
        import lava.magma  # noqa: F401
    except ImportError:
        pass
    else:
        against.append("lava")
    assert program.parity(images[:2], against=tuple(against)).exact
    with torch.no_grad():
        theirs = model(x).numpy()
    found = program.run(images).logits
    assert np.corrcoef(found.ravel(), theirs.ravel())[0, 1] > 0.97


def test_the_trained_one_loses_little() -> None:
    if not (spiked_digits.HERE / "spiked-attention.safetensors").is_file():
        pytest.skip("a plain install has no large weights")
    model = spiked_digits.load()
    with np.load(spiked_digits.HERE.parent / "qkformer_digits" / "test.npz") as held_out:
        x, y = (torch.from_numpy(held_out[name]) for name in ("x", "y"))
    with torch.no_grad():
        right = {
            mode: int((model.set_mode(mode)(x).argmax(1) == y).sum())
            for mode in ("float", "spikes")
        }
    assert right["float"] >= 350 and right["spikes"] >= right["float"] - 6
