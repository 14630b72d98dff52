"""Plain forms of the functions that are written in LLVM's vector types.

With NUMBA_DISABLE_JIT=1 they stand in their place, so that every compiled loop runs as Python and a
tracer sees it; `tests/test_plain_kernels.py` holds both to the same numbers.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np

__all__ = ["install"]

TOP = 1 << 23
"""A membrane's payload ends below it."""


def wrapped(values: np.ndarray) -> np.ndarray:
    """int64 modulo 2^32, as int32."""
    return np.asarray(values, np.int64).astype(np.int32)


def sum_rows8(acc, a0, weight, w0, columns, chosen, first, end, shift):  # type: ignore[no-untyped-def]
    for j in chosen[first:end]:
        row = weight[w0 + j * columns : w0 + (j + 1) * columns].astype(np.int64)
        acc[a0 : a0 + columns] = wrapped(acc[a0 : a0 + columns] + (row << shift))


def add_scaled(acc, a0, weight, w0, columns, factor):  # type: ignore[no-untyped-def]
    row = weight[w0 : w0 + columns].astype(np.int64)
    acc[a0 : a0 + columns] = wrapped(acc[a0 : a0 + columns] + row * int(factor))


def copy_shifted(values, first, count, shift, at):  # type: ignore[no-untyped-def]
    values[at : at + count] = wrapped(values[first : first + count].astype(np.int64) + int(shift))


def mask(lanes: int):  # type: ignore[no-untyped-def]
    def bits(values, at):  # type: ignore[no-untyped-def]
        found = sum(1 << i for i, v in enumerate(values[at : at + lanes].tolist()) if v)
        return np.int64(found - (1 << 64) if found >> 63 else found)

    return bits


def trailing(bits):  # type: ignore[no-untyped-def]
    bits = int(bits)
    return (bits & -bits).bit_length() - 1


def store_row(acc, a0, out, o0, n, rectifies):  # type: ignore[no-untyped-def]
    row = acc[a0 : a0 + n]
    out[o0 : o0 + n] = (np.maximum(row, 0) if rectifies else row).astype(out.dtype)


def decayed(x: np.ndarray, keep: int) -> np.ndarray:
    """``trunc0(x * keep / 4096)``."""
    return np.sign(x) * (np.abs(x) * int(keep) >> 12)


def lif_row(acc, a0, bias, b0, state, u0, v0, out, o0, n, limit, keep_u, keep_v):  # type: ignore[no-untyped-def]
    current = acc[a0 : a0 + n].astype(np.int64) << 6
    if keep_u:
        current += decayed(state[u0 : u0 + n].astype(np.int64), keep_u)
    current = np.where(current > TOP, current - 2 * TOP, current)
    current = np.where(current <= -TOP, current + 2 * TOP, current)
    if keep_u:
        state[u0 : u0 + n] = current
    fire(current, bias, b0, state, v0, out, o0, n, limit, keep_v)


def halving_row(acc, a0, bias, b0, state, v0, out, o0, n, limit, shift):  # type: ignore[no-untyped-def]
    current = acc[a0 : a0 + n].astype(np.int64) << 6
    fire(current, bias, b0, state, v0, out, o0, n, limit, 4096 >> min(int(shift), 13))


def fire(current, bias, b0, state, v0, out, o0, n, limit, keep):  # type: ignore[no-untyped-def]
    voltage = decayed(state[v0 : v0 + n].astype(np.int64), keep) + current + bias[b0 : b0 + n]
    voltage = np.clip(voltage, 1 - TOP, TOP - 1)
    fired = voltage > limit
    state[v0 : v0 + n] = np.where(fired, 0, voltage)
    out[o0 : o0 + n] = fired


def add_row(sums, to, weights, of, count, factor, right):  # type: ignore[no-untyped-def]
    part = (weights[of : of + count].astype(np.int64) >> int(right)) * int(factor)
    sums[to : to + count] = wrapped(sums[to : to + count] + part)


def add_lanes(sums, to, lane, value, item, stop, block, weight, left, right):  # type: ignore[no-untyped-def]
    for i in range(item, stop):
        place = to + int(lane[i]) * block
        part = int(value[i]) * int(weight) << int(left) >> int(right)
        sums[place] = wrapped(np.int64(int(sums[place]) + part))


def products(registers: int):  # type: ignore[no-untyped-def]
    def add(out, o0, weight, w0, columns, k0, chosen, values, first, end):  # type: ignore[no-untyped-def]
        width = registers * 16
        for e in range(first, end):
            row = (w0 + int(chosen[e])) * columns + k0
            out[o0 + k0 : o0 + k0 + width] += values[e] * weight[row : row + width]

    return add


def install() -> None:
    """Put them in place, in every module that has imported them by name too."""
    from neurocompile.backends import interpreter, vectors  # noqa: F401
    from neurocompile.images import kernels, rows, updates  # noqa: F401
    from neurocompile.ir import quick_kernels

    plain: list[tuple[Any, dict[str, Any]]] = [
        (
            vectors,
            {
                "sum_rows8": sum_rows8,
                "add_row": add_scaled,
                "add_row8": add_scaled,
                "copy_shifted": copy_shifted,
                "mask64": mask(64),
                "mask16": mask(16),
                "trailing": trailing,
                "store_row": store_row,
                "lif_row": lif_row,
                "halving_row": halving_row,
            },
        ),
        (rows, {"add_row": add_row, "add_lanes": add_lanes, "lowest": trailing}),
        (
            quick_kernels,
            {
                "_products8": products(8),
                "_products4": products(4),
                "_products1": products(1),
                "_mask": mask(16),
                "_trailing": trailing,
            },
        ),
    ]
    users = [m for name, m in sys.modules.items() if name.startswith("neurocompile.")]
    for module, forms in plain:
        for name, form in forms.items():
            original = getattr(module, name)
            for user in users:
                if vars(user).get(name) is original:
                    setattr(user, name, form)
