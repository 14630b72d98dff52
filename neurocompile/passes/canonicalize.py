"""The canonicalize stage: the passes from ``imported`` to ``canonical``, in order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from neurocompile.ir.spiking import SpikingGraph
from neurocompile.ir.spiking_rules import (
    ALIKE_SUMS,
    IS_CANONICAL,
    IS_IMPORTED,
    MEAN_LAST,
    NO_BATCH_NORM,
    NO_BIAS,
    NO_SCALE,
    NORMAL_LIF,
)
from neurocompile.passes.base import SpikingPass
from neurocompile.passes.compose_convolutions import ComposeConvolutions
from neurocompile.passes.compose_linear import ComposeLinear
from neurocompile.passes.connect_spikes import ConnectSpikes
from neurocompile.passes.fold_batch_norm import FoldBatchNorm
from neurocompile.passes.fold_scale import FoldScale
from neurocompile.passes.move_bias import MoveBias
from neurocompile.passes.normalize_lif import NormalizeLIF
from neurocompile.passes.reassociate import Reassociate
from neurocompile.passes.recognize_or import RecognizeOr
from neurocompile.passes.settle_batch_norm import SettleBatchNorm
from neurocompile.passes.sink_time_mean import SinkTimeMean
from neurocompile.passes.slice_layers import SliceLayers

__all__ = ["MarkCanonical", "canonical_passes", "canonicalize"]


@dataclass(frozen=True)
class MarkCanonical(SpikingPass):
    """Requires all that canonical form is. Ensures stage canonical."""

    name: ClassVar[str] = "mark-canonical"
    requires = (IS_IMPORTED, MEAN_LAST, NO_BATCH_NORM, NORMAL_LIF, NO_SCALE, NO_BIAS, ALIKE_SUMS)
    ensures = (IS_CANONICAL,)

    def apply(self, graph: SpikingGraph) -> SpikingGraph:
        return graph.replace(stage="canonical")


def canonical_passes(compose: ComposeConvolutions) -> tuple[SpikingPass, ...]:
    """All of them in order; ``compose`` as chosen for a target."""
    return (
        SinkTimeMean(),
        FoldBatchNorm(),
        ComposeLinear(),
        SliceLayers(),
        SettleBatchNorm(),
        compose,
        NormalizeLIF(),
        FoldScale(),
        Reassociate(),
        MoveBias(),
        RecognizeOr(),
        ConnectSpikes(),
        MarkCanonical(),
    )


def canonicalize(graph: SpikingGraph, compose: ComposeConvolutions | None = None) -> SpikingGraph:
    """``graph`` in canonical form, meaning unchanged up to float rounding."""
    for one in canonical_passes(compose or ComposeConvolutions()):
        graph = one(graph)
    return graph
