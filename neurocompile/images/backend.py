"""Backend ``cores``: the mapping itself runs, as core images."""

from __future__ import annotations

from neurocompile.backends.base import Executor
from neurocompile.errors import NeurocompileError
from neurocompile.images.build import CoreImages, build_images
from neurocompile.images.machine import CoreMachine
from neurocompile.ir.circuit import CircuitGraph
from neurocompile.mapping.mapping import Mapping
from neurocompile.targets.schema import Target

__all__ = ["Cores"]


class Cores:
    """Executes the images of all cores, message by message."""

    name = "cores"
    banner = "core images, message by message on the CPU (bit-exact), NOT hardware"

    def open(self, circuit: CircuitGraph) -> Executor:
        """NC4004: a circuit alone has no cores."""
        raise NeurocompileError(
            "NC4004",
            f"backend 'cores' runs a mapping; open circuit '{circuit.name}' through its program (Program.run, "
            "Program.parity)",
        )

    def open_placed(
        self,
        circuit: CircuitGraph,
        mapping: Mapping,
        target: Target,
        images: CoreImages | None = None,
    ) -> CoreMachine:
        """``images``, or those of ``mapping``, ready to run."""
        return CoreMachine(images or build_images(circuit, mapping, target))
