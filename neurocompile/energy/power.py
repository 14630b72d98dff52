"""Power that somebody measured on hardware, from a small JSON file; a stranger's until checked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from neurocompile.errors import NeurocompileError

__all__ = ["MeasuredPower", "load_power"]

Watts = Annotated[float, Meta(ge=0, le=1e6)]
Text = Annotated[str, Meta(min_length=1, max_length=400)]


class MeasuredPower(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """``{"schema": 1, "device": "...", "source": "...", "static_w": ..., "dynamic_w": ..., "seconds_per_inference": ...}``."""

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
        with path.open("rb") as file:
            return msgspec.json.decode(file.read(1 << 16), type=MeasuredPower)
    except (OSError, msgspec.DecodeError, ValueError) as error:
        raise NeurocompileError(
            "NC7003", f"measured power '{path}': {error}; needed are schema 1, device, source, static_w, dynamic_w and "
            "seconds_per_inference (docs/energy.md)"
        ) from error  # fmt: skip
