"""Lava: Intel's own process models as a backend, in this process, in Lava's runtime, or on Loihi 2.

Lava is archived upstream, so everything that knows of it is in this package. Importing the package
imports nothing of Lava: ``open`` does, and says what is missing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from neurocompile.ir.circuit import CircuitGraph

if TYPE_CHECKING:
    from neurocompile.backends.lava.hardware import HardwareExecutor
    from neurocompile.backends.lava.in_process import InProcessExecutor
    from neurocompile.backends.lava.runtime import RuntimeExecutor

__all__ = ["LavaInProcess", "LavaRuntime", "LoihiHardware"]


class LavaInProcess:
    """Lava's fixed-point process models, stepped in this process: fast, and cannot hang."""

    name = "lava"
    banner = "Lava 0.10.0 CPU simulator (fixed-point process models, in-process), NOT hardware"

    def open(self, circuit: CircuitGraph) -> InProcessExecutor:
        """Build the network; NC4001 without Lava."""
        from neurocompile.backends.lava.in_process import InProcessExecutor

        return InProcessExecutor(circuit)


class LavaRuntime:
    """Lava's real runtime, in a child process with a deadline: slow, the cross-check of
    :class:`LavaInProcess`.

    Args:
        deadline: seconds until the child is ended with NC4003; by default enough for the network's
            size.
    """

    name = "lava-runtime"
    banner = "Lava 0.10.0 CPU simulator (fixed-point process models, multi-process runtime), NOT hardware"

    def __init__(self, deadline: float | None = None) -> None:
        self.deadline = deadline

    def open(self, circuit: CircuitGraph) -> RuntimeExecutor:
        """Check what the runtime needs; NC4001 without Lava, NC4004 with too few file descriptors."""
        from neurocompile.backends.lava.runtime import RuntimeExecutor

        return RuntimeExecutor(circuit, self.deadline)


class LoihiHardware:
    """A Loihi 2 system through Intel's extension of Lava.

    Args:
        input_latency: steps that the input adapter adds (3 in Intel's tutorials).
    """

    name = "loihi"
    banner = "Loihi 2 hardware through Lava and Intel's lava-loihi extension"

    def __init__(self, input_latency: int = 3) -> None:
        self.input_latency = input_latency

    def open(self, circuit: CircuitGraph) -> HardwareExecutor:
        """NC4001 without Lava, NC4002 without the extension."""
        from neurocompile.backends.lava.hardware import HardwareExecutor

        return HardwareExecutor(circuit, self.input_latency)
