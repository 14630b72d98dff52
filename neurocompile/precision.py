"""What a build lost: layers with fewer bits than asked, layers that never or always fire on the
calibration data, and where integers and float part.
"""

from __future__ import annotations

import msgspec
import numpy as np

from neurocompile.advice import warn
from neurocompile.calibration import Calibration
from neurocompile.ir.analysis import shapes
from neurocompile.ir.evaluate import encode_input
from neurocompile.ir.quick import evaluate_quickly
from neurocompile.ir.spiking import SpikingGraph
from neurocompile.passes.quantization.precision import Precision

__all__ = ["LayerReport", "examine_precision"]

_SAMPLES, _MOST_NEURONS = 4, 8_000_000
"""Samples that both models run on, and neurons times samples that bound them."""
_NOTED = 0.25
"""Bits that a layer may lose without being named."""
_WARNED = 1.0


class LayerReport(msgspec.Struct, frozen=True, kw_only=True):
    """Of one layer, by the name of its neuron."""

    layer: str
    bits: float | None = None
    """Weight bits that the fields of the chip leave, sign included; None for a layer without
    weights of its own.
    """
    asked: int = 0
    scales: int = 1
    """Groups of channels that count in units of their own."""
    rate: float | None = None
    """Spikes a neuron a step on the calibration data; None where nothing was measured."""
    agreement: float | None = None
    """Share of equal spikes of the float and the integer model on calibration samples."""
    rounded: str = ""
    """Why its weights, though on a grid (quantization-aware training), or its sums are rounded."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What is worth a word, besides the agreement."""
        found = []
        if self.bits is not None and self.bits < self.asked - _NOTED:
            found.append(f"{self.bits:.1f} of {self.asked} weight bits")
        if self.rounded:
            found.append(self.rounded)
        if self.rate == 0:
            found.append("never fires")
        if self.rate == 1:
            found.append("always fires")
        return tuple(found)


def examine_precision(
    canonical: SpikingGraph,
    quantized: SpikingGraph,
    precision: Precision,
    statistics: Calibration,
    samples: np.ndarray | None,
    steps: int,
) -> tuple[LayerReport, ...]:
    """One report a layer, the least agreement first; a warning where a layer lost a bit or more.

    Args:
        canonical: the float model.
        quantized: the same in integers.
        precision: what the quantizer noted.
        statistics: that it used.
        samples: float32 (samples, *input shape) of the calibration, or None: then no agreement.
        steps: T.
    """
    noted = {found.layer: found for found in precision.layers}
    layers = [n.name for n in canonical.spiking_layers]
    if canonical.stage == "quantized":  # nothing was rounded
        samples = None
    agreement = {} if samples is None else _agreement(canonical, quantized, samples, steps, layers)
    measured = statistics.layers if statistics.source != "weights" else {}
    found = []
    for name in dict.fromkeys((*layers, *noted, *precision.rounded)):
        note = noted.get(name)
        found.append(
            LayerReport(
                layer=name,
                bits=None if note is None else round(note.bits, 2),
                asked=0 if note is None else note.asked,
                scales=1 if note is None else note.groups,
                rate=measured[name].rate if name in measured else None,
                agreement=agreement.get(name),
                rounded=precision.rounded.get(name, ""),
            )
        )
    found.sort(key=lambda r: 2.0 if r.agreement is None else r.agreement)
    lost = [r for r in found if r.bits is not None and r.bits <= r.asked - _WARNED]
    if lost:
        worst = min(lost, key=lambda r: r.bits or 0)
        others = f", and {len(lost) - 1} more" if len(lost) > 1 else ""
        warn(
            f"layer '{worst.layer}' keeps {worst.bits:.1f} of {worst.asked} weight bits{others}: its sums, "
            "threshold or bias leave no room for more (docs/architecture.md, Integers)"
        )
    return tuple(found)


def _agreement(
    canonical: SpikingGraph,
    quantized: SpikingGraph,
    samples: np.ndarray,
    steps: int,
    layers: list[str],
) -> dict[str, float]:
    size = shapes(canonical)
    neurons = sum(int(np.prod(size[name])) for name in layers)
    x = samples[: max(min(_SAMPLES, _MOST_NEURONS // max(neurons, 1)), 1)]
    ours = evaluate_quickly(quantized, encode_input(quantized.input, x), steps, layers)
    theirs = evaluate_quickly(canonical, x, steps, layers)
    return {
        name: round(float((ours[name] == theirs[name]).mean()), 6)
        for name in layers
        if name in ours and name in theirs
    }
