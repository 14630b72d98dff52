"""The reference models' LIF over all steps at once: one kernel forward and one backward.

SpikingJelly's multi-step LIFNode with tau 2, hard reset to 0, decayed input, detached reset and the
surrogate ATan(alpha = 2) is, with h_t the charged and v_t the reset potential::

    h_t = v_{t-1} + (x_t - v_{t-1}) / 2,    s_t = h_t >= threshold,    v_t = (1 - s_t) h_t

    g_t = ds_t ds/dh + (1 - s_t) dv_t,      ds/dh = 1 / (1 + (pi (h_t - threshold))^2)
    dx_t = dv_{t-1} = g_t / 2

Step by step that is a dozen passes over memory; Triton's kernels read x once and write s once. They
run on a GPU; elsewhere the same arithmetic runs in torch. Potentials are float32 whatever x is.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import nn

try:
    import triton
    import triton.language as tl
except ImportError:  # torch without CUDA brings no Triton
    triton = None

__all__ = ["FusedLIF", "fuse", "fused_lif"]

_BLOCK = 1024


if triton is not None:

    @triton.jit
    def _forward_kernel(x, s, n, THRESHOLD: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr):
        at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        live = at < n
        v = tl.zeros((BLOCK,), tl.float32)
        for t in tl.static_range(T):
            h = v + (tl.load(x + t * n + at, mask=live, other=0.0).to(tl.float32) - v) * 0.5
            fired = h >= THRESHOLD
            tl.store(s + t * n + at, tl.where(fired, 1.0, 0.0).to(s.dtype.element_ty), mask=live)
            v = tl.where(fired, 0.0, h)

    @triton.jit
    def _backward_kernel(
        ds, x, dx, n, THRESHOLD: tl.constexpr, T: tl.constexpr, BLOCK: tl.constexpr
    ):
        at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
        live = at < n
        dv = tl.zeros((BLOCK,), tl.float32)
        for back in tl.static_range(T):
            v = tl.zeros((BLOCK,), tl.float32)
            h = v
            # potentials again from the start: T (T + 1) / 2 steps in registers, x from the cache
            for t in tl.static_range(T - back):
                h = v + (tl.load(x + t * n + at, mask=live, other=0.0).to(tl.float32) - v) * 0.5
                v = tl.where(h >= THRESHOLD, 0.0, h)
            slope = 3.141592653589793 * (h - THRESHOLD)
            g = tl.load(ds + (T - 1 - back) * n + at, mask=live, other=0.0).to(tl.float32)
            g = g / (1.0 + slope * slope) + tl.where(h >= THRESHOLD, 0.0, dv)
            dv = 0.5 * g
            tl.store(dx + (T - 1 - back) * n + at, dv.to(dx.dtype.element_ty), mask=live)


def _potentials(x: torch.Tensor, threshold: float) -> list[torch.Tensor]:
    """h_t of every step, float32."""
    v = torch.zeros_like(x[0], dtype=torch.float32)
    charged = []
    for step in x:
        h = v + (step.float() - v) * 0.5
        charged.append(h)
        v = torch.where(h >= threshold, 0.0, h)
    return charged


def _dense(x: torch.Tensor) -> torch.Tensor:
    """``x`` if its steps are whole blocks of memory one after the other, in any order inside (as
    channels-last tensors are), else a copy that is.
    """
    inner = sorted((stride, size) for stride, size in zip(x.stride()[1:], x.shape[1:]) if size != 1)
    expected = 1
    for stride, size in inner:
        if stride != expected:
            return x.contiguous()
        expected *= size
    return x if x.shape[0] == 1 or x.stride(0) == expected else x.contiguous()


def _like(x: torch.Tensor, model: torch.Tensor) -> torch.Tensor:
    """``x`` in the dtype and the strides of ``model``."""
    if x.stride() == model.stride() and x.dtype == model.dtype:
        return x
    return torch.empty_strided(
        model.shape, model.stride(), dtype=model.dtype, device=model.device
    ).copy_(x)


def _on_kernels(x: torch.Tensor) -> bool:
    return triton is not None and x.is_cuda and x.numel() < 2**31


class _LIF(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, threshold: float, kernels: bool) -> torch.Tensor:
        x = _dense(x)
        ctx.save_for_backward(x)
        ctx.threshold, ctx.kernels = threshold, kernels
        if not kernels:
            return torch.stack([h >= threshold for h in _potentials(x, threshold)]).to(x.dtype)
        s = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device)
        n = x.numel() // x.shape[0]
        _forward_kernel[(triton.cdiv(n, _BLOCK),)](x, s, n, threshold, x.shape[0], _BLOCK)
        return s

    @staticmethod
    def backward(ctx: Any, ds: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        (x,) = ctx.saved_tensors
        if ctx.kernels:
            ds = _like(ds, x)
            dx = torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device=x.device)
            n = x.numel() // x.shape[0]
            _backward_kernel[(triton.cdiv(n, _BLOCK),)](
                ds, x, dx, n, ctx.threshold, x.shape[0], _BLOCK
            )
            return dx, None, None
        dx, dv = torch.empty_like(x), torch.zeros_like(x[0], dtype=torch.float32)
        charged = _potentials(x, ctx.threshold)
        for t in reversed(range(x.shape[0])):
            h = charged[t]
            slope = 1.0 / (1.0 + (math.pi * (h - ctx.threshold)) ** 2)
            dv = 0.5 * (ds[t].float() * slope + torch.where(h >= ctx.threshold, 0.0, dv))
            dx[t] = dv
        return dx, None, None


def fused_lif(x: torch.Tensor, threshold: float = 1.0, kernels: bool | None = None) -> torch.Tensor:
    """Spikes 0 or 1 of the LIF at the top of this module, in the shape and dtype of ``x``.

    Args:
        x: input current (T, ...), floating point; T outermost.
        threshold: firing threshold, in the unit of ``x``.
        kernels: use Triton; by default on a GPU.
    """
    return _LIF.apply(x, threshold, _on_kernels(x) if kernels is None else kernels)  # pyright: ignore


class FusedLIF(nn.Module):
    """:func:`fused_lif` as a module. It keeps no potential between calls: nothing to reset."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return fused_lif(x, self.threshold)


def fuse(model: nn.Module) -> nn.Module:
    """``model`` with every LIFNode replaced by a :class:`FusedLIF`, in place; weights and their
    names stay.

    ValueError for a LIFNode that this LIF is not.
    """
    from spikingjelly.activation_based import neuron, surrogate

    for path, parent in list(model.named_modules()):
        for name, child in list(parent.named_children()):
            if not isinstance(child, neuron.LIFNode):
                continue
            surrogate_function: Any = child.surrogate_function
            if (
                (child.tau, child.v_reset, child.decay_input) != (2.0, 0.0, True)
                or not child.detach_reset
                or child.step_mode != "m"
                or not isinstance(surrogate_function, surrogate.ATan)
                or surrogate_function.alpha != 2.0
            ):
                raise ValueError(
                    f"neuron '{path}.{name}' is not the LIF of the reference models: tau 2, hard reset to 0, "
                    f"decayed input, detached reset, ATan(2), multi-step; it is {child}"
                )
            setattr(parent, name, FusedLIF(float(child.v_threshold)))
    return model
