"""The process that runs a stranger's ONNX graph.

:mod:`neurocompile.reference.isolated` starts it, writes requests to its standard input and reads
answers from its standard output. It holds one session at a time, has as much memory as its
argument says (bytes), and ends with whoever started it, also in the middle of a call.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any, BinaryIO

import numpy as np

__all__ = ["main", "read_exactly", "write_arrays"]


def read_exactly(file: BinaryIO, count: int) -> bytes:
    """``count`` bytes; EOFError where they end before."""
    found = file.read(count)
    if len(found) < count:
        raise EOFError
    return found


def write_arrays(file: BinaryIO, head: dict[str, Any], arrays: list[np.ndarray]) -> None:
    """A line of JSON, with dtype and shape of each array, and their bytes."""
    arrays = [np.asarray(a, order="C") for a in arrays]
    about = [(a.dtype.str, a.shape) for a in arrays]
    file.write(json.dumps({**head, "arrays": about}).encode() + b"\n")
    for array in arrays:
        file.write(array.reshape(-1).data.cast("B") if array.size else b"")
    file.flush()


def _limit(memory: int) -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):  # no such limit here, or a lower one holds already
        pass


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def _array(requests: BinaryIO, kind: str, shape: list[int]) -> np.ndarray:
    dtype = np.dtype(kind)
    count = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    return np.frombuffer(read_exactly(requests, count), dtype).reshape(shape)


def _answer(answers: BinaryIO, requests: BinaryIO, session: Any, head: dict[str, Any]) -> Any:
    """Serve one request; the session that is open after it."""
    if head["do"] == "open":
        from neurocompile.reference.runtime import open_session

        proto = read_exactly(requests, head["bytes"])
        weights = {name: _array(requests, kind, shape) for name, kind, shape in head["weights"]}
        session = open_session(proto, weights)
        sides = {"inputs": session.get_inputs(), "outputs": session.get_outputs()}
        told = {k: [(v.name, list(v.shape or [])) for v in side] for k, side in sides.items()}
        write_arrays(answers, told, [])
        return session
    ((kind, shape),) = head["arrays"]
    x = _array(requests, kind, shape)
    write_arrays(answers, {}, [np.asarray(v) for v in session.run(None, {head["name"]: x})])
    return session


def main() -> None:
    """Serve until standard input ends."""
    _limit(int(sys.argv[1]))
    threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True).start()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no answer
    requests, session = sys.stdin.buffer, None
    while line := requests.readline():
        try:
            session = _answer(answers, requests, session, json.loads(line))
        except EOFError:
            return
        except Exception as error:  # onnxruntime raises types of its own C++ part
            code, message = getattr(error, "code", ""), getattr(error, "message", str(error))
            told = {"error": message or type(error).__name__, "code": code}
            write_arrays(answers, told, [])
