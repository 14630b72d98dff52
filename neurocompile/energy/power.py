"""Power measured on hardware: by Lava's probes, or by somebody else, from a small JSON file that is
a stranger's until checked.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np
from msgspec import Meta, Struct

from neurocompile.errors import NeurocompileError
from neurocompile.files import read_input

if TYPE_CHECKING:
    from neurocompile.backends.lava.power_probe import Readings
    from neurocompile.program import Program

__all__ = ["MeasuredPower", "load_power", "measure_power", "power_of"]

Watts = Annotated[float, Meta(ge=0, le=1e6)]
Text = Annotated[str, Meta(min_length=1, max_length=400)]


class MeasuredPower(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``{"schema": 1, "device": "...", "source": "...", "static_w": ..., "dynamic_w": ...,
    "seconds_per_inference": ...}``.
    """

    schema: Annotated[int, Meta(ge=1, le=1)]
    device: Text
    """Chip or board, and its firmware or software."""
    source: Text
    """Who measured, with what, when."""
    static_w: Watts
    dynamic_w: Watts
    seconds_per_inference: Annotated[float, Meta(gt=0, le=1e6)]

    @property
    def static_pj(self) -> float:
        """Static energy of one inference in pJ."""
        return self.static_w * self.seconds_per_inference * 1e12

    @property
    def dynamic_pj(self) -> float:
        """Dynamic energy of one inference in pJ."""
        return self.dynamic_w * self.seconds_per_inference * 1e12


def load_power(path: Path) -> MeasuredPower:
    """Read and check; NC7003."""
    try:
        return msgspec.json.decode(read_input(path, 1 << 16, "NC7003"), type=MeasuredPower)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise NeurocompileError(
            "NC7003",
            f"measured power '{path}': {error}; needed are schema 1, device, source, static_w, dynamic_w and "
            "seconds_per_inference (docs/energy.md)",
        ) from error


def measure_power(program: Program, x: np.ndarray) -> MeasuredPower:
    """Run float32 ``x`` (samples, *input shape) on Loihi 2 under Lava's probes, as one stream.

    Raises:
        NeurocompileError: NC4001 or NC4002 without Lava or Intel's extension, NC7006 if the board
            gives no usable reading.
    """
    from neurocompile.backends.encoding import encode
    from neurocompile.backends.lava.hardware import HardwareExecutor

    executor = HardwareExecutor(program.circuit, probe=True)
    with executor:
        executor.run(encode(program.circuit, x), [program.circuit.readouts[0].src])
        return power_of(executor.readings[0], len(x))


def power_of(readings: Readings, samples: int) -> MeasuredPower:
    """Readings of a stream of samples as power, and time of an inference (that between two
    answers).
    """
    return MeasuredPower(
        schema=1,
        device=f"Loihi 2 ({os.environ.get('LOIHI_GEN', 'generation not told')})",
        source=f"Lava's probes, {samples:,} samples in one stream, pipeline's warm-up included",
        static_w=readings.static_j / readings.seconds,
        dynamic_w=(readings.energy_j - readings.static_j) / readings.seconds,
        seconds_per_inference=readings.seconds / samples,
    )
