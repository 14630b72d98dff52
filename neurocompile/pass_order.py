"""The passes of a build, in the order in which it runs them."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from neurocompile.calibration import Calibration
from neurocompile.errors import NeurocompileError, shown
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.ir.spiking import SpikingGraph
from neurocompile.options import BuildOptions
from neurocompile.passes.base import Pass
from neurocompile.passes.canonicalize import canonical_passes
from neurocompile.passes.compose_convolutions import ComposeConvolutions
from neurocompile.passes.lower import Lower
from neurocompile.passes.narrow_weights import NarrowWeights
from neurocompile.passes.quantize import Quantize
from neurocompile.passes.schedule import Schedule
from neurocompile.targets.fields import ChipFields
from neurocompile.targets.schema import Target

__all__ = ["all_passes", "chosen_passes", "circuit_passes", "compose_for", "passes_left"]


def compose_for(options: BuildOptions, target: Target) -> ComposeConvolutions:
    """Whether convolutions are merged, by the options and the cores of ``target``."""
    core = target.capacity
    return ComposeConvolutions(options.convolutions, core["neurons"], core["synaptic_memory_words"])


def circuit_passes(T: int, weight_bits: int, target: Target) -> tuple[Pass[Any, Any], ...]:
    """From a quantized graph to a scheduled circuit."""
    fields = ChipFields.of(target)
    return (
        Lower(T, weight_bits, fields),
        Schedule(fields.max_spike_delay, fields.power_of_two_period, fields.graded_delay, fields),
        NarrowWeights(fields.weight_bits),
    )


def all_passes(
    settled: BuildOptions, target: Target, statistics: Calibration
) -> tuple[Pass[Any, Any], ...]:
    """Every pass from an imported graph to an unrolled circuit, in the order that a build runs
    them."""
    T, bits = settled.steps, settled.bits
    return (
        *canonical_passes(compose_for(settled, target)),
        Quantize(
            T,
            statistics,
            bits,
            digits=settled.digits,
            most_grids=settled.grids,
            fields=ChipFields.of(target),
        ),
        *circuit_passes(T, bits, target),
    )


def chosen_passes(names: Sequence[str], passes: Sequence[Pass[Any, Any]]) -> list[Pass[Any, Any]]:
    """Those of ``passes`` that are named, in the order of ``names``; NC1015 for another name."""
    known = {one.name: one for one in passes}
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(known)}"
            raise NeurocompileError("NC1015", f"there is no pass {shown(name)}; {hint}")
    return [known[name] for name in names]


def passes_left(
    graph: SpikingGraph | CircuitGraph, passes: Sequence[Pass[Any, Any]]
) -> list[Pass[Any, Any]]:
    """Those of ``passes``, in order, that a build has still to run over ``graph``."""
    names = [one.name for one in passes]
    if isinstance(graph, CircuitGraph):
        return [] if graph.period else list(passes[names.index("schedule") :])
    begin = {"imported": names[0], "canonical": "quantize", "quantized": "lower"}[graph.stage]
    return list(passes[names.index(begin) :])
