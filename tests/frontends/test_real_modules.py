"""torch's modules of real values in front of a neuron: the imported graph's float64 definition is
what torch computes, from the module and from the file of its own exporter.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("spikingjelly")
pytest.importorskip("onnxscript")

from spikingjelly.activation_based import functional, neuron  # noqa: E402
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402

from neurocompile.frontends.door import open_model  # noqa: E402
from neurocompile.ir import spiking as s  # noqa: E402
from neurocompile.ir.evaluate import evaluate  # noqa: E402

torch.set_num_threads(1)
STEPS, TOKENS, DIM = 2, 5, 8


class Function(nn.Module):
    def __init__(self, function) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.function(x)


class Attention(nn.Module):
    def __init__(self, causal: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(DIM, 2, batch_first=True)
        self.causal = causal

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.flatten(0, 1)
        mask = torch.full((TOKENS, TOKENS), -torch.inf).triu(1) if self.causal else None
        y, _ = self.attention(y, y, y, need_weights=self.causal, attn_mask=mask)
        return y.unflatten(0, (STEPS, -1))


class Groups(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = weighted(nn.GroupNorm(2, DIM))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(x.flatten(0, 1).transpose(1, 2))
        return y.transpose(1, 2).unflatten(0, (STEPS, -1))


class ClassToken(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 1, DIM))
        self.places = nn.Parameter(torch.randn(1, 1, TOKENS + 1, DIM))
        self.norm = nn.LayerNorm(DIM)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        token = self.token.expand(x.shape[0], x.shape[1], 1, DIM)
        return self.norm(torch.cat([token, x], 2) + self.places)


class Relative(nn.Module):
    """Scores with a bias for each pair of positions, hidden above the diagonal."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(TOKENS, TOKENS))
        self.register_buffer("hidden", torch.ones(TOKENS, TOKENS).triu(1).bool())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scores = x @ x.transpose(-1, -2) + self.bias
        return scores.masked_fill(self.hidden, -torch.inf).softmax(-1) @ x


class Padded(nn.Module):
    """Attention that does not see the last two tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(DIM, 2, batch_first=True)
        self.register_buffer("hidden", torch.arange(TOKENS) >= TOKENS - 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.flatten(0, 1)
        hidden = self.hidden.expand(y.shape[0], -1)
        y, _ = self.attention(y, y, y, need_weights=False, key_padding_mask=hidden)
        return y.unflatten(0, (STEPS, -1))


class Masked(nn.Module):
    """Causal, by a mask of numbers or of truths."""

    def __init__(self, numbers: bool) -> None:
        super().__init__()
        seen = torch.ones(TOKENS, TOKENS).tril().bool()
        mask = torch.zeros(TOKENS, TOKENS).masked_fill(~seen, -torch.inf)
        self.register_buffer("mask", mask if numbers else seen)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.scaled_dot_product_attention(x, x, x, attn_mask=self.mask)


class Swin(nn.Module):
    """A bias for each distance and head, from a table."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(2 * TOKENS - 1, 2))
        place = torch.arange(TOKENS)
        self.register_buffer("index", place[:, None] - place + TOKENS - 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        heads = x.unflatten(-1, (2, -1)).transpose(2, 3)
        bias = self.table[self.index.view(-1)].view(TOKENS, TOKENS, 2).permute(2, 0, 1)
        weight = (heads @ heads.transpose(-1, -2) * 0.5 + bias).softmax(-1)
        return (weight @ heads).transpose(2, 3).flatten(3)


def by_hand(x: torch.Tensor) -> torch.Tensor:
    """Softmax as many write it."""
    e = torch.exp(x - x.amax(-1, keepdim=True))
    return e / e.sum(-1, keepdim=True)


def shifted(x: torch.Tensor) -> torch.Tensor:
    """Each token's predecessor."""
    return F.pad(x.flatten(0, 1), (0, 0, 1, -1)).unflatten(0, (STEPS, -1))


class Network(nn.Module):
    """A layer, the operator, and IF neurons: SpikingJelly's, or bare tensors."""

    def __init__(self, operator: nn.Module, bare: bool) -> None:
        super().__init__()
        self.layer, self.operator = nn.Linear(DIM, DIM), operator
        self.neuron = None if bare else neuron.IFNode(step_mode="m")

    def real(self, x: torch.Tensor) -> torch.Tensor:
        return self.operator(self.layer(x).unsqueeze(0).repeat(STEPS, 1, 1, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.real(x)
        if self.neuron is not None:
            return self.neuron(y).mean(0)
        u, total = torch.zeros_like(y[0]), torch.zeros_like(y[0])
        for t in range(STEPS):
            u = u + y[t]
            spikes = (u >= 1.0).to(u.dtype)
            u, total = u - spikes, total + spikes
        return total / STEPS


def weighted(norm: nn.Module) -> nn.Module:
    for parameter in norm.parameters():
        nn.init.normal_(parameter)
    return norm


def _block() -> nn.Module:
    return nn.Sequential(
        weighted(nn.LayerNorm(DIM)), Attention(True), nn.Linear(DIM, DIM), nn.GELU()
    )


OPERATORS = {
    "block": _block,
    "RMSNorm": lambda: weighted(nn.RMSNorm(DIM)),
    "GroupNorm": Groups,
    "GELU by tanh": lambda: nn.GELU(approximate="tanh"),
    "quick GELU": lambda: Function(lambda x: x * torch.sigmoid(1.702 * x)),
    "SiLU": nn.SiLU,
    "sigmoid of a product": lambda: Function(lambda x: x * torch.sigmoid(x.flip(-1))),
    "tanh": nn.Tanh,
    "softplus": nn.Softplus,
    "hardswish": nn.Hardswish,
    "hardsigmoid": nn.Hardsigmoid,
    "ELU": nn.ELU,
    "ReLU6": nn.ReLU6,
    "leaky ReLU": lambda: nn.LeakyReLU(0.1),
    "squared ReLU": lambda: Function(lambda x: F.relu(x) ** 2),
    "softmax of tokens": lambda: nn.Softmax(2),
    "scaled dot product": lambda: Function(
        lambda x: F.scaled_dot_product_attention(x, x, x, is_causal=True)
    ),
    "attention": lambda: Attention(False),
    "relative bias": Relative,
    "class token": ClassToken,
    "padding mask": Padded,
    "mask of numbers": lambda: Masked(True),
    "mask of truths": lambda: Masked(False),
    "bias of distances": Swin,
    "softmax by hand": lambda: Function(by_hand),
    "shift of tokens": lambda: Function(shifted),
}
CASES = [
    pytest.param(name, bare, marks=() if name == "block" and not bare else pytest.mark.slow)
    for name in OPERATORS
    for bare in (False, True)
    if not bare or name in ("block", "GELU by tanh", "SiLU", "softplus", "relative bias")
]


@pytest.mark.nightly
@pytest.mark.parametrize("dynamo", [True, False])
@pytest.mark.parametrize("name", OPERATORS)
@pytest.mark.filterwarnings("ignore")
def test_the_files_of_both_exporters_mean_it_too(name: str, dynamo: bool, tmp_path: Path) -> None:
    if name == "RMSNorm" and not dynamo:
        pytest.skip("torch's older exporter has no RMSNorm")
    torch.manual_seed(0)
    net, x = Network(OPERATORS[name](), True).eval(), torch.randn(3, TOKENS, DIM)
    path = str(tmp_path / "model.onnx")
    torch.onnx.export(net, (x,), path, dynamo=dynamo, verbose=False)
    compare(net, open_model(path, x.numpy()).graph, x)


@pytest.mark.parametrize(("name", "bare"), CASES)
@pytest.mark.filterwarnings("ignore")
def test_the_graph_means_what_torch_computes(name: str, bare: bool) -> None:
    torch.manual_seed(0)
    net = Network(OPERATORS[name](), bare).eval()
    x = torch.randn(3, TOKENS, DIM)
    compare(net, open_model(net, x.numpy()).graph, x)


def compare(net: Network, graph: s.SpikingGraph, x: torch.Tensor) -> None:
    """What the graph's first neurons read with what the module computes in front of its own."""
    neurons = next(n for n in graph.nodes if isinstance(n, s.LIF))
    ours = evaluate(graph, x.numpy(), STEPS)[neurons.x]
    functional.reset_net(net)
    with torch.no_grad():
        theirs = net.real(x).transpose(0, 1).numpy()
    ours = np.broadcast_to(ours, (3, STEPS, *ours.shape[2:])).reshape(3, STEPS, -1)
    theirs = theirs.reshape(3, STEPS, -1)
    if not np.allclose(ours, theirs, atol=1e-5):  # features lie as (channels, tokens)
        theirs = theirs.reshape(3, STEPS, -1, DIM).swapaxes(2, 3).reshape(3, STEPS, -1)
    np.testing.assert_allclose(ours, theirs, atol=2e-5, rtol=1e-4)
