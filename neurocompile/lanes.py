"""LLVM's vector types in numba: what numba does not make of loops, whole registers.

LLVM fits them to the registers of any processor: 512 bits of AVX-512, two of 256 on AVX2, four of
128 on NEON. Nothing here checks bounds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import config
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

__all__ = ["borrowed", "data", "load", "loop", "splat", "store"]

_KINDS: Any = types
_i32, _i64 = ir.IntType(32), ir.IntType(64)


@intrinsic
def borrowed(typing, value):  # type: ignore[no-untyped-def]
    """An array, or a tuple of arrays and numbers, that is not counted: numba counts every view and
    every copy of a variable by locked instructions, on which short loops spend half of their time.
    The caller must keep the arrays.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return _uncounted(context, builder, signature.args[0], arguments[0])

    return value(value), generate


def _itself(value: Any) -> Any:
    return value


if config.DISABLE_JIT:  # then nothing counts
    borrowed = _itself


def _uncounted(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    if isinstance(kind, _KINDS.BaseTuple):
        for i, inner in enumerate(kind):
            part = _uncounted(context, builder, inner, builder.extract_value(value, i))
            value = builder.insert_value(value, part, i)
        return value
    if not isinstance(kind, _KINDS.Array):
        return value
    found = make_array(kind)(context, builder, value)
    found.meminfo = cgutils.get_null_value(found.meminfo.type)
    found.parent = cgutils.get_null_value(found.parent.type)
    return found._getvalue()


def data(context: Any, builder: Any, kind: Any, value: Any) -> Any:
    """The address of an array's first element."""
    return make_array(kind)(context, builder, value).data


def splat(builder: Any, value: Any, lanes: int) -> Any:
    """A register of equal values."""
    vector = ir.VectorType(value.type, lanes)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(_i32, 0))
    mask = ir.Constant(ir.VectorType(_i32, lanes), [0] * lanes)
    return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), mask)


def load(builder: Any, address: Any, lanes: int) -> Any:
    """A register from an address that need not be aligned."""
    element = address.type.pointee
    vector = builder.bitcast(address, ir.VectorType(element, lanes).as_pointer())
    return builder.load(vector, align=_octets(element))


def store(builder: Any, value: Any, address: Any) -> None:
    """The same back to one."""
    place = builder.bitcast(address, value.type.as_pointer())
    builder.store(value, place, align=_octets(value.type.element))


def _octets(element: Any) -> int:
    return 4 if isinstance(element, ir.FloatType) else int(element.width) // 8


def loop(
    builder: Any,
    first: Any,
    end: Any,
    step: int,
    carried: list[Any],
    body: Callable[..., list[Any]],
) -> list[Any]:
    """``for i in range(first, end, step): carried = body(i, carried)``; what is carried at the end."""
    before = builder.block
    head = builder.append_basic_block("head")
    inside = builder.append_basic_block("body")
    after = builder.append_basic_block("after")
    builder.branch(head)
    builder.position_at_end(head)
    i = builder.phi(_i64)
    held = [builder.phi(value.type) for value in carried]
    i.add_incoming(first, before)
    for phi, value in zip(held, carried):
        phi.add_incoming(value, before)
    builder.cbranch(builder.icmp_signed("<", i, end), inside, after)
    builder.position_at_end(inside)
    made = body(i, held)
    i.add_incoming(builder.add(i, ir.Constant(_i64, step)), builder.block)
    for phi, value in zip(held, made):
        phi.add_incoming(value, builder.block)
    builder.branch(head)
    builder.position_at_end(after)
    return held
