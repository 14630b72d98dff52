"""Small modules of our own, written as the authors of spiking transformers write theirs: the same
classes and idioms.

Official code uses ``clock_driven``'s multi-step classes, which SpikingJelly 2 no longer has; then
``activation_based``.
"""

from __future__ import annotations

import torch
from spikingjelly.activation_based import functional, layer, neuron
from torch import nn

try:
    from spikingjelly.clock_driven.neuron import MultiStepLIFNode
except ImportError:

    def MultiStepLIFNode(**fields):  # noqa: N802
        return neuron.LIFNode(step_mode="m", **fields)


def lif(**fields) -> nn.Module:
    return MultiStepLIFNode(tau=2.0, detach_reset=True, **fields)


class Embedding(nn.Module):
    """Spikformer's patch splitting: pooled spikes, and a convolution for positions."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.proj_conv, self.proj_bn, self.proj_lif = (
            nn.Conv2d(3, dim, 3, 1, 1, bias=False),
            nn.BatchNorm2d(dim),
            lif(),
        )
        self.maxpool = nn.MaxPool2d(kernel_size=3, stride=2, padding=1, dilation=1, ceil_mode=False)
        self.rpe_conv, self.rpe_bn, self.rpe_lif = (
            nn.Conv2d(dim, dim, 3, 1, 1, bias=False),
            nn.BatchNorm2d(dim),
            lif(),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        T, B, _, H, W = x.shape
        x = self.proj_bn(self.proj_conv(x.flatten(0, 1))).reshape(T, B, -1, H, W).contiguous()
        x = self.maxpool(self.proj_lif(x).flatten(0, 1).contiguous())
        feat = x.reshape(T, B, -1, H // 2, W // 2).contiguous()
        x = self.rpe_lif(
            self.rpe_bn(self.rpe_conv(x)).reshape(T, B, -1, H // 2, W // 2).contiguous()
        )
        return (x + feat).flatten(-2).transpose(-1, -2)


class SSA(nn.Module):
    """Spikformer's attention: Linear on tokens, BatchNorm1d on their transposition, K and V
    reshaped as they lie.
    """

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        for name in ("q", "k", "v", "proj"):
            setattr(self, f"{name}_linear", nn.Linear(dim, dim))
            setattr(self, f"{name}_bn", nn.BatchNorm1d(dim))
            setattr(self, f"{name}_lif", lif())
        self.attn_lif = lif(v_threshold=0.5)

    def spikes(self, name: str, x: torch.Tensor, T: int, B: int) -> torch.Tensor:
        _, N, C = x.shape
        y = getattr(self, f"{name}_linear")(x)
        y = getattr(self, f"{name}_bn")(y.transpose(-1, -2)).transpose(-1, -2)
        y = getattr(self, f"{name}_lif")(
            y.reshape(T, B, *((N, C) if name == "q" else (C, N))).contiguous()
        )
        return y.reshape(T, B, N, self.heads, C // self.heads).permute(0, 1, 3, 2, 4).contiguous()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        T, B, N, C = x.shape
        q, k, v = (self.spikes(name, x.flatten(0, 1), T, B) for name in "qkv")
        x = ((q @ k.transpose(-2, -1)) * 0.125) @ v
        x = self.attn_lif(x.transpose(2, 3).reshape(T, B, N, C).contiguous()).flatten(0, 1)
        x = self.proj_bn(self.proj_linear(x).transpose(-1, -2)).transpose(-1, -2)
        return self.proj_lif(x.reshape(T, B, N, C))


class Spikformer(nn.Module):
    def __init__(self, T: int = 4) -> None:
        super().__init__()
        self.T, self.patch_embed, self.attn, self.head = (
            T,
            Embedding(16),
            SSA(16, 2),
            nn.Linear(16, 10),
        )
        self.norm1 = nn.LayerNorm(16)  # declared and never called

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.patch_embed((x.unsqueeze(0)).repeat(self.T, 1, 1, 1, 1))
        return self.head((x + self.attn(x)).mean(2).mean(0))


class TokenQK(nn.Module):
    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        for name in ("q", "k", "proj"):
            setattr(
                self,
                f"{name}_conv",
                nn.Conv1d(dim, dim, kernel_size=1, stride=1, bias=name == "proj"),
            )
            setattr(self, f"{name}_bn", nn.BatchNorm1d(dim))
            setattr(self, f"{name}_lif", lif())
        self.attn_lif = lif(v_threshold=0.5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        T, B, C, H, W = x.shape
        x = x.flatten(3).flatten(0, 1)
        q = self.q_lif(self.q_bn(self.q_conv(x)).reshape(T, B, C, H * W))
        k = self.k_lif(self.k_bn(self.k_conv(x)).reshape(T, B, C, H * W))
        q, k = (y.unsqueeze(2).reshape(T, B, self.heads, C // self.heads, H * W) for y in (q, k))
        attn = self.attn_lif(torch.sum(q, dim=3, keepdim=True))
        x = torch.mul(attn, k).flatten(2, 3)
        return self.proj_lif(self.proj_bn(self.proj_conv(x.flatten(0, 1))).reshape(T, B, C, H, W))


class LeakingSSA(nn.Module):
    """QKFormer's attention, whose last neuron runs over T * B."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        for name in ("q", "k", "v", "proj"):
            setattr(
                self,
                f"{name}_conv",
                nn.Conv1d(dim, dim, kernel_size=1, stride=1, bias=name == "proj"),
            )
            setattr(self, f"{name}_bn", nn.BatchNorm1d(dim))
            setattr(self, f"{name}_lif", lif())
        self.attn_lif = lif(v_threshold=0.5)

    def spikes(self, name: str, x: torch.Tensor, T: int, B: int) -> torch.Tensor:
        _, C, N = x.shape
        y = (
            getattr(self, f"{name}_bn")(getattr(self, f"{name}_conv")(x))
            .reshape(T, B, C, N)
            .contiguous()
        )
        y = getattr(self, f"{name}_lif")(y).transpose(-1, -2)
        return y.reshape(T, B, N, self.heads, C // self.heads).permute(0, 1, 3, 2, 4).contiguous()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        T, B, C, H, W = x.shape
        q, k, v = (self.spikes(name, x.flatten(3).flatten(0, 1), T, B) for name in "qkv")
        x = (q @ (k.transpose(-2, -1) @ v)) * 0.125
        x = self.attn_lif(x.transpose(3, 4).reshape(T, B, C, H * W).contiguous()).flatten(0, 1)
        return self.proj_lif(self.proj_bn(self.proj_conv(x))).reshape(T, B, C, W, H)


class QKFormer(nn.Module):
    def __init__(self, leaking: bool, T: int = 4) -> None:
        super().__init__()
        self.T, self.conv, self.bn = T, nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16)
        self.maxpool, self.lif, self.tssa, self.head = (
            nn.MaxPool2d(3, 2, 1),
            lif(),
            TokenQK(16, 2),
            nn.Linear(16, 10),
        )
        self.ssa = LeakingSSA(16, 2) if leaking else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = (x.unsqueeze(0)).repeat(self.T, 1, 1, 1, 1)
        T, B, _, H, W = x.shape
        x = (
            self.maxpool(self.bn(self.conv(x.flatten(0, 1))))
            .reshape(T, B, -1, H // 2, W // 2)
            .contiguous()
        )
        x = self.lif(x)
        x = x + self.tssa(x)
        x = x if self.ssa is None else x + self.ssa(x)
        return self.head(x.flatten(3).mean(3).mean(0))


class SDSA(nn.Module):
    """Spike-driven Transformer's attention, with the hooks that its code passes around."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        for name in ("q", "k", "v", "proj"):
            setattr(
                self,
                f"{name}_conv",
                nn.Conv2d(dim, dim, kernel_size=1, stride=1, bias=name == "proj"),
            )
            setattr(self, f"{name}_bn", nn.BatchNorm2d(dim))
            setattr(self, f"{name}_lif", lif())
        self.talking_heads_lif, self.shortcut_lif = lif(v_threshold=0.5), lif()

    def spikes(self, name: str, x: torch.Tensor, shape: tuple[int, ...]) -> torch.Tensor:
        T, B, C, H, W = shape
        y = (
            getattr(self, f"{name}_bn")(getattr(self, f"{name}_conv")(x))
            .reshape(T, B, C, H, W)
            .contiguous()
        )
        y = getattr(self, f"{name}_lif")(y).flatten(3).transpose(-1, -2)
        return (
            y.reshape(T, B, H * W, self.heads, C // self.heads).permute(0, 1, 3, 2, 4).contiguous()
        )

    def forward(self, x: torch.Tensor, hook: dict | None = None) -> tuple:
        shape, identity = x.shape, x
        x = self.shortcut_lif(x)
        if hook is not None:
            hook["first_lif"] = x.detach()
        q, k, v = (self.spikes(name, x.flatten(0, 1), shape) for name in "qkv")
        kv = self.talking_heads_lif(k.mul(v).sum(dim=-2, keepdim=True))
        x = q.mul(kv).transpose(3, 4).reshape(*shape).contiguous()
        x = self.proj_bn(self.proj_conv(x.flatten(0, 1))).reshape(*shape).contiguous()
        return x + identity, v, hook


class SpikeDrivenTransformer(nn.Module):
    """Returns (logits, hook); with TET, logits of every step."""

    def __init__(self, T: int = 4, TET: bool = False) -> None:
        super().__init__()
        self.T, self.TET = T, TET
        self.conv, self.bn, self.maxpool = (
            nn.Conv2d(3, 16, 3, 1, 1, bias=False),
            nn.BatchNorm2d(16),
            nn.MaxPool2d(3, 2, 1),
        )
        self.lif, self.rpe_conv, self.rpe_bn = (
            lif(),
            nn.Conv2d(16, 16, 3, 1, 1, bias=False),
            nn.BatchNorm2d(16),
        )
        self.attn, self.head_lif, self.head = SDSA(16, 2), lif(), nn.Linear(16, 10)

    def forward(self, x: torch.Tensor, hook: dict | None = None) -> tuple:
        x = (
            (x.unsqueeze(0)).repeat(self.T, 1, 1, 1, 1)
            if len(x.shape) < 5
            else x.transpose(0, 1).contiguous()
        )
        T, B, _, H, W = x.shape
        x = self.maxpool(self.bn(self.conv(x.flatten(0, 1))))
        feat, x = (
            x,
            self.lif(x.reshape(T, B, -1, H // 2, W // 2).contiguous()).flatten(0, 1).contiguous(),
        )
        x = (self.rpe_bn(self.rpe_conv(x)) + feat).reshape(T, B, -1, H // 2, W // 2).contiguous()
        x, _, hook = self.attn(x, hook=hook)
        x = self.head(self.head_lif(x.flatten(3).mean(3)))
        return x if self.TET else x.mean(0), hook


class NormAndPad(nn.Module):
    """Meta-SpikeFormer's normalization that writes its value at zero over the border that it pads."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = nn.functional.pad(self.bn(x), [1] * 4)
        value = self.bn.bias.detach() - self.bn.running_mean * self.bn.weight.detach() / torch.sqrt(
            self.bn.running_var + self.bn.eps
        )
        value = value.view(1, -1, 1, 1)
        y[:, :, 0:1, :], y[:, :, -1:, :], y[:, :, :, 0:1], y[:, :, :, -1:] = (
            value,
            value,
            value,
            value,
        )
        return y


class MetaSpikeFormer(nn.Module):
    """Membrane shortcuts, RepConv, Conv1d in the MLP; two heads where it is distilled."""

    def __init__(self, T: int = 4, kd: bool = False) -> None:
        super().__init__()
        self.T, self.kd, C = T, kd, 8
        self.encode_conv, self.encode_bn, self.head_lif = (
            nn.Conv2d(3, C, 7, 2, 3),
            nn.BatchNorm2d(C),
            lif(),
        )
        depthwise = nn.Sequential(
            nn.Conv2d(C, C, 3, 1, 0, groups=C, bias=False),
            nn.Conv2d(C, C, 1, 1, 0, bias=False),
            nn.BatchNorm2d(C),
        )
        self.rep_conv = nn.Sequential(
            nn.Conv2d(C, C, 1, 1, 0, bias=False), NormAndPad(C), depthwise, nn.BatchNorm2d(C)
        )
        self.fc1_lif, self.fc1_conv, self.fc1_bn = (
            lif(),
            nn.Conv1d(C, 2 * C, 1, 1),
            nn.BatchNorm1d(2 * C),
        )
        self.fc2_lif, self.fc2_conv, self.fc2_bn = (
            lif(),
            nn.Conv1d(2 * C, C, 1, 1),
            nn.BatchNorm1d(C),
        )
        self.lif, self.head, self.head_kd = lif(), nn.Linear(C, 10), nn.Linear(C, 10)

    def forward(self, x: torch.Tensor):
        x = (x.unsqueeze(0)).repeat(self.T, 1, 1, 1, 1)
        T, B = x.shape[:2]
        x = self.encode_conv(x.flatten(0, 1))
        _, C, H, W = x.shape
        x = self.encode_bn(x).reshape(T, B, -1, H, W).contiguous()
        x = x + self.rep_conv(self.head_lif(x).flatten(0, 1)).reshape(T, B, C, H, W)
        y = (
            self.fc1_bn(self.fc1_conv(self.fc1_lif(x.flatten(3)).flatten(0, 1)))
            .reshape(T, B, 2 * C, H * W)
            .contiguous()
        )
        y = (
            self.fc2_bn(self.fc2_conv(self.fc2_lif(y).flatten(0, 1)))
            .reshape(T, B, C, H, W)
            .contiguous()
        )
        x = self.lif((x + y).flatten(3).mean(3))
        if self.kd:
            return self.head(x).mean(0), self.head_kd(x).mean(0)
        return self.head(x).mean(0)


class LIF(neuron.LIFNode):
    """SpikingResformer's subclass."""

    def __init__(self) -> None:
        super().__init__(
            tau=2.0,
            decay_input=True,
            v_threshold=1.0,
            v_reset=0.0,
            detach_reset=True,
            step_mode="m",
            store_v_seq=False,
        )


class PLIF(neuron.ParametricLIFNode):
    def __init__(self) -> None:
        super().__init__(
            init_tau=2.0,
            decay_input=True,
            v_threshold=1.0,
            v_reset=0.0,
            detach_reset=True,
            step_mode="m",
            store_v_seq=False,
        )


class BN(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return functional.seq_to_ann_forward(x, self.bn)


class SpikingResformer(nn.Module):
    """Its group-wise feed-forward network, and logits of every step."""

    def __init__(self, activation: type = LIF, groups: int = 4, T: int = 4) -> None:
        super().__init__()
        conv = layer.Conv2d
        self.T = T
        self.prologue = nn.Sequential(
            conv(3, 8, 3, 1, 1, bias=False, step_mode="m"),
            BN(8),
            layer.MaxPool2d(kernel_size=3, stride=2, padding=1, step_mode="m"),
        )
        self.up = nn.Sequential(activation(), conv(8, 16, 1, bias=False, step_mode="m"), BN(16))
        self.conv = nn.Sequential(
            activation(),
            conv(16, 16, 3, padding=1, groups=groups, bias=False, step_mode="m"),
            BN(16),
        )
        self.down = nn.Sequential(activation(), conv(16, 8, 1, bias=False, step_mode="m"), BN(8))
        self.lif, self.avgpool = activation(), layer.AdaptiveAvgPool2d((1, 1), step_mode="m")
        self.classifier = layer.Linear(8, 10, step_mode="m")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1) if x.dim() != 5 else x.transpose(0, 1)
        x = self.prologue(x)
        outer, x = x.clone(), self.up(x)
        inner = x.clone()
        x = self.down(self.conv(x) + inner) + outer
        return self.classifier(torch.flatten(self.avgpool(self.lif(x)), 2))


class OneStep(nn.Module):
    """Takes one step; its caller loops over T."""

    def __init__(self, make=neuron.LIFNode, T: int = 3, **fields) -> None:
        super().__init__()
        self.T = T
        self.conv1, self.bn, self.conv2 = (
            nn.Conv2d(3, 6, 3, padding=1),
            nn.BatchNorm2d(6),
            nn.Conv2d(6, 6, 3, 2, 1),
        )
        self.n1, self.n2, self.fc = make(**fields), make(**fields), nn.Linear(96, 10)

    def one(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.n2(self.conv2(self.n1(self.bn(self.conv1(x))))).flatten(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.one(x)


class Accumulating(OneStep):
    """Loops over T in its forward, and sums up; resets itself first."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        functional.reset_net(self)
        total = 0
        for _ in range(self.T):
            total = total + self.one(x)
        return total / self.T


class Stacking(OneStep):
    """The same over a sequence, with the logits of every step."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        sequence = x.unsqueeze(0).repeat(self.T, 1, 1, 1, 1)
        return torch.stack([self.one(sequence[t]) for t in range(self.T)], 0)


def calibrated(model: nn.Module, x: torch.Tensor) -> nn.Module:
    """Normalizations with the statistics of ``x`` and biases that make neurons fire."""
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            nn.init.uniform_(module.bias, 0.2, 1.0)
            module.momentum = None
    with torch.no_grad():
        for _ in range(2):
            model.train()(x)
            reset(model)
    return model.eval()


def reset(model: nn.Module) -> None:
    for module in model.modules():
        if hasattr(module, "reset"):
            module.reset()
