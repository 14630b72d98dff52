"""The dense ViT: its size and multiplications, counted two ways, and a tiny one with neurons, imported."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")
pytest.importorskip("onnxscript")

from neurocompile.models.vit import VIT_B_16, ViT, ViTConfig, macs  # noqa: E402

import neurocompile  # noqa: E402
from neurocompile.energy.ann import MAC_PJ  # noqa: E402
from neurocompile.errors import NeurocompileError  # noqa: E402
from neurocompile.frontends.door import open_model  # noqa: E402
from neurocompile.ir import spiking as s  # noqa: E402
from neurocompile.ir.evaluate import evaluate  # noqa: E402

torch.set_num_threads(1)
TINY = ViTConfig(
    in_channels=1, num_classes=10, image_size=8, patch_size=4, dim=16, depth=2, num_heads=2, T=4
)


def test_vit_b_16_has_the_size_of_its_paper_and_its_energy() -> None:
    with torch.device("meta"):
        model = ViT(VIT_B_16)
    assert sum(p.numel() for p in model.parameters()) == 86_567_656
    assert macs(VIT_B_16) == 17_563_828_224
    assert macs(VIT_B_16) * MAC_PJ * 1e-9 == pytest.approx(80.79, abs=0.005)  # mJ


@pytest.mark.parametrize("changes", [{}, {"depth": 1, "mlp_ratio": 2, "in_channels": 3}])
def test_multiplications_are_those_that_torch_counts(changes: dict[str, int]) -> None:
    from torch.utils.flop_counter import FlopCounterMode

    config = ViTConfig(**{**vars(TINY), **changes})
    model = ViT(config).eval()
    with FlopCounterMode(display=False) as counted, torch.no_grad():
        model(torch.rand(1, config.in_channels, 8, 8))
    assert counted.get_total_flops() == 2 * macs(config)


def test_patches_fill_the_image() -> None:
    with pytest.raises(ValueError, match="image_size is 9, no multiple of patches of 4"):
        ViT(ViTConfig(image_size=9, patch_size=4))


def test_the_mean_of_spikes_has_a_gradient_in_training_alone() -> None:
    """What it computes is the same; the gradient is that of a clip to 0..1."""
    model, x = ViT(TINY), torch.tensor([-0.5, 0.3, 0.6, 1.5], requires_grad=True)
    rate = model.train()._rate(x)
    rate.sum().backward()
    assert rate.tolist() == [0, 0.25, 0.5, 1] and x.grad.tolist() == [0, 1, 1, 0]
    assert model.eval()._rate(x).tolist() == rate.tolist()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_a_block_is_exact_on_one_loihi_2_and_a_file_has_its_ranges(tmp_path) -> None:
    """2 tokens of 8 channels in 4 digits: patches, class token, a block, LN, neurons, head."""
    pytest.importorskip("lava.magma", reason="the extra 'lava' is not installed")
    torch.manual_seed(0)
    config = ViTConfig(1, 10, 8, 8, 8, 1, 2, 2, 4)
    x = torch.rand(32, 1, 8, 8).numpy()
    path = tmp_path / "vit.onnx"
    neurocompile.export_onnx(ViT(config).eval(), x[:2], path, calibration=x)
    program = neurocompile.compile(path, target="loihi2", digits=4)
    assert program.calibration.values and program.calibration.spreads
    assert program.mapping.cores_used <= 120
    assert program.parity(x[:1], against=("emulator", "lava")).exact
    with pytest.raises(NeurocompileError, match="NC3104"):
        neurocompile.compile(path, target="loihi2", digits=4, fold="1x4")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_two_blocks_in_front_of_neurons_are_imported() -> None:
    torch.manual_seed(0)
    model = ViT(TINY).eval()
    x = torch.rand(3, 1, 8, 8)
    graph = open_model(model, x.numpy()).graph
    kinds = Counter(type(n) for n in graph.nodes)
    assert (kinds[s.StepSoftmax], kinds[s.Normalization], kinds[s.Function]) == (2, 5, 2)
    logits = evaluate(graph, x.numpy(), TINY.T)[graph.output.name]
    with torch.no_grad():
        np.testing.assert_allclose(logits, model(x).numpy(), atol=1e-5)
