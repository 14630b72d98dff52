"""SpikedAttention: a trained transformer whose values become times of spikes (Hwang et al., NeurIPS 2024).

Each neuron sends at most one spike in a window of T steps; sent in step k it stands for ``base^-k``
(base 2 is binary digits, of which one is kept; the authors take 1.15 and T = 40). A neuron collects
in one window and sends in the next, while its membrane grows::

    collect    v = base v + sum of w s(t)                     v = base^(T-1) x afterwards
    send       s = v >= base^(T-1) theta, once;  v = base v   theta = (1 + 1 / base) / 2

so that it rounds x to the nearest power of the base. Both factors of a product arrive in one window;
what is sent first waits in a trace, ``base^-k`` from step k on. The softmax is the winner-oriented
shift: a score's spike comes ``round((max - score) / ln base)`` steps after the winner's and so stands
for ``exp(score - max)``; the values' sum is divided by the sum of these, once a row.

:class:`SpikedTransformer` is a small transformer with batch normalization instead of LN (which folds
into its layers), as the authors have it. ``mode`` says what its neurons do:

* ``"float"``: nothing, the transformer as it is trained;
* ``"spikes"``: each value is that of its spike, in one call: what compiles;
* ``"time"``: the same, spike by spike, in windows of T steps with growing membranes and traces;
* ``"head"``: only the neurons in front of the head round, what is in front of them is real.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log

import torch
from torch import nn

__all__ = ["OneSpike", "SpikedAttentionConfig", "SpikedTransformer", "spike_shift", "spike_times"]

MODES = ("float", "spikes", "time", "head")


@dataclass(frozen=True)
class SpikedAttentionConfig:
    """Sizes of a :class:`SpikedTransformer`, and its code."""

    in_channels: int = 1
    num_classes: int = 10
    image_size: int = 8
    patch_size: int = 2
    dim: int = 32
    num_heads: int = 2
    mlp_ratio: int = 2
    depth: int = 1
    base: float = 1.15
    """Above 1, up to 2."""
    steps: int = 40
    """Of a window."""


def counts(x: torch.Tensor, base: float, steps: int) -> torch.Tensor:
    """``steps`` less the step of each value's spike; 0 for a value that sends none."""
    reached = (x * (2 / (1 + 1 / base))).clamp(min=base ** -(steps + 1.0)).log() / log(base)
    return torch.floor((reached + steps).clamp(0, steps))


def values(count: torch.Tensor, base: float, steps: int) -> torch.Tensor:
    """What spikes stand for: ``base^(count - steps)``, 0 for none."""
    return torch.where(count > 0, torch.exp(log(base) * count), 0.0) * base**-steps


def spike_shift(scores: torch.Tensor, base: float, steps: int) -> torch.Tensor:
    """The winner-oriented shift: exp(score - largest) of each row, rounded to a power of the base."""
    below = scores - scores.amax(-1, keepdim=True)
    return values(torch.floor((below / log(base) + (steps + 0.5)).clamp(0, steps)), base, steps)


# ---- spike by spike ------------------------------------------------------------------------------


def spike_times(x: torch.Tensor, base: float, steps: int, level: float, grow: bool) -> torch.Tensor:
    """Spikes (steps, *x.shape), +1 or -1, of membranes that stand at ``x``.

    Args:
        level: threshold in step 0.
        grow: membranes grow by the base a step; else the threshold falls by ln base (scores).
    """
    v, sent, trains = x, torch.zeros_like(x), []
    for k in range(steps):
        least = level if grow else level - k * log(base)
        s = ((v >= least).to(x.dtype) - (v <= -least).to(x.dtype) * grow) * (1 - sent)
        trains.append(s)
        sent = sent + s.abs()
        v = base * v if grow else v
    return torch.stack(trains)


def collected(trains: torch.Tensor, base: float) -> torch.Tensor:
    """What a growing membrane has of (steps, ...) inputs after the window, over what 1 grew to."""
    v = torch.zeros_like(trains[0])
    for s in trains:
        v = base * v + s
    return v / base ** (len(trains) - 1)


def met(a: torch.Tensor, b: torch.Tensor, base: float) -> torch.Tensor:
    """Inputs (steps, ...) of membranes that collect ``a @ b``: what arrives second meets the trace of
    what came first, and what meets in one step counts once.
    """
    trace_a, trace_b, inputs = torch.zeros_like(a[0]), torch.zeros_like(b[0]), []
    for k, (s, r) in enumerate(zip(a, b, strict=True)):
        trace_a, trace_b = trace_a + s * base**-k, trace_b + r * base**-k  # frozen when sent
        inputs.append(s @ trace_b + trace_a @ r - (s * base**-k) @ r)
    return torch.stack(inputs)


# ---- the network ---------------------------------------------------------------------------------


class OneSpike(nn.Module):
    """Neurons that round to powers of the base: ``scale`` times the value of a spike.

    With ``bipolar`` of either sign, else of what is above 0.
    """

    scale: torch.Tensor

    def __init__(self, config: SpikedAttentionConfig, bipolar: bool = True) -> None:
        super().__init__()
        self.base, self.steps, self.bipolar = config.base, config.steps, bipolar
        self.register_buffer("scale", torch.ones(()))
        self.mode, self.seen = "float", False

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """As the mode says: values; or in mode ``"time"`` spikes (steps, *x.shape) of size ``scale``."""
        if self.seen:
            self.scale = torch.maximum(self.scale, (x.abs() if self.bipolar else x).max())
        if self.mode == "float":
            return x if self.bipolar else torch.relu(x)
        x = x / self.scale
        if self.mode == "time":
            trains = spike_times(x, self.base, self.steps, (1 + 1 / self.base) / 2, True)
            return self.scale * (trains if self.bipolar else trains.clamp(min=0))
        y = values(counts(x, self.base, self.steps), self.base, self.steps)
        if self.bipolar:
            y = y - values(counts(-x, self.base, self.steps), self.base, self.steps)
        return y * self.scale


class Layer(nn.Module):
    """A linear layer of (..., in) and its batch normalization, which :meth:`fold` puts into it."""

    def __init__(self, fan_in: int, fan_out: int) -> None:
        super().__init__()
        self.linear = nn.Linear(fan_in, fan_out)
        self.norm: nn.BatchNorm1d | None = nn.BatchNorm1d(fan_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.linear(x)
        return y if self.norm is None else self.norm(y.flatten(0, -2)).view_as(y)

    @torch.no_grad()
    def fold(self) -> None:
        """Weights and bias with the normalization in them."""
        if (norm := self.norm) is None:
            return
        factor = norm.weight / (norm.running_var + norm.eps).sqrt()
        self.linear.weight *= factor.view(-1, *[1] * (self.linear.weight.ndim - 1))
        self.linear.bias.copy_((self.linear.bias - norm.running_mean) * factor + norm.bias)
        self.norm = None


class Embedding(Layer):
    """Images (B, C, H, W) to one token a patch, (B, N, out)."""

    def __init__(self, channels: int, fan_out: int, patch: int) -> None:
        super().__init__(1, fan_out)
        self.linear = nn.Conv2d(channels, fan_out, patch, patch)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.linear(x).flatten(2).transpose(1, 2)
        return y if self.norm is None else self.norm(y.flatten(0, -2)).view_as(y)


class Block(nn.Module):
    """(B, N, C) of a neuron's values to the same of the block's last neuron."""

    def __init__(self, config: SpikedAttentionConfig) -> None:
        super().__init__()
        self.config, dim = config, config.dim
        self.mode = "float"
        self.q, self.k, self.v, self.proj = (Layer(dim, dim) for _ in range(4))
        self.fc1 = Layer(dim, config.mlp_ratio * dim)
        self.fc2 = Layer(config.mlp_ratio * dim, dim)
        names = ("q_spike", "k_spike", "v_spike", "mixed_spike", "attn_spike", "out_spike")
        for name in names:
            self.add_module(name, OneSpike(config))
        self.hidden_spike = OneSpike(config, bipolar=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            neuron(self._into(layer, x))
            .unflatten(-1, (self.config.num_heads, -1))
            .transpose(-2, -3)
            for layer, neuron in (
                (self.q, self.q_spike),
                (self.k, self.k_spike),
                (self.v, self.v_spike),
            )
        )
        y = self._attention(q, k, v).transpose(-2, -3).flatten(-2)
        x = self.attn_spike(self._real(x) + self._into(self.proj, self.mixed_spike(y)))
        y = self.hidden_spike(self._into(self.fc1, x))
        return self.out_spike(self._real(x) + self._into(self.fc2, y))

    def _into(self, layer: Layer, x: torch.Tensor) -> torch.Tensor:
        """The membranes behind ``layer``."""
        if self.mode != "time":
            return layer(x)
        return collected(x @ layer.linear.weight.mT, self.config.base) + layer.linear.bias

    def _real(self, x: torch.Tensor) -> torch.Tensor:
        return collected(x, self.config.base) if self.mode == "time" else x

    def _attention(self, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        base, steps = self.config.base, self.config.steps
        scale, k = q.shape[-1] ** -0.5, k.transpose(-1, -2)
        if self.mode in ("float", "head"):
            return (q @ k * scale).softmax(-1) @ v
        if self.mode == "spikes":
            e = spike_shift(q @ k * scale, base, steps)
            return (e @ v) / e.sum(-1, keepdim=True)
        scores = collected(met(q, k, base), base) * scale
        below = scores - scores.amax(-1, keepdim=True)
        e = spike_times(below, base, steps, -0.5 * log(base), False)
        return collected(met(e, v, base), base) / collected(e, base).sum(-1, keepdim=True)


class SpikedTransformer(nn.Module):
    """Images (B, in_channels, H, W) float32 to logits (B, num_classes) float32."""

    def __init__(self, config: SpikedAttentionConfig = SpikedAttentionConfig()) -> None:
        super().__init__()
        self.config = config
        patch = config.patch_size
        self.embed = Embedding(config.in_channels, config.dim, patch)
        self.places = nn.Parameter(torch.zeros(1, (config.image_size // patch) ** 2, config.dim))
        self.embed_spike = OneSpike(config)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.head = nn.Linear(config.dim, config.num_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.embed_spike(self.embed(x) + self.places)
        for block in self.blocks:
            x = block(x)
        if self.embed_spike.mode == "time":
            x = collected(x, self.config.base)
        return self.head(x.mean(1))

    @property
    def neurons(self) -> list[OneSpike]:
        """All, the ones in front of the head last."""
        return [m for m in self.modules() if isinstance(m, OneSpike)]

    def set_mode(self, mode: str) -> SpikedTransformer:
        """``"float"``, ``"spikes"``, ``"time"`` or ``"head"``, see above; ValueError for another."""
        if mode not in MODES:
            raise ValueError(f"no mode '{mode}'; there are {', '.join(MODES)}")
        for block in self.blocks:
            block.mode = mode
        for neuron in self.neurons:
            neuron.mode = "float" if mode == "head" else mode
        if mode == "head":
            self.blocks[-1].out_spike.mode = "spikes"
        return self

    @torch.no_grad()
    def convert(self, x: torch.Tensor) -> SpikedTransformer:
        """Fold the normalizations, and set each neuron's scale to the largest value that images ``x``
        bring it; no weight is trained. In mode ``"spikes"`` from then on.
        """
        self.eval().set_mode("float")
        for layer in self.modules():
            if isinstance(layer, Layer):
                layer.fold()
        for neuron in self.neurons:
            neuron.scale.zero_()
            neuron.seen = True
        self(x)
        for neuron in self.neurons:
            neuron.seen = False
        return self.set_mode("spikes")
