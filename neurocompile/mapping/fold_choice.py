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
    messages: float = 0.0
    """Spikes and graded values that populations and the host send a sample, those of relays and
    clocks among them; modelled."""
    operations: float = 0.0
    """Synapses that they reach; modelled."""

    def beside(self, unrolled: FoldChoice) -> str:
        """What folding saves and what it costs."""
        more = self.messages / unrolled.messages if unrolled.messages else 1.0
        work = self.operations / unrolled.operations if unrolled.operations else 1.0
        cost = "costs more" if max(more, work) > 1.0 else "costs no more"
        return (
            f"folded {self.fold}: {self.cores_at_least:,} cores at least for "
            f"{unrolled.cores_at_least:,} unrolled, {self.steps:,} steps a sample for "
            f"{unrolled.steps:,}; by modelled rates {more:.2f} times the messages and {work:.2f} "
            f"times the synaptic operations of a sample (relays, copies and clocks among them): a "
            f"sample {cost} energy and takes {self.steps / unrolled.steps:,.0f} times the steps"
        )
