"""Ways to execute a circuit, by name. Each is exact; each says what it is.

Others than ours are found under the entry point group ``neurocompile.backends``: an object with the
two attributes and the method of :class:`neurocompile.backends.base.Backend`, or a class that makes
one without arguments. The entry's name is the backend's. docs/new_backend.md has one.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from neurocompile.backends.base import Backend
from neurocompile.errors import NeurocompileError

__all__ = ["BACKENDS", "GROUP", "backend_names", "get_backend"]

BACKENDS = ("emulator", "cores", "lava", "lava-runtime", "loihi")
"""Our own; no other package's takes one of these names."""
GROUP = "neurocompile.backends"
"""Entry point group of backends."""


def backend_names() -> tuple[str, ...]:
    """Every backend: ours, then those of other packages, sorted. Nothing is imported."""
    return (*BACKENDS, *sorted(_others()))


def get_backend(name: str) -> Backend:
    """The backend of that name; NC4005 for an unknown one, NC4009 for one of another package that
    does not load.
    """
    if not isinstance(name, str):
        raise NeurocompileError(
            "NC4005",
            f"a backend is one of {', '.join(backend_names())}, not a {type(name).__name__}",
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
    others = _others()
    if name in others:
        return _loaded(others[name])
    raise NeurocompileError(
        "NC4005", f"there is no backend '{name}'; choose one of {', '.join(backend_names())}"
    )


def _others() -> dict[str, EntryPoint]:
    found = sorted(entry_points(group=GROUP), key=lambda e: (e.name, e.value), reverse=True)
    return {entry.name: entry for entry in found if entry.name not in BACKENDS}


def _loaded(entry: EntryPoint) -> Backend:
    """A backend of another package, in a wrapper that holds it to what every backend promises."""
    from neurocompile.backends.checked import CheckedBackend

    try:
        found = entry.load()
        backend: Backend = found() if isinstance(found, type) else found
        return CheckedBackend(entry.name, str(backend.banner), backend)
    except NeurocompileError:
        raise
    except Exception as error:  # code of another package
        raise NeurocompileError(
            "NC4009",
            f"backend '{entry.name}' ({entry.value}) does not load: {type(error).__name__}: {error}; "
            "fix or uninstall it",
        ) from error
