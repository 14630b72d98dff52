"""Columns of a plan's two tables (:mod:`neurocompile.backends.plan` writes them, the interpreter
reads them).

A place is an offset into one of the two arenas: octets (uint8) or words (int32).
"""

from __future__ import annotations

from enum import IntEnum, auto

__all__ = ["Emit", "Kind", "Op", "Source"]


class _Column(IntEnum):
    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last: list[int]) -> int:
        return count


class Emit(IntEnum):
    """What a population does with its sum."""

    LIF = 0
    RELAY = 1
    RELU = 2


class Kind(IntEnum):
    """How a projection is computed."""

    STRIDED = 0
    EVENTS = 1
    """Weights, from spikes or small counts in octets."""
    VALUED = 2
    """Weights, from any integers."""
    GROUPED = 3
    """A convolution in groups."""
    GATED = 4
    """A sum over a population of gates that is not stored."""


class Op(_Column):
    """A population."""

    EMIT = auto()
    SIZE = auto()
    WORDS = auto()
    """1: its values are words, not octets."""
    AT = auto()
    STEPS = auto()
    """Rows of a window: T, or 1 where it is constant in time."""
    FIRST = auto()
    LAST = auto()
    """Its rows of the table of sources."""
    LIMIT = auto()
    KEEP_U = auto()
    KEEP_V = auto()
    BIAS = auto()
    STATE_V = auto()
    STATE_U = auto()
    WIDE = auto()
    """1: its inputs are not proven to stay within 2^24 of 0."""
    ALIKE = auto()
    """1: all that it reads is the same in every step."""
    HALVES = auto()
    """Where its current does not stay or wrap, and its voltage is halved so many times a step (31: to
    nothing); -1 elsewhere."""
    SILENT = auto()
    """Where its flags by window are among the loops: 1 for silence; -1 for none."""


class Source(_Column):
    """A projection; of a gated one, also each input of its gates."""

    KIND = auto()
    WORDS = auto()
    AT = auto()
    SIZE = auto()
    STEPS = auto()
    ADVANCE = auto()
    RECURRENT = auto()
    LAG = auto()
    DIMS = auto()
    """Where its loops are: RANK times (size, source stride, destination stride); gated: (size,
    destination stride, a stride an input)."""
    RANK = auto()
    WEIGHT = auto()
    SHIFT = auto()
    """Of strided ones: the exponent if it is negative; of weighted ones: how far the sum goes to
    the left."""
    S_OFFSET = auto()
    D_OFFSET = auto()
    HEIGHT = auto()
    WIDTH = auto()
    CHANNELS = auto()
    ROWS = auto()
    COLUMNS = auto()
    OUT = auto()
    KH = auto()
    KW = auto()
    SH = auto()
    SW = auto()
    PH = auto()
    PW = auto()
    DH = auto()
    DW = auto()
    W_AT = auto()
    W_ROW = auto()
    W_WORDS = auto()
    AT_ONCE = auto()
    """Rows of weights that an int16 holds the sum of."""
    GROUPS = auto()
    SUB_FIRST = auto()
    SUB_LAST = auto()
    SCALARS = auto()
    """Inputs of gates that do not move along the innermost loop."""
    RECTIFIES = auto()
    ABOVE = auto()
    """A gate is open if its sum is above."""
    TOP = auto()
    """Largest sum of the inputs that move along the innermost loop."""
    COUNTS = auto()
    """1: an octet can be more than 1."""
    SELECTS = auto()
    """1: the last scalar moves by 1 along the loop that contains the innermost one, no other does,
    and it opens gates."""
    SILENT = auto()
    """The flags of what it reads."""
