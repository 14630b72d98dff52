"""Ways to write a module that many authors share: names, a fused query, key and value, layers over
one axis.
"""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")
pytest.importorskip("onnxscript")

from spikingjelly.activation_based import functional, layer, neuron  # noqa: E402
from torch import nn  # noqa: E402

import neurocompile  # noqa: E402
from neurocompile.frontends.onnx.reference import run_onnx  # noqa: E402
from neurocompile.ir.evaluate import evaluate  # noqa: E402
from neurocompile.pipeline import import_model  # noqa: E402

torch.set_num_threads(1)
T = 4


def lif(v_threshold: float = 1.0) -> nn.Module:
    return neuron.LIFNode(v_threshold=v_threshold, step_mode="m")


def same(module: nn.Module, x: torch.Tensor, folder) -> dict[str, np.ndarray]:
    """Spikes of each layer, equal in the module's file and the imported graph."""
    neurocompile.export_onnx(module, x, folder / "m.onnx")
    loaded, got = import_model(folder / "m.onnx", T)
    reference = run_onnx(loaded, got, x.numpy())
    ours = evaluate(got.graph, x.numpy(), T, list(reference.layers))
    for name, spikes in reference.layers.items():
        assert 0.02 < spikes.mean() < 0.98, name
        np.testing.assert_array_equal(ours[name], spikes)
    return reference.layers


# ---- names ---------------------------------------------------------------------------------------


class Block(nn.Module):
    def __init__(self, n: int, m: int, act: nn.Module) -> None:
        super().__init__()
        self.fc, self.neuron = nn.Linear(n, m), act

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.neuron(self.fc(x))


class Wrapped(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.neuron = lif()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.neuron(x)


class Blocks(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.neuron, self.second, self.head = (
            Block(8, 12, Wrapped()),
            Block(12, 9, lif(0.2)),
            nn.Linear(9, 3),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(self.second(self.neuron(x.unsqueeze(0).repeat(T, 1, 1)))).mean(0)


def test_a_neuron_may_be_called_neuron(tmp_path) -> None:
    torch.manual_seed(0)
    assert same(Blocks(), 4 * torch.rand(5, 8), tmp_path).keys() == {
        "neuron.neuron.neuron",
        "second.neuron",
    }


# ---- query, key and value of one layer -----------------------------------------------------------


class Fused(nn.Module):
    """Attention whose query, key and value are one linear layer, with a LIF behind it or behind
    each part.
    """

    def __init__(self, form: str, fused: bool) -> None:
        super().__init__()
        self.form, self.fused = form, fused
        self.embed, self.lif = nn.Linear(6, 16), lif()
        self.qkv, self.qkv_lif = nn.Linear(16, 48), lif(0.3)
        self.q_lif, self.k_lif, self.v_lif = lif(0.3), lif(0.3), lif(0.3)
        self.attn_lif, self.head = lif(0.5), nn.Linear(16, 3)
        nn.init.normal_(self.qkv.weight, 0.1, 0.8)

    def parts(self, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """(T, B, heads, N, d) each."""
        steps, batch, tokens, _ = y.shape
        if self.form in ("chunk", "split"):
            parts = y.chunk(3, -1) if self.form == "chunk" else torch.split(y, 16, -1)
            return tuple(p.reshape(steps, batch, tokens, 2, 8).transpose(2, 3) for p in parts)
        y = y.reshape(steps, batch, tokens, 3, 2, 8)
        if self.form == "third_axis":
            y = y.permute(0, 1, 3, 4, 2, 5)
            return y[:, :, 0], y[:, :, 1], y[:, :, 2]
        y = y.permute(3, 0, 1, 4, 2, 5)
        return y.unbind(0) if self.form == "unbind" else (y[0], y[1], y[2])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.qkv(self.lif(self.embed(x.unsqueeze(0).repeat(T, 1, 1, 1))))
        q, k, v = self.parts(self.qkv_lif(y) if self.fused else y)
        if not self.fused:
            q, k, v = self.q_lif(q), self.k_lif(k), self.v_lif(v)
        y = self.attn_lif((q @ k.transpose(-2, -1) @ v * 0.25).transpose(2, 3).flatten(3))
        return self.head(y[:, :, 0] + y[:, :, -1]).mean(0)


FUSED = [
    ("index", True),
    ("index", False),
    ("third_axis", False),
    ("unbind", True),
    ("chunk", False),
    ("split", False),
]


@pytest.mark.parametrize(("form", "fused"), FUSED)
def test_query_key_and_value_may_be_parts_of_one_layer(form: str, fused: bool, tmp_path) -> None:
    torch.manual_seed(0)
    assert len(same(Fused(form, fused), 4 * torch.rand(3, 5, 6), tmp_path)) == (3 if fused else 5)


def test_indexed_parts_compile_and_run_without_a_difference() -> None:
    torch.manual_seed(0)
    x = 4 * torch.rand(3, 5, 6)
    program = neurocompile.compile(Fused("index", False), x, T=T)
    assert program.parity(x.numpy(), against=("emulator",)).exact


# ---- one axis ------------------------------------------------------------------------------------


class Audio(nn.Module):
    def __init__(self, pool: nn.Module) -> None:
        super().__init__()
        self.conv, self.norm, self.lif, self.pool = (
            nn.Conv1d(1, 6, 5, stride=2, padding=2),
            nn.BatchNorm1d(6),
            lif(0.2),
            pool,
        )
        self.conv2, self.lif2, self.gap, self.head = (
            nn.Conv1d(6, 8, 3, padding=1),
            lif(0.1),
            nn.AdaptiveAvgPool1d(1),
            nn.Linear(8, 3),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = T, x.shape[0]
        x = self.norm(self.conv(x.unsqueeze(0).repeat(T, 1, 1, 1).flatten(0, 1)))
        x = self.conv2(self.pool(self.lif(x.unflatten(0, rows)).flatten(0, 1)))
        x = self.gap(self.lif2(x.unflatten(0, rows)).flatten(0, 1)).flatten(1)
        return self.head(x).unflatten(0, rows).mean(0)


POOLS = {
    "average": nn.AvgPool1d(2),
    "average_overlapping": nn.AvgPool1d(3, stride=2, padding=1),
    "largest": nn.MaxPool1d(3, stride=2, padding=1),
    "adaptive_average": nn.AdaptiveAvgPool1d(4),
    "adaptive_largest": nn.AdaptiveMaxPool1d(4),
}


@pytest.mark.parametrize("pool", POOLS)
def test_a_network_over_one_axis(pool: str, tmp_path) -> None:
    torch.manual_seed(0)
    x = 4 * torch.rand(3, 1, 32)
    assert same(Audio(POOLS[pool]), x, tmp_path).keys() == {"lif", "lif2"}
    program = neurocompile.compile(tmp_path / "m.onnx", T=T)
    assert program.parity(x.numpy(), against=("emulator",)).exact


def test_the_voting_layer_of_spikingjelly(tmp_path) -> None:
    torch.manual_seed(0)
    stack = nn.Sequential(
        layer.Conv2d(1, 4, 3, padding=1, bias=False),
        layer.BatchNorm2d(4),
        neuron.IFNode(),
        layer.MaxPool2d(2, 2),
        layer.Flatten(),
        layer.Dropout(0.5),
        layer.Linear(64, 20, bias=False),
        neuron.LIFNode(v_threshold=0.1),
        layer.VotingLayer(5),
    )
    functional.set_step_mode(stack, "m")

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stack = stack

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.stack(x.unsqueeze(0).repeat(T, 1, 1, 1, 1)).mean(0)

    x = 4 * torch.rand(3, 1, 8, 8)
    assert len(same(Net(), x, tmp_path)) == 2
    program = neurocompile.compile(tmp_path / "m.onnx", T=T)
    assert program.run(x.numpy()).predictions.shape == (3,)
    assert program.parity(x.numpy(), against=("emulator",)).exact


# ---- index notation ------------------------------------------------------------------------------


class Indexed(nn.Module):
    """Attention in torch.einsum."""

    def __init__(self, scores: str, values: str, project: str) -> None:
        super().__init__()
        self.equations, self.weight = (scores, values, project), nn.Parameter(torch.randn(2, 8, 16))
        self.q, self.k, self.v, self.head = (
            nn.Linear(6, 16),
            nn.Linear(6, 16),
            nn.Linear(6, 16),
            nn.Linear(16, 3),
        )
        self.q_lif, self.k_lif, self.v_lif, self.attn_lif, self.last = (
            lif(0.2),
            lif(0.2),
            lif(0.2),
            lif(0.4),
            lif(0.2),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores, values, project = self.equations
        x = x.unsqueeze(0).repeat(T, 1, 1, 1)
        q, k, v = (
            act(fc(x)).unflatten(-1, (2, 8))
            for fc, act in ((self.q, self.q_lif), (self.k, self.k_lif), (self.v, self.v_lif))
        )
        y = self.attn_lif(torch.einsum(values, torch.einsum(scores, q, k), v) * 0.25)
        return self.head(self.last(torch.einsum(project, y, self.weight))).mean((0, 2))


EQUATIONS = {
    "scores_first": ("tbnhd,tbmhd->tbhnm", "tbhnm,tbmhd->tbnhd", "tbnhd,hdc->tbnc"),
    "values_first": ("tbnhd,tbnhe->tbhde", "tbhde,tbnhe->tbnhd", "tbnhd,hdc->tbnc"),
    "ellipsis": ("...nhd,...mhd->...hnm", "...hnm,...mhd->...nhd", "... h d, h d c -> ... c"),
}


@pytest.mark.parametrize("form", EQUATIONS)
def test_attention_in_index_notation(form: str, tmp_path) -> None:
    torch.manual_seed(0)
    x = 4 * torch.rand(3, 5, 6)
    assert len(same(Indexed(*EQUATIONS[form]), x, tmp_path)) == 5
    assert (
        neurocompile.compile(tmp_path / "m.onnx", T=T)
        .parity(x.numpy(), against=("emulator",))
        .exact
    )


# ---- signals side by side ------------------------------------------------------------------------


class Between(nn.Module):
    """``function`` between two spiking convolutions, on (T B, 4, 6, 6)."""

    def __init__(self, function, channels: int) -> None:
        super().__init__()
        self.function, self.conv, self.lif = function, nn.Conv2d(2, 4, 3, padding=1), lif(0.5)
        self.conv2, self.lif2, self.head = (
            nn.Conv2d(channels, 5, 3, padding=1),
            lif(0.1),
            nn.Linear(5, 3),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = T, x.shape[0]
        y = self.lif(
            self.conv(x.unsqueeze(0).repeat(T, 1, 1, 1, 1).flatten(0, 1)).unflatten(0, rows)
        ).flatten(0, 1)
        y = self.lif2(self.conv2(self.function(y)).unflatten(0, rows))
        return self.head(y.mean((3, 4))).mean(0)


SIDE_BY_SIDE = {
    "channels": (lambda x: torch.cat([x, x.roll(1, 3), x[:, :1]], 1), 9),
    "rows": (lambda x: torch.cat([x, x], 2), 4),
    "stacked": (lambda x: torch.stack([x, x.flip(2)], 2).flatten(1, 2), 8),
    "rolled": (lambda x: torch.roll(x, (2, -1), (2, 3)), 4),
    "flipped": (lambda x: x.flip(3), 4),
    "any_order": (lambda x: x.index_select(1, torch.tensor([2, 0, 3])), 3),
    "shuffled": (lambda x: x.unflatten(1, (2, 2)).transpose(1, 2).flatten(1, 2), 4),
    "a_slice_that_does_not_divide": (lambda x: x[:, :, 1:], 4),
}


@pytest.mark.parametrize("form", SIDE_BY_SIDE)
def test_spikes_are_joined_and_moved(form: str, tmp_path) -> None:
    torch.manual_seed(0)
    x = 4 * torch.rand(3, 2, 6, 6)
    assert len(same(Between(*SIDE_BY_SIDE[form]), x, tmp_path)) == 2
    assert (
        neurocompile.compile(tmp_path / "m.onnx", T=T)
        .parity(x.numpy(), against=("emulator",))
        .exact
    )


def test_a_layer_reads_the_parts_of_what_is_joined(tmp_path) -> None:
    torch.manual_seed(0)
    neurocompile.export_onnx(
        Between(lambda x: torch.cat([x, x], 1), 8), torch.rand(2, 2, 6, 6), tmp_path / "m.onnx"
    )
    graph = import_model(tmp_path / "m.onnx", T)[1].graph
    assert sum(type(n).__name__ == "Conv2d" for n in graph.nodes) == 3


# ---- heads ---------------------------------------------------------------------------------------


class Counting(nn.Module):
    """The spikes of all steps, summed."""

    def __init__(self, divided: bool) -> None:
        super().__init__()
        self.divided, self.fc, self.lif, self.head = (
            divided,
            nn.Linear(6, 12),
            lif(0.3),
            nn.Linear(12, 3),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spikes = self.lif(self.fc(x.unsqueeze(0).repeat(T, 1, 1)))
        return self.head(spikes.sum(0) / T) if self.divided else self.head(spikes).sum(0)


@pytest.mark.parametrize("divided", [True, False])
def test_a_sum_over_time_is_a_mean_times_the_steps(divided: bool, tmp_path) -> None:
    torch.manual_seed(0)
    net, x = Counting(divided), 4 * torch.rand(5, 6)
    same(net, x, tmp_path)
    program = neurocompile.compile(tmp_path / "m.onnx", T=T)
    with torch.no_grad():
        functional.reset_net(net)
        wanted = net(x).numpy()
    np.testing.assert_allclose(
        program.run(x.numpy()).logits, wanted, atol=0.1 * np.abs(wanted).max()
    )


# ---- residuals -----------------------------------------------------------------------------------


class SpikingBlock(nn.Module):
    """Of the classical spiking ResNet: spikes and normalized real values are added before the LIF."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = layer.Conv2d(channels, channels, 3, padding=1, bias=False, step_mode="m")
        self.norm1, self.lif1 = layer.BatchNorm2d(channels, step_mode="m"), lif(0.25)
        self.conv2 = layer.Conv2d(channels, channels, 3, padding=1, bias=False, step_mode="m")
        self.norm2, self.lif2 = layer.BatchNorm2d(channels, step_mode="m"), lif(0.25)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.lif2(self.norm2(self.conv2(self.lif1(self.norm1(self.conv1(x))))) + x)


class SpikingResNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = (
            layer.Conv2d(1, 8, 3, padding=1, bias=False, step_mode="m"),
            layer.BatchNorm2d(8, step_mode="m"),
        )
        self.lif, self.blocks, self.head = (
            lif(0.25),
            nn.Sequential(SpikingBlock(8), SpikingBlock(8)),
            nn.Linear(8, 3),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.blocks(self.lif(self.norm(self.conv(x.unsqueeze(0).repeat(T, 1, 1, 1, 1)))))
        return self.head(x.flatten(3).mean(3)).mean(0)


def test_spikes_added_to_normalized_convolutions(tmp_path) -> None:
    torch.manual_seed(0)
    model, x = SpikingResNet(), torch.rand(8, 1, 6, 6)
    with torch.no_grad():
        for _ in range(20):  # statistics of the normalizations
            functional.reset_net(model)
            model(x)
    model.eval()
    same(model, x, tmp_path)
    program = neurocompile.compile(tmp_path / "m.onnx", T=T, calibration=x.numpy())
    report = program.parity(x[:4].numpy(), against=("emulator",), reference=tmp_path / "m.onnx")
    assert report.exact and report.reference is not None
    assert all(
        abs(one.rate_quantized - one.rate_reference) < 0.02 and one.agreement > 0.7
        for one in report.reference.layers
    )
