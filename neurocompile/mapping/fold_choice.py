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
    host_clocks: int = 0
    """Those of ``host_values`` that are clocks."""
    messages: float = 0.0
    """Spikes and graded values that populations and the host send a sample, those of relays and
    clocks among them; modelled."""
    packets: float = 0.0
    """Messages, each once for every core that it reaches, its own among them; modelled."""
    operations: float = 0.0
    """Synapses that they reach; modelled."""

    def beside(self, unrolled: FoldChoice) -> str:
        """What folding saves and what it costs."""
        more, packets, work = (
            mine / its if its else 1.0
            for mine, its in (
                (self.messages, unrolled.messages),
                (self.packets, unrolled.packets),
                (self.operations, unrolled.operations),
            )
        )
        cost = "costs more" if max(more, packets, work) > 1.0 else "costs no more"
        return (
            f"folded {self.fold}: {self.cores_at_least:,} cores at least for "
            f"{unrolled.cores_at_least:,} unrolled, {self.steps:,} steps a sample for "
            f"{unrolled.steps:,}; by modelled rates {more:.2f} times the messages, {packets:.2f} "
            f"times the packets and {work:.2f} times the synaptic operations of a sample (relays, copies and clocks among them): a "
            f"sample {cost} energy and takes {self.steps / unrolled.steps:,.0f} times the steps"
        )
