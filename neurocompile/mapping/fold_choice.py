"""What a fold of a model needs."""

from __future__ import annotations

import msgspec

__all__ = ["FoldChoice"]


class FoldChoice(msgspec.Struct, frozen=True, kw_only=True):
    """One fold of a model, and what it needs; ``none`` for the unrolled model."""

    fold: str
    windows: int
    steps: int
    """From one sample to the next."""
    latency: int
    """Steps from a sample's first input to its last output."""
    neurons: int
    cores_at_least: int
    """That no mapping can do without."""
    host_values: int
    """Values that the host sends a sample, clocks among them, not counting repetition over a
    window's steps."""
