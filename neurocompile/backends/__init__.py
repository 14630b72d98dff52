"""Ways to execute a circuit, by name. Each is exact; each says what it is."""

from __future__ import annotations

from neurocompile.backends.base import Backend
from neurocompile.errors import NeurocompileError

__all__ = ["BACKENDS", "get_backend"]

BACKENDS = ("emulator", "cores", "lava", "lava-runtime", "loihi")


def get_backend(name: str) -> Backend:
    """The backend of that name; NC4005 for an unknown one."""
    if not isinstance(name, str):
        raise NeurocompileError(
            "NC4005", f"a backend is one of {', '.join(BACKENDS)}, not a {type(name).__name__}"
        )
    if name == "emulator":
        from neurocompile.backends.emulator import Emulator

        return Emulator()
    if name == "cores":
        from neurocompile.images.backend import Cores

        return Cores()
    if name in BACKENDS:
        from neurocompile.backends import lava

        kinds = {
            "lava": lava.LavaInProcess,
            "lava-runtime": lava.LavaRuntime,
            "loihi": lava.LoihiHardware,
        }
        return kinds[name]()
    raise NeurocompileError(
        "NC4005", f"there is no backend '{name}'; choose one of {', '.join(BACKENDS)}"
    )
