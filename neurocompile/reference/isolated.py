"""onnxruntime in a process of its own, for graphs of strangers: with a deadline, a limit of memory,
and nothing of ours to damage.

One child serves all models of this process, one after another, so that its start is paid once. It
is ended when it is late, and started anew for the next model. NC1024 where it is late or dies.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from neurocompile.errors import NeurocompileError
from neurocompile.reference.runtime import Session, open_session

__all__ = ["IN_PROCESS", "IsolatedSession", "Value", "isolated_session"]

IN_PROCESS = "NEUROCOMPILE_IN_PROCESS"
"""Environment variable: 1 runs graphs in this process, for where no child can be started."""
OPENING, A_SAMPLE = 120.0, 60.0
"""Seconds: to optimize a graph, and for each sample of a call."""
_START = (
    "import sys; sys.path = [p for p in sys.path if p]; "  # nothing of the folder we are in
    "from neurocompile.reference.child import main; main()"
)
_MOST_ARRAYS, _MOST_HEAD = 1 << 16, 1 << 24
_KINDS = "biuf"


class Value(NamedTuple):
    """An input or output of a session."""

    name: str
    shape: list[int | str | None]


class Refused(Exception):
    """What onnxruntime said."""


class _Child:
    """The process and its two pipes."""

    def __init__(self) -> None:
        root = str(Path(__file__).parents[2])
        search = os.pathsep.join(p for p in (root, os.environ.get("PYTHONPATH", "")) if p)
        self.process = subprocess.Popen(
            [sys.executable, "-c", _START, str(_memory())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": search},
            start_new_session=True,  # an interrupt is ours to handle
        )
        assert self.process.stdin is not None and self.process.stdout is not None
        self.requests, self.answers = self.process.stdin, self.process.stdout.fileno()
        self.owner, self.rest, self.holds = os.getpid(), b"", 0

    def alive(self) -> bool:
        """Whether this process may talk to it: a fork has the pipes of its parent."""
        return self.owner == os.getpid() and self.process.poll() is None

    def ask(self, head: dict[str, Any], parts: Sequence[memoryview | bytes], limit: float) -> Any:
        """(what it says, arrays); NC1024 if it dies, or takes more than ``limit`` seconds."""
        end = time.monotonic() + limit
        try:
            self.requests.write(json.dumps(head).encode() + b"\n")
            for part in parts:
                self.requests.write(part)
            self.requests.flush()
            told = json.loads(self._line(end))
            if "error" in told:
                if told["code"]:
                    raise NeurocompileError(told["code"], told["error"])
                raise Refused(told["error"])
            about = told["arrays"]
            if len(about) > _MOST_ARRAYS:
                raise ValueError("arrays without end")
            return told, [self._array(kind, shape, end) for kind, shape in about]
        except (Refused, NeurocompileError):
            raise
        except TimeoutError:
            self.end()
            raise NeurocompileError("NC1024", f"it takes more than {limit:,.0f} s") from None
        except (OSError, EOFError) as error:
            self.end()
            raise NeurocompileError("NC1024", self._death()) from error
        except BaseException:  # an interrupt, or an answer that is none
            self.end()
            raise

    def _array(self, kind: str, shape: list[int], end: float) -> np.ndarray:
        dtype = np.dtype(kind)
        if dtype.kind not in _KINDS or min(shape, default=0) < 0:
            raise ValueError(f"an array of {kind}")
        found = np.empty(shape, dtype)
        if prod(shape):
            view = found.reshape(-1).data.cast("B")
            at = min(len(self.rest), len(view))
            view[:at], self.rest = self.rest[:at], self.rest[at:]
            while at < len(view):
                self._wait(end)
                count = os.readv(self.answers, [view[at : at + (1 << 20)]])
                if not count:
                    raise EOFError
                at += count
        return found

    def _line(self, end: float) -> bytes:
        while b"\n" not in self.rest:
            self._wait(end)
            more = os.read(self.answers, 1 << 16)
            if not more or len(self.rest) > _MOST_HEAD:
                raise EOFError
            self.rest += more
        line, _, self.rest = self.rest.partition(b"\n")
        return line

    def _wait(self, end: float) -> None:
        left = end - time.monotonic()
        if left <= 0 or not select.select([self.answers], [], [], left)[0]:
            raise TimeoutError

    def _death(self) -> str:
        code = self.process.returncode or 0
        name = signal.Signals(-code).name if code < 0 else f"exit status {code}"
        return f"onnxruntime ended ({name}), as it does for want of memory"

    def end(self) -> None:
        """Kill it, and wait for that."""
        if self.owner == os.getpid():
            self.process.kill()
            self.process.wait()
        for file in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                if file is not None:
                    file.close()


def _memory() -> int:
    """Bytes of address space: nine tenths of what the machine has, and what libraries reserve."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") * 9 // 10 + (4 << 30)


_lock = threading.RLock()
_child: _Child | None = None
_opened = 0


@contextlib.contextmanager
def _running() -> Iterator[_Child]:
    """The child, started where there is none; no other thread talks to it meanwhile."""
    global _child
    with _lock:
        if _child is None or not _child.alive():
            if _child is None:
                atexit.register(_stop)
            _child = _Child()
        yield _child


def _stop() -> None:
    if _child is not None and _child.owner == os.getpid():
        _child.end()


class IsolatedSession:
    """A session in the child, of the interface that :func:`open_session`'s has."""

    def __init__(self, proto: bytes, weights: Mapping[str, np.ndarray] | None = None) -> None:
        global _opened
        with _running() as child:
            self.proto, self.weights, _opened = proto, weights or {}, _opened + 1
            self.number = _opened
            self._open(child)

    def _open(self, child: _Child) -> None:
        arrays = [np.ascontiguousarray(w) for w in self.weights.values()]
        about = [(name, w.dtype.str, w.shape) for name, w in zip(self.weights, arrays)]
        head = {"do": "open", "bytes": len(self.proto), "weights": about}
        parts = [w.reshape(-1).data.cast("B") for w in arrays]
        told, _ = child.ask(head, [self.proto, *parts], OPENING)
        self._inputs, self._outputs = (
            [Value(name, shape) for name, shape in told[side]] for side in ("inputs", "outputs")
        )
        child.holds = self.number

    def get_inputs(self) -> list[Value]:
        """Names and shapes."""
        return self._inputs

    def get_outputs(self) -> list[Value]:
        """Names and shapes."""
        return self._outputs

    def run(self, names: Sequence[str] | None, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
        """All outputs, or those of ``names``, of the one input."""
        ((name, x),) = feeds.items()
        x = np.ascontiguousarray(x)
        head = {"do": "run", "name": name, "arrays": [(x.dtype.str, x.shape)]}
        with _running() as child:
            if child.holds != self.number:  # another model was opened meanwhile
                self._open(child)
            part = x.reshape(-1).data.cast("B") if x.size else b""
            limit = OPENING + A_SAMPLE * max(x.shape[:2], default=1)
            _, found = child.ask(head, [part], limit)
        if names is None:
            return found
        by_name = dict(zip((o.name for o in self._outputs), found))
        return [by_name[wanted] for wanted in names]


def isolated_session(proto: bytes, weights: Mapping[str, np.ndarray] | None = None) -> Session:
    """A session of a stranger's serialized model (and its large tensors), in the child; in this process where the system
    has no such pipes (Windows) or ``NEUROCOMPILE_IN_PROCESS`` is 1.
    """
    if os.environ.get(IN_PROCESS) == "1" or not hasattr(os, "readv"):
        return open_session(proto, weights)
    return IsolatedSession(proto, weights)
