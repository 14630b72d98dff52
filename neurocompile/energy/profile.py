"""Energy and time constants under a name. Every number carries source and status; what nobody published is absent."""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated

import msgspec
import yaml
from msgspec import Meta, Struct

from neurocompile.errors import NeurocompileError
from neurocompile.targets.loader import _line, _Loader
from neurocompile.targets.schema import Number, Text

__all__ = ["EnergyConstants", "Profile", "TimeConstants", "list_profiles", "load_profile"]

SIZE_LIMIT = 64 * 1024


class EnergyConstants(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """pJ each."""

    synaptic_operation: Number | None = None
    """Of any kind for which no kind of its own is given."""
    synaptic_operation_dense: Number | None = None
    synaptic_operation_sparse: Number | None = None
    synaptic_operation_convolution: Number | None = None
    ac: Number | None = None
    """Operation that a spike causes; instead of the above, never with them."""
    mac: Number | None = None
    """Operation that a graded message causes."""
    neuron_update_active: Number | None = None
    neuron_update_inactive: Number | None = None
    spike: Number | None = None
    """Message that a neuron makes, spike or graded."""
    packet: Number | None = None
    """Message to a core, the own one included."""
    packet_within_tile: Number | None = None
    """Packet that stays in its tile; one that leaves it pays hops."""
    hop_east_west: Number | None = None
    hop_north_south: Number | None = None
    chip_crossing: Number | None = None
    barrier: Number | None = None
    """One synchronization of the mesh."""


class TimeConstants(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """ns each."""

    synaptic_operation: Number | None = None
    neuron_update_active: Number | None = None
    neuron_update_inactive: Number | None = None
    packet_within_tile: Number | None = None
    hop_east_west: Number | None = None
    hop_north_south: Number | None = None
    barrier_1_tile: Number | None = None
    barrier_32_tiles: Number | None = None


class Profile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A set of constants that belong together."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_.-]{0,39}$")]
    description: Text
    hardware: Text
    """What the constants were measured on or derived for."""
    targets: tuple[Annotated[str, Meta(max_length=40)], ...] = ()
    """Names of the targets whose constants these are; on all others a report says that they are foreign."""
    energy: EnergyConstants
    time: TimeConstants = TimeConstants()
    static_power: Number | None = None
    """mW a chip."""

    def __post_init__(self) -> None:
        kinds = ("synaptic_operation", *(f"synaptic_operation_{k}" for k in ("dense", "sparse", "convolution")))
        if any(getattr(self.energy, k) for k in kinds) and (self.energy.ac or self.energy.mac):
            raise ValueError("an operation would be priced twice: give synaptic_operation or ac and mac, not both")


def list_profiles() -> list[str]:
    """Names of the shipped profiles, sorted."""
    files = resources.files("neurocompile.energy").joinpath("profiles").iterdir()
    return sorted(f.name[: -len(".yaml")] for f in files if f.name.endswith(".yaml"))


def load_profile(name_or_path: str | Path) -> Profile:
    """The shipped profile of that name, or the one in the YAML file of that path; NC7001 or NC7002 on failure."""
    name, known = str(name_or_path), list_profiles()
    if name in known:
        data = resources.files("neurocompile.energy").joinpath("profiles", f"{name}.yaml").read_bytes()
        return _parse(data, f"{name}.yaml")
    try:
        path = Path(name)
        if not path.is_file():
            raise NeurocompileError(
                "NC7001", f"energy profile {name[:200]!r} is neither shipped nor a file. Shipped: {', '.join(known)}."
            )
        with path.open("rb") as file:
            data = file.read(SIZE_LIMIT + 1)
    except (OSError, ValueError) as error:
        raise NeurocompileError("NC7001", f"energy profile {name[:200]!r} cannot be read: {_line(error)}") from error
    found = _parse(data, path.name)
    if found.name in known:
        raise NeurocompileError("NC7002", f"energy profile '{path.name}' calls itself '{found.name}', as a shipped one "
                                "does; give it a name of its own")  # fmt: skip
    return found


def _parse(data: bytes, label: str) -> Profile:
    if len(data) > SIZE_LIMIT:
        raise NeurocompileError("NC7002", f"energy profile {label[:200]!r} is larger than {SIZE_LIMIT:,} bytes")
    try:
        return msgspec.convert(yaml.load(data.decode("utf-8"), _Loader), Profile, strict=True)  # safe: see _Loader
    except (yaml.YAMLError, ValueError, RecursionError, OverflowError) as error:
        raise NeurocompileError(
            "NC7002", f"energy profile {label[:200]!r} does not follow neurocompile/energy/profile.py: {_line(error)}"
        ) from error
