"""SpikingBERT: a BERT whose sub-layers end in neurons (Bal and Sengupta, AAAI 2024, arXiv:2308.10873).

Every sub-layer is a function of the spikes of one step, then a neuron without decay of its input
and with a soft reset; softmax, layer normalization and GELU are taken in each step::

    u = u + f(spikes);  s = u >= v_threshold;  u = (u - v_threshold s) leaky

In step t a layer reads the spikes that the layer before it sent in the same step. The embeddings
are constant over time and drive the first neuron; the mean of the last spikes over time goes to the
pooler and the classifier.

========================== ====== ========== =======================================
config                     blocks parameters
========================== ====== ========== =======================================
``SPIKING_BERT_4_768``          4    52.78 M the authors' code, ``classi_4_spike``
``SPIKING_BERT_6_768``          6    66.96 M six blocks of the same width
========================== ====== ========== =======================================

The host looks up the embeddings; :class:`SpikingEncoder` is what compiles. Neurons start at 0 in
every call: there is nothing to reset.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from spikingjelly.activation_based import surrogate
from torch import nn
from torch.nn import functional as F

__all__ = [
    "SPIKING_BERT_4_768",
    "SPIKING_BERT_6_768",
    "Embeddings",
    "SpikingBert",
    "SpikingBertConfig",
    "SpikingEncoder",
]

MASKED = -10_000.0
"""What the authors add to the scores of padding."""


@dataclass(frozen=True)
class SpikingBertConfig:
    """Sizes of a :class:`SpikingBert`."""

    vocabulary: int = 30_522
    """Rows of the embedding table."""
    positions: int = 512
    """Most tokens of a sample."""
    tokens: int = 128
    """Tokens of a sample, N; at most ``positions``."""
    hidden: int = 768
    """Channels of a token, C."""
    depth: int = 4
    """Encoder blocks."""
    num_heads: int = 12
    """Attention heads; divides ``hidden``."""
    intermediate: int = 3072
    """Channels inside of a feed-forward network."""
    num_classes: int = 2
    """Outputs of the classifier."""
    T: int = 100
    """Simulation steps of one sample."""
    v_threshold: float = 1.0
    """Firing threshold and what a spike takes from the membrane."""
    attention_threshold: float = 1.0
    """The same of the neurons behind the softmax, whose input is a mean of spikes: with few steps
    none would ever reach 1.
    """
    leaky: float = 1.0
    """What is left of a membrane from step to step: 1 is an IF."""
    masked: bool = True
    """Whether padding (token 0) is hidden from attention; else it is a token like others."""
    dropout: float = 0.0
    """Of embeddings and of what residuals add, in training."""


SPIKING_BERT_4_768 = SpikingBertConfig()
SPIKING_BERT_6_768 = SpikingBertConfig(depth=6)


class Embeddings(nn.Module):
    """Token ids (B, N) int64 to ``LN(word + position + segment)``, (B, N, C) float32."""

    def __init__(self, config: SpikingBertConfig) -> None:
        super().__init__()
        self.word = nn.Embedding(config.vocabulary, config.hidden, padding_idx=0)
        self.position = nn.Embedding(config.positions, config.hidden)
        self.segment = nn.Embedding(2, config.hidden)
        self.norm = nn.LayerNorm(config.hidden, eps=1e-12)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        places = torch.arange(ids.shape[1], device=ids.device)
        return self.norm(self.word(ids) + self.position(places) + self.segment.weight[0])


class Membranes:
    """The neurons of one call: a membrane for each name, 0 at first."""

    def __init__(self, leaky: float, training: bool) -> None:
        self.leaky = leaky
        self.fire = surrogate.ATan() if training else None
        self.u: dict[str, torch.Tensor] = {}

    def __call__(self, name: str, x: torch.Tensor, v_threshold: float) -> torch.Tensor:
        """Spikes of this step, of x's shape and type."""
        u = self.u[name] + x if name in self.u else x
        s = (u >= v_threshold).to(u.dtype) if self.fire is None else self.fire(u - v_threshold)
        self.u[name] = (u - v_threshold * s) * self.leaky
        return s


class SpikingBlock(nn.Module):
    """One encoder block in one step: spikes (B, N, C) to spikes of the same shape, six neurons."""

    def __init__(self, config: SpikingBertConfig) -> None:
        super().__init__()
        dim, hidden = config.hidden, config.intermediate
        self.num_heads, self.dropout = config.num_heads, config.dropout
        self.theta, self.attention_theta = config.v_threshold, config.attention_threshold
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.attention_output = nn.Linear(dim, dim)
        self.attention_norm = nn.LayerNorm(dim, eps=1e-12)
        self.intermediate = nn.Linear(dim, hidden)
        self.output = nn.Linear(hidden, dim)
        self.output_norm = nn.LayerNorm(dim, eps=1e-12)

    def forward(
        self, s: torch.Tensor, neurons: Membranes, name: str, mask: torch.Tensor | None
    ) -> torch.Tensor:
        k = self._heads(neurons(f"{name}.key", self.key(s), self.theta))
        v = self._heads(neurons(f"{name}.value", self.value(s), self.theta))
        q = self._heads(self.query(s))  # no neuron: real
        scores = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5)
        if mask is not None:
            scores = scores + mask
        context = (scores.softmax(-1) @ v).transpose(1, 2).flatten(2)
        a = neurons(f"{name}.attention", context, self.attention_theta)
        x = self.attention_norm(self._dropped(self.attention_output(a)) + s)
        s = neurons(f"{name}.attention_output", x, self.theta)
        h = neurons(f"{name}.intermediate", F.gelu(self.intermediate(s)), self.theta)
        x = self.output_norm(self._dropped(self.output(h)) + s)
        return neurons(f"{name}.output", x, self.theta)

    def _heads(self, x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def _dropped(self, x: torch.Tensor) -> torch.Tensor:
        return F.dropout(x, self.dropout, self.training)


class SpikingEncoder(nn.Module):
    """Embeddings (B, N, C) to logits (B, classes): neurons, blocks, mean over time, pooler,
    classifier.

    Args:
        config: sizes; no weight depends on T or N.
    """

    def __init__(self, config: SpikingBertConfig) -> None:
        super().__init__()
        self.config = config
        self.blocks = nn.ModuleList(SpikingBlock(config) for _ in range(config.depth))
        self.pooler = nn.Linear(config.hidden, config.hidden)
        self.classifier = nn.Linear(config.hidden, config.num_classes)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        config = self.config
        neurons = Membranes(config.leaky, self.training)
        total = torch.zeros_like(x)
        for _ in range(config.T):
            s = neurons("embeddings", x, config.v_threshold)
            for i, block in enumerate(self.blocks):
                s = block(s, neurons, f"blocks.{i}", mask)
            total = total + s
        first = (total / config.T)[:, 0]
        return self.classifier(torch.tanh(self.pooler(first)))


class SpikingBert(nn.Module):
    """Token ids (B, N) int64, 0 for padding, to logits (B, classes) float32."""

    def __init__(self, config: SpikingBertConfig = SPIKING_BERT_4_768) -> None:
        super().__init__()
        self.config = config
        self.embeddings = Embeddings(config)
        self.encoder = SpikingEncoder(config)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        mask = None
        if self.config.masked:
            mask = torch.where(ids == 0, MASKED, 0.0)[:, None, None, :]
        x = F.dropout(self.embeddings(ids), self.config.dropout, self.training)
        return self.encoder(x, mask)
