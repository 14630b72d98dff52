"""Shared memory of a child session, named after its leader so that whoever ends the session can
remove all of it.

Python's resource tracker removes segments whose creator died, but not one that was created and not
yet registered when the signal came, nor any if the tracker itself was killed; a segment left behind
occupies memory until the next boot.
"""

from __future__ import annotations

import multiprocessing.process
import multiprocessing.shared_memory
from pathlib import Path

__all__ = ["leftovers", "name_after", "remove"]

_FOLDER = Path("/dev/shm")


def _prefix(leader: int) -> str:
    return f"nc{leader:x}_"


def name_after(leader: int) -> None:
    """Name every segment and semaphore that this process and its forks create from now on after
    session ``leader``.
    """
    multiprocessing.shared_memory._SHM_NAME_PREFIX = f"/{_prefix(leader)}"  # type: ignore[attr-defined]
    multiprocessing.shared_memory._SHM_SAFE_NAME_LENGTH = 32  # type: ignore[attr-defined] # Linux takes 255
    multiprocessing.process.current_process()._config["semprefix"] = f"/{_prefix(leader)}"  # type: ignore[attr-defined]


def leftovers(leader: int) -> list[Path]:
    """Segments and semaphores of session ``leader`` that are there."""
    return [
        path for kind in ("", "sem.") for path in sorted(_FOLDER.glob(f"{kind}{_prefix(leader)}*"))
    ]


def remove(leader: int) -> None:
    """Remove what session ``leader`` left; those that still have it mapped keep it until they end."""
    for path in leftovers(leader):
        path.unlink(missing_ok=True)
