"""Triton kernels: a weighted sum and the neurons behind it over all steps, a maximum over windows and
the neurons behind it, and neurons alone.

Images are (steps, N, H, W, C), dense; offsets within one step fit 32 bits. The neuron is that of
:class:`neurocompile.ir.spiking.IntegerLIF` without synaptic current, in 32 bits: with |v| < 2^23 and
keep = 4096 - dv, ``(|v| * keep) >> 12 = (|v| >> 12) * keep + ((|v| & 4095) * keep >> 12)``. HALF: all
leaks are 2048; CLIP: the membrane may reach the limit.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import triton
import triton.language as tl

__all__ = ["neurons", "pooled", "products", "row_sums", "weighted"]


@triton.jit
def _decay(v, keep, HALF: tl.constexpr):
    """What the leak leaves of a membrane, rounded towards 0; HALF: keep is 2048."""
    if HALF:
        return (v + ((v >> 31) & 1)) >> 1
    size = tl.abs(v)
    left = (size >> 12) * keep + (((size & 4095) * keep) >> 12)
    return tl.where(v < 0, -left, left)


@triton.jit
def _weigh(
    x, w, start, i, j, n, live_m, live_n, H, W, CI, blocks, taps: tl.constexpr,
    KW: tl.constexpr, DH: tl.constexpr, DW: tl.constexpr, BORDER: tl.constexpr,
    WHOLE: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    SUM: tl.constexpr,
):  # fmt: skip
    """The weighted sums of one step, (BM, BN)."""
    acc = tl.zeros((BM, BN), SUM)
    k = tl.arange(0, BK)
    row = n * (taps * CI)
    for q in range(taps * blocks):
        tap = q // blocks
        c = (q - tap * blocks) * BK + k
        dh, dw = tap // KW * DH, tap % KW * DW
        from_x = start[:, None] + (dh * W + dw) * CI + c[None, :]
        from_w = row[None, :] + tap * CI + c[:, None]
        reads = live_m
        if BORDER:
            reads = live_m & (i + dh >= 0) & (i + dh < H) & (j + dw >= 0) & (j + dw < W)
        if WHOLE:
            a = tl.load(x + from_x, mask=reads[:, None], other=0)
            b = tl.load(w + from_w, mask=live_n[None, :], other=0)
        else:
            a = tl.load(x + from_x, mask=reads[:, None] & (c < CI)[None, :], other=0)
            b = tl.load(w + from_w, mask=live_n[None, :] & (c < CI)[:, None], other=0)
        acc = tl.dot(a, b, acc, out_dtype=SUM)
    return acc


@triton.jit
def weighted(
    x, w, bias, vth, keep, y, M, H, W, HO, WO, CI, CO, x_step, y_step, scale,
    STEPS: tl.constexpr, SAME: tl.constexpr, NEURON: tl.constexpr, ALIKE: tl.constexpr,
    HALF: tl.constexpr, CLIP: tl.constexpr,
    KH: tl.constexpr, KW: tl.constexpr, SH: tl.constexpr, SW: tl.constexpr,
    PH: tl.constexpr, PW: tl.constexpr, DH: tl.constexpr, DW: tl.constexpr,
    BORDER: tl.constexpr, WHOLE: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, SUM: tl.constexpr,
):  # fmt: skip
    """Images (STEPS, or 1 if SAME, N, H, W, CI) and weights (CO, KH, KW, CI) to spikes, or to
    ``sum * scale`` without NEURON, (STEPS, N, HO, WO, CO); M = N HO WO. The membrane is in units of
    ``sum * scale``, its parameters one a channel; threshold and leak one of all where ALIKE.
    """
    across = tl.cdiv(CO, BN)
    pid = tl.program_id(0)
    m = (pid // across) * BM + tl.arange(0, BM)
    n = (pid % across) * BN + tl.arange(0, BN)
    live_m, live_n = m < M, n < CO
    image = m // (HO * WO)
    pixel = m - image * (HO * WO)
    i = pixel // WO * SH - PH
    j = pixel % WO * SW - PW
    start = ((image * H + i) * W + j) * CI
    blocks = tl.cdiv(CI, BK)
    to = m[:, None] * CO + n[None, :]
    live = live_m[:, None] & live_n[None, :]
    if NEURON:
        v = tl.zeros((BM, BN), tl.int32)
    if SAME:
        acc = _weigh(
            x, w, start, i, j, n, live_m, live_n, H, W, CI, blocks, KH * KW, KW, DH, DW,
            BORDER, WHOLE, BM, BN, BK, SUM,
        )  # fmt: skip
        a = acc.to(tl.int32) * scale
    for _ in range(STEPS):
        if not SAME:
            acc = _weigh(
                x, w, start, i, j, n, live_m, live_n, H, W, CI, blocks, KH * KW, KW, DH, DW,
                BORDER, WHOLE, BM, BN, BK, SUM,
            )  # fmt: skip
            a = acc.to(tl.int32) * scale
            x += x_step
        if NEURON:
            # read in each step: a thread sees many channels, and registers are what is scarce
            if ALIKE:
                left, theta = tl.load(keep), tl.load(vth)
            else:
                left = tl.load(keep + n, mask=live_n, other=0)[None, :]
                theta = tl.load(vth + n, mask=live_n, other=0)[None, :]
            b = tl.load(bias + n, mask=live_n, other=0)[None, :]
            h = _decay(v, left, HALF) + a + b
            if CLIP:
                h = tl.minimum(tl.maximum(h, -8388607), 8388607)
            fired = h > theta
            tl.store(y + to, fired.to(y.dtype.element_ty), mask=live)
            v = tl.where(fired, 0, h)
        else:
            tl.store(y + to, a.to(y.dtype.element_ty), mask=live)
        y += y_step


@triton.jit
def pooled(
    x, bias, vth, keep, y, N, H, W, HO, WO, C, x_step, y_step, scale, lowest,
    STEPS: tl.constexpr, NEURON: tl.constexpr, HALF: tl.constexpr, CLIP: tl.constexpr,
    KH: tl.constexpr, KW: tl.constexpr,
    SH: tl.constexpr, SW: tl.constexpr, PH: tl.constexpr, PW: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The largest value of each window of (STEPS, images, H, W, C), N of them a step, or the spikes
    of neurons that read it times ``scale``.
    """
    o = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = o < N
    c = o % C
    pixel = o // C
    image = pixel // (HO * WO)
    pixel = pixel - image * (HO * WO)
    i = pixel // WO * SH - PH
    j = pixel % WO * SW - PW
    start = ((image * H + i) * W + j) * C + c
    if NEURON:
        b = tl.load(bias + c)
        theta = tl.load(vth + c)
        left = tl.load(keep + c)
        v = tl.zeros((BLOCK,), tl.int32)
    for _ in range(STEPS):
        most = tl.full((BLOCK,), 0, tl.int32) + lowest
        for tap in tl.static_range(KH * KW):
            dh, dw = tap // KW, tap % KW
            inside = live & (i + dh >= 0) & (i + dh < H) & (j + dw >= 0) & (j + dw < W)
            value = tl.load(x + start + (dh * W + dw) * C, mask=inside, other=0).to(tl.int32)
            most = tl.maximum(most, tl.where(inside, value, lowest))
        if NEURON:
            h = _decay(v, left, HALF) + most * scale + b
            if CLIP:
                h = tl.minimum(tl.maximum(h, -8388607), 8388607)
            fired = h > theta
            tl.store(y + o, fired.to(y.dtype.element_ty), mask=live)
            v = tl.where(fired, 0, h)
        else:
            tl.store(y + o, most.to(y.dtype.element_ty), mask=live)
        x += x_step
        y += y_step


@triton.jit
def neurons(
    x, bias, vth, keep, y, N, period, x_step, y_step, scale,
    STEPS: tl.constexpr, HALF: tl.constexpr, CLIP: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """Spikes (STEPS, N) of neurons that read (STEPS, N) times ``scale``; element o has parameters
    ``o % period``. ``x_step`` is 0 where all steps are alike.
    """
    o = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    live = o < N
    c = o % period
    b = tl.load(bias + c)
    theta = tl.load(vth + c)
    left = tl.load(keep + c)
    v = tl.zeros((BLOCK,), tl.int32)
    for _ in range(STEPS):
        a = tl.load(x + o, mask=live, other=0).to(tl.int32) * scale
        h = _decay(v, left, HALF) + a + b
        if CLIP:
            h = tl.minimum(tl.maximum(h, -8388607), 8388607)
        fired = h > theta
        tl.store(y + o, fired.to(y.dtype.element_ty), mask=live)
        v = tl.where(fired, 0, h)
        x += x_step
        y += y_step


@triton.jit
def row_sums(x, y, N, n: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr):
    """Sums of N rows of n, dense; WIDTH is a power of two from n on."""
    o = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    k = tl.arange(0, WIDTH)
    reads = (o < N)[:, None] & (k < n)[None, :]
    values = tl.load(x + o[:, None] * n + k[None, :], mask=reads, other=0).to(tl.int32)
    tl.store(y + o, tl.sum(values, axis=1).to(y.dtype.element_ty), mask=o < N)


@triton.jit
def products(
    a, b, y, N, M, K, images, heads, a_t, a_b, a_h, a_n, a_k, b_t, b_b, b_h, b_k, b_m,
    y_t, y_b, y_h, y_n, BN: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    """``a @ b`` of (steps, images, heads, N, K) and (.., K, M) integers up to 2^11 by magnitude, sums
    below 2^24: strides of each axis, the last of ``y`` dense.
    """
    pid = tl.program_id(0)
    head = pid % heads
    image = pid // heads % images
    step = (pid // heads // images).to(tl.int64)
    n = tl.program_id(1) * BN + tl.arange(0, BN)
    m = tl.program_id(2) * BM + tl.arange(0, BM)
    k = tl.arange(0, BK)
    a += step * a_t + image.to(tl.int64) * a_b + head * a_h
    b += step * b_t + image.to(tl.int64) * b_b + head * b_h
    acc = tl.zeros((BN, BM), tl.float32)
    for start in range(0, K, BK):
        j = start + k
        from_a = n[:, None] * a_n + j[None, :] * a_k
        left = tl.load(a + from_a, mask=(n < N)[:, None] & (j < K)[None, :], other=0)
        from_b = j[:, None] * b_k + m[None, :] * b_m
        right = tl.load(b + from_b, mask=(j < K)[:, None] & (m < M)[None, :], other=0)
        acc = tl.dot(left.to(tl.float16), right.to(tl.float16), acc)
    y += step * y_t + image.to(tl.int64) * y_b + head * y_h
    live = (n < N)[:, None] & (m < M)[None, :]
    tl.store(y + n[:, None] * y_n + m[None, :], acc.to(tl.int32).to(y.dtype.element_ty), mask=live)
