"""An integer model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from neurocompile.build_steps import located
from neurocompile.calibration import Calibration
from neurocompile.guard import guarded
from neurocompile.ir import spiking as s
from neurocompile.options import BuildOptions
from neurocompile.placing import circuit_of
from neurocompile.precision import LayerReport
from neurocompile.stages.lowered import Lowered
from neurocompile.stages.stage import Stage
from neurocompile.targets import load_target

if TYPE_CHECKING:
    from neurocompile.stages.floating import Imported

__all__ = ["Quantized"]


@dataclass(frozen=True, repr=False)
class Quantized(Stage):
    """An integer model."""

    name = "quantize"
    number = 3

    imported: Imported = field(repr=False)
    made: s.SpikingGraph = field(repr=False)
    options: BuildOptions = field(repr=False)
    """Settled."""
    statistics: Calibration = field(repr=False)
    precision: tuple[LayerReport, ...] = field(repr=False)
    """What was lost, layer by layer, the least agreement first."""

    @property
    def graph(self) -> s.SpikingGraph:
        return self.made

    @guarded
    def lower(self, target: str | Path | None = None, *, fold: str | None = None) -> Lowered:
        """The scheduled circuit.

        Args:
            target: a shipped one's name, or the path of a YAML file; that of ``open`` by default.
            fold: rows x columns of the input in a window; that of the options by default.

        Raises:
            NeurocompileError: NC3104 for a fold that the model cannot have.
        """
        chip = self.target if target is None else load_target(target)
        given = {} if fold is None else {"fold": fold}
        options = msgspec.structs.replace(BuildOptions.of(self.options, given), target=chip.name)
        with located(self.model):
            circuit = circuit_of(self.graph, options, chip, self.timer)
        return Lowered(self.model, chip, self.timer, self, circuit, options, cache=self.cache)
