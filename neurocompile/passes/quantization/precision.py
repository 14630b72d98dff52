"""What quantization could not keep: layers with fewer bits than asked, channels that a bias
decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from neurocompile.ir import spiking as s

__all__ = ["LayerPrecision", "Precision"]


@dataclass(frozen=True)
class LayerPrecision:
    """Of one linear layer."""

    layer: str
    """Its node, or the neuron that reads it."""
    bits: float
    """Sign included, that its scale leaves: those asked, less log2 of how much coarser the scale
    is than its weights need.
    """
    asked: int
    groups: int
    """Of channels with a scale each."""


@dataclass
class Precision:
    """Collected while the pass runs."""

    layers: list[LayerPrecision] = field(default_factory=list)
    rounded: dict[str, str] = field(default_factory=dict)
    """Why what lay on a grid was rounded all the same, by the names of :attr:`layers`."""

    def note(self, node: s.Node, asked: int, lost: float, lif: s.LIF | None, groups: int) -> None:
        """``lost``: bits that fields cost."""
        name = node.name if lif is None else lif.name
        self.layers.append(LayerPrecision(name, asked - max(lost, 0.0), asked, groups))

    def note_rounded(self, node: s.Node, lif: s.LIF | None, why: str) -> None:
        """``why`` is "" where nothing that lay on a grid was rounded."""
        if why:
            self.rounded[node.name if lif is None else lif.name] = why
