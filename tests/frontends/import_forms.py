"""Forms that people write between and behind their neurons, and what becomes of each: the table of
docs/import.md is made of this, and ``test_import_table.py`` checks every row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from spikingjelly.activation_based import neuron
from torch import Tensor, nn

__all__ = ["FORMS", "Form", "Net", "T", "table"]

T = 4
Spikes = Callable[["Net", Tensor], Tensor]


@dataclass(frozen=True)
class Form:
    """What stands at one place of :class:`Net`."""

    point: str
    result: str
    """"chip", "host" (the host computes it), or the code of the refusal."""
    middle: Spikes | None = None
    """From spikes (T, B, 4, 6, 6) to currents of the next neuron."""
    behind: Spikes | None = None
    """From the last spikes (T, B, 4, ...) to what the model returns."""


def over(layer: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    return layer(x.flatten(0, 1)).unflatten(0, (T, -1))


def conv(net: Net, x: Tensor) -> Tensor:
    """The second convolution on as many channels as ``x`` has."""
    weight = net.kernel[:, : x.shape[2]] if x.shape[2] <= 16 else net.kernel
    return over(lambda y: F.conv2d(y, weight, padding=1), x)


class Net(nn.Module):
    """conv, LIF, the form, LIF, head and mean over time."""

    def __init__(self, form: Form) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.form = form
        self.c1 = nn.Conv2d(1, 4, 3, padding=1)
        self.kernel = nn.Parameter(0.3 * torch.randn(4, 16, 3, 3))
        self.side, self.up = nn.Conv2d(4, 4, 1), nn.ConvTranspose2d(4, 4, 2, dilation=2, groups=2)
        self.q, self.k, self.v = (nn.Linear(4, 4) for _ in range(3))
        self.lifs = nn.ModuleList(neuron.LIFNode(step_mode="m", v_threshold=0.4) for _ in range(6))
        self.last = neuron.LIFNode(step_mode="m", v_threshold=0.2)
        self.head, self.weights = nn.Linear(4, 3), nn.Parameter(torch.rand(T))
        self.bias, self.position = (
            nn.Parameter(torch.randn(9, 9) / 4),
            nn.Parameter(torch.randn(4, 6, 6) / 4),
        )
        self.tokens = nn.Parameter(torch.randn(1, 1, 1, 4))

    def other(self, s: Tensor) -> Tensor:
        """Spikes of another neuron."""
        return self.lifs[2](2 * over(self.side, s))

    def qkv(self, s: Tensor) -> tuple[Tensor, ...]:
        x = over(nn.MaxPool2d(2), s).flatten(3).transpose(2, 3)
        layers = zip((self.q, self.k, self.v), self.lifs[3:6])
        return tuple(lif(2 * layer(x)) for layer, lif in layers)

    def forward(self, x: Tensor) -> Tensor:
        s = self.lifs[0](2 * over(self.c1, x.unsqueeze(0).repeat(T, 1, 1, 1, 1)))
        y = self.lifs[1]((self.form.middle or conv)(self, s))
        if self.form.behind is not None:
            return self.form.behind(self, y)
        return self.head(over(nn.AdaptiveAvgPool2d(1), _map(y)).flatten(2)).mean(0)


def _map(y: Tensor) -> Tensor:
    return y if y.dim() == 5 else y.transpose(2, 3).unsqueeze(-1)


def logits(net: Net, y: Tensor) -> Tensor:
    """(T, B, 3)."""
    return net.head(y.mean((3, 4)))


def membranes(net: Net, y: Tensor, threshold: float | None = None) -> Tensor:
    v, found = torch.zeros_like(logits(net, y)[0]), []
    for current in logits(net, y):
        v = 0.8 * v + current
        found.append(v)
        if threshold is not None:
            v = v - threshold * (v > threshold).float()
    return torch.stack(found)


def last_potential(net: Net, y: Tensor) -> Tensor:
    net.last(logits(net, y))
    return net.last.v


def chunks(x: Tensor) -> Tensor:
    return x.unflatten(0, (2, 2)).transpose(1, 2).flatten(2, 3)


def chunked(net: Net, s: Tensor) -> Tensor:
    q, k, v = map(chunks, net.qkv(s))
    return (q @ (k.transpose(-1, -2) @ v) * 0.1).unflatten(2, (2, -1)).transpose(1, 2).flatten(0, 1)


def attention(change: Callable[[Net, Tensor], Tensor]) -> Spikes:
    def computed(net: Net, s: Tensor) -> Tensor:
        q, k, v = net.qkv(s)
        return change(net, 0.25 * (q @ k.transpose(-1, -2))) @ v

    return computed


def windows(net: Net, s: Tensor) -> Tensor:
    t, b, c, h, w = s.shape
    x = s.view(t, b, c, 2, 3, 2, 3).permute(0, 1, 3, 5, 4, 6, 2).reshape(t, b * 4, 9, c)
    y = net.lifs[3](2 * net.q(x)) @ net.lifs[4](2 * net.k(x)).transpose(-1, -2)
    y = y @ net.lifs[5](2 * net.v(x)) * 0.25
    return y.view(t, b, 2, 2, 3, 3, c).permute(0, 1, 6, 2, 4, 3, 5).reshape(t, b, c, h, w)


def class_token(net: Net, s: Tensor) -> Tensor:
    x = over(nn.MaxPool2d(2), s).flatten(3).transpose(2, 3)
    return 2 * net.q(torch.cat([net.tokens.expand(T, x.shape[1], 1, 4), x], 2))


def layer(module: nn.Module) -> Spikes:
    return lambda net, s: conv(net, over(module, s))


def view(change: Callable[[Tensor], Tensor]) -> Spikes:
    return lambda net, s: conv(net, change(s))


def both_and_any(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    return (a & b).float() + (a | b).float()


FORMS: dict[str, Form] = {
    # behind the last neurons
    "learned weights for each step": Form("6", "host", behind=lambda net, y: torch.einsum("t,tbk->bk", net.weights, logits(net, y))),
    "membranes that leak, their mean": Form("5", "host", behind=lambda net, y: membranes(net, y).mean(0)),
    "membranes that leak, the largest": Form("5", "host", behind=lambda net, y: membranes(net, y).amax(0)),
    "membranes that spikes reset": Form("5", "host", behind=lambda net, y: membranes(net, y, 0.1).mean(0)),
    "`lif.v` at the end": Form("5", "host", behind=last_potential),
    "maps (B, K, H, W)": Form("2", "chip", behind=lambda net, y: over(net.side, y).mean(0)),
    "a largest over positions, behind the mean": Form("6", "host", behind=lambda net, y: net.head(y.mean(0).amax((2, 3)))),
    "a largest over positions, of spikes": Form("6", "chip", behind=lambda net, y: net.head(y.amax((3, 4))).mean(0)),
    # between neurons
    "`x + 0.5 y` of spikes": Form("6", "chip", lambda net, s: conv(net, s + 0.5 * net.other(s))),
    "the larger of two layers' spikes": Form("6", "chip", lambda net, s: conv(net, torch.maximum(s, net.other(s)))),
    "the smaller of two layers' spikes": Form("6", "chip", lambda net, s: conv(net, torch.minimum(s, net.other(s)))),
    "logical and, logical or of spikes": Form("6", "chip", lambda net, s: conv(net, both_and_any(s.bool(), net.other(s).bool()))),
    "the larger of two numbers of spikes": Form("6", "chip", lambda net, s: conv(net, torch.maximum(s + net.other(s), 2 * s))),
    "MaxPool of numbers of spikes": Form("6", "chip", lambda net, s: conv(net, over(nn.MaxPool2d(2), s + net.other(s)))),
    "MaxPool, `ceil_mode`": Form("6", "chip", layer(nn.MaxPool2d(3, 2, ceil_mode=True))),
    "AvgPool, `count_include_pad=False`, `ceil_mode`": Form("6", "chip", layer(nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False))),
    "MaxPool with dilation": Form("6", "NC1009", layer(nn.MaxPool2d(2, 1, dilation=2))),
    "an adaptive pool whose sizes do not divide": Form("6", "NC1003", layer(nn.AdaptiveAvgPool2d(4))),
    "uneven Pad": Form("6", "chip", layer(nn.ZeroPad2d((1, 2, 0, 3)))),
    "Pad by less than nothing": Form("6", "chip", layer(nn.ZeroPad2d((-1, 2, 0, -1)))),
    "Pad with a number": Form("6", "chip", layer(nn.ConstantPad2d((1, 0, 0, 1), 1.0))),
    "reflected, replicated, circular borders": Form("6", "chip", layer(nn.Sequential(nn.ReflectionPad2d(1), nn.ReplicationPad2d(1), nn.CircularPad2d(1)))),
    "transposed convolution, dilated and grouped": Form("6", "chip", lambda net, s: 2 * over(net.up, s)),
    "nearest interpolation by any factor": Form("6", "chip", layer(nn.Upsample(size=(9, 4)))),
    "bilinear interpolation": Form("6", "NC1009", layer(nn.Upsample(scale_factor=2, mode="bilinear"))),
    "PixelUnshuffle": Form("6", "chip", layer(nn.PixelUnshuffle(2))),
    "PixelShuffle": Form("6", "chip", layer(nn.PixelShuffle(2))),
    "no-op ReLU, clamp and cast": Form("6", "chip", view(lambda s: s.relu().clamp(0, 1).bool().float())),
    "`1 - spikes`": Form("6", "chip", view(lambda s: 1 - s)),
    "crop, stride, slice": Form("3d", "chip", view(lambda s: s[:, :, 1:3, ::2, 1:5])),
    "uneven split and concatenation": Form("3d", "chip", view(lambda s: torch.cat(torch.split(s, [1, 3], 2)[::-1], 2))),
    "roll, flip": Form("3d", "chip", view(lambda s: s.roll(1, 3).flip(4))),
    "channel shuffle": Form("3d", "chip", view(lambda s: s.unflatten(2, (2, 2)).transpose(2, 3).flatten(2, 3))),
    "a mask of positions": Form("6", "chip", lambda net, s: conv(net, s * (net.position > 0).float())),
    "an embedding of positions": Form("6", "chip", lambda net, s: conv(net, s) + net.position),
    "relative bias of scores": Form("6", "chip", attention(lambda net, a: a + net.bias)),
    "a mask of scores": Form("6", "chip", attention(lambda net, a: a * torch.tril(torch.ones(9, 9)))),
    "windows folded into the batch": Form("6", "chip", windows),
    "a class token": Form("6", "chip", class_token),
    "attention over chunks of steps (STAtten)": Form("6", "NC1009", chunked),
    "weights for each step in front of a neuron": Form("6", "NC1009", lambda net, s: net.weights[:, None, None, None, None] * conv(net, s)),
    "a branch of zero weights": Form("6", "chip", lambda net, s: s + conv(net, 0 * s)),
    "a matrix on the left": Form("6", "chip", lambda net, s: net.bias[:5] @ over(nn.MaxPool2d(2), s).flatten(3).transpose(2, 3)),
    "a Linear over (T B N, C)": Form("6", "chip", lambda net, s: 2 * net.q(s.flatten(3).transpose(2, 3).reshape(-1, 4)).view(T, -1, 36, 4)),
}  # fmt: skip


def table() -> str:
    """The rows of docs/import.md."""
    said = {"chip": "on the chip, exact", "host": "on the host, behind the chip"}
    rows = [
        f"| {name} | {form.point} | {said.get(form.result, f'refused, {form.result}')} |"
        for name, form in FORMS.items()
    ]
    return "\n".join(["| form | point of issue 16 | what becomes of it |", "|---|---|---|", *rows])
