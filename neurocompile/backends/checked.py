"""A backend of another package, held to what every backend promises: what is asked for comes back,
as integers of the right shape, and whatever else happens is one line that names the backend.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from neurocompile.backends.base import Backend, Executor, Trace
from neurocompile.errors import NeurocompileError
from neurocompile.ir.circuit import CircuitGraph

__all__ = ["CheckedBackend"]


@dataclass
class CheckedBackend:
    """``inner`` under the name of its entry point."""

    name: str
    banner: str
    inner: Backend

    def open(self, circuit: CircuitGraph) -> Executor:
        """See :class:`neurocompile.backends.base.Backend`; NC4009 for whatever goes wrong in it."""
        with _named(self.name):
            return _CheckedExecutor(self.name, circuit, self.inner.open(circuit))


@dataclass(frozen=True)
class _CheckedExecutor:
    name: str
    circuit: CircuitGraph
    inner: Executor

    def run(self, x: np.ndarray, record: Collection[str] | None = None) -> Trace:
        """See :class:`neurocompile.backends.base.Executor`; NC4009 for a trace that is none."""
        with _named(self.name):
            trace = self.inner.run(x, record)
            found = {name: np.asarray(values) for name, values in trace.items()}
        wanted = self.circuit.population if record is None else record
        for name in wanted:
            if name not in found:
                raise self._wrong(f"gives no trace of population '{name}'")
            self._check(name, found[name], len(x))
        return found

    def _check(self, name: str, values: np.ndarray, samples: int) -> None:
        shape = self.circuit.population[name].shape
        if values.dtype.kind not in "biu":
            raise self._wrong(f"gives '{name}' as {values.dtype}; integers are needed")
        steps = self.circuit.sample_steps
        if values.shape != (samples, steps, *shape):
            raise self._wrong(
                f"gives '{name}' as {list(values.shape)}; {[samples, steps, *shape]} is needed "
                "(samples, steps, population)"
            )

    def _wrong(self, what: str) -> NeurocompileError:
        return NeurocompileError("NC4009", f"backend '{self.name}' {what}")

    def __enter__(self) -> _CheckedExecutor:
        with _named(self.name):
            self.inner.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        with _named(self.name):
            self.inner.__exit__(*exception)


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Errors of another package's code are NC4009 with its name."""
    try:
        yield
    except NeurocompileError:
        raise
    except Exception as error:
        raise NeurocompileError(
            "NC4009", f"backend '{name}' fails: {type(error).__name__}: {error}"
        ) from error
