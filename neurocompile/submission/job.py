"""What runs on the node: the program of a ticket's folder on its samples."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from neurocompile.artifact.store import load_program
from neurocompile.data import load_samples
from neurocompile.errors import NeurocompileError
from neurocompile.submission.ticket import (
    DONE,
    PROGRAM,
    RESULT,
    SAMPLES,
    Done,
    read_asked,
    write_json,
)

__all__ = ["run_job"]


def run_job(folder: str) -> None:
    """Run, and leave ``result.npz`` and ``done.json``, or what went wrong, in ``folder``."""
    path, start = Path(folder), time.time()
    try:
        found = _run(path)
    except NeurocompileError as error:
        found = Done(code=error.code, message=error.message)
    except Exception as error:  # whatever it is, who waits has to know
        found = Done(code="NC9001", message=f"{type(error).__name__}: {error}")
    seconds, host = time.time() - start, socket.gethostname()
    write_json(path / DONE, _with(found, seconds=round(seconds, 3), host=host))
    print(f"{found.code or 'done'} after {seconds:.1f} s on {host}: {found.message}", flush=True)


def _run(path: Path) -> Done:
    asked, program = read_asked(path), load_program(path / PROGRAM)
    data = load_samples(path / SAMPLES, program.input_shape, None, program.frames)
    result = program.run(
        data.x, asked.backend, device=asked.device, rasters=asked.rasters, progress=True
    )
    result.save(path / RESULT)
    return Done(banner=result.banner, outside=result.outside, neuron_steps=result.neuron_steps)


def _with(done: Done, **changes: object) -> Done:
    import msgspec

    return msgspec.structs.replace(done, **changes)
