"""The reference models: sizes of the papers, spikes, gradients, and tiny ones exported and run in
onnxruntime.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")
pytest.importorskip("onnxscript")

from neurocompile.models.layers import MembraneMLP, SpikingSelfAttention, halvings  # noqa: E402
from neurocompile.models.meta_spikeformer import RepConv  # noqa: E402
from neurocompile.models.registry import MODELS, build  # noqa: E402
from neurocompile.models.spike_driven_transformer import SpikeDrivenSelfAttention  # noqa: E402
from neurocompile.models.spikformer import Spikformer, SpikformerConfig  # noqa: E402
from neurocompile.models.spiking_resformer import DualSpikeSelfAttention, RateScale  # noqa: E402
from spikingjelly.activation_based import functional, neuron  # noqa: E402
from torch import nn  # noqa: E402

from neurocompile.frontends.torch.export import export_onnx  # noqa: E402

torch.set_num_threads(1)
TINY = [name for name in MODELS if "-tiny" in name]
PUBLISHED = [name for name, reference in MODELS.items() if reference.published is not None]
# One of each family in every run, the other stems and sizes with --slow.
EXPORTED = [
    name if name.endswith("-tiny") else pytest.param(name, marks=pytest.mark.slow)
    for name in TINY
    if name != "e-spikeformer-tiny"  # numbers of spikes, no LIF: test_e_spikeformer.py
]


def images(name: str, batch: int) -> torch.Tensor:
    """Random images (batch, C, H, W), in steps of 1/16, for the model of that name."""
    config = MODELS[name].config
    shape = (batch, config.in_channels, config.image_size, config.image_size)
    return torch.randint(0, 17, shape, generator=torch.Generator().manual_seed(batch)) / 16


def lively(model: nn.Module) -> nn.Module:
    """``model`` with biases that make neurons fire: else attention over so few tokens stays below
    its threshold.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.bias, 0.5, 2.0)
    return model


@torch.no_grad()
def make_dyadic(model: nn.Module) -> nn.Module:
    """Round weights to few bits, so that float32 sums are exact in any order and no rounding flips
    a spike.
    """
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            gain = module.weight / torch.sqrt(module.running_var + module.eps)
            module.bias.sub_(module.running_mean * gain).mul_(16).round_().div_(16)
            module.running_mean.zero_()
            module.running_var.fill_(1.0).sub_(module.eps)
            module.weight.copy_(gain.log2().round().exp2())
        elif isinstance(module, (nn.Conv2d, nn.Linear)):
            step = (module.weight.abs().max() / 4).log2().ceil().exp2()
            module.weight.div_(step).round_().mul_(step)
        elif isinstance(module, DualSpikeSelfAttention):
            # With 8 channels a head and 16 tokens, both scales are exactly 1/2.
            module.attn_scale.rate.fill_(4 / 8)
            module.out_scale.rate.fill_(4 / 16)
    return model


def calibrated(name: str) -> nn.Module:
    """A model whose normalizations have the statistics of random images, rounded, in eval mode."""
    torch.manual_seed(0)
    model = lively(build(name))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the mean over all batches seen
    with torch.no_grad():
        for _ in range(3):
            model(images(name, 16))
            functional.reset_net(model)
    return make_dyadic(model.eval())


def run_float(model: nn.Module, x: torch.Tensor) -> dict[str, np.ndarray]:
    """Spikes of every neuron by module path, and the output as '', from reset neurons."""
    found: dict[str, np.ndarray] = {}
    hooks = [
        module.register_forward_hook(
            lambda _m, _i, out, path=path: found.__setitem__(path, out.numpy())
        )
        for path, module in model.named_modules()
        if isinstance(module, neuron.BaseNode)
    ]
    functional.reset_net(model)
    with torch.no_grad():
        found[""] = model(x).numpy()
    functional.reset_net(model)
    for hook in hooks:
        hook.remove()
    return found


def run_onnx(proto: onnx.ModelProto, x: torch.Tensor) -> dict[str, np.ndarray]:
    """The same from an exported file, by the names of its LIF nodes."""
    names = [node.name for node in proto.graph.node if node.op_type == "LIF"]
    output = proto.graph.output[0].name
    proto.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in names
    )
    results = onnxruntime.InferenceSession(proto.SerializeToString()).run(
        [*names, output], {"x": x.numpy()}
    )
    return dict(zip([*names, ""], results))


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_those_of_the_paper(name: str) -> None:
    with torch.device("meta"):
        model = build(name)
    millions = sum(parameter.numel() for parameter in model.parameters()) / 1e6
    assert millions == pytest.approx(MODELS[name].published, rel=0.005)


def test_every_family_has_a_tiny_version() -> None:
    constructors = {MODELS[name].constructor for name in TINY}
    assert (
        constructors == {reference.constructor for reference in MODELS.values()}
        and len(constructors) == 7
    )
    assert all(MODELS[name].published is None for name in TINY)


@pytest.mark.parametrize("name", TINY)
def test_neurons_spike_and_time_leads(name: str) -> None:
    steps = 3
    model = calibrated(name)
    model.config = dataclasses.replace(model.config, T=steps)
    found = run_float(model, images(name, 2))
    logits = found.pop("")
    assert logits.shape == (2, MODELS[name].config.num_classes) and np.isfinite(logits).all()
    assert len(found) == sum(isinstance(module, neuron.BaseNode) for module in model.modules())
    for path, spikes in found.items():
        assert spikes.shape[:2] == (steps, 2), path
        assert np.isin(spikes, (0.0, 1.0)).all(), path
        assert spikes.any(), path


@pytest.mark.parametrize("name", TINY)
def test_samples_do_not_see_each_other(name: str) -> None:
    model = calibrated(name)
    x = images(name, 3)
    together, alone = run_float(model, x), run_float(model, x[1:2])
    np.testing.assert_allclose(alone.pop("")[0], together.pop("")[1], atol=1e-4)
    for path, spikes in alone.items():
        np.testing.assert_array_equal(spikes[:, 0], together[path][:, 1], err_msg=path)


@pytest.mark.parametrize("name", TINY)
def test_gradients_reach_every_parameter(name: str) -> None:
    torch.manual_seed(0)
    model = lively(build(name))
    x = images(name, 4)
    nn.functional.cross_entropy(model(x), torch.arange(4)).backward()
    functional.reset_net(model)
    dead = [
        path for path, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0
    ]
    assert not dead
    assert all(torch.isfinite(p.grad).all() for p in model.parameters())


@pytest.mark.parametrize("name", EXPORTED)
def test_exported_file_equals_the_model(name: str, tmp_path: Path) -> None:
    model = calibrated(name)
    export_onnx(model, images(name, 2), tmp_path / "model.onnx")
    proto = onnx.load(tmp_path / "model.onnx")
    onnx.checker.check_model(proto, full_check=True)
    kinds = {node.op_type for node in proto.graph.node}
    assert not kinds & {
        "BatchNormalization",
        "Shape",
        "Gather",
        "Concat",
        "Loop",
        "Identity",
        "Sqrt",
        "Clip",
    }
    x = images(name, 5)
    expected, got = run_float(model, x), run_onnx(proto, x)
    assert expected.keys() == got.keys()
    assert all(0 < expected[path].mean() < 1 for path in got if path)
    np.testing.assert_allclose(got.pop(""), expected.pop(""), atol=1e-4)
    for path, spikes in expected.items():
        np.testing.assert_array_equal(got[path], spikes, err_msg=path)


def test_build_changes_the_config_and_names_what_there_is() -> None:
    model = build("spikformer-tiny", T=2, num_classes=3, in_channels=1)
    assert model(torch.rand(2, 1, 16, 16)).shape == (2, 3)
    with pytest.raises(KeyError, match="spikformer-4-384"):
        build("spikformer-5-384")
    with pytest.raises(TypeError, match="colour"):
        build("spikformer-tiny", colour=1)


@pytest.mark.parametrize("name", TINY)
def test_an_image_size_that_does_not_divide_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="image_size is 33, these strides need a multiple of"):
        build(name, image_size=33)


def test_patch_size_decides_which_convolutions_pool() -> None:
    assert (
        halvings(4) == (False, False, True, True)
        and halvings(16) == (True,) * 4
        and halvings(1) == (False,) * 4
    )
    with pytest.raises(ValueError, match="patch_size is 3"):
        Spikformer(SpikformerConfig(patch_size=3, image_size=33))


def test_both_orders_of_self_attention_agree() -> None:
    torch.manual_seed(0)
    first = lively(SpikingSelfAttention(16, 2, kv_first=True).eval())
    second = SpikingSelfAttention(16, 2, kv_first=False).eval()
    second.load_state_dict(first.state_dict())
    x = torch.randint(0, 3, (4, 2, 16, 4, 4)).float()
    spikes = first(x)
    assert 0 < spikes.mean() < 1
    assert torch.equal(spikes, second(x))


def test_spike_driven_mask_is_an_or_over_tokens() -> None:
    torch.manual_seed(0)
    attention = SpikeDrivenSelfAttention(8).eval()
    for convolution in (attention.q, attention.k, attention.v):
        nn.init.uniform_(convolution.bn.bias, -1.0, 2.0)
    found = run_float(nn.Sequential(attention), 4 * torch.rand(4, 2, 8, 3, 3))
    products = found["0.k_lif"] * found["0.v_lif"]
    expected = products.any((3, 4), keepdims=True)
    assert expected.any() and not expected.all()
    np.testing.assert_array_equal(found["0.attn_lif"], expected)


def test_rep_conv_is_one_3x3_convolution() -> None:
    """Edges included: the padding of the first convolution sees its normalization's value at zero."""
    torch.manual_seed(0)
    chain = RepConv(6).eval()
    for bn in (chain.bn1, chain.bn2, chain.bn3):
        nn.init.uniform_(bn.running_mean, -1, 1)
        nn.init.uniform_(bn.running_var, 0.5, 2)
        nn.init.uniform_(bn.bias, -1, 1)
    x = torch.rand(2, 3, 6, 5, 5)
    with torch.no_grad():
        edge = torch.zeros(1, 1, 6, 7, 7)
        bias = chain(edge)[:, :, :, 3:4, 3:4]
        impulses = torch.zeros(1, 6, 6, 5, 5)
        impulses[0, range(6), range(6), 2, 2] = 1
        kernel = (chain(impulses) - bias)[0, :, :, 1:4, 1:4].flip(2, 3).transpose(0, 1)
        merged = nn.functional.conv2d(x.flatten(0, 1), kernel, bias.flatten(), padding=1).unflatten(
            0, (2, 3)
        )
        torch.testing.assert_close(chain(x), merged)


def test_rates_of_dual_spike_attention_are_learnt_and_never_divide_by_zero() -> None:
    torch.manual_seed(0)
    attention = DualSpikeSelfAttention(8, 2, 2)
    x = 3 * torch.rand(4, 2, 8, 4, 4)
    spikes = torch.cat([attention.in_lif(x), torch.zeros(4, 2, 8, 4, 4)], 1)
    functional.reset_net(attention)
    for values in (x, torch.zeros_like(x)):
        assert torch.isfinite(attention(values)).all()
        functional.reset_net(attention)
    by_head = spikes.unflatten(2, (2, 4)).mean((0, 1, 3, 4, 5))
    torch.testing.assert_close(attention.attn_scale.rate.flatten(), by_head)
    assert attention.attn_scale.batches == 2
    before = attention.attn_scale.rate.clone()
    attention.eval()(x)
    assert torch.equal(attention.attn_scale.rate, before)


def test_rate_scale_has_a_floor() -> None:
    scale = RateScale(1)
    product = torch.ones(1, 1, 1, 2, 2)
    torch.testing.assert_close(scale(product, torch.zeros(1, 1, 1, 2, 2), 10), 10 * product)
    torch.testing.assert_close(scale.eval()(product, product, 10), 10 * product)


def test_membrane_mlp_takes_and_gives_potentials() -> None:
    torch.manual_seed(0)
    potentials = lively(MembraneMLP(4, 8).eval())(torch.randn(2, 1, 4, 3, 3))
    assert (
        potentials.shape == (2, 1, 4, 3, 3)
        and not np.isin(potentials.detach().numpy(), (0, 1)).any()
    )
