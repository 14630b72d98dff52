"""The same network on Loihi 2, through Intel's extension of Lava. UNTESTED ON SILICON: written
without the extension.

What differs from the simulator, all of it here: host values enter through ``PyToNxAdapter``
(``PyToN3ConvAdapter`` where they feed a Conv) and leave through ``NxToPyAdapter``, whose 24-bit
payloads need their sign extended; the adapters add steps, by which reset phases and recording move;
LIFReset needs an interval that is a power of two; and a process for which Intel's extension has no
model would silently run in Python on the host, so that is an error. Sources: Intel's netx and
lava_va tutorials (``reset_offset=3``, ``(x << 8) >> 8``). Like the simulator's runtime, it runs in
a child with a deadline.
"""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from neurocompile.backends.base import Trace
from neurocompile.backends.lava.compat import require_lava
from neurocompile.backends.lava.network import GRADED_BITS
from neurocompile.backends.lava.power_probe import (
    Readings,
    attach_probes,
    check_readings,
    read_probes,
)
from neurocompile.backends.lava.runtime import RuntimeExecutor
from neurocompile.errors import NeurocompileError
from neurocompile.ir.circuit import LIF, CircuitGraph

__all__ = [
    "PROBES",
    "HardwareExecutor",
    "attach_output",
    "input_adapter",
    "require_extension",
    "run_on_loihi",
]

PROBES = "probes.json"
"""File in which the child leaves what the probes read."""


def require_extension() -> None:
    """NC4002 unless Intel's extension is installed; NC4001 without Lava."""
    require_lava()
    from lava.utils.loihi import is_installed

    names = ("lava.proc.embedded_io", "lava.magma.core.model.nc")
    missing = [] if is_installed() else ["lava.utils.loihi2_profiler"]
    missing += [name for name in names if importlib.util.find_spec(name) is None]
    if missing:
        raise NeurocompileError(
            "NC4002",
            "Loihi 2 needs Intel's INRC-only package lava-loihi (not found: "
            f"{', '.join(missing)}); run on the CPU with the backend lava or emulator",
        )


class HardwareExecutor(RuntimeExecutor):
    """Executor on Loihi 2. Records the readouts' sources unless told otherwise."""

    def __init__(
        self,
        circuit: CircuitGraph,
        input_latency: int = 3,
        deadline: float | None = None,
        probe: bool = False,
    ) -> None:
        require_extension()
        if any(isinstance(p, LIF) and p.reset for p in circuit.populations) and circuit.period & (
            circuit.period - 1
        ):
            raise NeurocompileError(
                "NC9001",
                f"circuit '{circuit.name}' has period {circuit.period}: Loihi 2 resets "
                "in intervals that are powers of two, schedule it for this target",
            )
        super().__init__(circuit, deadline)
        self.options = {"hardware": True, "latency": input_latency, "probe": probe}
        self.readings: list[Readings] = []
        """Of each run so far, where ``probe`` asked for them."""

    def run(self, x: np.ndarray, record: Collection[str] | None = None) -> Trace:
        """See :class:`neurocompile.backends.base.Executor`."""
        names = {r.src for r in self.circuit.readouts} if record is None else record
        return {name: (values << 8) >> 8 for name, values in super().run(x, names).items()}

    def _collect(self, folder: Path) -> None:
        if self.options["probe"]:
            self.readings.append(
                check_readings(json.loads((folder / PROBES).read_text(encoding="utf-8")))
            )


def input_adapter(out: Any, to_conv: bool) -> Any:
    """The on-chip end of the host's port ``out``."""
    from lava.proc.embedded_io.spike import PyToN3ConvAdapter, PyToNxAdapter

    adapter = (PyToN3ConvAdapter if to_conv else PyToNxAdapter)(
        shape=out.shape, num_message_bits=GRADED_BITS
    )
    out.connect(adapter.inp)
    return adapter.out


def attach_output(out: Any, spiking: bool) -> Any:
    """The host's end of the on-chip port ``out``."""
    from lava.proc.embedded_io.spike import NxToPyAdapter

    adapter = NxToPyAdapter(shape=out.shape, num_message_bits=0 if spiking else GRADED_BITS)
    out.connect(adapter.inp)
    return adapter.out


def run_on_loihi(
    recorder: Any, condition: Any, on_chip: list[Any], probes: Path | None = None
) -> None:
    """Compile for Loihi 2, refuse models that would run on the host, and run; write what Lava's
    probes read into ``probes``.
    """
    from lava.magma.core.model.py.model import AbstractPyProcessModel
    from lava.magma.core.run_configs import Loihi2HwCfg

    config = Loihi2HwCfg()
    profiler = None if probes is None else attach_probes(config, condition.num_steps)
    executable = recorder.compile(config)
    for process in on_chip:
        if issubclass(process.model_class, AbstractPyProcessModel):
            raise NeurocompileError(
                "NC9001", f"{type(process).__name__} '{process.name}' has no neuro-core model here"
            )
    recorder.create_runtime(config, executable)
    recorder.run(condition)
    if probes is not None:
        probes.write_text(json.dumps(read_probes(profiler)), encoding="utf-8")
