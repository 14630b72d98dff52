"""Energy and time constants under a name, in the words of a target's file (targets/schema.py).
Every number carries source and status; what nobody published is absent.
"""

from __future__ import annotations

from importlib import resources
from itertools import islice
from pathlib import Path
from typing import Annotated

import msgspec
import yaml
from msgspec import Meta, Struct

from neurocompile.errors import NeurocompileError, ViolationList
from neurocompile.files import open_input
from neurocompile.targets.loader import MOST, _line, _Loader
from neurocompile.targets.problems import problems
from neurocompile.targets.schema import Energy, Number, Target, Text, Time

__all__ = ["Profile", "list_profiles", "load_profile", "profile_of"]

SIZE_LIMIT = 64 * 1024


class Profile(Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A set of constants that belong together."""

    name: Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9_.-]{0,39}$")]
    description: Text
    hardware: Text
    """What the constants were measured on or derived for."""
    targets: tuple[Annotated[str, Meta(max_length=40)], ...] = ()
    """Names of the targets whose constants these are; on all others a report says that they are
    foreign.
    """
    energy: Energy
    time: Time = Time()
    static_power: Number | None = None
    """mW a chip."""

    @property
    def sources(self) -> list[str]:
        """``source (status)`` of every constant, each once."""
        parts = [
            *(
                getattr(part, name)
                for part in (self.energy, self.time)
                for name in part.__struct_fields__
            ),
            self.static_power,
        ]
        return list(dict.fromkeys(f"{n.source} ({n.status})" for n in parts if n is not None))


def profile_of(target: Target) -> Profile:
    """The constants of the target's own file as a profile, complete or not."""
    return Profile(
        name=f"target:{target.name}",
        description=f"the constants of target {target.name}'s own file",
        hardware=target.description,
        targets=(target.name,),
        energy=target.energy,
        time=target.time,
        static_power=target.static_power,
    )


def list_profiles() -> list[str]:
    """Names of the shipped profiles, sorted."""
    files = resources.files("neurocompile.energy").joinpath("profiles").iterdir()
    return sorted(f.name[: -len(".yaml")] for f in files if f.name.endswith(".yaml"))


def load_profile(name_or_path: str | Path) -> Profile:
    """The shipped profile of that name, or the one in the YAML file of that path; NC7001 or NC7002
    on failure.
    """
    name, known = str(name_or_path), list_profiles()
    if name in known:
        data = resources.files("neurocompile.energy").joinpath(f"profiles/{name}.yaml").read_bytes()
        return _parse(data, f"{name}.yaml")
    try:
        path = Path(name)
        if not path.exists():
            raise NeurocompileError(
                "NC7001",
                f"energy profile {name[:200]!r} is neither shipped nor a file. Shipped: {', '.join(known)}.",
            )
        with open_input(path, "NC7001") as file:
            data = file.read(SIZE_LIMIT + 1)
    except (OSError, ValueError) as error:
        raise NeurocompileError(
            "NC7001", f"energy profile {name[:200]!r} cannot be read: {_line(error)}"
        ) from error
    found = _parse(data, path.name)
    if found.name in known:
        raise NeurocompileError(
            "NC7002",
            f"energy profile '{path.name}' calls itself '{found.name}', as a shipped one "
            "does; give it a name of its own",
        )
    return found


def _parse(data: bytes, label: str) -> Profile:
    if len(data) > SIZE_LIMIT:
        raise NeurocompileError(
            "NC7002", f"energy profile {label[:200]!r} is larger than {SIZE_LIMIT:,} bytes"
        )
    try:
        content = yaml.load(data.decode("utf-8"), _Loader)  # safe: see _Loader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise NeurocompileError(
            "NC7002", f"energy profile {label[:200]!r} is not plain YAML: {_line(error)}"
        ) from error
    try:
        return msgspec.convert(content, Profile, strict=True)
    except (msgspec.ValidationError, RecursionError, OverflowError) as error:
        lines = list(islice(problems(content, Profile), MOST)) or [str(error)]
        raise ViolationList(
            "NC7002", [f"energy profile {label[:200]!r}: {_line(line)}" for line in lines]
        ) from error
