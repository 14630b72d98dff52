"""SpikeGPT: an RWKV whose blocks end in neurons (Zhu et al., TMLR 2024, arXiv:2302.13939).

Time is the token axis: one step is one token, and all state lives from token to token. Both halves of
a block mix a token with the one before (token shift); the first sums over all tokens so far with
weights that decay by channel (WKV), in exponents that are kept below a running maximum::

    a = LN(x);  xk = a m_k + a(t-1) (1 - m_k), and so xv, xr
    k = K xk,  v = V xv,  r = sigmoid(R xr)
    wkv = (sum_(i<t) exp(k_i - (t-1-i) exp(w)) v_i + exp(u + k) v) / (the same with v = 1)
    x = x + LIF(O (r wkv))
    b = LN(x);  xk, xr of b;  x = x + LIF(sigmoid(R xr) (V relu(K xk)^2))

with SpikingJelly's LIF: tau 2, threshold 1, hard reset, the input decays.

==================== ====== ===== ==========
config               blocks width parameters
==================== ====== ===== ==========
``SPIKE_GPT_18_768``     18   768   215.40 M
``SPIKE_GPT_18_512``     18   512   112.91 M
==================== ====== ===== ==========

The first is the authors' model of OpenWebText, called 216M, the second that of BookCorpus; both with
the 50,277 tokens of GPT-NeoX. The host looks up the embeddings; :class:`SpikeGptCore` is what
compiles: neurons and sums start at 0 in every call, there is nothing to reset.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from spikingjelly.activation_based import surrogate
from torch import nn

__all__ = ["SPIKE_GPT_18_512", "SPIKE_GPT_18_768", "SpikeGpt", "SpikeGptConfig", "SpikeGptCore"]


@dataclass(frozen=True)
class SpikeGptConfig:
    """Sizes of a :class:`SpikeGpt`."""

    vocabulary: int = 50_277
    """Rows of the embedding table, and outputs."""
    width: int = 768
    """Channels of a token, C."""
    depth: int = 18
    """Blocks."""
    mlp_ratio: int = 4
    """Channels inside of a channel mix, over C."""
    T: int = 1024
    """Tokens of a sample."""
    v_threshold: float = 1.0
    tau: float = 2.0
    binary: bool = True
    """Whether embeddings are compared with 0 (as the authors train), or real."""


SPIKE_GPT_18_768 = SpikeGptConfig()
SPIKE_GPT_18_512 = SpikeGptConfig(width=512)


class State:
    """What one call keeps from token to token."""

    def __init__(self, config: SpikeGptConfig, training: bool) -> None:
        self.tau, self.v_threshold = config.tau, config.v_threshold
        self.fire = surrogate.ATan() if training else None
        self.kept: dict[str, torch.Tensor] = {}

    def before(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """The value called ``name`` of the token before, 0 at first; ``x`` is this token's."""
        last = self.kept.get(name)
        self.kept[name] = x
        return torch.zeros_like(x) if last is None else last

    def lif(self, name: str, x: torch.Tensor) -> torch.Tensor:
        """Spikes of this token, of x's shape and type."""
        v = self.kept.get(name)
        h = x / self.tau if v is None else v + (x - v) / self.tau
        over = h - self.v_threshold
        s = (over >= 0).to(h.dtype) if self.fire is None else self.fire(over)
        self.kept[name] = h * (1 - s)
        return s

    def wkv(
        self, name: str, k: torch.Tensor, v: torch.Tensor, decay: torch.Tensor, first: torch.Tensor
    ) -> torch.Tensor:
        """The weighted mean of all values so far; ``decay`` below 0."""
        if f"{name}.max" not in self.kept:
            self.kept |= {f"{name}.sum": v, f"{name}.weights": torch.ones_like(k)}
            self.kept[f"{name}.max"] = k
            return v
        aa, bb, pp = (self.kept[f"{name}.{part}"] for part in ("sum", "weights", "max"))
        ww = first + k
        p = torch.maximum(pp, ww)
        e1, e2 = torch.exp(pp - p), torch.exp(ww - p)
        y = (e1 * aa + e2 * v) / (e1 * bb + e2)
        ww = pp + decay
        p = torch.maximum(ww, k)
        e1, e2 = torch.exp(ww - p), torch.exp(k - p)
        self.kept[f"{name}.sum"], self.kept[f"{name}.weights"] = e1 * aa + e2 * v, e1 * bb + e2
        self.kept[f"{name}.max"] = p
        return y


def _mixed(x: torch.Tensor, before: torch.Tensor, share: torch.Tensor) -> torch.Tensor:
    return x * share + before * (1 - share)


class TimeMix(nn.Module):
    """One token (B, C) of a time mix, in front of its neuron."""

    def __init__(self, config: SpikeGptConfig, place: float) -> None:
        super().__init__()
        dim = config.width
        along = torch.linspace(0, 1, dim)
        self.decay = nn.Parameter(-5 + 8 * along ** (0.7 + 1.3 * place))
        self.first = nn.Parameter(torch.full((dim,), 0.3).log() + 0.5 * (torch.arange(dim) % 3 - 1))
        self.mix_k, self.mix_v = nn.Parameter(along.clone()), nn.Parameter(along + 0.3 * place)
        self.mix_r = nn.Parameter(0.5 * along)
        self.key, self.value, self.receptance, self.output = (
            nn.Linear(dim, dim, bias=False) for _ in range(4)
        )

    def forward(self, a: torch.Tensor, state: State, name: str) -> torch.Tensor:
        last = state.before(f"{name}.shift", a)
        k = self.key(_mixed(a, last, self.mix_k))
        v = self.value(_mixed(a, last, self.mix_v))
        r = torch.sigmoid(self.receptance(_mixed(a, last, self.mix_r)))
        return self.output(r * state.wkv(name, k, v, -torch.exp(self.decay), self.first))


class ChannelMix(nn.Module):
    """One token (B, C) of a channel mix, in front of its neuron."""

    def __init__(self, config: SpikeGptConfig) -> None:
        super().__init__()
        dim, hidden = config.width, config.mlp_ratio * config.width
        along = torch.linspace(0, 1, dim)
        self.mix_k, self.mix_r = nn.Parameter(along.clone()), nn.Parameter(along.clone())
        self.key = nn.Linear(dim, hidden, bias=False)
        self.receptance = nn.Linear(dim, dim, bias=False)
        self.value = nn.Linear(hidden, dim, bias=False)

    def forward(self, b: torch.Tensor, state: State, name: str) -> torch.Tensor:
        last = state.before(f"{name}.shift", b)
        k = torch.square(torch.relu(self.key(_mixed(b, last, self.mix_k))))
        return torch.sigmoid(self.receptance(_mixed(b, last, self.mix_r))) * self.value(k)


class Block(nn.Module):
    """One token (B, C) through both halves."""

    def __init__(self, config: SpikeGptConfig, place: float) -> None:
        super().__init__()
        self.ln1, self.ln2 = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        self.att, self.ffn = TimeMix(config, place), ChannelMix(config)

    def forward(self, x: torch.Tensor, state: State, name: str) -> torch.Tensor:
        x = x + state.lif(f"{name}.lif1", self.att(self.ln1(x), state, f"{name}.att"))
        return x + state.lif(f"{name}.lif2", self.ffn(self.ln2(x), state, f"{name}.ffn"))


class SpikeGptCore(nn.Module):
    """Embeddings (B, T, C) to the logits of every token's successor, (B, T, vocabulary)."""

    def __init__(self, config: SpikeGptConfig) -> None:
        super().__init__()
        self.config = config
        self.ln0, self.ln_out = nn.LayerNorm(config.width), nn.LayerNorm(config.width)
        places = [i / max(config.depth - 1, 1) for i in range(config.depth)]
        self.blocks = nn.ModuleList(Block(config, place) for place in places)
        self.head = nn.Linear(config.width, config.vocabulary, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        state, logits = State(self.config, self.training), []
        for t in range(x.shape[1]):
            y = self.ln0(x[:, t])
            for i, block in enumerate(self.blocks):
                y = block(y, state, f"blocks.{i}")
            logits.append(self.head(self.ln_out(y)))
        return torch.stack(logits, dim=1)


class SpikeGpt(nn.Module):
    """Token ids (B, T) int64 to logits (B, T, vocabulary) float32."""

    def __init__(self, config: SpikeGptConfig = SPIKE_GPT_18_768) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocabulary, config.width)
        self.core = SpikeGptCore(config)

    def embedded(self, ids: torch.Tensor) -> torch.Tensor:
        """What the host gives for ``ids``: (B, T, C) float32."""
        x = self.embedding(ids)
        if not self.config.binary:
            return x
        return surrogate.ATan()(x) if self.training else (x >= 0).to(x.dtype)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.core(self.embedded(ids))
